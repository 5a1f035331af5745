"""`accel-det evaluate RUN`, and `accelerate launch scripts/evaluate.py RUN` on several processes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli.compose import parts_of
from accel_det.cli.failures import DONE, answer, guarded
from accel_det.config.load import load_config
from accel_det.engine.console import Console
from accel_det.engine.evaluate import evaluate
from accel_det.engine.left_out import LeftOut
from accel_det.engine.runtime import make_accelerator
from accel_det.publish.export import read_export
from accel_det.publish.layout import find_export


def main() -> int:
    """Entry point of scripts/evaluate.py."""
    return guarded(run)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="evaluate",
        usage="%(prog)s RUN [--config FILE] [--save FILE] [--pictures FOLDER] [--json] [--section.key VALUE ...]",
        description="Score the export of a run; --data.val and other keys choose other data or thresholds.",
        epilog="exit codes: 0 scored; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of one of its exports")
    parser.add_argument("--config", type=Path, help="configuration with the data; without it the one of the export")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which export of the run")
    parser.add_argument("--save", type=Path, help="parquet file for what is found in each image; `rescore` reads it")
    parser.add_argument("--pictures", type=Path, help="folder for ranked lists and distances; for re-identification")
    parser.add_argument("--json", action="store_true", help="the scores as JSON on stdout")
    options, overrides = parser.parse_known_args(list(arguments))
    if options.save is not None and options.save.suffix != ".parquet":
        raise ValueError(f"--save is {options.save}, expected a file that ends in .parquet")
    if network := [key for key in overrides if key.startswith("--model.")]:
        raise ValueError(
            f"{network[0]}: evaluate takes the network as it was exported, and would not read this; leave it out"
        )
    export = find_export(options.run, choices=(options.which,))
    info, state = read_export(export)
    config = load_config(options.config or export / "run_config.yaml", overrides).config
    if config.task != info.task:
        raise ValueError(f"{options.config or export}: task is {config.task}, but {export} is for {info.task}")
    config = config.model_copy(update={"model": config.model.model_copy(update={"name": info.model})})
    parts = parts_of(config)
    if options.pictures is not None and not parts.has_pictures:
        raise ValueError("--pictures is for re-identification; `accel-det predict` draws what a detector finds")
    table = parts.open_validation(info)
    accelerator = make_accelerator(
        config.runtime, deterministic=config.train.deterministic, trackers=[], folder=str(export)
    )
    console = Console(speaks=accelerator.is_main_process, to_stderr=options.json)
    model = parts.trained(info, state).to(accelerator.device)
    task = parts.make_task(table)
    batches = parts.validation_stream(table, task, accelerator)()
    found = evaluate(accelerator, model, task, batches)
    for line in LeftOut(most=config.data.max_bad_images).add(found.left_out, accelerator.device):
        console.say(f"warning: not scored: {line}")
    console.evaluation(info.training.step, found.scores, images=found.images, seconds=found.seconds, best=False)
    parts.details(console, found.scores, table)
    if options.save is not None and accelerator.is_main_process:
        hint = parts.save(options.save, found, table, info)
        console.say(f"saved: {options.save}; {hint}")
    if options.pictures is not None and accelerator.is_main_process:
        for file in parts.draw(options.pictures, found, table):
            console.say(f"drawn: {file}")
    if options.json and accelerator.is_main_process:
        answer({"run": str(options.run), "images": found.images, "seconds": found.seconds, "scores": found.scores})
    accelerator.end_training()
    return DONE
