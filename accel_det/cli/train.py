"""`accel-det train CONFIG`, and what `accelerate launch scripts/train.py CONFIG` runs on every process."""

import argparse
import fcntl
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from accel_det.cli import compose
from accel_det.cli.curves import write_curves
from accel_det.cli.describe_run import Plan, headline, run_facts, scaling_line
from accel_det.cli.failures import DEFECT, DONE, answer, explain, guarded, lost_another_process
from accel_det.cli.micro_batch import FACT, measured_bound
from accel_det.cli.publishing import Publisher
from accel_det.config.load import TASKS, Loaded, describe, dump, load_config, read_mapping
from accel_det.config.schema import Config
from accel_det.data.order import steps_until_epoch
from accel_det.engine import checkpoint
from accel_det.engine.console import Console
from accel_det.engine.ema import MovingAverage
from accel_det.engine.fit import Job, Outcome, fit, restore
from accel_det.engine.journal import Journal, write_json
from accel_det.engine.left_out import LeftOut
from accel_det.engine.optimize import make_optimizer
from accel_det.engine.phases import Phases
from accel_det.engine.runtime import (
    Accelerator,
    check_expectations,
    check_trackers,
    is_first_process,
    make_accelerator,
    topology,
    world_size,
)
from accel_det.engine.schedule import Course, peak_learning_rate, warmup_length
from accel_det.engine.state import Counters

_EPILOG = """exit codes: 0 trained, or already finished; 1 defect of the program; 2 bad input; 130 Ctrl-C and 143 SIGTERM, both
after saving a checkpoint. Every key of the configuration can be given as `--section.key value`; `--keys` lists them."""


class Start(NamedTuple):
    """What is known before the processes meet."""

    loaded: Loaded[Config]
    parts: compose.Parts
    tables: compose.Tables[Any]
    folder: Path
    snapshot: checkpoint.Snapshot | None
    left_out: LeftOut

    @property
    def config(self) -> Config:
        return self.loaded.config


def main() -> int:
    """Entry point of scripts/train.py."""
    return guarded(run)


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.keys is not None:
        print_keys(options.keys)
        return DONE
    if options.config is None:
        raise ValueError("train needs a configuration file: `train.py configs/demo/street.yaml`")
    loaded = load_config(options.config, overrides)
    if options.print_config:
        if is_first_process():
            sys.stdout.write(dump(loaded.config))
        return DONE
    config = loaded.config
    speaker = Console(speaks=is_first_process(), to_stderr=options.json)
    with ExitStack() as stack:
        start = _prepare(loaded, options.resume, speaker, stack)
        if start is None:
            return DONE
        accelerator = make_accelerator(
            config.runtime,
            deterministic=config.train.deterministic,
            trackers=config.journal.trackers,
            folder=str(start.folder),
        )
        outcome = _train(accelerator, start, to_stderr=options.json)
        accelerator.end_training()
    if options.json and accelerator.is_main_process:
        answer({"run": str(start.folder), **_outcome_facts(outcome)})
    return outcome.exit_code


def _prepare(loaded: Loaded[Config], resume: str | None, speaker: Console, stack: ExitStack) -> Start | None:
    """Everything that can be refused, before the processes meet; None where the run is already finished."""
    config = loaded.config
    check_expectations(config.runtime)
    check_trackers(config.journal.trackers)
    compose.check_task(config.model, config.task)
    parts = compose.parts_of(config)
    compose.share_of(config, world=world_size(), rank=0, unit=parts.unit)
    parts.check()
    folder = compose.run_folder(config)
    if is_first_process():
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(_locked(folder))
    snapshot = _find_snapshot(folder, resume, speaker)
    if snapshot is not None and snapshot.state["counters"]["finished"]:
        step, best = snapshot.step, snapshot.state["counters"]["best_fitness"]
        speaker.say(f"{folder}: this run is finished: {step} updates, best {best:.4f}. Nothing left to do.")
        return None
    tables = parts.open_tables()
    for line in tables.report.summary_lines():
        speaker.say(f"data: {line}")
    if is_first_process():
        (folder / "exit.json").unlink(missing_ok=True)  # it says how this life ends, not the one before
        write_json(folder / "data_report.json", tables.report.to_json())
    tables.report.require()
    return Start(loaded, parts, tables, folder, snapshot, compose.left_out(config, tables.report))


def _train(accelerator: Accelerator, start: Start, *, to_stderr: bool) -> Outcome:
    config, parts, tables = start.config, start.parts, start.tables
    steps = config.train.steps or steps_until_epoch(
        config.train.epochs or 0,
        length=parts.turns_per_epoch(tables.train),
        images_per_update=config.train.images_per_update,
    )
    console = Console(speaks=accelerator.is_main_process, total_steps=steps, to_stderr=to_stderr)
    publisher = Publisher(start.folder, config, parts, tables, speaker=console, active=accelerator.is_main_process)
    job = None
    try:
        job = _make_job(accelerator, start, steps=steps, console=console, publisher=publisher)
        outcome = fit(job)
    except Exception as error:
        _write_failure(start.folder, error, step=job.counters.step if job else 0, rank=accelerator.process_index)
        raise
    publisher.close()
    if accelerator.is_main_process:
        _write_exit(start.folder, reason=outcome.reason, step=outcome.counters.step, code=outcome.exit_code)
        console.say(scaling_line(outcome, topology(accelerator), config, parts.input_text()))
        if outcome.counters.finished:
            parts.details(console, outcome.counters.scores, tables.train)
        _draw_curves(start.folder, console)
        again = "" if outcome.counters.finished else "; continue with --resume auto"
        console.say(f"{outcome.reason} after {outcome.counters.step} updates: {start.folder}{again}")
    return outcome


def _draw_curves(folder: Path, console: Console) -> None:
    """A picture that cannot be drawn never spoils a training."""
    try:
        write_curves(folder)
    except ValueError as error:
        console.say(f"warning: no curves: {error}")


def _make_job(
    accelerator: Accelerator, start: Start, *, steps: int, console: Console, publisher: Publisher
) -> "Job[Any, Any, Any]":
    config, parts, tables = start.config, start.parts, start.tables
    network = parts.make_network(tables, device_type=accelerator.device.type)
    publisher.options = network.model.lasting_options(config.model.options)
    model = network.model.to(accelerator.device)
    compose.arrange_network(model, config)
    optimizer = make_optimizer(model, config.optimizer)
    average = (
        MovingAverage(model, decay=config.ema.decay, ramp_steps=config.ema.ramp_steps) if config.ema.enabled else None
    )
    task = parts.make_task(tables.val)
    num_samples = parts.turns_per_epoch(tables.train)
    course, rule = _plan_course(config, steps=steps, num_samples=num_samples)
    phases = Phases(config.train.phases, total_steps=steps, model=model, distributed=accelerator.distributed_type)
    resumed = start.folder if start.snapshot else None
    bound = measured_bound(
        accelerator,
        config,
        parts.costly_batches(tables.train, task),
        model=model,
        optimizer=optimizer,
        folder=resumed,
        console=console,
        unit=parts.unit,
    )
    share = compose.share_of(
        config,
        world=accelerator.num_processes,
        rank=accelerator.process_index,
        measured_bound=bound,
        unit=parts.unit,
    )
    _announce(accelerator, start, network, Plan(share, steps, course, rule, phases), console=console)
    job = Job(
        config=config,
        accelerator=accelerator,
        model=model,
        optimizer=optimizer,
        average=average,
        task=task,
        training=parts.training_stream(tables.train, task, share=share, pin_memory=accelerator.device.type == "cuda"),
        validation=parts.validation_stream(tables.val, task, accelerator),
        course=course,
        phases=phases,
        total_steps=steps,
        num_samples=num_samples,
        folder=start.folder,
        agreement=_agreement(start),
        counters=Counters(),
        journal=Journal(start.folder, accelerator, from_step=start.snapshot.step if start.snapshot else 0),
        console=console,
        export=publisher.export,
        for_evaluation=parts.for_evaluation,
        left_out=start.left_out,
    )
    if start.snapshot is not None:
        restore(job, start.snapshot)
    return job


def _announce(
    accelerator: Accelerator, start: Start, network: compose.Network, plan: Plan, *, console: Console
) -> None:
    """Write and say what the run is, before its first update."""
    config = start.config
    facts = run_facts(accelerator, start.loaded, start.parts, start.tables, network)
    facts[FACT] = {"images": plan.share.micro_batch_size, "processes": plan.share.world}
    if accelerator.is_main_process:
        changed = _write_config(start.folder / "config.yaml", config)
        if start.snapshot is not None and changed:
            console.say(f"changed since the run was last started: {', '.join(changed)}")
        write_json(start.folder / "run.json", facts)
    if config.journal.trackers:
        accelerator.init_trackers("tensorboard", config=_flat(config.model_dump(mode="json")))
    resumed_from = start.snapshot.step if start.snapshot else None
    about = headline(
        topology(accelerator), config, start.parts, start.tables, network, plan=plan, resumed_from=resumed_from
    )
    for line in about:
        console.say(line)


def _write_config(file: Path, config: Config) -> list[str]:
    """Write what a run is, and tell which keys were different in the file."""
    before = _flat(read_mapping(file)) if file.is_file() else {}
    file.write_text(dump(config), encoding="utf-8")
    now = _flat(read_mapping(file))
    return [key for key in now | before if before.get(key) != now.get(key)]


def _plan_course(config: Config, *, steps: int, num_samples: int) -> tuple[Course, str]:
    """The learning rates of the run, and the rule behind them in words."""
    images = config.train.images_per_update
    peak_lr, rule = peak_learning_rate(config.optimizer, images)
    warmup_steps = warmup_length(config.schedule, num_samples=num_samples, images_per_update=images)
    return Course(config.optimizer, config.schedule, peak_lr, steps, warmup_steps), rule


def _agreement(start: Start) -> dict[str, Any]:
    """What decides the order of data and the shape of the network: a resume must not change it."""
    config = start.config
    return {
        **start.parts.agreement(start.tables.train),
        "model.name": config.model.name,
        "optimizer.name": config.optimizer.name,
    }


def _find_snapshot(folder: Path, resume: str | None, speaker: Console) -> checkpoint.Snapshot | None:
    checkpoints = folder / "checkpoints"
    if resume is None:
        if checkpoint.steps(checkpoints):
            raise ValueError(
                f"{folder} already holds a run: continue it with --resume auto, choose another --name, or remove the folder"
            )
        return None
    if resume != "auto":
        return checkpoint.load(Path(resume))
    return checkpoint.load_newest(checkpoints, warn=lambda line: speaker.say(f"warning: {line}"))


def _locked(folder: Path) -> IO[str]:
    """Keep other runs out of a folder for as long as the file is open.

    Raises:
        ValueError: another run is in it; names its process.
    """
    stream = (folder / "run.lock").open("a+", encoding="utf-8")
    try:
        # A POSIX lock: data workers do not inherit it, so it ends with this process, however that ends.
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.seek(0)
        raise ValueError(
            f"{folder}: another run is writing here (process {stream.read().strip() or 'unknown'}): wait for it, stop it, "
            "or choose another --name"
        ) from None
    stream.truncate(0)
    stream.write(str(os.getpid()))
    stream.flush()
    return stream


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    flat: dict[str, int | float | str | bool] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return flat


def _write_exit(folder: Path, *, reason: str, step: int, code: int) -> None:
    write_json(folder / "exit.json", {"reason": reason, "step": step, "code": code})


def _write_failure(folder: Path, error: Exception, *, step: int, rank: int) -> None:
    """exit.json of an error, by the process that met it.

    A process that only lost another one is heard where none has said more; the other machines of a run may not have the
    folder at all.
    """
    file = folder / "exit.json"
    if (lost_another_process(error) and (rank or file.exists())) or not folder.is_dir():
        return
    message, code = explain(error) or (str(error), DEFECT)
    own = folder / f"exit-{rank}.json"
    write_json(own, {"reason": f"error: {message}", "step": step, "code": code})
    own.replace(file)


def _outcome_facts(outcome: Outcome) -> dict[str, Any]:
    return {
        "reason": outcome.reason,
        "step": outcome.counters.step,
        "best": outcome.counters.best_fitness,
        "best_step": outcome.counters.best_step,
        "images_per_s": outcome.images_per_s,
        "scores": outcome.counters.scores,
    }


def print_keys(task: str) -> None:
    """Every key of a task's configuration with its type, default and meaning."""
    for key, kind, default, meaning in describe(TASKS[task]):
        sys.stdout.write(f"--{key}  ({kind}, default {default})\n    {meaning}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train",
        description="Train a network.",
        epilog=_EPILOG,
        allow_abbrev=False,
        usage="%(prog)s CONFIG [--resume auto|PATH] [--section.key VALUE ...]",
    )
    parser.add_argument(
        "config", nargs="?", help="YAML file; `accel-det configs` lists those that come with the project"
    )
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="continue from the newest whole checkpoint, or from this one"
    )
    parser.add_argument("--print_config", action="store_true", help="show the resolved configuration and stop")
    parser.add_argument(
        "--keys",
        nargs="?",
        choices=tuple(TASKS),
        const=next(iter(TASKS)),
        help="list every key of a configuration for detection, or for this task, and stop",
    )
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    return parser
