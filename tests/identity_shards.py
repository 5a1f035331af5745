"""Shards with pictures of identities, in the Hub's convention, for the tests of streams."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import datasets


class Shot(NamedTuple):
    """An encoded picture, the path that it is stored under, whom it shows, and where."""

    data: bytes
    path: str
    identity: str
    camera: int


def write_identity_parquet(folder: Path, split: str, shots: Sequence[Shot], lengths: Sequence[int]) -> None:
    """Files <split>-0.parquet, ..., with so many rows each, in row groups of 8."""
    folder.mkdir(parents=True, exist_ok=True)
    features = datasets.Features(
        {"image": datasets.Image(), "identity": datasets.Value("string"), "camera": datasets.Value("int64")}
    )
    for number, part in enumerate(_cut(shots, lengths)):
        rows = {
            "image": [{"bytes": shot.data, "path": shot.path} for shot in part],
            "identity": [shot.identity for shot in part],
            "camera": [shot.camera for shot in part],
        }
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(str(folder / f"{split}-{number}.parquet"), batch_size=8)


def write_identity_tars(folder: Path, split: str, shots: Sequence[Shot], lengths: Sequence[int]) -> None:
    """WebDataset: files <split>-0.tar, ..., with so many pictures each, and who they show in a .json beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(_cut(shots, lengths)):
        with tarfile.open(folder / f"{split}-{number}.tar", "w") as archive:
            for shot in part:
                facts = json.dumps({"identity": shot.identity, "camera": shot.camera}).encode()
                for suffix, data in (("png", shot.data), ("json", facts)):
                    member = tarfile.TarInfo(f"{Path(shot.path).with_suffix('').as_posix()}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def write_identity_lines(folder: Path, split: str, shots: Sequence[Shot], lengths: Sequence[int]) -> None:
    """JSON lines in files <split>-0.jsonl, ...: the identity stands before the path of its picture, from the folder."""
    (folder / split).mkdir(parents=True)
    for number, part in enumerate(_cut(shots, lengths)):
        lines = []
        for shot in part:
            (folder / shot.path).write_bytes(shot.data)
            lines.append(json.dumps({"identity": shot.identity, "camera": shot.camera, "file_name": shot.path}))
        (folder / f"{split}-{number}.jsonl").write_text("\n".join(lines))


def write_identity_folder(folder: Path, split: str, shots: Sequence[Shot]) -> None:
    """A folder <split> of pictures with metadata.jsonl."""
    (folder / split).mkdir(parents=True)
    lines = []
    for shot in shots:
        name = Path(shot.path).name
        (folder / split / name).write_bytes(shot.data)
        lines.append(json.dumps({"file_name": name, "identity": shot.identity, "camera": shot.camera}))
    (folder / split / "metadata.jsonl").write_text("\n".join(lines))


def _cut(shots: Sequence[Shot], lengths: Sequence[int]) -> list[Sequence[Shot]]:
    assert sum(lengths) == len(shots)
    starts = [sum(lengths[:number]) for number in range(len(lengths))]
    return [shots[start : start + length] for start, length in zip(starts, lengths, strict=True)]
