"""Pictures of embeddings: the threshold of equal error, principal components, and where the ink goes."""

import numpy as np
import pytest
import torch
from PIL import Image

from accel_det.report.embeddings import (
    DIFFERENT,
    NAMED_IDENTITIES,
    OTHERS,
    SAME,
    draw_distances,
    draw_embedding_map,
    equal_error,
    principal_plane,
)
from accel_det.report.pictures import INK, class_color

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def slow_errors(same: Array, different: Array, threshold: float) -> tuple[float, float]:
    refused = sum(distance > threshold for distance in same.tolist()) / len(same)
    accepted = sum(distance <= threshold for distance in different.tolist()) / len(different)
    return refused, accepted


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == color).all(axis=2).sum())


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_brings_the_two_errors_nearer_to_each_other(seed: int) -> None:
    draws = np.random.default_rng(seed)
    same, different = draws.normal(0.4, 0.15, 37), draws.normal(0.8, 0.2, 91)
    if seed % 2:
        same, different = same.round(1), different.round(1)
    found = equal_error(same, different)
    refused, accepted = slow_errors(same, different, found.threshold)
    assert found.rate == pytest.approx((refused + accepted) / 2, abs=1e-12)
    tried = [slow_errors(same, different, t) for t in np.linspace(-1, 3, 4001)]
    assert abs(refused - accepted) <= min(abs(first - second) for first, second in tried) + 1e-12
    assert 0 < found.rate < 0.5


def test_kinds_that_lie_apart_have_no_error_and_a_threshold_in_the_middle_of_the_gap() -> None:
    found = equal_error(np.array([0.2, 0.1]), np.array([0.9, 0.8, 1.1]))
    assert found.rate == 0
    assert found.threshold == pytest.approx(0.5)


def test_kinds_that_are_alike_have_an_error_of_half() -> None:
    numbers = np.arange(1000) / 1000
    assert equal_error(numbers, numbers + 1e-9).rate == pytest.approx(0.5, abs=0.002)
    assert equal_error(np.ones(3), np.ones(5)).rate == 0.5


def test_no_pairs_of_a_kind_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="0 pairs of one identity and 2 of two"):
        equal_error(np.zeros(0), np.ones(2))
    with pytest.raises(ValueError, match="not finite"):
        equal_error(np.array([0.1, np.inf]), np.ones(2))


def test_the_plane_is_that_of_the_singular_vectors() -> None:
    """The same places, up to the sign of each direction, and the same shares as the singular values of numpy."""
    vectors = np.random.default_rng(1).normal(size=(60, 9)) * np.arange(1, 10)
    plane = principal_plane(torch.tensor(vectors))
    centered = vectors - vectors.mean(0)
    left, sizes, right = np.linalg.svd(centered, full_matrices=False)
    for axis in range(2):
        sign = np.sign(right[axis][np.abs(right[axis]).argmax()])
        np.testing.assert_allclose(plane.places[:, axis], sign * left[:, axis] * sizes[axis], atol=1e-9)
        assert plane.explained[axis] == pytest.approx(sizes[axis] ** 2 / (sizes**2).sum(), rel=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 5), (4, 1), (3, 2)])
def test_few_pictures_and_few_numbers_have_a_plane(shape: tuple[int, int]) -> None:
    plane = principal_plane(torch.ones(shape))
    assert plane.places.shape == (shape[0], 2)
    assert plane.explained == (0.0, 0.0) and np.allclose(plane.places, 0)
    assert draw_embedding_map(torch.ones(shape), [0] * shape[0], ["a"]).size == (1200, 900)


def test_a_histogram_is_as_wide_as_its_numbers_and_the_threshold_lies_between() -> None:
    picture = draw_distances(np.full(10, 0.25), np.linspace(0.7, 0.99, 1000))
    pixels = np.asarray(picture)[100:-64]
    green, red = (np.flatnonzero((pixels == color).all(axis=2).any(axis=0)) for color in (SAME, DIFFERENT))
    left, width = 76, 1100 - 76 - 30  # of the panel, whose axis ends at 1
    assert (green[0] - left) / width <= 0.25 <= (green[-1] - left) / width
    assert green[-1] - green[0] < 0.03 * width
    assert (red[0] - left) / width == pytest.approx(0.7, abs=0.015)
    assert (red[-1] - left) / width == pytest.approx(0.99, abs=0.015)
    inked = np.flatnonzero((pixels == INK).all(axis=2).sum(axis=0) > 0.4 * len(pixels))
    assert len(inked) and (inked.mean() - left) / width == pytest.approx((0.25 + 0.7) / 2, abs=0.01)


def test_shares_are_of_each_kind_so_that_few_pairs_stand_as_high_as_many() -> None:
    picture = np.asarray(draw_distances(np.full(3, 0.3), np.full(30_000, 0.8)))
    heights = [np.flatnonzero((picture[100:-64] == color).all(axis=2).any(axis=1))[0] for color in (SAME, DIFFERENT)]
    assert heights[0] == heights[1]


@pytest.mark.parametrize(
    ("same", "different"), [([], []), ([0.5], []), ([], [0.5, 0.6]), ([0.0], [0.0]), ([-1.0], [2.0])]
)
def test_distances_of_nearly_nothing_are_drawn(same: list[float], different: list[float]) -> None:
    assert draw_distances(np.array(same), np.array(different), title="t").size == (1100, 560)


def test_the_most_frequent_identities_have_colors_and_the_others_are_grey() -> None:
    """Identity n has n + 1 pictures; the 20 with the most are named, of 23."""
    identities = [identity for identity in range(23) for _ in range(identity + 1)] + [-1] * 5
    vectors = torch.randn((len(identities), 6), generator=torch.Generator().manual_seed(0))
    picture = draw_embedding_map(vectors, identities, [f"person {n}" for n in range(23)])
    assert all(count(picture, class_color(number)) > 0 for number in range(10))
    key = np.asarray(picture)[:, 1200 - 270 : 1200 - 240]
    rows = np.flatnonzero((key != 255).any(axis=(1, 2)) & (np.arange(900) > 75))
    entries = 1 + int((np.diff(rows) > 5).sum())
    assert entries == NAMED_IDENTITIES + 1
    grey = (np.asarray(picture)[:, : 1200 - 280] == OTHERS).all(axis=2).sum()
    assert grey > 5 * 30
    few = draw_embedding_map(vectors[:3], [0, 1, 1], ["a", "b"])
    assert count(few, OTHERS) == 0 and count(few, class_color(0)) > count(few, class_color(1)) > 0


def test_pictures_of_one_identity_that_lie_together_are_drawn_together() -> None:
    vectors = torch.cat([torch.tensor([[1.0, 0, 0]]).repeat(4, 1), torch.tensor([[0, 1.0, 0]]).repeat(3, 1)])
    panel = np.asarray(draw_embedding_map(vectors, [0] * 4 + [1] * 3, ["a", "b"]))[:, : 1200 - 280]
    spans = []
    for number in range(2):
        columns = np.flatnonzero((panel == class_color(number)).all(axis=2).any(axis=0))
        spans.append((columns[0], columns[-1]))
    assert all(last - first <= 12 for first, last in spans)
    assert abs(spans[0][0] - spans[1][0]) > 500
