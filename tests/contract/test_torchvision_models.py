"""What every torchvision detector of the zoo promises, on canvases of 64x32 pixels."""

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from accel_det.models.base import Inference
from accel_det.models.layers.matching import (
    BACKGROUND,
    IGNORED,
    match_by_iou,
    match_default_boxes,
    match_points,
    overlaps,
)
from accel_det.models.layers.sampling import (
    draw_without_replacement,
    image_generator,
    sample_balanced,
)
from accel_det.models.torchvision.build import INPUTS, NAMES, TorchvisionDetector, TorchvisionOptions, build
from accel_det.types import Batch, BoxTarget, Frame

HEIGHT, WIDTH = 64, 32
NUM_CLASSES = 3
STOCK = [name for name in NAMES if name != "ssd512_vgg16"]  # torchvision has no SSD512
SWEPT = [*STOCK, pytest.param("ssd512_vgg16", marks=pytest.mark.slow)]
INFERENCE = Inference(score_threshold=0.001, nms_iou=0.6, max_detections=7)


def target_of(boxes: list[list[float]], *, crowd: list[bool] | None = None) -> BoxTarget:
    count = len(boxes)
    labels = torch.arange(count) % NUM_CLASSES
    return BoxTarget(
        torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
        labels,
        torch.tensor(crowd or [False] * count, dtype=torch.bool),
        labels,
    )


def batch_of(*num_boxes: int) -> Batch[BoxTarget]:
    """Random pixels and boxes; only the first image fills the canvas."""
    generator = torch.Generator().manual_seed(3)
    sizes = [(HEIGHT - 3 * index, WIDTH - 2 * index) for index in range(len(num_boxes))]
    images = torch.randint(0, 256, (len(sizes), 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    targets = []
    for (height, width), count in zip(sizes, num_boxes, strict=True):
        extent = torch.tensor((width, height), dtype=torch.float32)
        corner = torch.rand((count, 2), generator=generator) * extent * 0.6
        side = (0.1 + 0.3 * torch.rand((count, 2), generator=generator)) * extent
        targets.append(target_of(torch.cat((corner, corner + side), dim=1).tolist()))
    frames = [Frame(index, f"image {index}", *size, draw_seed=1000 + index) for index, size in enumerate(sizes)]
    return Batch(images, torch.tensor(sizes), targets, frames)


@pytest.fixture(scope="module", params=SWEPT)
def detector(request: pytest.FixtureRequest) -> TorchvisionDetector:
    torch.manual_seed(0)
    name: str = request.param
    few = TorchvisionOptions(anchors_per_image=64, rois_per_image=8)
    options = few if name.startswith("fasterrcnn") else None
    return build(name, num_classes=NUM_CLASSES, inference=INFERENCE, options=options)


def test_images_and_batches_without_objects_give_finite_losses_and_a_gradient_to_every_parameter(
    detector: TorchvisionDetector,
) -> None:
    detector.train()
    for batch in (batch_of(2, 0), batch_of(0, 0)):
        detector.zero_grad(set_to_none=True)
        losses = detector(batch)
        torch.stack([term.sum for term in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        assert all(term.sum.isfinite() and not term.count.requires_grad for term in losses.values())
        without = [name for name, parameter in detector.named_parameters() if parameter.grad is None]
        assert without == []
        assert all(parameter.grad.isfinite().all() for parameter in detector.parameters())  # type: ignore[union-attr]


def test_counts_known_before_the_forward_pass_are_the_counts_of_the_losses(detector: TorchvisionDetector) -> None:
    detector.train()
    for batch in (batch_of(1, 9, 0, 14), batch_of(0, 0)):
        counts = detector.counts(batch)
        with torch.no_grad():
            losses = detector.losses(batch)
        if counts is None:
            assert isinstance(detector.network, detection.FasterRCNN)
            continue
        assert {name: count.item() for name, count in counts.items()} == {
            name: term.count.item() for name, term in losses.items()
        }
        assert all(counts[name].dtype == term.sum.dtype for name, term in losses.items())


def test_predictions_are_sorted_inside_the_image_few_and_independent_of_targets(detector: TorchvisionDetector) -> None:
    detector.eval()
    batch = batch_of(3, 0, 2)
    with torch.no_grad():
        found = detector(batch)
        again = detector(batch._replace(targets=[BoxTarget.empty()] * 3))
    assert len(found) == 3
    assert sum(len(one.boxes) for one in found) > 0
    for one, same, (height, width) in zip(found, again, batch.sizes.tolist(), strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one, same, strict=True))
        assert len(one.boxes) == len(one.scores) == len(one.labels) <= INFERENCE.max_detections
        assert (one.scores.diff() <= 0).all() and ((one.scores >= INFERENCE.score_threshold) & (one.scores <= 1)).all()
        assert ((one.labels >= 0) & (one.labels < NUM_CLASSES)).all() and one.labels.dtype == torch.int64
        limit = torch.tensor([width, height, width, height])
        assert ((one.boxes >= 0) & (one.boxes <= limit)).all() and one.boxes.dtype == torch.float32


def test_garbage_in_the_padding_and_the_global_generator_change_nothing(detector: TorchvisionDetector) -> None:
    detector.train()
    clean, dirty = batch_of(3, 2, 0), batch_of(3, 2, 0)
    for index, (height, width) in enumerate(clean.sizes.tolist()):
        dirty.images[index, :, height:] = 255 - clean.images[index, :, height:]
        dirty.images[index, :, :, width:] = 7
    assert not torch.equal(clean.images, dirty.images)
    with torch.no_grad():
        torch.manual_seed(1)
        first = detector.losses(clean)
        torch.manual_seed(2)
        state = torch.get_rng_state()
        second = detector.losses(dirty)
    assert torch.equal(torch.get_rng_state(), state)
    assert [term.sum.item() for term in first.values()] == [term.sum.item() for term in second.values()]
    assert not [module for module in detector.modules() if isinstance(module, nn.Dropout)]


def test_losses_and_boxes_are_float32_and_finite_under_bfloat16_autocast(detector: TorchvisionDetector) -> None:
    batch = batch_of(3, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector.train()(batch)
        with torch.no_grad():
            found = detector.eval()(batch)
    assert all(term.sum.dtype == torch.float32 and term.sum.isfinite() for term in losses.values())
    assert all(one.boxes.dtype == torch.float32 and one.boxes.isfinite().all() for one in found)


@pytest.mark.parametrize("name", STOCK)
def test_the_same_backbone_stages_are_frozen_as_torchvision_freezes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (detection.faster_rcnn, detection.retinanet, detection.fcos, detection.ssd, detection.ssdlite):
        # torchvision reads the option only together with weights to download
        monkeypatch.setattr(
            module,
            "_validate_trainable_layers",
            lambda trained, layers, most, default: most if layers is None else layers,
        )
    num_stages = 6 if "mobilenet" in name else 5
    sizes = []
    for layers in range(num_stages + 1):
        with torch.device("meta"):
            stock = getattr(detection, name)(weights=None, weights_backbone=None, trainable_backbone_layers=layers)
            options = TorchvisionOptions(trainable_backbone_layers=layers)
            ours = build(name, num_classes=NUM_CLASSES, inference=INFERENCE, options=options)
        frozen = {key for key, parameter in stock.named_parameters() if not parameter.requires_grad}
        assert {key for key, parameter in ours.network.named_parameters() if not parameter.requires_grad} == frozen
        sizes.append(len(frozen))
    assert len(sizes) == num_stages + 1 and sizes[-1] == 0 and sizes == sorted(sizes, reverse=True)


def test_frozen_norms_have_no_parameters_and_give_what_live_norms_give_in_evaluation() -> None:
    name = "ssdlite320_mobilenet_v3_large"
    torch.manual_seed(0)
    live = build(name, num_classes=NUM_CLASSES, inference=INFERENCE)
    with torch.no_grad():
        live.train()(batch_of(2, 2))  # moves the running statistics away from 0 and 1
    frozen = build(name, num_classes=NUM_CLASSES, inference=INFERENCE, options=TorchvisionOptions(norm="frozen"))
    frozen.network.load_state_dict(live.network.state_dict(), strict=True)
    num_live = sum(isinstance(module, nn.BatchNorm2d) for module in live.modules())
    assert num_live > 50
    assert sum(isinstance(module, FrozenBatchNorm2d) for module in frozen.modules()) == num_live
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    for module in live.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        expected, found = live.losses(batch_of(2, 2)), frozen.train().losses(batch_of(2, 2))
    for key in expected:
        torch.testing.assert_close(found[key].sum, expected[key].sum, rtol=1e-4, atol=0)


def test_regions_may_run_out_in_images_without_objects() -> None:
    torch.manual_seed(0)
    model = build("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=NUM_CLASSES, inference=INFERENCE)
    network: Any = model.network
    network.rpn.score_thresh = 1.1  # no proposal is that sure
    losses = model.train()(batch_of(0, 0))
    torch.stack([term.sum for term in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    assert losses["loss_classifier"].count.item() == 0
    assert losses["loss_objectness"].sum.item() > 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    with torch.no_grad():
        assert [len(one.boxes) for one in model.eval()(batch_of(0, 0))] == [0, 0]


def test_the_first_batch_leaves_no_trace_in_how_regions_are_pooled() -> None:
    torch.manual_seed(0)
    model = build("fasterrcnn_mobilenet_v3_large_fpn", num_classes=NUM_CLASSES, inference=INFERENCE).eval()
    batch = batch_of(0)
    small = batch._replace(sizes=torch.tensor([[16, 16]]))  # torchvision would take its features for twice as fine
    with torch.no_grad():
        before = model(batch)[0]
        model(small)
        after = model(batch)[0]
    network: Any = model.network
    assert network.roi_heads.box_roi_pool.scales == [1 / 32, 1 / 32]
    assert all(torch.equal(first, second) for first, second in zip(before, after, strict=True))


def test_another_draw_seed_draws_another_sample() -> None:
    torch.manual_seed(0)
    options = TorchvisionOptions(anchors_per_image=16, rois_per_image=4)
    model = build("fasterrcnn_mobilenet_v3_large_fpn", num_classes=NUM_CLASSES, inference=INFERENCE, options=options)
    batch = batch_of(9)
    other = batch._replace(frames=[batch.frames[0]._replace(draw_seed=7)])
    with torch.no_grad():
        first, second, third = (model.train().losses(one) for one in (batch, other, batch))
    assert first["loss_rpn_box_reg"].count.item() == second["loss_rpn_box_reg"].count.item() == 16
    assert first["loss_objectness"].sum.item() != second["loss_objectness"].sum.item()
    assert first["loss_objectness"].sum.item() == third["loss_objectness"].sum.item()


def test_a_sample_depends_on_its_own_image_and_seed_only() -> None:
    labels = [torch.arange(400) % 7 - 1, torch.arange(900) % 2, torch.zeros(50, dtype=torch.int64)]

    def sample(*images: int, stream: str = "a") -> list[list[list[int]]]:
        chosen = sample_balanced(
            [labels[image] for image in images],
            per_image=20,
            positive_fraction=0.25,
            draw_seeds=[2**40 + image for image in images],
            stream=stream,
        )
        return [[indices.tolist() for indices in one] for one in chosen]

    together = sample(0, 1, 2)
    assert together == [sample(0)[0], sample(1)[0], sample(2)[0]] == sample(2, 1, 0)[::-1]
    assert sample(0, stream="b") != sample(0)
    for image, (positive, negative) in enumerate(together):
        assert len(set(positive)) == len(positive) == (0 if image == 2 else 5)
        assert len(set(negative)) == len(negative) == 20 - len(positive)
        assert (labels[image][positive] > 0).all() and (labels[image][negative] == 0).all()


@pytest.mark.parametrize(("count", "take"), [(0, 0), (1, 1), (5, 5), (40, 5), (41, 5), (10_000, 5)])
def test_draws_are_different_and_in_range_whichever_way_they_are_made(count: int, take: int) -> None:
    drawn = draw_without_replacement(count, take=take, generator=image_generator(1, stream="a")).tolist()
    assert len(drawn) == len(set(drawn)) == take
    assert all(0 <= value < count for value in drawn)


def test_few_of_many_are_drawn_evenly() -> None:
    generator = image_generator(1, stream="a")
    hits = torch.zeros(50)
    for _ in range(2000):
        hits[draw_without_replacement(50, take=5, generator=generator)] += 1
    # each of 50 is expected 2000 * 5 / 50 = 200 times, with a deviation of sqrt(200 * 0.9) = 13.4; 5 deviations are 67
    assert (hits - 200).abs().max() < 67


def test_boxes_inside_a_crowd_are_neither_objects_nor_background() -> None:
    target = target_of([[0, 0, 10, 10], [100, 0, 200, 100]], crowd=[False, True])
    boxes = torch.tensor(
        [
            [0.0, 0, 10, 10],  # the object
            [0, 0, 10, 18],  # IoU 10/18 with the object: between 0.4 and 0.7
            [120, 20, 140, 40],  # inside the crowd
            [100, 0, 200, 100],  # the crowd itself
            [90, 0, 120, 30],  # two thirds inside
            [70, 0, 110, 30],  # a quarter inside
            [300, 0, 310, 10],  # elsewhere
        ]
    )
    found = overlaps(target, boxes)
    by_iou = match_by_iou(found, foreground_iou=0.7, background_iou=0.4, keep_best=True)
    assert by_iou.tolist() == [0, IGNORED, IGNORED, IGNORED, IGNORED, BACKGROUND, BACKGROUND]
    by_default_box = match_default_boxes(found, foreground_iou=0.5)
    assert by_default_box.tolist() == [0, 0, IGNORED, IGNORED, IGNORED, BACKGROUND, BACKGROUND]


def test_an_object_that_no_anchor_overlaps_enough_still_gets_its_best_one() -> None:
    target = target_of([[0, 0, 4, 4], [0, 0, 5, 5]])
    anchors = torch.tensor([[0.0, 0, 20, 20], [50, 50, 60, 60]])
    found = overlaps(target, anchors)
    assert match_by_iou(found, foreground_iou=0.7, background_iou=0.3, keep_best=True).tolist() == [1, BACKGROUND]
    assert match_by_iou(found, foreground_iou=0.7, background_iou=0.3, keep_best=False).tolist() == [BACKGROUND] * 2
    assert match_default_boxes(found, foreground_iou=0.5).tolist() == [1, BACKGROUND]


def test_a_point_answers_for_the_smallest_object_of_its_level_and_not_for_a_crowd() -> None:
    # one level of stride 8 with points at 0, 8, 16, 24 along the diagonal, and one of stride 16 with a point at 16
    centers = torch.tensor([[0.0], [8], [16], [24], [16]])
    half = torch.tensor([[4.0], [4], [4], [4], [8]])
    anchors = torch.cat((centers - half, centers - half, centers + half, centers + half), dim=1)
    boxes: list[list[float]] = [[1, 1, 31, 31], [10, 10, 22, 22], [20, 20, 28, 28], [18, 18, 31, 31]]
    target = target_of(boxes, crowd=[False, False, False, True])
    # 16: inside 0 and 1, 1 is smaller; 8: inside 0 and 8 px from its center, under 1.5 strides; 24: inside 0 and 2;
    # the coarse level wants objects that reach more than 64 px from the point
    found = match_points(target, anchors, anchors_per_level=[4, 1], center_radius=1.5)
    assert found.tolist() == [BACKGROUND, 0, 1, 2, BACKGROUND]
    without_object = match_points(target.keep(torch.tensor([3])), anchors, anchors_per_level=[4, 1], center_radius=1.5)
    assert without_object.tolist() == [BACKGROUND, BACKGROUND, BACKGROUND, IGNORED, BACKGROUND]


def test_what_does_not_fit_is_refused_with_the_name_of_the_setting() -> None:
    def attempt(name: str, options: TorchvisionOptions | None = None, *, num_classes: int = 1) -> None:
        with torch.device("meta"):
            build(name, num_classes=num_classes, inference=INFERENCE, options=options)

    with pytest.raises(ValueError, match="no detector 'yolo'"):
        attempt("yolo")
    with pytest.raises(ValueError, match="num_classes is 0"):
        attempt("fcos_resnet50_fpn", num_classes=0)
    with pytest.raises(ValueError, match="trainable_backbone_layers is 6, expected 0 to 5"):
        attempt("fcos_resnet50_fpn", TorchvisionOptions(trainable_backbone_layers=6))
    with pytest.raises(ValueError, match="does not sample"):
        attempt("fcos_resnet50_fpn", TorchvisionOptions(rois_per_image=6))
    with pytest.raises(ValueError, match="frozen_norm_eps"):
        TorchvisionOptions(frozen_norm_eps=0.0)
    with pytest.raises(ValueError, match="anchors_per_image is 0"):
        TorchvisionOptions(anchors_per_image=0)


def test_mean_and_deviation_are_torchvisions() -> None:
    assert len(STOCK) == 9
    for name in STOCK:
        hint = INPUTS[name]
        with torch.device("meta"):
            transform: Any = getattr(detection, name)(weights=None, weights_backbone=None).transform
        assert (list(hint.mean), list(hint.std)) == (transform.image_mean, transform.image_std)
        expected: tuple[int, int] = transform.fixed_size or (transform.min_size[-1], transform.max_size)
        assert (hint.short_px, hint.long_px) == expected
        assert hint.stride_px == transform.size_divisible
