"""Several views of an image: where their boxes come back to, and what becomes of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from publish_cases import export_info
from torch import Tensor, nn
from zoo_cases import case

from accel_det.data.collate import PADDING_VALUE as PADDING_OF_BATCHES
from accel_det.data.collate import collate_boxes
from accel_det.data.transforms import ResizeRule, prepare_image
from accel_det.inference import Detector, load
from accel_det.models import zoo
from accel_det.models.base import CANDIDATES_PER_VIEW, Inference, ZooModel
from accel_det.models.test_time import PADDING_VALUE, ManyViews, View, look, views, with_views
from accel_det.publish.export import write_export
from accel_det.types import Batch, BoxTarget, Detections, Frame, Losses, Sample

SCALES = (0.5, 0.83, 1.0, 1.2, 2.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class ColorFinder(ZooModel[BoxTarget, Detections]):
    """Finds red (class 0) and blue (class 1) rectangles: their exact extent, edges inside a pixel included.

    A blurred edge pixel counts by its share of the color. `seen` holds the sizes of the batch images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        raise AssertionError("not trained here")

    def compilable(self) -> list[nn.Module]:
        return []

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        self.seen.append(tuple(batch.images.shape))
        found = []
        for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True):
            assert (image[:, height:] == PADDING_VALUE).all() and (image[:, :, width:] == PADDING_VALUE).all()
            boxes, labels = [], []
            for label, channel in ((0, 0), (1, 2)):
                own = image[:, :height, :width].double()
                share = (own[channel] - own[1]).clamp(min=0) / 255  # black and grey have as much green
                if share.max() > 0.5:
                    boxes.append(extent(share))
                    labels.append(label)
            scores = torch.tensor([0.9, 0.8])[: len(labels)]
            found.append(
                Detections(torch.tensor(boxes).reshape(-1, 4), scores, torch.tensor(labels, dtype=torch.int64))
            )
        return found


def extent(share: Tensor) -> list[float]:
    """x1, y1, x2, y2 of the one rectangle in an (H, W) map: its center of mass and the sums through its middle."""
    rows, columns = share.sum(dim=1), share.sum(dim=0)
    width, height = rows.max().item(), columns.max().item()
    center_x = ((torch.arange(len(columns)) + 0.5) * columns).sum().item() / columns.sum().item()
    center_y = ((torch.arange(len(rows)) + 0.5) * rows).sum().item() / rows.sum().item()
    return [center_x - width / 2, center_y - height / 2, center_x + width / 2, center_y + height / 2]


def picture(height: int, width: int, *rectangles: tuple[int, int, int, int]) -> Tensor:
    """Black, with a red rectangle and perhaps a blue one."""
    pixels = torch.zeros((3, height, width), dtype=torch.uint8)
    for channel, (left, top, right, bottom) in zip((0, 2), rectangles, strict=False):
        pixels[channel, top:bottom, left:right] = 255
    return pixels


def batch_of(*pictures: Tensor, multiple_px: int = 8) -> Batch[BoxTarget]:
    samples = [
        Sample(pixels, BoxTarget.empty(), Frame(i, f"image {i}", pixels.shape[1], pixels.shape[2]))
        for i, pixels in enumerate(pictures)
    ]
    return collate_boxes(samples, multiple_px=multiple_px)


RED, BLUE, SECOND = (10, 6, 40, 30), (50, 36, 76, 50), (8, 20, 30, 60)
PICTURES = (picture(56, 80, RED, BLUE), picture(70, 44, SECOND), picture(64, 80))


def test_the_views_are_all_scales_then_all_of_them_mirrored() -> None:
    assert views(Inference(scales=(1.0, 0.5))) == [View(1.0, False), View(0.5, False)]
    assert views(Inference(scales=(2.0,), flip=True)) == [View(2.0, False), View(2.0, True)]
    assert PADDING_VALUE == PADDING_OF_BATCHES


def test_one_view_is_the_network_itself() -> None:
    model = ColorFinder()
    assert with_views(model, Inference(), multiple_px=8) is model
    inference = Inference(nms="soft_linear", vote_iou=0.5)
    assert inference.of_one_view is inference
    several = inference._replace(flip=True).of_one_view
    assert several == Inference(nms="none", max_detections=CANDIDATES_PER_VIEW) and several.one_view


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", SCALES)
def test_boxes_of_every_view_come_back_to_where_the_rectangles_are(scale: float, flip: bool) -> None:
    model = ColorFinder()
    merged = ManyViews(model, Inference(scales=(scale,), flip=flip, nms_iou=0.6), multiple_px=8).eval()
    found = merged(batch_of(*PICTURES))
    tolerance = 0.6 / min(scale, 1.0)  # half a pixel of the view, and rounding of 8-bit values
    for one, boxes in zip(found, ([RED, BLUE], [SECOND], []), strict=True):
        assert one.labels.tolist() == list(range(len(boxes)))
        expected = torch.tensor(boxes).reshape(-1, 4).float()
        assert (one.boxes - expected).abs().max().item() <= tolerance if boxes else len(one.boxes) == 0
    assert len(model.seen) == 1 + flip
    assert all(shape[2] % 8 == 0 and shape[3] % 8 == 0 for shape in model.seen)
    assert model.seen[0][2:] == (-(-round(70 * scale) // 8) * 8, -(-round(80 * scale) // 8) * 8)


def test_five_scales_and_their_mirror_images_merge_to_one_box_per_rectangle() -> None:
    model = ColorFinder()
    inference = Inference(scales=SCALES, flip=True)
    for kind in (inference, inference._replace(nms="none"), inference._replace(vote_iou=0.5)):
        found = ManyViews(model, kind, multiple_px=8).predict(batch_of(*PICTURES))
        assert [one.labels.tolist() for one in found] == [[0, 1], [0], []]
        # Votes average ten views; without them one of the views, all of equal score, stands for the ten.
        tolerance = 0.3 if kind.vote_iou else 1.2
        assert torch.allclose(found[0].boxes, torch.tensor([RED, BLUE]).float(), atol=tolerance)
    soft = ManyViews(model, inference._replace(nms="soft_gaussian"), multiple_px=8).predict(batch_of(*PICTURES))
    # Of ten copies the k-th keeps 0.9 * exp(-2 (k - 1)): four are above the threshold of 0.001.
    assert [len(one.scores) for one in soft] == [8, 4, 0]
    assert (soft[0].scores.diff() <= 0).all() and (soft[0].scores > 0.5).sum() == 2


def test_a_mirrored_view_is_the_mirror_image_and_proposals_follow() -> None:
    proposals = [
        torch.tensor([[float(v) for v in RED]]),
        torch.tensor([[float(v) for v in SECOND]]),
        torch.zeros((0, 4)),
    ]
    given = batch_of(*PICTURES)._replace(proposals=proposals)
    seen, placements = look(given, View(1.0, flip=True), multiple_px=8)
    for image, pixels, (height, width) in zip(seen.images, PICTURES, seen.sizes.tolist(), strict=True):
        assert torch.equal(image[:, :height, :width], pixels.flip(-1))
    assert seen.proposals is not None
    assert seen.proposals[0].tolist() == [[80 - 40, 6, 80 - 10, 30]]
    assert seen.proposals[1].tolist() == [[44 - 30, 20, 44 - 8, 60]]
    assert [placement.offset_x for placement in placements] == [80, 44, 80]
    untouched, _ = look(given, View(1.0, flip=False), multiple_px=8)
    assert untouched is given
    half, _ = look(given, View(0.5, flip=False), multiple_px=8)
    assert half.proposals is not None and half.proposals[0].tolist() == [[5, 3, 20, 15]]
    assert half.sizes.tolist() == [[28, 40], [35, 22], [32, 40]] and half.images.shape[2:] == (40, 40)


@pytest.mark.parametrize("mode", ["letterbox", "shortest_edge"])
def test_a_view_is_taken_from_the_resized_image_whatever_the_resize_mode(mode: str) -> None:
    rule = ResizeRule(mode, 64, 90, 8)  # type: ignore[arg-type]
    detector = Detector(
        ManyViews(ColorFinder(), Inference(scales=SCALES, flip=True), multiple_px=8), export_info(resize=rule)
    )
    prepared, _ = prepare_image(PICTURES[0], rule)
    assert max(prepared.shape[1:]) in (64, 90, 91)
    (found,) = detector.detect([PICTURES[0]])
    assert torch.allclose(found.boxes, torch.tensor([RED, BLUE]).float(), atol=2.0)


def test_training_mode_and_weights_are_those_of_the_network_behind_the_views() -> None:
    model = zoo.build("yolov5n", num_classes=2, inference=Inference(flip=True))
    assert model.eval().inference.nms == "none"  # type: ignore[union-attr]
    merged = ManyViews(model, Inference(flip=True), multiple_px=32)
    assert merged.training is model.training is False
    merged.train()
    assert model.training
    assert {key.removeprefix("model.") for key in merged.state_dict()} == set(model.state_dict())
    assert merged.compilable() == model.compilable()
    batch = batch_of(PICTURES[0], multiple_px=32)
    assert set(merged(batch)) == set(model.losses(batch))
    assert merged.counts(batch).keys() == model.counts(batch).keys()  # type: ignore[union-attr]


QUICK = [name if case(name).quick else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names("detection")]


@pytest.mark.parametrize("name", QUICK)
@torch.no_grad()
def test_every_network_answers_through_several_views(name: str) -> None:
    torch.manual_seed(0)
    size_px = case(name).size_px
    inference = Inference(score_threshold=0.0, max_detections=9, scales=(1.0, 1.5), flip=True)
    model = zoo.build(name, num_classes=3, options=case(name).options, inference=inference)
    of_card = zoo.card(name).multiple_px  # a network that a test makes small may need another multiple
    merged = with_views(model, inference, multiple_px=size_px if size_px % of_card else of_card).eval()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (3, size_px, size_px), generator=generator, dtype=torch.uint8)
    found, mirrored = merged(batch_of(pixels, pixels.flip(-1), multiple_px=size_px))
    assert 0 < len(found.scores) <= 9
    assert ((found.boxes >= 0) & (found.boxes <= size_px)).all() and (found.scores.diff() <= 0).all()
    # With the mirror image among the views, an image and its mirror image get mirrored answers.
    assert torch.allclose(mirrored.scores, found.scores, atol=1e-4)


def test_an_export_with_views_loads_with_them_and_one_from_before_without(tmp_path: Path) -> None:
    torch.manual_seed(3)
    inference = Inference(score_threshold=0.0, max_detections=20, flip=True, scales=(1.0, 0.5), nms="soft_linear")
    model = zoo.build("yolov5n", num_classes=3, inference=inference).eval()
    info = export_info(options={}, inference=inference, resize=ResizeRule("letterbox", 64))
    write_export(tmp_path, state=model.state_dict(), info=info)
    assert load(tmp_path).info.inference == inference
    pixels = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    (found,) = load(tmp_path).detect([pixels], score_threshold=0.0)
    with torch.no_grad():
        (expected,) = ManyViews(model, inference, multiple_px=32).predict(batch_of(pixels))
    assert torch.equal(found.scores, expected.scores) and len(found.scores) == 20
    config = tmp_path / "config.json"
    text = config.read_text(encoding="utf-8")
    start, end = text.index('"max_detections": 20,') + len('"max_detections": 20'), text.index('"metrics"')
    config.write_text(text[:start] + "},\n" + text[end:], encoding="utf-8")
    assert load(tmp_path).info.inference == Inference(0.0, 0.6, 20)
