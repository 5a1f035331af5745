"""`accel-det track --detector RUN --reid RUN --source X`, and `accelerate launch scripts/track.py` on several processes."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from accel_det.cli.failures import DONE, answer, guarded
from accel_det.cli.track_inputs import Input, Networks, open_inputs, open_networks
from accel_det.cli.tracker_settings import read_settings, settings_text, without_appearance
from accel_det.config.schema import RuntimeSection
from accel_det.engine.collectives import join_lines
from accel_det.engine.console import Console
from accel_det.engine.runtime import default_device, make_accelerator
from accel_det.engine.signals import StopRequest
from accel_det.inference.tracking import Patches, Stopwatch, Tracked, track_frames
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker
from accel_det.video.annotate import Annotator
from accel_det.video.footage import SOURCES_HELP, VideoFile, VideoFrame
from accel_det.video.saved import FindingsWriter
from accel_det.video.sinks import AnnotatedVideo, JsonLines, MotText, ParquetTable, Sink, TrackPictures

_SUFFIXES = {"mot": ".txt", "jsonl": ".jsonl", "parquet": ".parquet", "mp4": ".mp4", "webm": ".webm", "crops": "-crops"}
_TRAIL_S = 1.5
_REPORT_S = 10.0

_EPILOG = """Writes OUT/NAME.txt and so on for each footage. --tracker.KEY VALUE changes one setting of the preset; `--keys`
lists them. Several footages are shared among processes. Ctrl-C ends in order: the files hold the frames so far.
Exit codes: 0 done; 2 bad input; 130 and 143 ended by a signal."""


class Outcome(NamedTuple):
    """What came of one footage, as the summary shows it."""

    name: str
    tracked: Tracked
    seconds: float
    stages: dict[str, float]
    files: list[str]


def main() -> int:
    """Entry point of scripts/track.py."""
    return guarded(run)


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.keys:
        sys.stdout.write(f"{settings_text()}\n")
        return DONE
    _check(options)
    settings = read_settings(options.preset, options.settings, overrides)
    patches = Patches(margin=options.margin, keep_aspect=options.keep_aspect)
    inputs = open_inputs(
        options.source,
        detections=options.detections,
        has_detector=options.detector is not None,
        classes=options.classes,
    )
    for key in ("save", "detections"):
        if len(inputs) > 1 and "{name}" not in (getattr(options, key) or "{name}"):
            raise ValueError(f"--{key} is {getattr(options, key)} for {len(inputs)} footages; put {{name}} in it")
    accelerator = make_accelerator(RuntimeSection(), deterministic=False, trackers=[], folder=str(options.out))
    mine = inputs[accelerator.process_index :: accelerator.num_processes]
    networks = open_networks(options.detector, options.reid, device=options.device or str(accelerator.device))
    console = Console(speaks=True, to_stderr=options.json)
    first = Console(speaks=accelerator.is_main_process, to_stderr=options.json)
    has_embeddings = networks.embedder is not None or any(one.has_embeddings for one in inputs)
    if settings.uses_appearance and not has_embeddings:
        settings = without_appearance(settings)
        first.say("no --reid and no saved embeddings: tracking without appearance")
    elif networks.embedder is not None and not settings.uses_appearance and options.save is None:
        networks = networks._replace(embedder=None)
        first.say("these settings use no appearance: --reid is not used")
    outcomes: list[Outcome] = []
    with StopRequest() as stop:
        for one in mine:
            if not stop.requested:
                outcomes.append(_track_one(one, networks, settings, patches, options, stop=stop, console=console))
    lines = join_lines([json.dumps(outcome) for outcome in outcomes], accelerator.device)
    accelerator.end_training()
    if accelerator.is_main_process:
        _summarize([json.loads(line) for line in lines], console, out=options.out, as_json=options.json)
    if stop.requested:
        console.say("ended by a signal; the files hold the frames so far")
        return stop.exit_code
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="track",
        description="Follow objects through footage: Deep SORT with your detector and your re-identification network.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--source", nargs="+", default=[], help=f"{SOURCES_HELP}, or saved detections")
    parser.add_argument("--detector", help="run, export or owner/name of a detector")
    parser.add_argument(
        "--reid", help="run, export or owner/name of a network for re-identification; without it: no appearance"
    )
    parser.add_argument(
        "--detections",
        help="saved detections instead of a detector: .parquet, det.txt or .npy; {name} is the footage's",
    )
    parser.add_argument("--out", type=Path, default=Path("tracks"), help="folder for the results; `tracks`")
    parser.add_argument("--write", nargs="+", choices=tuple(_SUFFIXES), default=["mot"], help="what to write; mot")
    parser.add_argument("--save", help="parquet file for what is found, for tracking it again; {name} is the footage's")
    parser.add_argument("--preset", choices=tuple(PRESETS), help="published settings; deepsort")
    parser.add_argument("--settings", type=Path, help="YAML file with settings, after those of the preset")
    parser.add_argument("--classes", nargs="+", default=[], help="classes that are tracked; all")
    parser.add_argument("--camera_motion", action="store_true", help="follow a camera that moves")
    parser.add_argument("--margin", type=float, default=0.0, help="share by which boxes are larger for --reid; 0")
    parser.add_argument(
        "--keep_aspect", action="store_true", help="cut pictures for --reid unstretched, as Deep SORT did"
    )
    parser.add_argument("--every", type=int, default=1, help="look at every so many frames; 1")
    parser.add_argument("--frames", type=int, help="look at so many frames at most")
    parser.add_argument("--batch_size", type=int, default=1, help="frames that are looked at together; 1")
    parser.add_argument("--device", help=f"cpu, cuda, cuda:1, ...; {default_device()}, or the process's own")
    parser.add_argument("--keys", action="store_true", help="list the settings of the tracker")
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    return parser


def _check(options: argparse.Namespace) -> None:
    if not options.source:
        raise ValueError(f"--source is missing; expected a {SOURCES_HELP}, or saved detections")
    for key in ("every", "batch_size", "frames"):
        value = getattr(options, key)
        if value is not None and value < 1:
            raise ValueError(f"--{key} is {value}, expected at least 1")
    if not 0 <= options.margin <= 1:
        raise ValueError(f"--margin is {options.margin}, expected 0 to 1: a share of the box")
    if options.detector is not None and options.detections is not None:
        raise ValueError("--detector and --detections are both given; leave one out")
    if options.save is not None and Path(options.save).suffix != ".parquet":
        raise ValueError(f"--save is {options.save}, expected a name that ends in .parquet")


def _track_one(
    one: Input,
    networks: Networks,
    settings: TrackerSettings,
    patches: Patches,
    options: argparse.Namespace,
    *,
    stop: StopRequest,
    console: Console,
) -> Outcome:
    watch = Stopwatch()
    finder = networks.finder(
        one, settings, patches, classes=options.classes, camera_motion=options.camera_motion, watch=watch
    )
    classes = networks.classes_of(one)
    files = [options.out / f"{one.footage.name}{_SUFFIXES[kind]}" for kind in options.write]
    started = time.perf_counter()
    expected = None if one.footage.num_frames is None else -(-one.footage.num_frames // options.every)
    expected = min(filter(None, (expected, options.frames)), default=0)
    voice = _Progress(one.footage.name, expected, to_stderr=options.json)
    with _said_of(one.footage.name), ExitStack() as opened:
        sinks = [_sink(file, kind, one, classes) for file, kind in zip(files, options.write, strict=True)]
        save = None
        if options.save is not None:
            files.append(Path(options.save.replace("{name}", one.footage.name)))
            save = FindingsWriter(files[-1], classes=classes, frames_per_s=one.footage.frames_per_s)
            opened.callback(save.close)
        for sink in sinks:
            opened.callback(sink.close)
        opened.callback(voice.end)
        tracked = track_frames(
            _until(islice(one.footage, 0, None, options.every), stop, most=options.frames),
            finder,
            Tracker(settings),
            sinks=sinks,
            save=save,
            batch_size=options.batch_size,
            watch=watch,
            report=voice.report,
        )
    seconds = time.perf_counter() - started
    if isinstance(one.footage, VideoFile) and one.footage.missing:
        console.say(
            f"warning: {one.footage.name}: ends {one.footage.missing} frames before the {one.footage.num_frames} that it "
            "promises; the file may be damaged"
        )
    return Outcome(one.footage.name, tracked, seconds, watch.seconds, [str(file) for file in files])


def _sink(file: Path, kind: str, one: Input, classes: Sequence[str]) -> Sink:
    rate = one.footage.frames_per_s
    if kind == "mot":
        return MotText(file)
    if kind == "jsonl":
        return JsonLines(file, classes=classes, frames_per_s=rate)
    if kind == "parquet":
        return ParquetTable(file, classes=classes, frames_per_s=rate)
    if kind == "crops":
        return TrackPictures(file, frames_per_s=rate)
    annotator = Annotator(classes=classes, trail_frames=max(2, round(_TRAIL_S * rate)))
    return AnnotatedVideo(file, annotator=annotator, frames_per_s=rate)


@contextmanager
def _said_of(name: str) -> Iterator[None]:
    """An error tells which footage it is about: the tracker knows frame and row alone."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _until(frames: Iterable[VideoFrame], stop: StopRequest, *, most: int | None) -> Iterator[VideoFrame]:
    for frame in islice(frames, most):
        if stop.requested:
            return
        yield frame


class _Progress:
    """The bar of one footage, with frames per second; a line now and then where there is no terminal."""

    def __init__(self, name: str, expected: int, *, to_stderr: bool) -> None:
        self._name, self._started = name, time.perf_counter()
        self._console = Console(speaks=True, total_steps=expected, to_stderr=to_stderr)
        self._console.begin(0)
        self._spoke = self._started

    def report(self, tracked: Tracked) -> None:
        now = time.perf_counter()
        self._console.advance(tracked.frames)
        rate = tracked.frames / max(now - self._started, 1e-9)
        text = f"{self._name}: {tracked.frames} frames, {rate:.1f} frames/s, {tracked.tracks} tracks"
        if self._console.describe(text) or now - self._spoke < _REPORT_S:
            return
        self._spoke = now
        self._console.say(text)

    def end(self) -> None:
        self._console.end()


def _summarize(rows: list[Any], console: Console, *, out: Path, as_json: bool) -> None:
    outcomes = [
        Outcome(name, Tracked(*tracked), seconds, stages, files) for name, tracked, seconds, stages, files in rows
    ]
    table = Table("footage", "frames", "tracks", "boxes", "frames/s", *(outcomes[0].stages if outcomes else ()))
    for outcome in outcomes:
        frames = max(1, outcome.tracked.frames)
        stages = [f"{1000 * seconds / frames:.1f} ms" for seconds in outcome.stages.values()]
        counts = (outcome.tracked.frames, outcome.tracked.tracks, outcome.tracked.boxes)
        table.add_row(outcome.name, *map(str, counts), f"{outcome.tracked.frames / outcome.seconds:.1f}", *stages)
    console.show(table, whole=True)
    for outcome in outcomes:
        console.say(f"{outcome.name}: {', '.join(outcome.files)}")
    if as_json:
        answer({"out": str(out), "sequences": [_as_json(outcome) for outcome in outcomes]})


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "name": outcome.name,
        **outcome.tracked._asdict(),
        "seconds": outcome.seconds,
        "stages_s": outcome.stages,
        "files": outcome.files,
    }
