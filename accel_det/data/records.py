"""One split, ready to train on: columns, not objects.

Letters: I images, A annotated objects.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from accel_det.data.clean import CleanSplit
from accel_det.data.defects import DEFECT_KINDS, DataError, Defect, DefectKind
from accel_det.data.encoded import IMAGE_FEATURES, bytes_of, image_array, length_of, path_of
from accel_det.data.formats.raw import Bools, Floats, Ints, StreamedImages
from accel_det.data.proposals import Proposals
from accel_det.types import BoxTarget

__all__ = ["DEFECT_KINDS", "DataError", "Defect", "DefectKind", "DetectionTable", "ObjectColumns", "build_table"]


class StoredObjects(NamedTuple):
    """Views into the Arrow columns: starts (I + 1,), and xywh boxes (A, 4), labels, crowd and areas (A,).

    Boxes are in pixels of the upright file; the objects of image i are those from starts[i] to starts[i + 1].
    """

    starts: Ints
    boxes: Floats
    labels: Ints
    crowd: Bools
    areas: Floats


class ObjectColumns(NamedTuple):
    """Objects of a split: the image (A,) and the label (A,) of each, and its xywh box (A, 4) in pixels of the file."""

    images: Ints
    labels: Ints
    boxes: Floats


class DetectionTable:
    """The images and objects of a split, by position.

    It is an Arrow table in the Hub's own object-detection convention: image {bytes, path}, image_id, width, height,
    objects {bbox (xywh, pixels of the upright file), category, area, iscrowd}, and a name for people. Objects are read
    through views of its buffers, so a worker process shares them, and there is no Python object per annotation.

    Attributes:
        dataset: the Arrow table.
        classes: class names; labels index them.
        fingerprint: sha256 over names, sizes, boxes, labels, crowd flags, areas and classes.
        accept: the kinds of defect that the user accepts.
        given: regions that came with the images; None where there are none.
        streamed: where the images are, if the table holds neither their bytes nor their files.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        *,
        classes: Sequence[str],
        fingerprint: str,
        accept: frozenset[str] = frozenset(),
        given: Proposals | None = None,
        streamed: StreamedImages | None = None,
    ) -> None:
        self.dataset = dataset
        self.classes = tuple(classes)
        self.fingerprint = fingerprint
        self.accept = accept
        self.given = given
        self.streamed = streamed
        self._attach()

    def __len__(self) -> int:
        return len(self._sizes)

    def __getstate__(self) -> dict[str, object]:
        return {
            "dataset": self.dataset,
            "classes": self.classes,
            "fingerprint": self.fingerprint,
            "accept": self.accept,
            "given": self.given,
            "streamed": self.streamed,
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._attach()

    def name(self, index: int) -> str:
        """The file, for people: set, then path inside the set."""
        return str(self._names[index].as_py())

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels of the upright file."""
        height, width = self._sizes[index].tolist()
        return height, width

    def sizes(self) -> Ints:
        """(I, 2) int64 (height, width) of every image."""
        return self._sizes

    def names(self) -> list[str]:
        """The name of every image."""
        found: list[str] = self._names.to_pylist()
        return found

    def path(self, index: int) -> str | None:
        """Where the image file is; None where the table or a shard holds its bytes."""
        return None if self.streamed is not None else path_of(self._image(index))

    def image_bytes(self, index: int) -> bytes:
        """The encoded image, from disk, from the table or from its shard.

        Raises:
            ValueError: the file cannot be read any more.
        """
        if self.streamed is not None:
            return self.streamed.read(index)
        return bytes_of(self._image(index))

    def image_length(self, index: int) -> int:
        """Bytes of the encoded image; -1 where the file has gone, or would have to be fetched."""
        return -1 if self.streamed is not None else length_of(self._image(index))

    def truth(self, index: int) -> BoxTarget:
        """The objects of an image: xyxy pixels of the upright file, clipped to it, each with an area."""
        objects = self._objects
        span = slice(int(objects.starts[index]), int(objects.starts[index + 1]))
        xywh = objects.boxes[span]
        corners = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), axis=1)
        return BoxTarget(
            boxes=torch.from_numpy(corners.astype(np.float32)),
            labels=torch.from_numpy(objects.labels[span].copy()),
            crowd=torch.from_numpy(objects.crowd[span].copy()),
            areas=torch.from_numpy(objects.areas[span].astype(np.float32)),
        )

    def proposals(self, index: int) -> torch.Tensor | None:
        """(P, 4) float32, xyxy, pixels of the upright file: regions that came with the image; None where none are given."""
        return None if self.given is None else self.given.of(index)

    def with_proposals(self, given: Proposals) -> "DetectionTable":
        """The same images and objects, with regions."""
        return DetectionTable(
            self.dataset,
            classes=self.classes,
            fingerprint=self.fingerprint,
            accept=self.accept,
            given=given,
            streamed=self.streamed,
        )

    def objects(self) -> "ObjectColumns":
        """All objects, crowd left out."""
        objects = self._objects
        kept = ~objects.crowd
        owner = np.repeat(np.arange(len(self)), self.counts())
        return ObjectColumns(owner[kept], objects.labels[kept], objects.boxes[kept])

    def stored_objects(self) -> StoredObjects:
        """All objects as they are stored, crowd included."""
        return self._objects

    def counts(self) -> Ints:
        """(I,) number of objects, crowd included, of every image."""
        return np.diff(self._objects.starts)

    def class_counts(self) -> dict[str, int]:
        """Objects, crowd left out, of every class."""
        objects = self._objects
        numbers = np.bincount(objects.labels[~objects.crowd], minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))

    def _image(self, index: int) -> dict[str, object]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        image: dict[str, object] = self._images.data.fast_slice(index, 1).column("image")[0].as_py()
        return image

    def _attach(self) -> None:
        """Views into the Arrow buffers; none of them is pickled."""
        table = self.dataset.data
        self._images = self.dataset.select_columns(["image"])
        self._names = _combined(table.column("name"))
        self._sizes: Ints = np.stack([_combined(table.column(side)).to_numpy() for side in ("height", "width")], axis=1)
        objects = _combined(table.column("objects"))
        labels = pc.struct_field(objects, "category")
        lengths = pc.list_value_length(labels).to_numpy()
        self._objects = StoredObjects(
            starts=np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64),
            boxes=_values(pc.list_flatten(pc.struct_field(objects, "bbox"))).reshape(-1, 4),
            labels=_values(labels),
            crowd=_values(pc.struct_field(objects, "iscrowd")).view(np.bool_),
            areas=_values(pc.struct_field(objects, "area")),
        )


def build_table(split: CleanSplit, *, set_name: str, classes: Sequence[str], first_id: int) -> datasets.Dataset:
    """The Arrow table of one set's split.

    Args:
        split: with labels that index `classes`.
        set_name: goes before every name.
        classes: of the joined table.
        first_id: image_id of the first image.
    """
    count = len(split.names)
    starts = np.concatenate(([0], np.cumsum(split.counts)))
    xywh = np.concatenate((split.boxes[:, :2], split.boxes[:, 2:] - split.boxes[:, :2]), axis=1)
    sides = pa.ListArray.from_arrays(pa.array(np.arange(len(xywh) + 1, dtype=np.int32) * 4), pa.array(xywh.reshape(-1)))
    offsets = pa.array(starts.astype(np.int32))
    fields = {
        "bbox": sides,
        "category": pa.array(split.labels),
        "area": pa.array(split.areas),
        "iscrowd": pa.array(split.crowd.astype(np.int8)),
    }
    lists = [pa.ListArray.from_arrays(offsets, values) for values in fields.values()]
    columns = {
        "name": pa.array([f"{set_name}/{name}" for name in split.names], pa.string()),
        "image_id": pa.array(np.arange(first_id, first_id + count, dtype=np.int64)),
        "height": pa.array(split.sizes[:, 0]),
        "width": pa.array(split.sizes[:, 1]),
        "objects": pa.StructArray.from_arrays(lists, names=list(fields)),
    }
    features = table_features(classes)
    with_bytes = split.images is not None and count > 0
    if not with_bytes:
        columns = {"image": image_array(None, split.files or [""] * count), **columns}
        features = {**IMAGE_FEATURES, **features}
    info = datasets.DatasetInfo(features=datasets.Features(features))
    # The fingerprint is given, or `datasets` would pickle the whole table to make one.
    table = datasets.Dataset(pa.table(columns), info=info, fingerprint=fingerprint([split], classes=classes)[:16])
    return datasets.concatenate_datasets([split.images, table], axis=1) if with_bytes else table


def fingerprint(splits: Sequence[CleanSplit], *, classes: Sequence[str]) -> str:
    """sha256 over what training sees of the splits, beside the pixels; the same on every machine."""
    digest = hashlib.sha256("\0".join(classes).encode())
    for split in splits:
        digest.update("\0".join(split.names).encode())
        for column in (split.sizes, split.counts, split.boxes, split.labels, split.crowd, split.areas):
            little = column.astype(column.dtype.newbyteorder("<"))
            digest.update(np.ascontiguousarray(little).tobytes())
    return digest.hexdigest()


def table_features(classes: Sequence[str]) -> dict[str, object]:
    """The columns of a table, beside that of the images."""
    return {
        "name": datasets.Value("string"),
        "image_id": datasets.Value("int64"),
        "height": datasets.Value("int64"),
        "width": datasets.Value("int64"),
        "objects": {
            "bbox": datasets.List(datasets.List(datasets.Value("float64"))),
            "category": datasets.List(datasets.ClassLabel(names=list(classes))),
            "area": datasets.List(datasets.Value("float64")),
            "iscrowd": datasets.List(datasets.Value("int8")),
        },
    }


def _combined(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(lists: pa.Array) -> np.ndarray:
    """The values of a list array, as a view where it is one chunk without nulls."""
    values: np.ndarray = pc.list_flatten(lists).to_numpy(zero_copy_only=True)
    return values
