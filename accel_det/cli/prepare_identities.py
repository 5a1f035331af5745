"""What `accel-det prepare` writes for pictures of identities."""

import json
from pathlib import Path

from accel_det.cli.compose import split_info
from accel_det.cli.compose_reid import ReidParts
from accel_det.config.reid import ReidConfig
from accel_det.data.prepare import SUFFIXES, Preparation
from accel_det.data.prepare_identities import write_identity_splits
from accel_det.engine.console import Console
from accel_det.publish.identity_card import IdentityFacts, render_identity_card
from accel_det.publish.layout import CARD
from accel_det.publish.prepared import MANIFEST


def write(
    config: ReidConfig, folder: Path, how: Preparation, *, workers: int, place: str, console: Console
) -> dict[str, IdentityFacts]:
    """Shards of both splits, a card and a manifest; the turns of `data.quarter_turns` are left to training.

    Args:
        place: where `datasets` will find them, for the card: owner/name on the Hub, or ".".

    Returns:
        What was written, by the name of the split.
    """
    data = config.data.model_copy(update={"quarter_turns": False})
    config = config.model_copy(update={"data": data})
    tables = ReidParts(config).open_tables()
    for line in tables.report.summary_lines():
        console.say(f"data: {line}")
    tables.report.require()
    facts: dict[str, IdentityFacts] = {}
    for split, table in (("train", tables.train), ("val", tables.val)):
        info = split_info(config, getattr(config.data, split), table)
        for name, shards in write_identity_splits(table, split, folder, how, workers=workers).items():
            facts[name] = IdentityFacts(
                info.selection, sum(shard.images for shard in shards), table.fingerprint, info.licence, shards
            )
            console.say(f"{name}: {facts[name].images} pictures in {len(shards)} shard(s)")
    told = {
        "how": how._asdict(),
        "splits": {
            name: {**one._asdict(), "shards": [shard._asdict() for shard in one.shards]} for name, one in facts.items()
        },
    }
    (folder / MANIFEST).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    card = render_identity_card(config.name, facts, suffix=SUFFIXES[how.kind], place=place)
    (folder / CARD).write_text(card, encoding="utf-8")
    return facts
