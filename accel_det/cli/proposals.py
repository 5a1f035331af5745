"""`accel-det proposals RUN`: the regions that a two-stage network proposes, as a file that `data.proposals` reads."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from accel_det.cli import compose_detection
from accel_det.cli.failures import DONE, answer
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_detection
from accel_det.data.box_images import EvaluationImages
from accel_det.data.loaders import evaluation_batches
from accel_det.data.records import DetectionTable
from accel_det.engine.console import Console
from accel_det.engine.runtime import default_device
from accel_det.engine.transfer import to_device
from accel_det.inference import build_detector, require_detector
from accel_det.metrics.recall import LIMITS, proposal_recall
from accel_det.publish.export import read_export
from accel_det.publish.layout import find_export
from accel_det.types import Batch, BoxTarget, DetectionRow, Detections


@runtime_checkable
class Proposer(Protocol):
    """A network with a first stage that can be asked alone."""

    def propose(self, batch: Batch[BoxTarget]) -> list[Detections]: ...


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det proposals",
        usage="%(prog)s RUN --out FILE.parquet [--split train|val] [--config FILE] [--section.key VALUE ...]",
        description="Write what the first stage of an R-FCN or a Faster R-CNN proposes for every image of a split.",
        epilog="the file has a row per image: name, boxes (xyxy, pixels of the file), scores; exit codes: 0 done; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of one of its exports")
    parser.add_argument("--out", type=Path, required=True, help="file to write, .parquet")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="`data.train` or `data.val`; train")
    parser.add_argument("--config", type=Path, help="configuration with the data; without it the one of the export")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which export of the run")
    parser.add_argument("--device", default=default_device(), help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--json", action="store_true", help="the recall as JSON on stdout")
    options, overrides = parser.parse_known_args(list(arguments))
    if options.out.suffix != ".parquet":
        raise ValueError(f"--out is {options.out}, expected a file that ends in .parquet")
    export = find_export(options.run, choices=(options.which,))
    found, state = read_export(export)
    info = require_detector(found, export)
    config = _for_split(load_detection(options.config or export / "run_config.yaml", overrides), options.split)
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": info.model})})
    one_view = dataclasses.replace(info, inference=info.inference.of_one_view)
    network = build_detector(one_view, state)
    if not isinstance(network, Proposer):
        raise ValueError(f"{options.run}: {info.model} has no proposal network; take a Faster R-CNN or an R-FCN")
    table = compose_detection.open_validation(config, info.classes)
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    rows = proposed(network.to(options.device).eval(), config, table, device=torch.device(options.device))
    write_proposals(options.out, table, rows)
    recall = proposal_recall(rows)
    console = Console(speaks=True, to_stderr=options.json)
    for limit in LIMITS:
        named = [f"{name} {recall[f'{name}@{limit}']:.3f}" for name in ("AR", "R50", "R75", "R95")]
        console.say(f"{limit} proposals: {', '.join(named)}")
    console.say(f"{sum(len(row.detections.scores) for row in rows)} proposals of {len(rows)} images: {options.out}")
    if options.json:
        answer({"out": str(options.out), "images": len(rows), "recall": recall})
    return DONE


@torch.inference_mode()
def proposed(
    network: Proposer, config: DetectionConfig, table: DetectionTable, *, device: torch.device
) -> list[DetectionRow]:
    """What the network proposes for every image of a table, in its order, in pixels of the files."""
    task = compose_detection.make_task(config, table.classes)
    batches = evaluation_batches(
        EvaluationImages(table, rule=compose_detection.resize_rule(config)),
        range(len(table)),
        batch_size=config.evaluate.images_per_forward,
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=device.type == "cuda",
    )
    rows = [
        task.row(frame, target, found)
        for batch in batches
        for frame, target, found in zip(
            batch.frames, batch.targets, network.propose(to_device(batch, device)), strict=True
        )
    ]
    return sorted(rows, key=lambda row: row.sample_id)


def write_proposals(file: Path, table: DetectionTable, rows: Sequence[DetectionRow]) -> None:
    """Columns name (as the table has it), boxes (xyxy, pixels of the file) and scores, float32, best first."""
    columns = {
        "name": pa.array([table.name(row.sample_id) for row in rows], pa.string()),
        "boxes": pa.array([row.detections.boxes.tolist() for row in rows], pa.list_(pa.list_(pa.float32()))),
        "scores": pa.array([row.detections.scores.tolist() for row in rows], pa.list_(pa.float32())),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def _for_split(config: DetectionConfig, split: str) -> DetectionConfig:
    """A configuration whose evaluation split is the one that is asked for, without given proposals."""
    selection = config.data.train if split == "train" else config.data.val
    return config.model_copy(update={"data": config.data.model_copy(update={"val": selection, "proposals": {}})})
