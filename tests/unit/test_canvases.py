"""Sizes of updates: in step on every process, and rectangles that lose nothing of an epoch."""

import random

import numpy as np
import pytest

from accel_det.data.balance import ClassBalanced, Ints
from accel_det.data.canvases import WINDOW_UPDATES, Canvases, LikeAspects, SizeRule, rectangle
from accel_det.data.order import EpochOrder, Share, positions


def shapes(count: int, *, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(100, 900, (count, 2))


def plain_rectangle(sizes: list[tuple[int, int]], size_px: int, multiple: int) -> tuple[int, int]:
    """The longer side becomes size_px; the canvas holds each, in multiples."""
    height = width = 0
    while any(height * max(h, w) < h * size_px for h, w in sizes):
        height += multiple
    while any(width * max(h, w) < w * size_px for h, w in sizes):
        width += multiple
    return height, width


def test_a_rectangle_is_the_smallest_in_multiples_that_holds_each_image_in_2000_cases() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        sizes = [(rng.randint(1, 900), rng.randint(1, 900)) for _ in range(rng.randint(1, 5))]
        multiple = rng.choice((1, 32, 64))
        size_px = multiple * rng.randint(1, 20)
        found = rectangle(np.array(sizes), size_px=size_px, multiple=multiple)
        assert found == plain_rectangle(sizes, size_px, multiple)
        assert max(found) == size_px


def test_images_of_480_x_640_need_three_quarters_of_the_square() -> None:
    assert rectangle(np.array([[480, 640]]), size_px=640, multiple=32) == (480, 640)
    assert rectangle(np.array([[640, 480]]), size_px=640, multiple=64) == (640, 512)
    assert rectangle(np.array([[640, 480], [480, 640]]), size_px=640, multiple=32) == (640, 640)


def test_1000_random_layouts_keep_every_draw_in_its_epoch() -> None:
    """Updates that end with an epoch or not, windows cut by it, epochs shorter than an update."""
    rng = random.Random(1)
    for seed in range(1000):
        length, images = rng.randint(1, 90), rng.randint(1, 7)
        order = EpochOrder(length, seed=seed)
        like = LikeAspects(order, shapes(length, seed=seed), images_per_update=images, seed=seed)
        start = rng.randint(0, 3) * length
        for epoch_start in (start, start + length):
            epoch = range(epoch_start, epoch_start + length)
            assert sorted(like.draw(p) for p in epoch) == sorted(order.draw(p) for p in epoch)


def test_a_window_is_sorted_by_aspect_then_cut_into_updates_which_are_shuffled() -> None:
    sizes = shapes(1000)
    like = LikeAspects(EpochOrder(1000, seed=2), sizes, images_per_update=4, seed=2)
    aspects = sizes[:, 0] / sizes[:, 1]
    window = np.array([aspects[like.draw(p).index] for p in range(WINDOW_UPDATES * 4)]).reshape(-1, 4)
    by_first = window[np.argsort(window[:, 0])]
    assert (np.diff(by_first.reshape(-1)) >= 0).all(), "updates share aspects"
    assert not np.array_equal(by_first, window), "updates come from narrow to wide"


def test_updates_of_like_aspect_have_fewer_grey_pixels() -> None:
    """Half the images are 1:2, half 2:1: of mixed updates nearly all are square, of grouped ones 1 of 16."""
    sizes = np.tile(np.array([[200, 400], [400, 200]]), (200, 1))
    order = EpochOrder(400, seed=0)
    areas = []
    for source in (order, LikeAspects(order, sizes, images_per_update=8, seed=0)):
        canvases = Canvases(source, SizeRule(128), images_per_update=8, seed=0, sizes=sizes)
        found = [canvases.of_update(step) for step in range(48)]
        areas.append(np.mean([height * width for height, width in filter(None, found)]) / 128**2)
    assert areas[0] > 0.95
    assert areas[1] < 0.6


@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize(("world", "micro_batches"), [(1, 1), (2, 1), (1, 3), (2, 2), (4, 3)])
def test_sizes_and_draws_are_the_same_on_every_process_and_after_a_resume(
    rectangular: bool, repeats: bool, world: int, micro_batches: int
) -> None:
    sizes = shapes(50)
    whole = [(d, step) for step in range(40) for d in plan(sizes, rectangular, repeats).draws(step, range_of(step))]
    assert len({draw.size_px for draw, _ in whole}) > 3
    for rank in range(world):
        fresh = plan(sizes, rectangular, repeats)
        share = Share(12, world, rank, micro_batches)
        for step in (*range(0, 40, 3), 5):
            for micro in range(micro_batches):
                at = positions(step, micro, share)
                assert [(d, step) for d in fresh.draws(step, at)] == [whole[p] for p in at]


def plan(sizes: Ints, rectangular: bool, repeats: bool) -> Canvases:
    """12 images per update, sizes drawn for two updates each."""
    images = np.arange(40)
    turns = ClassBalanced(images, images % 7 // 3, num_images=50, seed=1) if repeats else None
    order = EpochOrder(50, seed=1, turns=turns)
    rule = SizeRule(320, (256, 320, 384, 448), 2, 32)
    if not rectangular:
        return Canvases(order, rule, images_per_update=12, seed=1)
    like = LikeAspects(order, sizes, images_per_update=12, seed=1)
    return Canvases(like, rule, images_per_update=12, seed=1, sizes=sizes)


def range_of(step: int) -> range:
    return range(step * 12, (step + 1) * 12)


def test_all_images_of_an_update_have_one_canvas_that_changes_every_so_many_updates() -> None:
    rule = SizeRule(320, (256, 320, 384), 10)
    canvases = Canvases(EpochOrder(50, seed=0), rule, images_per_update=4, seed=0)
    found = []
    for step in range(3000):
        (canvas,) = {draw.size_px for draw in canvases.draws(step, range(4 * step, 4 * step + 4))}
        found.append(canvas)
    assert all(len(set(found[k : k + 10])) == 1 for k in range(0, 3000, 10))
    counts = np.array([found[::10].count((side, side)) for side in rule.drawn_px])
    assert counts.sum() == 300
    # chi-square with 2 degrees of freedom: 13.8 is the 0.999 quantile.
    assert ((counts - 100) ** 2 / 100).sum() < 13.8


def test_each_image_has_a_size_of_its_own_where_no_updates_share_one() -> None:
    canvases = Canvases(EpochOrder(50, seed=0), SizeRule(600, (400, 600, 800), 0), images_per_update=4, seed=0)
    draws = [draw for step in range(300) for draw in canvases.draws(step, range(4 * step, 4 * step + 4))]
    counts = np.array([sum(draw.size_px == (side, side) for draw in draws) for side in (400, 600, 800)])
    assert counts.sum() == 1200
    assert ((counts - 400) ** 2 / 400).sum() < 13.8
    assert len({draw.size_px for draw in draws[:4]}) > 1


def test_without_sizes_to_draw_the_configured_square_stays_unsaid() -> None:
    canvases = Canvases(EpochOrder(9, seed=0), SizeRule(320), images_per_update=4, seed=0)
    assert [d.size_px for d in canvases.draws(0, range(4))] == [None] * 4
