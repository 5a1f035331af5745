"""The card of a prepared data set: a README for people, with the front matter by which the Hub and `datasets` find its splits."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accel_det.publish.info import library
from accel_det.publish.markdown import escape, fenced, table, to_yaml


class SplitFacts(NamedTuple):
    """What a card tells of a split.

    Attributes:
        selection: where it is from, as the configuration names it.
        class_counts: objects of each class, crowd left out.
        fingerprint: sha256 over what training sees beside the pixels.
        licence: of the data, where known.
        shards: of each, "file", "images" and "sha256".
    """

    selection: str
    images: int
    objects: int
    class_counts: Mapping[str, int]
    fingerprint: str
    licence: str | None
    shards: Sequence[Any]


def render_data_card(
    name: str, splits: Mapping[str, SplitFacts], *, classes: Sequence[str], suffix: str, place: str
) -> str:
    """The text of README.md.

    Args:
        suffix: of the shards.
        place: where `datasets` finds them: owner/name on the Hub, or ".".
    """
    licences = sorted({one.licence for one in splits.values() if one.licence})
    files = [{"split": split, "path": f"data/{split}-*{suffix}"} for split in splits]
    front = {
        "task_categories": ["object-detection"],
        "tags": ["accel_det"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    rows = [
        (
            split,
            escape(one.selection),
            str(one.images),
            str(one.objects),
            str(len(one.shards)),
            f"`{one.fingerprint[:16]}`",
        )
        for split, one in splits.items()
    ]
    counts = [(escape(label), *(str(one.class_counts.get(label, 0)) for one in splits.values())) for label in classes]
    example = f'from datasets import load_dataset\n\ndata = load_dataset("{place}", split="train", streaming=True)'
    sections = [
        f"# {escape(name)}\n\nImages with boxes of {len(classes)} {'class' if len(classes) == 1 else 'classes'}, as shards. "
        "Boxes are (left, top, width, height) in pixels of the upright image.",
        "## Splits\n\n" + table(("split", "from", "images", "objects", "shards", "fingerprint"), rows),
        "## Objects\n\n" + table(("class", *splits), counts),
        f"## Use\n\n{fenced(example, 'python')}",
        f"## Origin\n\nWritten by {library()}; `prepared.json` has the sha256 of every shard. Licence of the data: "
        f"{escape(', '.join(licences)) or 'not stated; ask whoever made them'}.",
    ]
    return f"---\n{to_yaml(front)}---\n\n" + "\n\n".join(sections) + "\n"
