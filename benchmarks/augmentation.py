"""Our augmentation recipes against torchvision's transforms v2: the same images in memory, one thread, decoding left out.

    python benchmarks/augmentation.py [--size_px 640] [--images 24] [--rounds 9]

The recipes take turns, so that a noisy machine disturbs all alike, and what is measured is processor time, not
time on the clock. Each figure is the median over rounds of the mean per sample. How many images a sample decodes, and what one
of them costs, stands beside it. Results go to benchmarks/results/augmentation.json.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import write_result
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from accel_det.data.decode import decode
from accel_det.data.transforms import Augmentation, ResizeMode, ResizeRule, augment_from
from accel_det.types import BoxTarget

HEIGHT, WIDTH, OBJECTS = 480, 640, 7

COLOR = {"brightness": 0.4, "saturation": 0.7, "hue": 0.015}
MOSAIC = Augmentation(flip=0.5, scale=(0.5, 1.5), translate=0.1, mosaic=1.0, min_visible=0.1, **COLOR)
RECIPES: dict[str, tuple[ResizeMode, Augmentation]] = {
    "resize alone": ("letterbox", Augmentation()),
    "zoom, mirror, color": ("letterbox", MOSAIC._replace(mosaic=0.0)),
    "yolov5: mosaic of 4": ("letterbox", MOSAIC),
    "mosaic of 9": ("letterbox", MOSAIC._replace(mosaic_tiles=9)),
    "mosaic of 4, mixup": ("letterbox", MOSAIC._replace(mixup=1.0)),
    "mosaic of 4, copy-paste": ("letterbox", MOSAIC._replace(copy_paste=0.3)),
    "mosaic of 4, rotation and shear": ("letterbox", MOSAIC._replace(degrees=10, shear=2)),
    "mosaic of 4, perspective": ("letterbox", MOSAIC._replace(degrees=10, shear=2, perspective=0.0005)),
    "ssd": ("stretch", Augmentation(flip=0.5, distort=0.5, zoom_out=0.5, iou_crop=1.0)),
    "ssd without color": ("stretch", Augmentation(flip=0.5, zoom_out=0.5, iou_crop=1.0)),
}
TORCHVISION = "torchvision v2: PhotometricDistort, ZoomOut, IoUCrop, flip, resize, sanitize"
TORCHVISION_PLAIN = "torchvision v2: ZoomOut, IoUCrop, flip, resize, sanitize"


class Pictures:
    """Smooth noise, so that a JPEG of it is as large as that of a photograph, with objects anywhere."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand((count, 3, HEIGHT // 6, WIDTH // 6), generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
        self.images = list((smooth * 255).to(torch.uint8))
        starts = torch.rand((count, OBJECTS, 2), generator=generator) * 0.7
        sides = torch.rand((count, OBJECTS, 2), generator=generator) * 0.25 + 0.05
        self.boxes = torch.cat((starts, starts + sides), dim=-1) * torch.tensor([WIDTH, HEIGHT] * 2)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        return HEIGHT, WIDTH

    def image(self, index: int) -> Tensor:
        self.reads += 1
        return self.images[index]

    def target(self, index: int) -> BoxTarget:
        labels, crowd = torch.zeros(OBJECTS, dtype=torch.int64), torch.zeros(OBJECTS, dtype=torch.bool)
        return BoxTarget(self.boxes[index], labels, crowd, torch.ones(OBJECTS))


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    pictures = Pictures(options.images)
    works = {name: ours(pictures, *recipe, size_px=options.size_px) for name, recipe in RECIPES.items()}
    works[TORCHVISION] = theirs(pictures, size_px=options.size_px, color=True)
    works[TORCHVISION_PLAIN] = theirs(pictures, size_px=options.size_px, color=False)
    works["decode one JPEG"] = jpeg(pictures)
    decoded = count_decoded(pictures, works)
    milliseconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(options.rounds):
        for name in works if number % 2 else reversed(works):
            started = time.process_time()
            for sample in range(options.images):
                works[name](sample, number)
            milliseconds[name].append(1e3 * (time.process_time() - started) / options.images)
    report(options, milliseconds, decoded)


def ours(
    pictures: Pictures, mode: ResizeMode, augmentation: Augmentation, *, size_px: int
) -> Callable[[int, int], object]:
    rule = ResizeRule(mode, size_px)
    return lambda index, number: augment_from(
        pictures, index, rule=rule, augmentation=augmentation, seed=1000 * number + index
    )


def theirs(pictures: Pictures, *, size_px: int, color: bool) -> Callable[[int, int], object]:
    steps: list[torch.nn.Module] = [v2.RandomPhotometricDistort(p=0.5)] if color else []
    steps += [
        v2.RandomZoomOut(fill=114, p=0.5),
        v2.RandomIoUCrop(),
        v2.RandomHorizontalFlip(0.5),
        v2.Resize((size_px, size_px), antialias=True),
        v2.SanitizeBoundingBoxes(),
    ]
    transform = v2.Compose(steps)

    def work(index: int, number: int) -> object:
        torch.manual_seed(1000 * number + index)
        boxes = tv_tensors.BoundingBoxes(pictures.boxes[index], format="XYXY", canvas_size=(HEIGHT, WIDTH))
        labels = torch.zeros(OBJECTS, dtype=torch.int64)
        return transform(tv_tensors.Image(pictures.image(index)), {"boxes": boxes, "labels": labels})

    return work


def jpeg(pictures: Pictures) -> Callable[[int, int], object]:
    files = []
    for image in pictures.images:
        stream = io.BytesIO()
        Image.fromarray(np.asarray(image.permute(1, 2, 0))).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return lambda index, _: decode(files[index], name="image")


def count_decoded(pictures: Pictures, works: dict[str, Callable[[int, int], object]]) -> dict[str, float]:
    """Images that a sample of each recipe reads; also warms everything up."""
    found = {}
    for name, work in works.items():
        pictures.reads = 0
        for index in range(len(pictures)):
            work(index, 10_000)
        found[name] = pictures.reads / len(pictures)
    return found


def report(options: argparse.Namespace, milliseconds: dict[str, list[float]], decoded: dict[str, float]) -> None:
    print(f"{options.images} images of {WIDTH}x{HEIGHT} to {options.size_px} px, 1 thread, processor time, no decoding")
    for name, values in milliseconds.items():
        print(
            f"  {name:80} {statistics.median(values):7.2f} ms ({min(values):.2f} to {max(values):.2f}), "
            f"{decoded[name]:.1f} images"
        )
    ratio = statistics.median(milliseconds[TORCHVISION]) / statistics.median(milliseconds["ssd"])
    print(f"augmentation: ssd_ratio={ratio:.2f} (torchvision / ours)")
    write_result(
        "augmentation",
        f"augmentation.py --size_px {options.size_px} --images {options.images} --rounds {options.rounds}",
        {"ssd_ratio": ratio, "images_decoded_per_sample": decoded, "milliseconds_per_sample": milliseconds},
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size_px", type=int, default=640)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


if __name__ == "__main__":
    main()
