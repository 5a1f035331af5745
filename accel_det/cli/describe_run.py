"""What a run says about itself: at its start, in its files and at its end."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from accel_det.cli.compose import Network, Parts, Tables, command_line
from accel_det.config.load import Loaded
from accel_det.config.schema import Config
from accel_det.data.order import Share
from accel_det.engine.fit import Outcome
from accel_det.engine.journal import write_json
from accel_det.engine.phases import Phases
from accel_det.engine.runtime import Accelerator, Topology, topology, versions
from accel_det.engine.schedule import Course

_THROUGHPUT_FILE = "throughput.json"


class Plan(NamedTuple):
    """What follows from the configuration, the data and the processes together."""

    share: Share
    steps: int
    course: Course
    rule: str
    phases: Phases


def headline(
    where: Topology,
    config: Config,
    parts: Parts,
    tables: Tables[Any],
    network: Network,
    *,
    plan: Plan,
    resumed_from: int | None,
) -> list[str]:
    """The lines at the start of a run: where it runs, on what, and which rules decide its numbers."""
    share, course = plan.share, plan.course
    millions = sum(p.numel() for p in network.model.parameters()) / 1e6
    trained = sum(p.numel() for p in network.model.parameters() if p.requires_grad) / 1e6
    lines = [
        f"run {config.name}: {where.processes} process(es) on {where.machines} machine(s), {where.device}, "
        f"precision {where.precision}, backend {where.backend}, {where.threads} thread(s) per process",
        f"model {config.model.name}: {millions:.2f} M parameters, {trained:.2f} M trained, {parts.labels_text(tables.train)}, "
        f"batch norm {config.model.batch_norm}",
        f"data: {len(tables.train)} images to train on ({config.data.train}), {len(tables.val)} to evaluate on "
        f"({config.data.val})",
        f"batch: {share.images_per_update} images per update = {share.world} process(es) x {share.micro_batches} forward "
        f"pass(es) x {share.micro_batch_size} images; {plan.steps} updates = "
        f"{plan.steps * share.images_per_update / parts.turns_per_epoch(tables.train):.1f} epochs",
        *parts.describe(tables),
        f"learning rate: {course.peak_lr:g} at its peak ({plan.rule}), {config.schedule.name} with {course.warmup_steps} "
        f"updates of warm-up{_of_which_is_left(plan)}",
        *plan.phases.describe(),
    ]
    if network.loaded is not None:
        lines.append(network.loaded.summary())
    loading_report = getattr(network.model, "loading_report", "")
    if loading_report:
        lines.append(loading_report)
    if network.anchors is not None:
        lines.append(network.anchors.line())
    if network.frozen:
        lines.append(f"frozen: {len(network.frozen)} parameters, from {network.frozen[0]} to {network.frozen[-1]}")
    if resumed_from is not None:
        lines.append(f"resumed after update {resumed_from}")
    return lines


def _of_which_is_left(plan: Plan) -> str:
    """What to say of a warm-up that the budget cuts off."""
    if plan.course.warmup_steps < plan.steps:
        return ""
    return f": longer than the {plan.steps} updates of the run, so the peak is never reached"


def run_facts(
    accelerator: Accelerator, loaded: Loaded[Config], parts: Parts, tables: Tables[Any], network: Network
) -> dict[str, Any]:
    """What `run.json` holds beside the configuration: enough to run the same thing again."""
    return {
        "command": command_line(),
        "versions": versions(),
        "topology": topology(accelerator)._asdict(),
        "environment_read_by_config": loaded.environment,
        "data": data_facts(parts, tables),
        "weights": network.loaded._asdict() if network.loaded else None,
        "frozen": network.frozen,
        "anchors": network.anchors._asdict() if network.anchors else None,
    }


def data_facts(parts: Parts, tables: Tables[Any]) -> dict[str, Any]:
    return {
        **parts.facts(tables),
        "train": {"images": len(tables.train), "fingerprint": tables.train.fingerprint},
        "val": {"images": len(tables.val), "fingerprint": tables.val.fingerprint},
    }


def scaling_line(outcome: Outcome, where: Topology, config: Config, input_text: str) -> str:
    """Images per second, and the scaling efficiency where a one-process run of the same training left its figure."""
    file = Path(config.runtime.output) / _THROUGHPUT_FILE
    key = f"{config.name}: {config.model.name} {input_text} {where.device} {where.precision}"
    figures: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    speed = outcome.images_per_s
    line = f"speed: {speed:.1f} images/s in training on {where.processes} process(es)"
    if where.processes == 1:
        if speed:
            write_json(file, figures | {key: speed})
        return line
    if key not in figures:
        return f"{line}; run this once on one process to learn the scaling efficiency"
    efficiency = speed / (figures[key] * where.processes)
    return f"{line}, scaling efficiency {efficiency:.0%} of {where.processes} x {figures[key]:.1f}"
