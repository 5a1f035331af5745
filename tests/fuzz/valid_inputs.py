"""A small valid input of every reader that is fuzzed: what is no picture of it is damaged; of pictures alone, they are."""

import io
import json
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.io
from PIL import Image
from pyarrow import parquet
from small_sets import Files, png

from accel_det.tracking.frames import FrameDetections
from accel_det.video.saved import FindingsWriter, Found

IMAGES = {"images/a.png": png(1), "images/b.png": png(2)}
XML_TEXT = (
    "<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>"
    "<object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>14</ymax></bndbox>"
    "</object><object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax></bndbox></object>"
    "</annotation>"
)
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 120.0, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 2, "bbox": [5, 5, 20.5, 20]},
    ],
}
BOX = {"label": "dog", "coordinates": {"x": 6, "y": 8, "width": 10, "height": 12}}
CVAT = (
    "<annotations><meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"
    '<image id="0" name="a.png" width="40" height="30"><box label="dog" xtl="1" ytl="2" xbr="11" ybr="14" rotation="10"/>'
    '<polygon label="cat" points="1,2;10,4;5,9"/></image><image id="1" name="b.png" width="40" height="30">'
    '<mask label="dog" left="1" top="2" width="3" height="4" rle="1"/></image></annotations>'
)
OBJECTS = {"bbox": [[1.0, 2.0, 10.0, 12.0], [5.0, 5.0, 9.0, 9.0]], "category": [0, 1], "iscrowd": [0, 1]}
LINES = "".join(f"{json.dumps({'file_name': f'{name}.png', 'objects': OBJECTS, 'identity': 1})}\n" for name in "ab")
PERSON = "0000_000_01_0303morning_0008_0.jpg"
PAIR = {place: png(seed, width=12, height=24) for seed, place in enumerate(("a.png", "b.png"))}
CONFIGURATION = """\
name: street
model: {name: yolov3_tiny}
data:
  sets:
    s: {format: street, root: "${ROOT:-x}", holdout: 0.2}
  train: "s:train"
  val: "s:val"
  resize: {size_px: 320}
optimizer: {lr: 1e-3}
train: {steps: 3, images_per_update: 2}
"""
MARS_NAMES = [f"0001C{camera}T0001F{frame:03}.jpg" for camera in (1, 2) for frame in (1, 2)]


def _table() -> bytes:
    images = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in (1, 2)]
    file = io.BytesIO()
    parquet.write_table(
        pa.table({"image": images, "objects": [OBJECTS] * 2, "identity": [1, 1]}), file, compression="none"
    )
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for key in "ab":
            for suffix, content in (("png", png(3)), ("json", json.dumps({"objects": OBJECTS}).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _mat(**variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


def _regions() -> bytes:
    file = io.BytesIO()
    boxes = [[[1.0, 2.0, 11.0, 14.0]], [[0.0, 0.0, 5.0, 5.0]]]
    parquet.write_table(pa.table({"name": ["a", "b"], "boxes": boxes, "scores": [[0.5], [0.25]]}), file)
    return file.getvalue()


def _findings() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.parquet"
        writer = FindingsWriter(file, classes=["person"], frames_per_s=10.0)
        for number in (1, 2):
            boxes = np.array([[10.0, 10, 20, 30], [30.0, 10, 40, 30]])
            detections = FrameDetections(boxes + number, np.full(2, 0.9), np.zeros(2, np.int64), np.eye(2))
            writer.write(number, Found(detections, np.eye(2, 3)))
        writer.close()
        return file.read_bytes()


def _npy() -> bytes:
    target = io.BytesIO()
    np.save(
        target,
        np.array([[1.0, -1, 10, 20, 10, 20, 0.9, -1, -1, -1, 1, 0], [2, -1, 12, 20, 10, 20, 0.8, -1, -1, -1, 0, 1]]),
    )
    return target.getvalue()


def _encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(png(4))).save(file, kind, **options)
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return _encoded("JPEG", exif=exif)


CELLS = {
    "images": np.array(["a", "b"], object),
    "boxes": np.array([np.ones((2, 4)), np.array([[1.0, 2, 9, 9]])], object),
}
MARS_INFO = {
    "info/test_name.txt": "\n".join(MARS_NAMES),
    "info/tracks_test_info.mat": _mat(track_test_info=np.array([[1, 2, 1, 1], [3, 4, 1, 2]], np.int32)),
    "info/query_IDX.mat": _mat(query_IDX=np.array([[1]])),
}

INPUTS: dict[str, Files] = {
    "coco": {**IMAGES, "annotations/instances_train.json": json.dumps(COCO)},
    "voc": {"Annotations/a.xml": XML_TEXT, "JPEGImages/a.png": png(1), "ImageSets/Main/train.txt": "a 1\nb 0\n"},
    "imagenet_det": {
        "Annotations/DET/train/n/a.xml": XML_TEXT,
        "Data/DET/train/n/a.png": png(1),
        "ImageSets/DET/train.txt": "n/a 1\n",
    },
    "yolo": {
        "images/train/a.png": png(1),
        "labels/train/a.txt": "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.3 0.2 0.4 0.4\n",
        "data.yaml": "names: [cat, dog]\n",
    },
    "yolo description": {
        "images/train/a.png": png(1),
        "labels/train/a.txt": "0 0.5 0.5 0.25 0.5\n",
        "data.yaml": "path: .\ntrain: images/train\nval: [images/val]\nnc: 2\nnames:\n  0: cat\n  1: dog\n",
    },
    "darknet": {
        "a.png": png(1),
        "a.txt": "0 0.5 0.5 0.25 0.5\n",
        "obj.data": "classes = 1\ntrain = train.txt\nnames = obj.names\n",
        "obj.names": "cat\n",
        "train.txt": "data/a.png\n",
    },
    "csv": {
        **IMAGES,
        "train.csv": "filename,class,xmin,ymin,xmax,ymax,width,height,area\n"
        "a.png,dog,1,2,11,14,40,30,99\nb.png,cat,5,5,25,25,40,30,\n",
        "classes.csv": "cat,0\ndog,1\n",
    },
    "createml": {
        **IMAGES,
        "train.json": json.dumps(
            [{"image": "a.png", "annotations": [BOX, BOX]}, {"image": "b.png", "annotations": []}]
        ),
    },
    "cvat": {**IMAGES, "annotations.xml": CVAT},
    "openimages": {
        **IMAGES,
        "train-annotations-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "a,/m/d,0.1,0.4,0.2,0.6,0\nb,/m/c,0,1,0,1,1\n",
        "train-images.csv": "ImageID\na\nb\n",
        "class-descriptions-boxable.csv": "/m/c,cat\n/m/d,dog\n",
    },
    "widerface": {
        **IMAGES,
        "wider_face_train_bbx_gt.txt": "a.png\n2\n1 2 10 12 0 0 0 0 0 0\n5 5 20 20 2 0 0 1 0 0\nb.png\n0\n0 0 0 0 0 0 0 0 0 0\n",
    },
    "metadata.jsonl": {"train/a.png": png(1), "train/b.png": png(2), "train/metadata.jsonl": LINES},
    "parquet": {"train-0.parquet": _table()},
    "streamed parquet": {"train-0.parquet": _table()},
    "streamed tar": {"train-0.tar": _tar()},
    "identity table": {**PAIR, "train.csv": "image,identity,camera,split\na.png,0001,1,train\nb.png,0001,2,train\n"},
    "identity metadata": {"train/a.png": png(1), "train/b.png": png(2), "train/metadata.jsonl": LINES},
    "identity parquet": {"train.parquet": _table()},
    "market1501 names": {"bounding_box_train/0002_c1s1_000451_03.jpg": png(1), "name": "0002_c1s1_000451_04.jpg"},
    "mars names": {"bbox_train/0001/0001C1T0001F001.jpg": png(1), "name": "0001C1T0001F002.jpg"},
    "folders of identities": {"train/ann/c1_a.jpg": png(1), "name": "c2_b.jpg"},
    "cuhk03 splits": {
        "images_labeled/1_001_1_01.png": png(1),
        "images_labeled/1_001_2_02.png": png(2),
        "splits_new_labeled.json": json.dumps(
            [
                {
                    "train": [["1_001_1_01.png", 1, 0]],
                    "query": [["1_001_1_01.png", 1, 0]],
                    "gallery": [["1_001_2_02.png", 1, 1]],
                }
            ]
        ),
    },
    "msmt17": {f"train/0000/{PERSON}": png(1), "list_train.txt": f"0000/{PERSON} 0\n"},
    "mars lists": {**{f"bbox_test/0001/{name}": png(seed) for seed, name in enumerate(MARS_NAMES)}, **MARS_INFO},
    "sequences": {
        "train/S/img1/000001.jpg": png(1),
        "train/S/img1/000002.jpg": png(2),
        "train/S/gt/gt.txt": "1,1,0,0,10,20,1,1,1\n1,2,20,0,10,20,1,1,0.5\n2,1,0,0,10,20,1,1,1\n",
        "train/S/seqinfo.ini": "[Sequence]\nname=S\nimDir=img1\nimExt=.jpg\n",
    },
    "table of boxes": {
        **IMAGES,
        "train.csv": "image,identity,left,top,width,height\nimages/a.png,1,0,0,10,20\nimages/b.png,1,5,5,10,20\n",
    },
    "regions in JSON": {
        "r.jsonl": '{"name": "a", "boxes": [[1, 2, 11, 14]], "scores": [0.5]}\n{"name": "b", "boxes": [], "scores": []}\n'
    },
    "regions in parquet": {"r.parquet": _regions()},
    "regions in MATLAB": {"r.mat": _mat(**CELLS)},
    "configuration": {"run.yaml": CONFIGURATION},
    "truth of tracks": {"gt.txt": "1,1,10,20,10,20,1,1,1\n1,2,30,20,10,20,0,7,0.5\n2,1,12,20,10,20,1,1,1\n"},
    "seqinfo": {
        "seqinfo.ini": "[Sequence]\nname=S\nimDir=img1\nframeRate=10\nseqLength=2\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
    },
    "found in text": {"found.txt": "1,-1,10,20,10,20,0.9,-1,-1,-1\n3,-1,12,20,10,20,0.8,-1,-1,-1\n"},
    "found in parquet": {"found.parquet": _findings()},
    "found in npy": {"found.npy": _npy()},
    "settings of a tracker": {
        "tracker.yaml": "preset: deepsort\nmax_age: 40\nmax_cosine_distance: none\ngate: position\n"
    },
    "JPEG": {"a.jpg": _exif()},
    "PNG": {"a.png": png(1)},
    "WebP": {"a.webp": _encoded("WEBP")},
    "GIF": {"a.gif": _encoded("GIF")},
    "TIFF": {"a.tif": _encoded("TIFF", compression="tiff_lzw")},
    "BMP": {"a.bmp": _encoded("BMP")},
    "AVIF": {"a.avif": _encoded("AVIF")},
}
