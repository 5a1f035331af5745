"""What R-FCN promises beside what every network does: its published shape, its ways of training, its export."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.layers.batch_norm import FrozenBatchNorm2d
from accel_det.models.rfcn.model import RFCN, build
from accel_det.models.rfcn.network import VotingMaps
from accel_det.models.rfcn.options import RFCNOptions
from accel_det.models.weights import load_matching
from accel_det.types import Batch, BoxTarget, Frame

SMALL = RFCNOptions(
    blocks=(1, 1, 1, 1),
    width=8,
    scales=(1.0, 2.0),
    rpn_channels=16,
    head_channels=16,
    bins=3,
    anchors_per_image=32,
    rois_per_image=16,
    proposals_after_nms=40,
)
INFERENCE = Inference(score_threshold=0.001, nms_iou=0.6, max_detections=20)


def make(options: RFCNOptions = SMALL, *, num_classes: int = 3, name: str = "rfcn_resnet50", **inference: Any) -> RFCN:
    torch.manual_seed(0)
    return build(name, num_classes=num_classes, inference=INFERENCE._replace(**inference), options=options)


def batch_of(*num_boxes: int, num_classes: int = 3, proposals: int | None = None) -> Batch[BoxTarget]:
    """Random pixels and boxes; only the first image fills the canvas."""
    generator = torch.Generator().manual_seed(3)
    sizes = [(64 - 5 * index, 80 - 7 * index) for index in range(len(num_boxes))]
    images = torch.randint(0, 256, (len(sizes), 3, 64, 80), generator=generator, dtype=torch.uint8)

    def boxes(size: tuple[int, int], count: int) -> Tensor:
        extent = torch.tensor([size[1], size[0]], dtype=torch.float32)
        corner = torch.rand(count, 2, generator=generator) * 0.6 * extent
        return torch.cat((corner, corner + (0.1 + 0.3 * torch.rand(count, 2, generator=generator)) * extent), dim=1)

    targets = []
    for size, count in zip(sizes, num_boxes, strict=True):
        labels = torch.arange(count) % num_classes
        targets.append(BoxTarget(boxes(size, count), labels, torch.zeros(count, dtype=torch.bool), labels.float()))
    frames = [Frame(index, f"image {index}", *size, draw_seed=1000 + index) for index, size in enumerate(sizes)]
    given = None if proposals is None else [boxes(size, proposals) for size in sizes]
    return Batch(images, torch.tensor(sizes), targets, frames, given)


def backward(model: RFCN, batch: Batch[BoxTarget]) -> dict[str, float]:
    """Losses, after every trained parameter got a finite gradient."""
    model.train().zero_grad(set_to_none=True)
    losses = model.losses(batch)
    torch.stack([term.sum for term in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert [name for name, p in trained.items() if p.grad is None or not p.grad.isfinite().all()] == []
    return {name: term.sum.item() for name, term in losses.items()}


def resnet_parameters(blocks: tuple[int, ...]) -> int:
    """Weights of the convolutions and two numbers per channel of the norms: ResNet, 2015, table 1."""
    total, channels = 3 * 64 * 49 + 2 * 64, 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        total += channels * 4 * width + 2 * 4 * width  # shortcut of the first block
        for _ in range(count):
            total += channels * width + 9 * width * width + 4 * width * width + 2 * (width + width + 4 * width)
            channels = 4 * width
    return total


@pytest.mark.parametrize(("name", "blocks"), [("rfcn_resnet50", (3, 4, 6, 3)), ("rfcn_resnet101", (3, 4, 23, 3))])
@pytest.mark.parametrize("deformable", [False, True])
def test_parameters_are_as_many_as_the_published_layers_have(
    name: str, blocks: tuple[int, ...], deformable: bool
) -> None:
    name += "_deformable" if deformable else ""
    with torch.device("meta"):
        model = build(name, num_classes=80, inference=INFERENCE, options=RFCNOptions())
    rpn = 1024 * 512 * 9 + 512 + (512 + 1) * (2 + 4) * 9
    head = 2048 * 1024 + 1024 + (1024 + 1) * (81 * 49 + 4 * 49 * 2)
    offsets = 3 * (512 * 9 + 1) * 2 * 9 * 4 + 2 * (1024 + 1) * 2 * 49 if deformable else 0
    expected = resnet_parameters(blocks) + rpn + head + offsets
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == expected
    assert abs(found / 1e6 - zoo.card(name).parameters_m) <= 0.05


@pytest.mark.parametrize(("num_classes", "score_maps"), [(20, 1029), (80, 3969), (30, 1519), (1, 98)])
def test_score_maps_follow_from_the_number_of_classes_alone(num_classes: int, score_maps: int) -> None:
    with torch.device("meta"):
        agnostic = build("rfcn_resnet50", num_classes=num_classes, inference=INFERENCE, options=RFCNOptions())
        aware = build(
            "rfcn_resnet50", num_classes=num_classes, inference=INFERENCE, options=RFCNOptions(class_aware=True)
        )
    assert agnostic.network.head.scores.out_channels == aware.network.head.scores.out_channels == score_maps
    assert agnostic.network.head.boxes.out_channels == 392
    assert aware.network.head.boxes.out_channels == 4 * score_maps


@pytest.mark.parametrize("class_aware", [False, True])
@pytest.mark.parametrize("num_classes", [1, 3, 20, 80])
def test_any_number_of_classes_trains_and_predicts_on_an_odd_number_of_images(
    num_classes: int, class_aware: bool
) -> None:
    model = make(replace(SMALL, class_aware=class_aware), num_classes=num_classes)
    losses = backward(model, batch_of(4, 0, 1, num_classes=num_classes))
    assert set(losses) == {"rpn_objectness", "rpn_box", "class", "box"}
    with torch.no_grad():
        found = model.eval().predict(batch_of(4, 0, 1, num_classes=num_classes))
    assert [len(one.boxes) > 0 for one in found] == [True] * 3
    for one, (height, width) in zip(found, batch_of(4, 0, 1).sizes.tolist(), strict=True):
        assert (one.boxes >= 0).all()
        assert (one.boxes <= torch.tensor([width, height, width, height])).all()


def test_a_label_that_the_network_has_no_output_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image 0: class index 2 is not in 0..1"):
        make(num_classes=2).train()(batch_of(3))


@pytest.mark.parametrize("sampling", ["ohem", "balanced"])
def test_crowds_are_neither_objects_nor_background(sampling: Any) -> None:
    model = make(replace(SMALL, sampling=sampling, inside_anchors_only=True))
    batch = batch_of(5)
    crowds = [target._replace(crowd=torch.ones_like(target.crowd)) for target in batch.targets]
    losses = backward(model, batch._replace(targets=crowds))
    assert losses["box"] == losses["rpn_box"] == 0
    assert backward(model, batch)["box"] > 0
    everywhere = crowds[0]._replace(boxes=torch.tensor([[0.0, 0, 80, 64]]).repeat(5, 1))
    nothing = model.losses(batch._replace(targets=[everywhere]))
    assert nothing["class"].count.item() == nothing["class"].sum.item() == 0


def test_anchors_that_cross_the_border_are_left_out_where_asked_for_also_if_that_leaves_none() -> None:
    model = make(replace(SMALL, scales=(32.0,), inside_anchors_only=True))
    losses = backward(model, batch_of(2))
    assert losses["rpn_objectness"] == losses["rpn_box"] == 0
    assert losses["class"] > 0


def test_a_torchvision_resnet_fits_and_the_stages_before_res5_compute_the_same() -> None:
    torch.manual_seed(1)
    stock = resnet50(weights=None).eval()
    for module in stock.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    model = make(RFCNOptions()).train()
    report = load_matching(model, stock.state_dict())
    backbone = {name for name in model.state_dict() if name.startswith("network.backbone.")}
    assert set(report.matched) == backbone
    assert len(backbone) == 318  # 53 convolutions, and five tensors for each of 53 norms
    assert {name.rpartition("backbone.")[2] for name in report.unexpected} == {"fc.weight", "fc.bias"}
    assert not report.mismatched
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = stock.maxpool(stock.relu(stock.bn1(stock.conv1(pixels))))
        expected = stock.layer3(stock.layer2(stock.layer1(x)))
        res4, res5 = model.network.backbone(pixels)
    torch.testing.assert_close(res4, expected)
    assert res5.shape == (1, 2048, 4, 4)


def test_res5_is_dilated_norms_are_frozen_and_conv1_and_res2_are_not_trained() -> None:
    model = make(replace(SMALL, blocks=(1, 1, 1, 3)))
    convolutions = [block.conv2 for block in model.network.backbone.layer4]
    assert [(conv.stride, conv.dilation, conv.padding) for conv in convolutions] == [((1, 1), (2, 2), (2, 2))] * 3
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, FrozenBatchNorm2d) for norm in norms)
    trained = {name.split(".")[0] for name, p in model.network.backbone.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    live = make(replace(SMALL, norm="live", frozen_stages=0))
    assert all(parameter.requires_grad for parameter in live.parameters())


def test_strides_can_stand_in_the_first_convolution_of_a_stage_as_in_the_caffe_weights() -> None:
    for in_1x1, expected in ((False, ((1, 1), (2, 2))), (True, ((2, 2), (1, 1)))):
        backbone = make(replace(SMALL, stride_in_1x1=in_1x1)).network.backbone
        assert [(stage[0].conv1.stride, stage[0].conv2.stride) for stage in (backbone.layer2, backbone.layer3)] == [
            expected
        ] * 2
        assert backbone(torch.zeros(1, 3, 64, 80))[1].shape == (1, 2048, 4, 5)


def test_caffe_pixels_are_bgr_without_the_published_means() -> None:
    batch = batch_of(0)._replace(
        images=torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 64, 80)
    )
    pixels = make(replace(SMALL, pixels="caffe"))._pixels(batch)
    expected = torch.tensor([30 - 102.9801, 20 - 115.9465, 10 - 122.7717])
    torch.testing.assert_close(pixels[0, :, 5, 7], expected, rtol=1e-5, atol=1e-4)


def test_given_proposals_take_the_place_of_the_proposal_network() -> None:
    model = make(replace(SMALL, proposals="given"))
    assert not [name for name, _ in model.named_parameters() if "rpn" in name]
    batch = batch_of(3, 0, 2, proposals=30)
    assert set(backward(model, batch)) == {"class", "box"}
    with torch.no_grad():
        found = model.eval().predict(batch)
        none = model.predict(batch._replace(proposals=[torch.zeros(0, 4)] * 3))
    assert all(len(one.boxes) > 0 for one in found)
    assert [len(one.boxes) for one in none] == [0, 0, 0]
    backward(model, batch._replace(targets=[BoxTarget.empty()] * 3, proposals=[torch.zeros(0, 4)] * 3))
    for call in (model.train(), model.eval()):
        with pytest.raises(ValueError, match=r"set data\.proposals"):
            call(batch._replace(proposals=None))
    with pytest.raises(ValueError, match="makes none"):
        model.propose(batch)


def test_the_parts_of_alternating_training_train_their_part_and_hand_over_weights() -> None:
    batch = batch_of(3, 0, proposals=30)
    first = make(replace(SMALL, train_part="rpn"))
    assert set(backward(first, batch)) == {"rpn_objectness", "rpn_box"}
    trained = {name.split(".")[1] for name, p in first.named_parameters() if p.requires_grad}
    assert trained == {"backbone", "rpn"}
    assert not any(p.requires_grad for p in first.network.backbone.layer4.parameters())

    second = make(replace(SMALL, proposals="given", train_part="head"))
    backward(second, batch)
    third = make(replace(SMALL, train_part="rpn"))
    report = load_matching(third, second.state_dict())
    assert {name.split(".")[1] for name in report.missing} == {"rpn"}
    assert not report.unexpected

    last = make(replace(SMALL, train_part="head"))
    assert load_matching(last, third.state_dict()).missing == []
    assert set(backward(last, batch)) == {"class", "box"}
    assert not any(p.requires_grad for name, p in last.named_parameters() if ".rpn." in name)
    with torch.no_grad():
        assert all(map(torch.equal, third.eval().propose(batch)[0], last.eval().propose(batch)[0]))


def test_proposals_are_the_best_first_inside_their_image_and_without_a_class() -> None:
    batch = batch_of(3, 2)
    model = make(replace(SMALL, test_proposals_after_nms=15)).eval()
    with torch.no_grad():
        found = model.propose(batch)
    assert [len(one.boxes) for one in found] == [15, 15]
    for one, (height, width) in zip(found, batch.sizes.tolist(), strict=True):
        assert (one.scores.diff() <= 0).all()
        assert one.labels.tolist() == [0] * 15
        assert ((one.boxes >= 0) & (one.boxes <= torch.tensor([width, height, width, height]))).all()
        assert (one.boxes[:, 2:] - one.boxes[:, :2] >= 8).all()


@pytest.mark.parametrize("pooling", ["align", "bilinear"])
def test_both_ways_to_pool_give_the_same_losses(pooling: Any) -> None:
    losses = [
        backward(make(replace(SMALL, pooling=pooling, pool_operations=operations)), batch_of(3, 2))  # type: ignore[arg-type]
        for operations in ("torchvision", "tensor")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_deformable_network_starts_as_the_plain_one_and_its_offsets_learn() -> None:
    samples = replace(SMALL, pool_samples=4, deformable_samples=4)
    plain = make(samples).double()
    deformable = make(samples, name="rfcn_resnet50_deformable").double()
    report = load_matching(deformable, plain.state_dict())
    assert not report.unexpected
    assert {name.split(".")[-2] for name in report.missing} == {"offset", "score_shifts", "box_shifts"}
    batch = batch_of(3, 2)
    assert backward(deformable, batch) == pytest.approx(backward(plain, batch), rel=1e-9)
    offsets = {name: p for name, p in deformable.named_parameters() if "offset" in name or "shifts" in name}
    assert len(offsets) == 6
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in offsets.values())


def test_box_iterations_feed_found_boxes_back_to_the_second_stage() -> None:
    """A head that moves every region right by a tenth of its width: a second round moves it twice."""
    options = replace(SMALL, proposals="given", box_spread=(1.0, 1.0, 1.0, 1.0))
    batch = batch_of(0, proposals=1)._replace(proposals=[torch.tensor([[10.0, 20, 30, 40]])])
    found = []
    for iterations in (0, 1, 2):
        model = make(options, num_classes=1, nms="none", box_iterations=iterations).eval()
        with torch.no_grad():
            for layer in (model.network.head.scores, model.network.head.boxes):
                layer.weight.zero_()
            assert model.network.head.boxes.bias is not None
            model.network.head.boxes.bias.view(2, 4, 9)[1, 0] = 0.1
            found.append(sorted(model.predict(batch)[0].boxes[:, 0].tolist()))
    assert found == [pytest.approx([12.0]), pytest.approx([12.0, 14.0]), pytest.approx([12.0, 14.0, 16.0])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": [3, 4]}, "expected the bottlenecks of res2 to res5"),
        ({"frozen_stages": 6}, "frozen_stages is 6, expected 0 to 5"),
        ({"scales": [0.0]}, "scales is .*, expected positive numbers"),
        ({"proposals": "given", "train_part": "rpn"}, 'set proposals to "rpn"'),
        ({"proposal_nms_iou": 1.5}, r"proposal_nms_iou is 1.5, expected a number in \[0, 1\]"),
        ({"rois_per_image": 0}, "rois_per_image is 0"),
        ({"pooling": "max"}, "pooling"),
    ],
)
def test_options_that_cannot_work_are_refused_by_name(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.build("rfcn_resnet50", num_classes=2, options=options)


def test_whole_cells_cannot_be_moved() -> None:
    with pytest.raises(ValueError, match="cannot be moved"):
        make(replace(SMALL, pooling="pool"), name="rfcn_resnet50_deformable")


class _Answers(nn.Module):
    """The network without proposals and suppression: one image and its regions to class scores and encoded boxes."""

    def __init__(self, model: RFCN) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        maps: VotingMaps = self.model.network.head(self.model.network.backbone(pixels)[1])
        return self.model._vote(maps, [regions])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rfcn_resnet50", "rfcn_resnet50_deformable"])
def test_the_network_exports_to_onnx_and_gives_the_same_there(name: str, tmp_path: Any) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    if name.endswith("deformable"):
        pytest.skip("ONNX has DeformConv, but torch has no translation of torchvision's operation to it")
    module = _Answers(make(replace(SMALL, pool_operations="tensor"), name=name)).eval()
    pixels, regions = torch.randn(1, 3, 64, 80), batch_of(0, proposals=9).proposals[0]  # type: ignore[index]
    file = str(tmp_path / "rfcn.onnx")
    torch.onnx.export(
        module,
        (pixels, regions),
        file,
        dynamo=True,
        dynamic_shapes=(None, {0: torch.export.Dim("regions", min=2, max=2000)}),
    )
    more = batch_of(0, proposals=23).proposals[0]  # type: ignore[index]
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found = session.run(None, dict(zip(names, (pixels.numpy(), more.numpy()), strict=True)))
    with torch.no_grad():
        expected = module(pixels, more)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other, rtol=1e-4, atol=1e-5)
