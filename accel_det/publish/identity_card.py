"""The card of prepared pictures of identities, as `data_card.py` has it for boxes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from accel_det.publish.info import library
from accel_det.publish.markdown import escape, fenced, table, to_yaml


class IdentityFacts(NamedTuple):
    """What a card tells of a split.

    Attributes:
        selection: where it is from, as the configuration names it.
        fingerprint: sha256 over names, identities, cameras and roles of the selection.
        licence: of the data, where known.
        shards: of each, "file", "images" and "sha256".
    """

    selection: str
    images: int
    fingerprint: str
    licence: str | None
    shards: Sequence[Any]


def render_identity_card(name: str, splits: Mapping[str, IdentityFacts], *, suffix: str, place: str) -> str:
    """The text of README.md.

    Args:
        suffix: of the shards.
        place: where `datasets` finds them: owner/name on the Hub, or ".".
    """
    licences = sorted({one.licence for one in splits.values() if one.licence})
    files = [{"split": split, "path": f"data/{split}-*{suffix}"} for split in splits]
    front = {
        "task_categories": ["image-feature-extraction"],
        "tags": ["accel_det", "re-identification"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    rows = [
        (split, escape(one.selection), str(one.images), str(len(one.shards)), f"`{one.fingerprint[:16]}`")
        for split, one in splits.items()
    ]
    example = f'from datasets import load_dataset\n\ndata = load_dataset("{place}", split="train", streaming=True)'
    sections = [
        f"# {escape(name)}\n\nPictures of identities, as shards; `identity` says whom one shows, -1 a distractor, and `camera` "
        "where it was taken, where that is known. Pictures of an identity lie beside each other.",
        "## Splits\n\n" + table(("split", "from", "pictures", "shards", "fingerprint"), rows),
        f"## Use\n\n{fenced(example, 'python')}",
        f"## Origin\n\nWritten by {library()}; `prepared.json` has the sha256 of every shard. Licence of the data: "
        f"{escape(', '.join(licences)) or 'not stated; ask whoever made them'}.",
    ]
    return f"---\n{to_yaml(front)}---\n\n" + "\n\n".join(sections) + "\n"
