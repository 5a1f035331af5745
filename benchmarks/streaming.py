"""Streamed data against the same data on disk, and what an index of a million images costs.

    python benchmarks/streaming.py speed [--config configs/detection/yolov5n_bccd.yaml] [--rounds 9] [--updates 10]
    python benchmarks/streaming.py scale [--images 1000 10000 100000 1000000] [--steps 100] [--ways streamed again map-style]

`speed` prepares the images of a configuration, of boxes or of identities, as parquet shards, and lets the two ways to read them
take turns in making augmented batches, without a network: the figure is the ratio of the medians, map-style over streamed; above
1.00 the stream is faster. `scale` writes synthetic shards (64x64 JPEGs, five boxes each) and starts `accel-det train` of YOLOv5n
at 64 pixels in a process of its own, once without an index in the cache and once with it, streamed and not. Results go to
benchmarks/results/streaming_<part>.json, those of identities to streaming_speed_reid.json.
"""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import psutil
import pyarrow as pa
import yaml
from harness import interleave, step_line, write_result
from pyarrow import parquet

from accel_det.cli.compose import parts_of, share_of
from accel_det.config.load import load_config
from accel_det.config.schema import Config
from accel_det.data.encoded import image_array, jpeg
from accel_det.data.prepare import Preparation, write_split
from accel_det.data.prepare_identities import write_identity_splits
from accel_det.data.records import table_features

_ROWS_OF_SHARD = 10_000
_ROWS_OF_GROUP = 100
_DIFFERENT = 100
_BOXES = 5
_CLASSES = ("red", "green", "blue")
WAYS = {"streamed": True, "again": True, "map-style": False}
"""Whether each is streamed; "again" finds the annotations in the cache."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("--config", default="configs/detection/yolov5n_bccd.yaml")
    speed.add_argument("--rounds", type=int, default=9)
    speed.add_argument("--updates", type=int, default=10)
    scale = parts.add_parser("scale")
    scale.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    scale.add_argument("--steps", type=int, default=100)
    scale.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    options = parser.parse_args()
    if options.part == "speed":
        compare_speed(options.config, rounds=options.rounds, updates=options.updates)
    else:
        measure_scale(options.images, steps=options.steps, ways=options.ways)


def compare_speed(file: str, *, rounds: int, updates: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        config = load_config(file).config
        tables = parts_of(config).open_tables()
        write: Callable[..., object] = write_identity_splits if config.task == "reid" else write_split
        for split, table in (("train", tables.train), ("val", tables.val)):
            write(table, split, Path(folder), Preparation(shard_mb=4), workers=os.cpu_count() or 1)
        shards = {"b": {"format": "hub", "root": folder}}
        val = "b:test" if (Path(folder) / "data" / ".query.json").exists() else "b:val"
        streamed = load_config(
            file,
            [*("--data.sets", yaml.safe_dump(shards, default_flow_style=True).strip()), "--data.train", "b:train"]
            + ["--data.val", val, "--data.streaming", "true"],
        ).config
        sides = {"map-style": _batches(config), "streamed": _batches(streamed)}
        steps_of: dict[str, Callable[[], None]] = {name: _taking(batches) for name, batches in sides.items()}
        seconds = interleave(steps_of, rounds=rounds, steps=updates)
        for batches in sides.values():
            batches.close()  # type: ignore[attr-defined]
    for name, values in seconds.items():
        print(step_line(name, values))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["map-style"] / medians["streamed"]
    images = config.train.images_per_update / medians["streamed"]
    print(
        f"streaming: ratio={ratio:.3f} images_per_s={images:.0f} (map-style / streamed; above 1 the stream is faster)"
    )
    facts = {"ratio": ratio, "seconds": seconds, "config": file}
    name = "streaming_speed_reid" if config.task == "reid" else "streaming_speed"
    write_result(name, f"streaming.py speed --config {file}", facts)


def _batches(config: Config) -> Iterator[Any]:
    parts = parts_of(config)
    tables = parts.open_tables()
    stream = parts.training_stream(
        tables.train,
        parts.make_task(tables.val),
        share=share_of(config, world=1, rank=0, unit=parts.unit),
        pin_memory=False,
    )
    return stream.updates(0)


def _taking(batches: Iterator[Any]) -> Callable[[], None]:
    def take() -> None:
        next(batches)

    return take


def measure_scale(sizes: list[int], *, steps: int, ways: list[str]) -> None:
    rows: list[dict[str, object]] = []
    for images in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_synthetic(Path(folder) / "data", images)
            environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
            for name in ways:
                found = _train(Path(folder), streaming=WAYS[name], steps=steps, environment=environment)
                rows.append({"images": images, "way": name, **found})
                told = " ".join(f"{key}={value}" for key, value in found.items())
                print(f"streaming: images={images} way={name!r} {told}", flush=True)
    counts = " ".join(map(str, sizes))
    write_result(
        "streaming_scale",
        f"streaming.py scale --images {counts} --steps {steps} --ways {' '.join(ways)}",
        {"rows": rows},
    )


def _train(folder: Path, *, streaming: bool, steps: int, environment: dict[str, str]) -> dict[str, object]:
    """What a training of so many updates takes; the split to evaluate on is small."""
    config = {
        "name": f"run-{time.monotonic_ns()}",
        "model": {"name": "yolov5n"},
        "data": {
            "sets": {"s": {"format": "hub", "root": str(folder), "accept": ["leakage"]}},
            "train": "s:train",
            "val": "s:val",
            "streaming": streaming,
            "workers": 1,
            "resize": {"size_px": 64},
        },
        "train": {"steps": steps, "images_per_update": 16},
        "journal": {"every_steps": 1, "trackers": []},
        "runtime": {"output": str(folder / "runs")},
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    journal = folder / "runs" / str(config["name"]) / "metrics.jsonl"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    started = time.monotonic()
    with (folder / "said.txt").open("w") as said:
        command = [sys.executable, "-m", "accel_det", "train", str(file)]
        with subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT) as process:
            peak, first = _watch(process, journal)
    if process.returncode:
        raise SystemExit((folder / "said.txt").read_text())
    return {
        "seconds_to_first_update": round(first - started, 1),
        "cpu_seconds": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before, 1),
        "peak_gb": round(peak.anonymous / 1e9, 2),
        "peak_with_mapped_files_gb": round(peak.resident / 1e9, 2),
    }


class Peak(NamedTuple):
    """Bytes: memory of its own, and with the pages of mapped files, which the system may take back."""

    anonymous: int = 0
    resident: int = 0


def _watch(process: "subprocess.Popen[bytes]", journal: Path) -> tuple[Peak, float]:
    """The peak of the trainer, and when its first update was done."""
    peak, first = Peak(), 0.0
    trainer = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = trainer.memory_info()
            peak = Peak(max(peak.anonymous, memory.rss - memory.shared), max(peak.resident, memory.rss))
        if not first and journal.exists():
            first = time.monotonic()
        time.sleep(0.05)
    return peak, first


def write_synthetic(folder: Path, images: int) -> None:
    """Splits `train`, of so many images, and `val`, of 32; the file of an image is one of a hundred."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    files = [jpeg(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(_DIFFERENT)]
    features = {name: kind for name, kind in table_features(_CLASSES).items() if name != "name"}
    schema = datasets.Features({"image": datasets.Image(), **features}).arrow_schema
    for split, count in (("train", images), ("val", 32)):
        for number, start in enumerate(range(0, count, _ROWS_OF_SHARD)):
            rows = min(_ROWS_OF_SHARD, count - start)
            table = _rows(draw, files, start, rows, schema)
            parquet.write_table(table, folder / f"{split}-{number:05d}.parquet", row_group_size=_ROWS_OF_GROUP)


def _rows(draw: np.random.Generator, files: list[bytes], start: int, rows: int, schema: pa.Schema) -> pa.Table:
    numbers = np.arange(start, start + rows)
    image = image_array([files[i % _DIFFERENT] for i in numbers], [f"{i:07d}.jpg" for i in numbers])
    corners = draw.uniform(0, 40, (rows * _BOXES, 2))
    boxes = np.concatenate((corners, draw.uniform(4, 24, (rows * _BOXES, 2))), axis=1)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * _BOXES)
    sides = pa.ListArray.from_arrays(
        pa.array(np.arange(len(boxes) + 1, dtype=np.int32) * 4), pa.array(boxes.reshape(-1))
    )
    fields = {
        "bbox": sides,
        "category": pa.array(draw.integers(0, len(_CLASSES), len(boxes))),
        "area": pa.array(boxes[:, 2] * boxes[:, 3]),
        "iscrowd": pa.array(np.zeros(len(boxes), np.int8)),
    }
    objects = pa.StructArray.from_arrays(
        [pa.ListArray.from_arrays(offsets, values) for values in fields.values()], names=list(fields)
    )
    side = pa.array(np.full(rows, 64, np.int64))
    columns = {"image": image, "image_id": pa.array(numbers), "height": side, "width": side, "objects": objects}
    return pa.table([columns[name] for name in schema.names], schema=schema)


if __name__ == "__main__":
    main()
