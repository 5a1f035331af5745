"""A prepared data set on its way to the Hub."""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from accel_det.publish.hub import Destination, PushError, PushResult, Wait, push_upload
from accel_det.publish.layout import CARD

MANIFEST = "prepared.json"
_SHARD = re.compile(r"data/(train|val|query|gallery)-\d{5}-of-\d{5}\.(parquet|tar)")


class OpenShards:
    """The card, the manifest and the shards that it lists, held open.

    Raises:
        ValueError: one of them is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, BinaryIO] = {}
        try:
            splits = json.loads((folder / MANIFEST).read_text("utf-8"))["splits"].values()
            for name in (CARD, MANIFEST, *(shard["file"] for split in splits for shard in split["shards"])):
                self.files[name] = (folder / name).open("rb")
        except OSError as error:
            self.close()
            raise ValueError(f"{error.filename}: {error.strerror}; prepare the data again") from None

    def close(self) -> None:
        """Let go of the files."""
        for stream in self.files.values():
            stream.close()

    def __enter__(self) -> "OpenShards":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, secrets: tuple[str, ...]) -> None:
        """Refuse texts that hold one of the secrets.

        Raises:
            ValueError: one does.
        """
        for name in (CARD, MANIFEST):
            text = self.files[name].read()
            if any(secret.encode() in text for secret in secrets):
                raise ValueError(f"{self.folder / name}: holds the access token; take it out of the configuration")

    def outdated(self, existing: Iterable[str]) -> list[str]:
        """Shards of an earlier push, which would be read together with these."""
        return [name for name in existing if _SHARD.fullmatch(name) and name not in self.files]


def push_prepared(folder: Path, *, to: Destination, message: str, wait: Wait = time.sleep) -> PushResult:
    """Push what `accel-det prepare` wrote, in one commit: the hub holds what it held before, or all of this.

    Returns:
        What became of it: a hub that fails or refuses is a result.

    Raises:
        ValueError: the folder is not whole, or holds the access token.
    """
    with OpenShards(folder) as shards:
        try:
            return push_upload(shards, to=to, message=message, wait=wait)
        except PushError as error:
            return PushResult(False, to.repo, error=str(error))
