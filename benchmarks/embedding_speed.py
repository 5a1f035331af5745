"""Embedding pictures with `Embedder.embed` against a bare forward loop over the same network and resident pictures.

    python benchmarks/embedding_speed.py [--model reid_resnet18] [--size_px 128 64] [--images 512] [--rounds 9]

The two take turns. The figure is the ratio of the medians, bare over ours: 1.00 means that the way around the network costs
nothing. Results go to benchmarks/results/embedding_speed.json.
"""

import argparse
import statistics

import torch
from harness import interleave, write_result

from accel_det.inference import Embedder
from accel_det.models import zoo
from accel_det.publish.info import EmbedderInfo, TrainingInfo

BATCH = 64


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    height, width = options.size_px
    model = zoo.build(options.model, num_classes=0).eval().requires_grad_(False)
    info = EmbedderInfo(
        name="benchmark",
        model=options.model,
        options={},
        size_px=(height, width),
        identities=1,
        metrics={},
        data={},
        training=TrainingInfo(0, 0, "", {}),
    )
    embedder = Embedder(model, info)
    pictures = list(torch.randint(0, 256, (options.images, 3, height, width), dtype=torch.uint8))
    resident = torch.stack(pictures).float().div_(255).contiguous(memory_format=torch.channels_last)

    def bare() -> None:
        with torch.inference_mode():
            for start in range(0, options.images, BATCH):
                model.network(resident[start : start + BATCH], None)

    seconds = interleave(
        {"bare": bare, "ours": lambda: embedder.embed(pictures, batch_size=BATCH)}, rounds=options.rounds, steps=1
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio, speed = medians["bare"] / medians["ours"], options.images / medians["ours"]
    print(f"embedding_speed: {options.model} {height}x{width} px {speed:.1f} images/s ratio={ratio:.3f}")
    command = f"embedding_speed.py --model {options.model} --size_px {height} {width} --images {options.images}"
    write_result(
        "embedding_speed",
        f"{command} --rounds {options.rounds}",
        {"images_per_s": speed, "ratio": ratio, "seconds": seconds},
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reid_resnet18")
    parser.add_argument("--size_px", type=int, nargs=2, default=[128, 64])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


if __name__ == "__main__":
    main()
