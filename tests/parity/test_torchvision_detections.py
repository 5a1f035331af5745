"""What torchvision's detectors find, against torchvision's own way from predictions to detections."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.layers.canvas import image_sizes
from accel_det.models.torchvision.base import TorchvisionDetector
from accel_det.models.torchvision.build import TorchvisionOptions, build
from accel_det.models.torchvision.dense import DenseDetector, PyramidDetector
from accel_det.models.torchvision.rcnn import FasterRCNNDetector
from accel_det.types import Batch, BoxTarget, Detections, Frame

NUM_CLASSES = 3
PROPOSALS = 40
INFERENCE = Inference(score_threshold=0.02, nms_iou=0.5, max_detections=40)
QUICK = ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]
SLOW = [
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "fasterrcnn_resnet50_fpn_v2",
]
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def batch() -> Batch[BoxTarget]:
    """Noise; the second image does not fill its canvas."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (2, 3, 96, 64), generator=generator, dtype=torch.uint8)
    frames = [Frame(i, f"image {i}", 96, 64) for i in range(2)]
    return Batch(images, torch.tensor([[96, 64], [80, 50]]), [BoxTarget.empty()] * 2, frames)


def detector(name: str, inference: Inference = INFERENCE) -> TorchvisionDetector:
    """A network in float64 whose weights are drawn wide enough for many different boxes and scores."""
    torch.manual_seed(0)
    options = TorchvisionOptions(norm="frozen") if "resnet" in name else None
    model = build(name, num_classes=NUM_CLASSES, inference=inference, options=options).double().eval()
    found = 0
    for key, module in model.network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and any(
            part in key for part in ("cls_logits", "bbox_reg", "bbox_pred", "cls_score", "ctrness", "module_list.")
        ):
            weight = module.weight.data
            weight.normal_(0, 1.5 / weight[0].numel() ** 0.5)
            assert module.bias is not None or "module_list" in key
            if module.bias is not None:
                module.bias.data.fill_(-1.0 if "cls_logits" in key else 0.0)
            found += 1
    assert found >= 2
    if isinstance(model, FasterRCNNDetector):
        rpn = cast(Any, model.network.rpn)
        rpn._post_nms_top_n["testing"] = PROPOSALS
    return model


def torchvisions(model: TorchvisionDetector, given: Batch[BoxTarget]) -> list[Detections]:
    """The stock post-processing, with its own suppression, on the same predictions."""
    sizes = image_sizes(given)
    images = model._images(given)
    canvas = (images.shape[-2], images.shape[-1])
    network = cast(Any, model.network)
    if isinstance(model, FasterRCNNDetector):
        features = model._features(images)
        proposals = model._propose(images, features=features, sizes=sizes).proposals
        logits, deltas = model._classify(features, boxes=proposals)
        heads = cast(RoIHeads, network.roi_heads)
        heads.score_thresh, heads.nms_thresh, heads.detections_per_img = INFERENCE[:3]
        columns = heads.postprocess_detections(logits, deltas, proposals, sizes)
        return [Detections(boxes, scores, labels - 1) for boxes, scores, labels in zip(*columns, strict=True)]
    assert isinstance(model, DenseDetector)
    network.score_thresh, network.nms_thresh, network.detections_per_img = INFERENCE[:3]
    outputs: Any = model._outputs(images)
    anchors = model._anchors(canvas, dtype=torch.float64, device=images.device)
    given_anchors: Any = [anchors] * len(images)
    if isinstance(model, PyramidDetector):
        levels = model._anchors_per_level(canvas, num_anchors=len(anchors))
        outputs = {name: list(output.split(levels, dim=1)) for name, output in outputs.items()}
        given_anchors = [list(anchors.split(levels))] * len(images)
    found = network.postprocess_detections(outputs, given_anchors, sizes)
    background = model.num_background
    return [Detections(one["boxes"], one["scores"], one["labels"] - background) for one in found]


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_hard_suppression_gives_torchvisions_own_detections(name: str) -> None:
    model, given = detector(name), batch()
    counted = 0
    for ours, stock in zip(model.predict(given), torchvisions(model, given), strict=True):
        # torchvision's dense detectors keep boxes that lie outside the image, cut to nothing.
        real = (stock.boxes[:, 2:] > stock.boxes[:, :2]).all(dim=1)
        stock = Detections(stock.boxes[real], stock.scores[real], stock.labels[real])
        same = len(stock.scores)
        assert same > 5 and len(ours.scores) >= same
        torch.testing.assert_close(ours.scores[:same].double(), stock.scores, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(ours.boxes[:same].double(), stock.boxes, rtol=1e-5, atol=1e-4)
        assert torch.equal(ours.labels[:same], stock.labels)
        counted += same
    assert counted >= 20


def reference_rounds(
    model: FasterRCNNDetector, given: Batch[BoxTarget], rounds: int
) -> list[tuple[float, int, list[float]]]:
    """Every (score, label, box) of a one-image batch, box by box: each found box goes to the second stage again."""
    images, sizes = model._images(given), image_sizes(given)
    height, width = sizes[0]
    features = model._features(images)
    coder = cast(RoIHeads, model.network.roi_heads).box_coder
    limit = torch.tensor([width, height, width, height]).double()

    def second_stage(boxes: Tensor) -> list[tuple[Tensor, Tensor]]:
        logits, deltas = model._classify(features, boxes=[boxes])
        return list(zip(F.softmax(logits, dim=1), coder.decode(deltas, [boxes]), strict=True))

    last: list[tuple[float, int, Tensor]] = []
    for scores, boxes in second_stage(model._propose(images, features=features, sizes=sizes).proposals[0]):
        last += [(scores[c].item(), c - 1, boxes[c]) for c in range(1, NUM_CLASSES + 1)]
    every = []
    for number in range(rounds + 1):
        last = [(s, c, b.clamp(min=0).minimum(limit)) for s, c, b in last if s > model.inference.score_threshold]
        last = [row for row in last if (row[2][2:] - row[2][:2]).min() >= 0.01]
        every += [(score, label, box.tolist()) for score, label, box in last]
        if number < rounds:
            last = sorted(last, key=lambda row: -row[0])[:PROPOSALS]  # no more than there may be proposals
            answers = second_stage(torch.stack([box for _, _, box in last]))
            last = [
                (scores[c + 1].item(), c, boxes[c + 1])
                for (scores, boxes), (_, c, _) in zip(answers, last, strict=True)
            ]
    return every


@pytest.mark.parametrize("rounds", [pytest.param(1, marks=pytest.mark.slow), 2])
@torch.no_grad()
def test_found_boxes_go_to_the_second_stage_again_as_often_as_asked(rounds: int) -> None:
    everything = Inference(score_threshold=0.25, max_detections=5000, nms="none", box_iterations=rounds)
    model = detector("fasterrcnn_mobilenet_v3_large_320_fpn", everything)
    assert isinstance(model, FasterRCNNDetector)
    one = batch()
    one = one._replace(images=one.images[1:], sizes=one.sizes[1:], frames=one.frames[1:], targets=one.targets[1:])
    expected = sorted(reference_rounds(model, one, rounds), reverse=True)
    (found,) = model.predict(one)
    assert 20 * (rounds + 1) < len(expected) <= PROPOSALS * (rounds + NUM_CLASSES)
    assert len(found.scores) == len(expected)
    assert found.scores.tolist() == pytest.approx([score for score, _, _ in expected], abs=1e-6)
    mine = sorted(zip(found.labels.tolist(), found.boxes.round().tolist(), strict=True))
    theirs = sorted((label, torch.tensor(box).round().tolist()) for _, label, box in expected)
    assert sum(a != b for a, b in zip(mine, theirs, strict=True)) <= 4  # a coordinate at .5 may round either way


def test_only_networks_with_a_second_stage_take_box_iterations() -> None:
    again = Inference(box_iterations=1)
    with torch.device("meta"):
        model = zoo.build("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=2, inference=again)
        assert model.has_second_stage
        with pytest.raises(
            ValueError, match=r"evaluate\.box_iterations is 1, but fcos_resnet50_fpn has no second stage"
        ):
            zoo.build("fcos_resnet50_fpn", num_classes=2, inference=again)
