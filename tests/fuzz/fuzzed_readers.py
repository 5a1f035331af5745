"""Every reader of files that come from elsewhere, and what must hold of what it reads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from damage import BYTES, JSON, TEXT, XML, Mutation
from small_sets import HEIGHT, WIDTH, assert_sound_boxes, assert_sound_identities, png

from accel_det.config.load import load_config
from accel_det.data.decode import decode, image_size
from accel_det.data.defects import Defect
from accel_det.data.identity_sources import open_identities
from accel_det.data.proposals import read_proposals
from accel_det.data.sources import SetSpec, open_split


class Reader(NamedTuple):
    """A reader of files.

    Attributes:
        mutations: how its input is damaged.
        read: reads what is in a folder, and asserts what must hold of it; gives the findings.
        slow: opening a valid input takes a tenth of a second; fewer are tried by default.
    """

    mutations: Sequence[Mutation]
    read: Callable[[Path], Sequence[Defect]]
    slow: bool = False


MOST_PIXELS = 1 << 22


def _boxes(format_name: str, *, streaming: bool = False) -> Callable[[Path], Sequence[Defect]]:
    def read(folder: Path) -> Sequence[Defect]:
        spec = SetSpec("set", format_name, str(folder), streaming=streaming)
        table, defects = open_split({"set": spec}, "set:train")
        assert_sound_boxes(table)
        return defects

    return read


def _identities(format_name: str, split: str = "train", **fields: str) -> Callable[[Path], Sequence[Defect]]:
    def read(folder: Path) -> Sequence[Defect]:
        spec = SetSpec("set", format_name, str(folder), **fields)
        table, defects = open_identities({"set": spec}, f"set:{split}", training=split == "train")
        assert_sound_identities(table)
        return defects

    return read


def _named_like(form: str, below: str) -> Callable[[Path], Sequence[Defect]]:
    """The file `name` says what a picture is called: as far as a file can be called so."""

    def read(folder: Path) -> Sequence[Defect]:
        name = (folder / "name").read_bytes().replace(b"/", b"").replace(b"\0", b"")[:200]
        place = (folder / below).as_posix().encode() + b"/" + (name if name.strip(b".") else b"x" + name)
        path = Path(place.decode("utf-8", "surrogateescape"))
        path.write_bytes(png(1))
        try:
            return _identities(form)(folder)
        finally:
            path.unlink()

    return read


def _image(folder: Path) -> Sequence[Defect]:
    (file,) = folder.glob("a.*")
    data = file.read_bytes()
    pixels = decode(data, name=str(file), max_pixels=MOST_PIXELS)
    assert pixels.shape[0] == 3 and tuple(pixels.shape[1:]) == image_size(data)
    assert pixels.numel() <= 3 * MOST_PIXELS
    return []


def _proposals(folder: Path) -> Sequence[Defect]:
    (file,) = folder.glob("r.*")
    found = read_proposals(file, names=["set/a.png", "set/b.png"], sizes=np.array([[HEIGHT, WIDTH]] * 2))
    for index in range(2):
        x1, y1, x2, y2 = found.of(index).T
        assert bool(((x1 >= 0) & (x1 <= x2) & (x2 <= WIDTH) & (y1 >= 0) & (y1 <= y2) & (y2 <= HEIGHT)).all())
    return []


def _configuration(folder: Path) -> Sequence[Defect]:
    load_config(folder / "run.yaml")
    return []


READERS: dict[str, Reader] = {
    "coco": Reader(JSON, _boxes("coco")),
    "voc": Reader(XML, _boxes("voc")),
    "imagenet_det": Reader(XML, _boxes("imagenet_det")),
    "yolo": Reader(TEXT, _boxes("yolo")),
    "yolo description": Reader(TEXT, _boxes("yolo")),
    "darknet": Reader(TEXT, _boxes("yolo")),
    "csv": Reader(TEXT, _boxes("csv")),
    "createml": Reader(JSON, _boxes("createml")),
    "cvat": Reader(XML, _boxes("cvat")),
    "openimages": Reader(TEXT, _boxes("openimages")),
    "widerface": Reader(TEXT, _boxes("widerface")),
    "metadata.jsonl": Reader(JSON, _boxes("hub")),
    "parquet": Reader(BYTES, _boxes("hub"), slow=True),
    "streamed parquet": Reader(BYTES, _boxes("hub", streaming=True), slow=True),
    "streamed tar": Reader(BYTES, _boxes("hub", streaming=True), slow=True),
    "identity table": Reader(TEXT, _identities("table")),
    "identity metadata": Reader(JSON, _identities("hub")),
    "identity parquet": Reader(BYTES, _identities("table"), slow=True),
    "market1501 names": Reader(TEXT, _named_like("market1501", "bounding_box_train")),
    "mars names": Reader(TEXT, _named_like("mars", "bbox_train/0001")),
    "folders of identities": Reader(TEXT, _named_like("folders", "train/ann")),
    "cuhk03 splits": Reader(JSON, _identities("cuhk03")),
    "msmt17": Reader(TEXT, _identities("msmt17")),
    "mars lists": Reader(BYTES, _identities("mars", "test")),
    "sequences": Reader(TEXT, _identities("crops")),
    "table of boxes": Reader(TEXT, _identities("crops", annotations="train.csv")),
    "regions in JSON": Reader(JSON, _proposals),
    "regions in parquet": Reader(BYTES, _proposals),
    "regions in MATLAB": Reader(BYTES, _proposals),
    "configuration": Reader(TEXT, _configuration),
    "JPEG": Reader(BYTES, _image),
    "PNG": Reader(BYTES, _image),
    "WebP": Reader(BYTES, _image),
    "GIF": Reader(BYTES, _image),
    "TIFF": Reader(BYTES, _image),
    "BMP": Reader(BYTES, _image),
    "AVIF": Reader(BYTES, _image),
}
