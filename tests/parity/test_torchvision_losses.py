"""Two processes compute the gradient of one, one process computes torchvision's loss: nine detectors, float64."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from accel_det.models.base import Inference
from accel_det.models.torchvision.build import NAMES, TorchvisionDetector, TorchvisionOptions, build
from accel_det.models.torchvision.geometry import default_boxes, vgg_grid
from accel_det.types import Batch, BoxTarget, Frame, Losses

HEIGHT, WIDTH = 64, 32
NUM_BOXES = (1, 9, 0, 14)
NUM_CLASSES = 3
EVERY_CANDIDATE = 100_000
PROPOSALS = 6
SWEPT = [pytest.param(name, marks=pytest.mark.slow) if name == "ssd512_vgg16" else name for name in NAMES]


def ragged_batch(
    *, height: int = HEIGHT, width: int = WIDTH, num_boxes: tuple[int, ...] = NUM_BOXES
) -> Batch[BoxTarget]:
    """Random pixels and boxes; the first image fills the canvas, the others do not."""
    generator = torch.Generator().manual_seed(5)
    sizes = [(height - 3 * index, width - 2 * index) for index in range(len(num_boxes))]
    images = torch.randint(0, 256, (len(sizes), 3, height, width), generator=generator, dtype=torch.uint8)
    targets = []
    for (image_height, image_width), count in zip(sizes, num_boxes, strict=True):
        extent = torch.tensor((image_width, image_height), dtype=torch.float32)
        corner = torch.rand((count, 2), generator=generator) * extent * 0.6
        side = (0.1 + 0.3 * torch.rand((count, 2), generator=generator)) * extent
        boxes = torch.cat((corner, corner + side), dim=1)
        labels = torch.randint(0, NUM_CLASSES, (count,), generator=generator)
        targets.append(BoxTarget(boxes, labels, torch.zeros(count, dtype=torch.bool), side.prod(dim=1)))
    frames = [Frame(index, f"image {index}", *size, draw_seed=1000 + index) for index, size in enumerate(sizes)]
    return Batch(images, torch.tensor(sizes), targets, frames)


def part(batch: Batch[BoxTarget], *indices: int) -> Batch[BoxTarget]:
    chosen = list(indices)
    return Batch(
        batch.images[chosen],
        batch.sizes[chosen],
        [batch.targets[index] for index in chosen],
        [batch.frames[index] for index in chosen],
    )


def joined_loss(parts: list[Losses]) -> Tensor:
    """What the engine computes: the sums of all processes, each over the counts of all processes."""
    names = parts[0].keys()
    totals = {name: torch.stack([losses[name].count for losses in parts]).sum().clamp(min=1) for name in names}
    return torch.stack([losses[name].sum / totals[name] for losses in parts for name in names]).sum()


@pytest.fixture(scope="module", params=SWEPT)
def detector(request: pytest.FixtureRequest) -> TorchvisionDetector:
    torch.manual_seed(0)
    name: str = request.param
    few = TorchvisionOptions(anchors_per_image=64, rois_per_image=8)
    options = few if name.startswith("fasterrcnn") else None
    model = build(name, num_classes=NUM_CLASSES, inference=Inference(), options=options).double()
    hold_statistics(model.train())
    return model


def hold_statistics(model: TorchvisionDetector) -> None:
    """Give every BatchNorm2d the statistics of one batch and keep them: live ones would differ between half batches."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.losses(ragged_batch())
    for norm in norms:
        norm.eval()


def gradient(loss: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, parameters))


def relative_difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """L2 of the difference over L2 of what is expected; overwrites what was found, to save gigabytes."""
    difference = torch.stack([torch.linalg.vector_norm(b.sub_(a)) for a, b in zip(expected, found, strict=True)])
    size = torch.stack([torch.linalg.vector_norm(a) for a in expected])
    return float((torch.linalg.vector_norm(difference) / torch.linalg.vector_norm(size)).item())


def test_two_half_batches_give_the_gradient_of_the_joint_batch(detector: TorchvisionDetector) -> None:
    batch = ragged_batch(height=32, width=32)
    parameters = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    losses = detector.losses(batch)
    assert all(term.count > 0 for term in losses.values())
    joint = gradient(joined_loss([losses]), parameters)
    assert all(value.isfinite().all() for value in joint)
    # two images each; then the image without boxes (2) alone against the other three
    for halves in (((0, 1), (2, 3)), ((2,), (0, 1, 3))):
        separate = gradient(joined_loss([detector.losses(part(batch, *half)) for half in halves]), parameters)
        assert relative_difference(joint, separate) <= 1e-12


def stock_twin(name: str, detector: TorchvisionDetector) -> Any:
    """torchvision's own model with the detector's weights, its norms in evaluation mode and nothing left to chance."""
    settings: dict[str, int] = {}
    if name.startswith("fasterrcnn"):
        settings = {
            "rpn_batch_size_per_image": EVERY_CANDIDATE,
            "box_batch_size_per_image": EVERY_CANDIDATE,
            "rpn_post_nms_top_n_train": PROPOSALS,
        }
    num_classes = NUM_CLASSES + detector.num_background
    make = getattr(detection, name)
    stock = make(weights=None, weights_backbone=None, num_classes=num_classes, _skip_resize=True, **settings)
    stock.to(next(detector.parameters()).dtype).train()
    stock.load_state_dict(detector.network.state_dict(), strict=True)
    for module in stock.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return stock


def stock_losses(stock: Any, batch: Batch[BoxTarget], *, num_background: int) -> dict[str, Tensor]:
    dtype = next(stock.parameters()).dtype
    images = [
        image[:, :height, :width].to(dtype) / 255
        for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True)
    ]
    targets = [{"boxes": target.boxes.to(dtype), "labels": target.labels + num_background} for target in batch.targets]
    losses: dict[str, Tensor] = stock(images, targets)
    return losses


def test_one_process_gets_the_loss_and_gradient_of_the_untouched_torchvision_model(
    detector: TorchvisionDetector, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["detector"]
    if name == "ssd300_vgg16":
        pytest.skip("torchvision's needs 300x300: the next test")
    if name == "ssd512_vgg16":
        pytest.skip("torchvision has none: test_ssd512.py")
    network: Any = detector.network
    if name.startswith("fasterrcnn"):
        # a sample as large as the population is no matter of chance
        network.rpn.fg_bg_sampler.batch_size_per_image = EVERY_CANDIDATE
        network.roi_heads.fg_bg_sampler.batch_size_per_image = EVERY_CANDIDATE
        network.rpn._post_nms_top_n["training"] = PROPOSALS
    batch = ragged_batch()
    stock = stock_twin(name, detector)
    expected = stock_losses(stock, batch, num_background=detector.num_background)
    losses = detector.losses(batch)
    assert losses.keys() == expected.keys()
    for key, (total, count, _) in losses.items():
        # torchvision's anchor labels are float32 whatever the network, and so is its objectness loss
        tolerance = 1e-9 if expected[key].dtype == torch.float64 else 1e-6
        assert abs(total / count / expected[key] - 1).item() <= tolerance, key
    # the backbone is the same code in both, so the comparison stops at what lies behind it
    trained = [
        key for key, _ in network.named_parameters() if not key.startswith(("backbone.body", "backbone.features"))
    ]
    ours, theirs = dict(network.named_parameters()), dict(stock.named_parameters())
    first = gradient(joined_loss([losses]), [ours[key] for key in trained])
    second = gradient(torch.stack(list(expected.values())).sum(), [theirs[key] for key in trained])
    assert len(trained) >= 20
    assert relative_difference(first, second) <= 1e-9


def test_ssd300_gets_the_loss_of_the_untouched_torchvision_model_at_300_pixels() -> None:
    torch.manual_seed(0)
    detector = build("ssd300_vgg16", num_classes=NUM_CLASSES, inference=Inference()).train()
    batch = ragged_batch(height=300, width=300, num_boxes=(9,))
    with torch.no_grad():
        expected = stock_losses(stock_twin("ssd300_vgg16", detector), batch, num_background=1)
        losses = detector.losses(batch)
    assert losses.keys() == expected.keys()
    for key, (total, count, _) in losses.items():
        torch.testing.assert_close(total / count, expected[key], rtol=1e-5, atol=0)


def test_default_boxes_at_300_pixels_are_torchvisions_to_the_last_bit() -> None:
    with torch.device("meta"):
        stock = detection.ssd300_vgg16(weights=None, weights_backbone=None).anchor_generator
    maps = [torch.empty((1, 1, *size)) for size in vgg_grid(300, 300)]
    expected = stock(detection.image_list.ImageList(torch.empty((1, 3, 300, 300)), [(300, 300)]), maps)[0]
    generator_grid = vgg_grid(300, 300)
    ours = default_boxes(stock, canvas=(300, 300), grid=generator_grid, dtype=torch.float32, device=torch.device("cpu"))
    assert len(ours) == 8732  # Liu et al., SSD, 2016, section 3.1
    assert torch.equal(ours, expected)
