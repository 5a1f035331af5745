"""Images per second of one core: decoding, augmenting and batching through our loader against a bare loop that only decodes.

    python benchmarks/data_throughput.py speed [--rounds 9]
    python benchmarks/data_throughput.py wait [--updates 60] [--rounds 3]

`speed` lets the ways take turns on the same JPEG files of BCCD, in one process with one thread, and counts processor time, so
that other work on the machine disturbs little. The bare loop is `torchvision.io.decode_image` on the bytes of each file. The
figure of each way is its images per second over those of the loop. A mosaic decodes four images for one, which the column
`decoded` tells.

`wait` trains YOLOv5n on BCCD and on chess, with the size and recipe of their configurations, one thread and one worker on two
cores, and reads from the journal which share of the time the trainer waited for data. Results go to
benchmarks/results/data_throughput_<part>.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import yaml
from harness import interleave, write_result
from torchvision.io import ImageReadMode, decode_image

from accel_det.cli import compose_detection
from accel_det.cli.compose import parts_of, share_of
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_detection
from accel_det.data.decode import decode
from accel_det.data.prepare import Preparation, write_split

BARE = "torchvision.io.decode_image, bare loop"
IMAGES = 16
"""Of a step of every way."""
SHARD_SIDE_PX = 320
"""Of the smaller images in shards: the recipe of 192 px enlarges by at most 1.6."""
WAITS = ("yolov5n_bccd", "yolov5n_chess")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("--rounds", type=int, default=9)
    wait = parts.add_parser("wait")
    wait.add_argument("--updates", type=int, default=60)
    wait.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.part == "speed":
        compare_speed(rounds=options.rounds)
    else:
        measure_wait(updates=options.updates, rounds=options.rounds)


def compare_speed(*, rounds: int) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        bccd = load_detection("configs/detection/yolov5n_bccd.yaml", ["--data.workers", "0"])
        tables = compose_detection.open_tables(bccd)
        for split, table in (("train", tables.train), ("val", tables.val)):
            how = Preparation(shard_mb=4, max_side_px=SHARD_SIDE_PX)
            write_split(table, split, Path(folder), how, workers=1)
        table = tables.train
        files = cycle([str(table.path(index)) for index in range(len(table))])
        indices = cycle(range(len(table)))
        ways: dict[str, tuple[int, Callable[[], None]]] = {
            BARE: (1, repeated(lambda: decode_image(decodable(next(files)), mode=ImageReadMode.RGB))),
            "decode": (1, repeated(lambda: decoded(table, next(indices)))),
            "YOLOv5n, 640 px, mosaic": (4, batches(recipe("yolov5n_coco", bccd))),
            "Faster R-CNN, 800 px": (1, batches(recipe("fasterrcnn_resnet50_coco", bccd))),
            "YOLOv5n of BCCD, 192 px": (1, batches(bccd)),
            f"the same, shards of {SHARD_SIDE_PX} px": (1, batches(from_shards(bccd, folder))),
        }
        seconds = interleave(
            {name: step for name, (_, step) in ways.items()}, rounds=rounds, steps=1, clock=time.process_time
        )
    rates = {name: IMAGES / statistics.median(values) for name, values in seconds.items()}
    print(f"{'way':38} images/s per core   of the loop   decoded of each")
    for name, rate in rates.items():
        print(f"{name:38} {rate:17.0f} {rate / rates[BARE]:13.3f} {ways[name][0]:17}")
    facts = {
        "images_per_cpu_s": rates,
        "ratios": {name: rate / rates[BARE] for name, rate in rates.items()},
        "images_decoded_for_one": {name: number for name, (number, _) in ways.items()},
        "cpu_seconds_per_16_images": seconds,
    }
    write_result("data_throughput_speed", f"data_throughput.py speed --rounds {rounds}", facts)


def decodable(file: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(Path(file).read_bytes()), dtype=torch.uint8)


def decoded(table: Any, index: int) -> torch.Tensor:
    return decode(table.image_bytes(index), name=table.name(index))


def repeated(work: Callable[[], object]) -> Callable[[], None]:
    def step() -> None:
        for _ in range(IMAGES):
            work()

    return step


def recipe(file: str, data: DetectionConfig) -> DetectionConfig:
    """Size and augmentation of a configuration on the images of another, in updates of as many images as a step has."""
    overrides = ["--data.sets", as_argument(data), "--data.train", data.data.train, "--data.val", data.data.val]
    overrides += ["--data.workers", "0", "--train.images_per_update", str(IMAGES)]
    return load_detection(f"configs/detection/{file}.yaml", overrides)


def as_argument(data: DetectionConfig) -> str:
    sets = {name: {"format": one.format, "root": one.root} for name, one in data.data.sets.items()}
    return yaml.safe_dump(sets, default_flow_style=True).strip()


def from_shards(data: DetectionConfig, folder: str) -> DetectionConfig:
    shards = yaml.safe_dump({"s": {"format": "hub", "root": folder}}, default_flow_style=True).strip()
    overrides = ["--data.sets", shards, "--data.train", "s:train", "--data.val", "s:val", "--data.streaming", "true"]
    return load_detection("configs/detection/yolov5n_bccd.yaml", [*overrides, "--data.workers", "0"])


def batches(config: DetectionConfig) -> Callable[[], None]:
    """Makes the next training batch, as a run does."""
    assert config.train.images_per_update == IMAGES
    parts = parts_of(config)
    tables = parts.open_tables()
    share = share_of(config, world=1, rank=0)
    stream = parts.training_stream(tables.train, parts.make_task(tables.val), share=share, pin_memory=False)
    updates: Iterator[object] = stream.updates(0)
    return lambda: (next(updates), None)[1]


def measure_wait(*, updates: int, rounds: int) -> None:
    shares: dict[str, list[float]] = {name: [] for name in WAITS}
    rates: dict[str, list[float]] = {name: [] for name in WAITS}
    for _ in range(rounds):
        for name in WAITS:
            lines = journal_of(name, updates=updates)
            shares[name].append(statistics.median(line["data_wait"] for line in lines))
            rates[name].append(statistics.median(line["images_per_s"] for line in lines))
    for name in WAITS:
        share, rate = statistics.median(shares[name]), statistics.median(rates[name])
        print(
            f"{name}: data wait {share:.1%} of the step ({min(shares[name]):.1%} to {max(shares[name]):.1%}), ", end=""
        )
        print(f"{rate:.0f} images/s")
    facts = {"updates": updates, "data_wait": shares, "images_per_s": rates}
    write_result("data_throughput_wait", f"data_throughput.py wait --updates {updates} --rounds {rounds}", facts)


def journal_of(name: str, *, updates: int) -> list[dict[str, float]]:
    """What a short run wrote about its pace, but for its first lines, in which it starts."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "accel_det", "train", f"configs/detection/{name}.yaml"]
        command += [
            "--runtime.output",
            folder,
            "--runtime.threads",
            "1",
            "--data.workers",
            "1",
            "--train.epochs",
            "null",
        ]
        command += ["--train.steps", str(updates), "--evaluate.every_epochs", "null"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (journal,) = Path(folder).glob("*/metrics.jsonl")
        lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    return [line for line in lines if "data_wait" in line][1:]


if __name__ == "__main__":
    main()
