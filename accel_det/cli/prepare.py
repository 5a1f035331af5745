"""`accel-det prepare CONFIG FOLDER`: the data of a configuration as shards that can be streamed from anywhere."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from accel_det.cli import compose_detection, prepare_identities
from accel_det.cli.compose import split_info
from accel_det.cli.failures import DONE, HUB_FAILED, answer, complain
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_config
from accel_det.config.reid import ReidConfig
from accel_det.data.prepare import SUFFIXES, Preparation, Shard, write_split
from accel_det.data.records import DetectionTable
from accel_det.engine.console import Console
from accel_det.publish.data_card import SplitFacts, render_data_card
from accel_det.publish.hub import Destination
from accel_det.publish.identity_card import IdentityFacts
from accel_det.publish.layout import CARD
from accel_det.publish.prepared import MANIFEST, push_prepared


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.config is None or options.folder is None:
        raise ValueError(
            "prepare needs a configuration file and a folder: `accel-det prepare configs/detection/yolov5n_bccd.yaml shards`"
        )
    for name in ("shard_mb", "workers", "max_side_px"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
    to = None if options.push is None else Destination(options.push, private=not options.public, kind="dataset")
    config = load_config(options.config, overrides).config
    console = Console(speaks=True, to_stderr=options.json)
    how = Preparation(options.kind, options.shard_mb, options.max_side_px, options.reencode)
    place = options.push or "."
    facts: Mapping[str, SplitFacts | IdentityFacts]
    if isinstance(config, ReidConfig):
        facts = prepare_identities.write(
            config, options.folder, how, workers=options.workers, place=place, console=console
        )
    else:
        assert isinstance(config, DetectionConfig)
        facts = _write(config, options.folder, how, workers=options.workers, place=place, console=console)
    console.say(f"{options.folder}: stream it with format: hub, root: {options.folder} and data.streaming: true")
    pushed = None if to is None else push_prepared(options.folder, to=to, message=f"Data of {config.name}")
    if options.json:
        told = {"folder": str(options.folder), "splits": {split: one._asdict() for split, one in facts.items()}}
        answer(told if pushed is None else {**told, "push": pushed._asdict()})
    if pushed is not None and not pushed.ok:
        complain(pushed.line())
        return HUB_FAILED
    if pushed is not None:
        console.say(pushed.line())
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det prepare",
        usage="%(prog)s CONFIG FOLDER [--kind KIND] [--shard-mb N] [--max-side-px N] [--reencode] [--workers N] "
        "[--push REPO [--private | --public]] [--json] [--section.key VALUE ...]",
        description="Write the images of a configuration, with their boxes or identities, as shards: parquet in the Hub's "
        "convention, which plain `datasets` opens, or tar files of WebDataset. What was interrupted goes on.",
        epilog="exit codes: 0 done; 2 bad input, also defects of the data; 4 the Hub could not be reached or refused.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", help="YAML file of the run")
    parser.add_argument("folder", nargs="?", type=Path, help="for FOLDER/data/*, a data card and a manifest")
    parser.add_argument("--kind", choices=tuple(SUFFIXES), default="parquet", help="of the shards; parquet")
    parser.add_argument("--shard-mb", type=int, default=256, metavar="N", help="MB of images of a shard, about; 256")
    parser.add_argument("--max-side-px", type=int, metavar="N", help="make larger images so large")
    parser.add_argument("--reencode", action="store_true", help="every image becomes an upright JPEG of quality 95")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; one a core")
    parser.add_argument(
        "--push", metavar="REPO", help="upload all of it to owner/name on the Hub, a data set, in one commit"
    )
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="a repository that is made is private; so it is without")
    seen.add_argument("--public", action="store_true", help="a repository that is made is public")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout, all else on stderr")
    return parser


def _write(
    config: DetectionConfig, folder: Path, how: Preparation, *, workers: int, place: str, console: Console
) -> dict[str, SplitFacts]:
    tables = compose_detection.open_tables(config)
    for line in tables.report.summary_lines():
        console.say(f"data: {line}")
    tables.report.require()
    facts = {}
    for split, table in (("train", tables.train), ("val", tables.val)):
        shards = write_split(table, split, folder, how, workers=workers)
        facts[split] = _facts(config, split, table, shards)
        console.say(f"{split}: {facts[split].images} images, {facts[split].objects} objects in {len(shards)} shard(s)")
    _write_about(folder, config, how, facts, classes=tables.train.classes, place=place)
    return facts


def _facts(config: DetectionConfig, split: str, table: DetectionTable, shards: Sequence[Shard]) -> SplitFacts:
    info = split_info(config, getattr(config.data, split), table)
    return SplitFacts(
        info.selection,
        len(table),
        int(table.counts().sum()),
        table.class_counts(),
        table.fingerprint,
        info.licence,
        shards,
    )


def _write_about(
    folder: Path,
    config: DetectionConfig,
    how: Preparation,
    facts: dict[str, SplitFacts],
    *,
    classes: tuple[str, ...],
    place: str,
) -> None:
    manifest = {
        "classes": classes,
        "how": how._asdict(),
        "splits": {
            split: {**one._asdict(), "shards": [shard._asdict() for shard in one.shards]}
            for split, one in facts.items()
        },
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    card = render_data_card(config.name, facts, classes=classes, suffix=SUFFIXES[how.kind], place=place)
    (folder / CARD).write_text(card, encoding="utf-8")
