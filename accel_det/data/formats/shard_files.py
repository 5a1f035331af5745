"""Finding the shards of a split, and reading what is small of every row of them, once.

What was read is an index: it is kept in the cache, under what the file systems tell of the shards.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import fsspec
import pyarrow as pa
from datasets.packaged_modules.folder_based_builder.folder_based_builder import FolderBasedBuilder
from datasets.packaged_modules.json.json import Json
from datasets.packaged_modules.parquet.parquet import Parquet

from accel_det.data import s3
from accel_det.data.cache import cached_table
from accel_det.data.formats import hub, json_lines
from accel_det.data.formats.raw import SplitSource
from accel_det.data.lines import in_one_line
from accel_det.data.locate import split_names
from accel_det.data.progress import shown
from accel_det.data.shards import DatasetShards, Option, ParquetShards, Shards, patiently

_LENGTHS = b"accel_det.lengths"
_MODULES = {".parquet": "parquet", ".tar": "webdataset", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}
_STAMPS = ("size", "mtime", "ETag", "etag", "LastModified", "commit_hash", "blob_id")
"""What file systems tell of a file that changes with its content."""
_READERS = 8
_ROWS_AT_ONCE = 1024


class ShardedSplit(NamedTuple):
    """A split that can be streamed.

    Attributes:
        builder: of `datasets`.
        split: as the builder calls it.
        files: its shards, or the files that they are made of.
        storage: options of the server that they are on.
    """

    builder: datasets.DatasetBuilder
    split: str
    files: list[str]
    storage: Mapping[str, Option]

    @property
    def is_parquet(self) -> bool:
        """Whether columns can be read without the others."""
        return isinstance(self.builder, Parquet)

    @property
    def is_json(self) -> bool:
        """Whether images are texts: paths, or bytes as base64."""
        return isinstance(self.builder, Json)

    @property
    def opened(self) -> Mapping[str, Option] | None:
        """With what paths in its rows are opened: those of a folder were found in it, those of JSON lines are known to be below
        the root; None where they are not, for they could lead anywhere."""
        return self.storage if self.is_json or isinstance(self.builder, FolderBasedBuilder) else None

    def names(self, count: int) -> list[str]:
        """The file of each of so many shards, where each is one."""
        same = count == len(self.files)
        return self.files if same else [f"shard {number} of {self.split}" for number in range(count)]


class Index(NamedTuple):
    """What is small of every row, and the rows of each shard."""

    table: pa.Table
    lengths: list[int]


class Undecoded(NamedTuple):
    """The rows of a split with encoded images, and the column of the images."""

    dataset: datasets.IterableDataset
    image: str


def find_shards(source: SplitSource, split: str) -> ShardedSplit:
    """The shards of a split.

    `root` is a folder, an address such as `s3://bucket/set` or `https://host/set`, or a name on the Hub. `annotations` may name
    the shards, with `{split}` replaced, `*` where they can be listed, and `{00000..00031}` where they cannot.

    Raises:
        ValueError: there are none.
    """
    remote = "://" in source.root
    if source.root.startswith("s3://"):
        s3.accept_block_sizes()
    if not remote and not Path(source.root).exists():
        return _built(source, split, source.root, name=source.annotations)
    if remote or source.annotations is not None:
        files = _named_files(source, split)
    else:
        files = hub.find_files(source, split).tables or _named_files(source, split)
    if not files:
        return _built(source, split, source.root)
    kinds = {Path(file).suffix.lower() for file in files}
    if len(kinds) > 1 or not kinds <= set(_MODULES):
        raise ValueError(
            f"set {source.name!r}, split {split!r}: shards of the kinds {', '.join(sorted(kinds))}, expected one of "
            f"{', '.join(_MODULES)}; name them in `annotations`"
        )
    return _built(source, split, _MODULES[kinds.pop()], data_files={split: files})


def _named_files(source: SplitSource, split: str) -> list[str]:
    """The shards that `annotations` names, or those that are called after the split; sorted."""
    if source.annotations is not None:
        patterns = [source.annotations.replace("{split}", split)]
    else:
        patterns = [f"{folder}{split}*{suffix}" for suffix in _MODULES for folder in ("", "data/", f"{split}/")]
        patterns += [f"{split}/*{suffix}" for suffix in _MODULES]
    for pattern in patterns:
        address = f"{source.root.rstrip('/')}/{pattern}"
        numbered = _numbered(address)
        if numbered:
            return numbered
        if "*" not in address:
            return [address]
        system, path = fsspec.core.url_to_fs(address, **source.storage)
        found = patiently(address, lambda system=system, path=path: sorted(system.glob(path)))  # type: ignore[misc]
        found = [file for file in found if Path(file).name != hub.METADATA]
        if found:
            return [system.unstrip_protocol(file) if "://" in address else file for file in found]
    if source.annotations is not None or "://" in source.root:
        raise ValueError(
            f"set {source.name!r}, split {split!r}: no shards at {source.root}; looked for {', '.join(patterns)}; name them in "
            "`annotations`"
        )
    return []


def _numbered(address: str) -> list[str]:
    """`a-{00..11}` written out; [] where there is no such range."""
    found = re.fullmatch(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", address)
    if found is None:
        return []
    before, first, last, after = found.groups()
    return [f"{before}{number:0{len(first)}d}{after}" for number in range(int(first), int(last) + 1)]


def _built(source: SplitSource, split: str, path: str, **arguments: Any) -> ShardedSplit:
    try:
        with hub.uncounted():
            builder = datasets.load_dataset_builder(path, storage_options=dict(source.storage), **arguments)
        known = builder.config.data_files or {}
    except Exception as error:  # network, cache, names, credentials: the library raises nearly anything
        raise ValueError(
            f"set {source.name!r}: {source.root!r} cannot be streamed: {in_one_line(error)}; correct `root` or "
            "`annotations`"
        ) from error
    name = next((name for name in split_names(split) if name in known), None)
    if name is None:
        raise ValueError(
            f"set {source.name!r}: {source.root!r} has no split {split!r}, but {', '.join(map(str, known)) or 'none'}; correct "
            "the selection, or name the shards in `annotations`"
        )
    return ShardedSplit(builder, name, [str(file) for file in known[name]], source.storage)


def read_index(
    found: ShardedSplit, gather: Callable[[], Index], *, code: Sequence[Path], parameters: Mapping[str, str] = {}
) -> Index:
    """From the cache, or gathered; whoever changes a shard gets another one.

    Args:
        gather: `gather_files` or `gather_rows`, of what is wanted.
        code: the sources of what decides the table, beside the shards.
        parameters: likewise.
    """
    stamps = [_stamp(file, found.storage) for file in found.files]
    table = cached_table(
        {**parameters, "shards": json.dumps(stamps), "reader": type(found.builder).__name__},
        lambda: _with_lengths(gather()),
        code=[Path(__file__), *code],
        folder="streams",
    )
    return Index(table, json.loads(table.schema.metadata[_LENGTHS]))


def _stamp(file: str, storage: Mapping[str, Option]) -> list[str]:
    def ask() -> list[str]:
        system, path = fsspec.core.url_to_fs(file, **storage)
        info = system.info(path)
        return [file, *(f"{key} {info[key]}" for key in _STAMPS if info.get(key) is not None)]

    return patiently(file, ask)


def gather_files(found: ShardedSplit, read: Callable[[str], pa.Table]) -> Index:
    """What `read` gives of each file, several at a time."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting = pool.map(lambda file: patiently(file, lambda: read(file)), found.files)
        tables = list(shown(waiting, total=len(found.files), what="annotations of shards"))
    return Index(pa.concat_tables(tables), [len(table) for table in tables])


def gather_rows(
    source: SplitSource,
    found: ShardedSplit,
    dataset: datasets.IterableDataset,
    rows_of: Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]],
) -> Index:
    """What `rows_of` makes of the rows of every shard, which is read from end to end."""
    tables: list[pa.Table] = []
    lengths: list[int] = []
    count = dataset.num_shards
    names = found.names(count)
    for shard in shown(range(count), total=count, what="annotations of shards"):
        rows = patiently(names[shard], lambda shard=shard: list(rows_of(dataset.shard(count, shard))))  # type: ignore[misc]
        lengths.append(len(rows))
        tables += [pa.Table.from_pylist(rows[i : i + _ROWS_AT_ONCE]) for i in range(0, len(rows), _ROWS_AT_ONCE)]
    if not tables:
        raise ValueError(f"set {source.name!r}, split {found.split!r}: the shards hold no row")
    return Index(pa.concat_tables(tables, promote_options="permissive"), lengths)


def _with_lengths(index: Index) -> pa.Table:
    lengths = json.dumps(index.lengths).encode()
    return index.table.replace_schema_metadata({**(index.table.schema.metadata or {}), _LENGTHS: lengths})


def undecoded(source: SplitSource, found: ShardedSplit, *, usual: Sequence[str] = ("image",)) -> Undecoded:
    """The rows of a split.

    Args:
        usual: names of the column of the images; the first one that there is, or else the first column that can be of images.

    Raises:
        ValueError: they cannot be read, or hold no images.
    """
    try:
        dataset = found.builder.as_streaming_dataset(split=found.split)
        if dataset.features is None:
            dataset = dataset._resolve_features()
    except Exception as error:
        shards = f"{found.files[0]}{f' and {len(found.files) - 1} more' if found.files[1:] else ''}"
        raise ValueError(f"{shards}: cannot be read as shards: {in_one_line(error)}; restore them") from error
    can_be = json_lines.holds_images if found.is_json else lambda feature: isinstance(feature, datasets.Image)
    images = [name for name, feature in dataset.features.items() if can_be(feature)]
    if not images:
        raise ValueError(
            f"set {source.name!r}: {source.root!r} has the columns {list(dataset.features)}; expected one of images; name other "
            "shards in `annotations`"
        )
    image = next((name for name in usual if name in images), images[0])
    if found.is_json:
        return Undecoded(json_lines.with_images(dataset, image, root=source.root), image)
    return Undecoded(dataset.decode(False), image)


def open_shards(source: SplitSource, found: ShardedSplit, lengths: Sequence[int], *, image: str = "image") -> Shards:
    """The images of a split.

    Args:
        lengths: rows of each shard.
        image: the column that holds them; what is no parquet may have another one.
    """
    if found.is_parquet:
        return ParquetShards(found.files, lengths, column=image, storage=found.storage)
    rows = undecoded(source, found, usual=(image,))
    names = found.names(len(lengths))
    return DatasetShards(rows.dataset, lengths, column=rows.image, names=names, opened=found.opened)
