"""Every reader of files that come from elsewhere, and what must hold of what it reads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from damage import BYTES, JSON, PNG, TEXT, XML, Mutation
from small_sets import HEIGHT, WIDTH, assert_sound_identities, png

from accel_det.cli.tracker_settings import read_settings
from accel_det.config.load import load_config
from accel_det.data.clean import CleanSplit, clean
from accel_det.data.decode import decode, image_size
from accel_det.data.defects import Defect, Findings
from accel_det.data.formats import (
    coco,
    createml,
    csv_boxes,
    cvat,
    hub,
    hub_stream,
    imagenet_det,
    openimages,
    voc,
    widerface,
    yolo,
)
from accel_det.data.formats.raw import RawSplit
from accel_det.data.identity_sources import open_identities
from accel_det.data.proposals import read_proposals
from accel_det.data.sources import SetSpec
from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, read_sequence_info, read_truth
from accel_det.tracking.settings import settings_from
from accel_det.tracking.tracker import Tracker
from accel_det.video.saved import read_findings


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


def _boxes(
    reader: Callable[..., RawSplit], format_name: str, *, streaming: bool = False
) -> Callable[[Path], Sequence[Defect]]:
    """Reads and judges a split; the table that is then made of it would take ten times as long."""

    def read(folder: Path) -> Sequence[Defect]:
        findings = Findings("set")
        spec = SetSpec("set", format_name, str(folder), streaming=streaming)
        split = clean(reader(spec, "train", findings=findings), findings=findings)
        _assert_sound(split)
        return findings.defects

    return read


def _assert_sound(split: CleanSplit) -> None:
    """As `assert_sound_boxes`, of a split that is no table yet; in the precision that a table has."""
    boxes, areas = split.boxes.astype(np.float32), split.areas.astype(np.float32)
    limits = np.repeat(split.sizes[:, ::-1], split.counts, axis=0)
    assert len(split.names) == len(split.sizes) == len(split.counts) and split.counts.sum() == len(boxes) == len(areas)
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] < boxes[:, 2:]).all() and (boxes[:, 2:] <= limits).all()
    assert ((split.labels >= 0) & (split.labels < len(split.classes))).all()
    assert (areas > 0).all() and np.isfinite(areas).all()


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
        if path.exists():  # the name of the picture that is always there
            return _identities(form)(folder)
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


def _mot_truth(folder: Path) -> Sequence[Defect]:
    truth = read_truth(folder / "gt.txt")
    assert (truth.frames >= 1).all() and np.isfinite(truth.boxes).all() and (truth.boxes[:, 2:] >= 0).all()
    scores = mot_scores([mot_counts(truth, MotBoxes(truth.frames, truth.ids, truth.boxes, np.ones(len(truth.ids))))])
    assert all(np.isfinite(score) for score in scores.values())
    return []


def _sequence_info(folder: Path) -> Sequence[Defect]:
    info = read_sequence_info(folder / "seqinfo.ini")
    assert info.num_frames >= 1 and 0 < info.frame_rate < np.inf and info.width_px >= 1 and info.height_px >= 1
    return []


def _findings(folder: Path) -> Sequence[Defect]:
    """What was found before, tracked again, without what the tracker refuses."""
    (file,) = folder.glob("found.*")
    findings = read_findings(file)
    numbers = findings.numbers  # of text up to ten million, which rise because they are a range
    assert isinstance(numbers, range) or numbers == sorted(set(numbers))
    assert len(numbers) == len(findings.found)
    tracker = Tracker(settings_from({"on_bad_box": "skip", "max_cosine_distance": None}))
    for found in findings.found[:50]:
        tracks = tracker.update(found.detections, motion=found.motion)
        assert np.isfinite(tracks.boxes).all() and (tracks.labels < len(findings.classes)).all()
    return []


def _tracker_settings(folder: Path) -> Sequence[Defect]:
    read_settings(None, folder / "tracker.yaml", [])
    return []


def _configuration(folder: Path) -> Sequence[Defect]:
    load_config(folder / "run.yaml")
    return []


READERS: dict[str, Reader] = {
    "coco": Reader(JSON, _boxes(coco.read, "coco")),
    "voc": Reader(XML, _boxes(voc.read, "voc")),
    "imagenet_det": Reader(XML, _boxes(imagenet_det.read, "imagenet_det")),
    "yolo": Reader(TEXT, _boxes(yolo.read, "yolo")),
    "yolo description": Reader(TEXT, _boxes(yolo.read, "yolo")),
    "darknet": Reader(TEXT, _boxes(yolo.read, "yolo")),
    "csv": Reader(TEXT, _boxes(csv_boxes.read, "csv")),
    "createml": Reader(JSON, _boxes(createml.read, "createml")),
    "cvat": Reader(XML, _boxes(cvat.read, "cvat")),
    "openimages": Reader(TEXT, _boxes(openimages.read, "openimages")),
    "widerface": Reader(TEXT, _boxes(widerface.read, "widerface")),
    "metadata.jsonl": Reader(JSON, _boxes(hub.read, "hub")),
    "parquet": Reader(BYTES, _boxes(hub.read, "hub"), slow=True),
    "streamed parquet": Reader(BYTES, _boxes(hub_stream.read, "hub", streaming=True), slow=True),
    "streamed tar": Reader(BYTES, _boxes(hub_stream.read, "hub", streaming=True), slow=True),
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
    "truth of tracks": Reader(TEXT, _mot_truth),
    "seqinfo": Reader(TEXT, _sequence_info),
    "found in text": Reader(TEXT, _findings),
    "found in parquet": Reader(BYTES, _findings),
    "found in npy": Reader(BYTES, _findings),
    "settings of a tracker": Reader(TEXT, _tracker_settings),
    "JPEG": Reader(BYTES, _image),
    "PNG": Reader(PNG, _image),
    "WebP": Reader(BYTES, _image),
    "GIF": Reader(BYTES, _image),
    "TIFF": Reader(BYTES, _image),
    "BMP": Reader(BYTES, _image),
    "AVIF": Reader(BYTES, _image),
}
