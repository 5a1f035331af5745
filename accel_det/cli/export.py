"""`accel-det export RUN --out FOLDER`: a trained network in the format of another library."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accel_det.cli.failures import DONE, answer
from accel_det.data.transforms import ResizeRule
from accel_det.engine.console import Console
from accel_det.inference import build_detector, require_detector
from accel_det.models import zoo
from accel_det.models.transformers.build import TransformersDetector
from accel_det.publish.export import read_export
from accel_det.publish.layout import find_export

_FAMILY = "transformers.build"


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det export",
        description="Write a trained network as config.json, model.safetensors and preprocessor_config.json, which "
        "`from_pretrained` of plain transformers opens.",
        epilog="Networks of the DETR family only. Exit codes: 0 written; 2 bad input.",
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of one of its exports")
    parser.add_argument("--format", choices=("transformers",), default="transformers", help="whose format")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; made if it does not exist")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which export of the run")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(list(arguments))
    lines = export_transformers(options.run, options.out, which=options.which)
    console = Console(speaks=True, to_stderr=options.json)
    for line in lines:
        console.say(line)
    if options.json:
        answer({"out": str(options.out), "format": options.format, "notes": lines[1:]})
    return DONE


def export_transformers(run_folder: Path, out: Path, *, which: str) -> list[str]:
    """Write a folder that plain transformers opens, with the run's class names and image size.

    Args:
        run_folder: of a run, or of one of its exports.
        which: "best" or "last".

    Returns:
        What was written, and how the prepared images of transformers differ from the run's, a line each.

    Raises:
        ValueError: there is no such export, its network is of another family, or `out` holds something.
    """
    found, state = read_export(find_export(run_folder, choices=(which,)))
    info = require_detector(found, run_folder)
    if zoo.card(info.model).family != _FAMILY:
        possible = ", ".join(name for name in zoo.names() if zoo.card(name).family == _FAMILY)
        raise ValueError(
            f"{run_folder}: holds a {info.model}, which transformers does not have; expected one of {possible}. "
            "`accel_det.load` opens this run as it is"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: there is something already; give a new or an empty folder")
    model = build_detector(replace(info, inference=info.inference.of_one_view), state)
    assert isinstance(model, TransformersDetector)
    model.save_native(out, classes=info.classes, size_px=info.resize.size_px)
    line = f"{info.model} with {len(info.classes)} classes, for transformers.AutoModelForObjectDetection: {out}"
    return [line, *_differences(info.resize, own="shortest_edge" if model.kind.masked else "stretch")]


def _differences(rule: ResizeRule, *, own: str) -> list[str]:
    if rule.mode == own:
        return []
    return [
        f"note: the run prepared images with resize.mode {rule.mode}, and the image processor of transformers does it as "
        f"{own}: boxes differ unless images are prepared as the run did"
    ]
