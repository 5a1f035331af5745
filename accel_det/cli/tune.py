"""`accel-det tune CONFIG --space FILE`: search for hyper-parameters, one training after another."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from accel_det.cli.failures import BAD_INPUT, DONE, INTERRUPTED, answer
from accel_det.cli.search_space import check_space, read_space, starting_point
from accel_det.config.load import dump, load_config
from accel_det.engine.console import Console
from accel_det.engine.journal import write_json
from accel_det.engine.runtime import world_size

if TYPE_CHECKING:
    from accel_det.cli.study import Study, Tried

_EPILOG = """Every trial is a run of `train` with the configuration and the values of the trial as overrides; what decides is
the run's best fitness. The first trial is the configuration as it is. The search can be ended at any time and goes on where
it was when the same command is given again. Further --section.key VALUE are overrides for all trials."""
_SHOWN = 10  # trials in the table
_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class TrialEnd(NamedTuple):
    """How a trial ended: a fitness, or the reason why there is none; stopped says that somebody ended it."""

    fitness: float | None
    message: str = ""
    stopped: bool = False


class Search(NamedTuple):
    """What one call of the command does.

    Attributes:
        folder: for tune.json, the best configuration and the runs of the trials.
        trials: how many the study shall have in all.
        jobs: trials at a time.
    """

    folder: Path
    trials: int
    jobs: int


Runner = Callable[["Tried"], TrialEnd]


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if world_size() > 1:
        raise ValueError("tune starts its own processes: run it without a launcher, with --processes N")
    if find_spec("optuna") is None:
        raise ValueError("tune needs Optuna, which is not installed: pip install 'accel_det[tune]'")
    from accel_det.cli.study import Study

    config = load_config(options.config, overrides).config
    space = read_space(options.space)
    check_space(space, options.config, overrides)
    folder = Path(config.runtime.output) / f"{config.name}-tune"
    folder.mkdir(parents=True, exist_ok=True)
    storage = Path(options.storage or folder / "study.db")
    text = repr((dump(config), space, options.seed))
    study = Study(
        storage,
        space=space,
        seed=options.seed,
        agreement=hashlib.sha256(text.encode()).hexdigest(),
        start=starting_point(space, config.model_dump(mode="json")),
    )
    command = [*launch_command(options.processes, options.accelerate_config), options.config, *overrides]
    console = Console(speaks=True, to_stderr=options.json)

    def trial(tried: "Tried") -> TrialEnd:
        return train_once(tried, command, folder=folder)

    code = search(study, Search(folder, options.trials, options.jobs), trial, say=console.say)
    best = study.best()
    if best is not None:
        best_config = load_config(options.config, [*overrides, *_as_overrides(best.values)]).config
        (folder / "best.yaml").write_text(dump(best_config), encoding="utf-8")
        console.show(table_of_trials(study.trials()))
        console.say(f"best: trial {best.number} with {best.fitness:.4f}; its configuration is {folder / 'best.yaml'}")
    if options.json:
        answer(facts(study) | {"folder": str(folder)})
    return code if best is not None or code != DONE else BAD_INPUT


def search(study: "Study", plan: Search, run_trial: Runner, *, say: Callable[[str], None]) -> int:
    """Run trials until the study has as many as are wanted; tune.json is up to date after each.

    Returns:
        exit code; INTERRUPTED where somebody stopped a trial.
    """
    missing = plan.trials - len(study.trials())
    running: dict[Future[TrialEnd], Tried] = {}
    stopped = False
    with ThreadPoolExecutor(plan.jobs) as pool:
        while (missing > 0 and not stopped) or running:
            while missing > 0 and len(running) < plan.jobs and not stopped:
                tried = study.ask()
                missing -= 1
                say(f"trial {tried.number}: {' '.join(_as_overrides(tried.values))}")
                running[pool.submit(run_trial, tried)] = tried
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number, end = running.pop(future).number, future.result()
                if end.fitness is None:
                    study.fail(number, end.message)
                    say(f"trial {number} failed: {end.message}")
                else:
                    study.finish(number, end.fitness)
                    say(f"trial {number}: fitness {end.fitness:.4f}")
                stopped = stopped or end.stopped
                write_json(plan.folder / "tune.json", facts(study))
    return INTERRUPTED if stopped else DONE


def train_once(tried: "Tried", command: Sequence[str], *, folder: Path) -> TrialEnd:
    """One training in processes of its own; what it says goes to a file beside the runs."""
    name = f"trial-{tried.number:04}"
    own = ["--name", name, "--runtime.output", str(folder), "--json"]
    environment = {key: value for key, value in os.environ.items() if key not in _LAUNCHER}
    log = folder / f"{name}.log"
    with log.open("w", encoding="utf-8") as stream:
        done = subprocess.run(
            [*command, *_as_overrides(tried.values), *own],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=environment,
        )
    if done.returncode != DONE:
        stopped = done.returncode in (INTERRUPTED, 143)
        return TrialEnd(None, "stopped" if stopped else _reason(log, done.returncode), stopped)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return TrialEnd(None, f"it gave no result; {log} says more")
    return TrialEnd(float(json.loads(lines[-1])["best"]))


def launch_command(processes: int | None, accelerate_config: str | None) -> list[str]:
    """`train` in one process, or in several through accelerate's launcher."""
    if processes is None and accelerate_config is None:
        return [sys.executable, "-m", "accel_det", "train"]
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if accelerate_config is not None:
        launcher += ["--config_file", accelerate_config]
    elif processes != 1:
        launcher += ["--multi_gpu"]  # what makes it start more than one, on a CPU as well
    if processes is not None:
        launcher += ["--num_processes", str(processes)]
    return [*launcher, "-m", "accel_det", "train"]


def _reason(log: Path, code: int) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error")]
    return (errors or lines or [f"it ended with code {code} and said nothing"])[-1]


def _as_overrides(values: dict[str, str]) -> list[str]:
    return [word for key, text in values.items() for word in (f"--{key}", text)]


def facts(study: "Study") -> dict[str, Any]:
    """The best trial and all of them, for JSON."""
    best = study.best()
    return {
        "best": None if best is None else best._asdict(),
        "trials": [tried._asdict() for tried in study.trials()],
    }


def table_of_trials(trials: Sequence["Tried"]) -> Table:
    """The fittest trials with their values."""
    done = sorted((one for one in trials if one.fitness is not None), key=lambda one: -(one.fitness or 0.0))
    failed = sum(one.state == "failed" for one in trials)
    table = Table("trial", "fitness", "values", title=f"{len(trials)} trials, {failed} failed", title_justify="left")
    for one in done[:_SHOWN]:
        values = "\n".join(f"{key} {text}" for key, text in one.values.items())
        table.add_row(str(one.number), f"{one.fitness:.4f}", Text(values))
    return table


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det tune",
        description="Search for hyper-parameters.",
        epilog=_EPILOG,
        allow_abbrev=False,
        usage="%(prog)s CONFIG --space FILE [--trials N] [--section.key VALUE ...]",
    )
    parser.add_argument("config", help="YAML file, as for train")
    parser.add_argument("--space", required=True, help="YAML file with the keys to search over; see search_spaces/")
    parser.add_argument("--trials", type=_positive, default=20, help="trials in all, those of earlier calls included")
    parser.add_argument("--storage", help="SQLite file of the search; study.db in its folder without it")
    parser.add_argument("--seed", type=int, default=0, help="of what the trials draw")
    parser.add_argument("--jobs", type=_positive, default=1, help="trials at a time; all of them see all devices")
    parser.add_argument("--processes", type=_positive, help="processes of each trial, through accelerate's launcher")
    parser.add_argument(
        "--accelerate_config", help="file of `accelerate config` for each trial, as in accelerate_configs/"
    )
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    return parser
