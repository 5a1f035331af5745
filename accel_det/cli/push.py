"""`accel-det push RUN REPO`: upload a trained network."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli.failures import DONE, HUB_FAILED, answer, complain
from accel_det.engine.console import Console
from accel_det.publish.hub import push_run


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det push",
        description="Upload safetensors, configuration, label names and model card in one commit.",
        epilog="Log in with `hf auth login`, or set HF_TOKEN. Exit codes: 0 pushed; 2 bad input; 4 the Hub refused.",
    )
    parser.add_argument("run", type=Path, help="folder of a run, or of one of its exports")
    parser.add_argument("repo", help="owner/name on the Hub; made if it does not exist")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="which export of the run")
    parser.add_argument("--public", action="store_true", help="a repository that is made is public")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    options = parser.parse_args(list(arguments))
    result = push_run(options.run, options.repo, which=options.which, private=not options.public)
    if options.json:
        answer(result._asdict())
    elif result.ok:
        Console(speaks=True).say(result.line())
    if not result.ok:
        complain(result.line())
    return DONE if result.ok else HUB_FAILED
