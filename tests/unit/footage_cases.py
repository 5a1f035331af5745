"""Footage that the tests of tracking look at: numbered frames, in every form that a source has."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from accel_det.tracking.frames import FrameTracks
from accel_det.video.footage import VideoFrame

HEIGHT, WIDTH = 48, 64


def numbered(number: int, *, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A frame whose grey says its number: 8 levels each, so that no codec confuses two; red above, to tell the channels."""
    pixels = np.full((height, width, 3), 8 * number, dtype=np.uint8)
    pixels[: height // 4] = (200, 20, 20)
    return pixels


def number_of(pixels: NDArray[np.uint8]) -> int:
    """The number that a frame shows."""
    return round(float(pixels[pixels.shape[0] // 2 :].mean()) / 8)


def write_images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        Image.fromarray(numbered(number)).save(folder / name)
    return folder


def write_sequence(folder: Path, *, frames: int = 4, stated: int | None = None) -> Path:
    """A MOTChallenge sequence called as the folder, 5 frames a second."""
    write_images(folder / "img1", [f"{number:06d}.png" for number in range(1, frames + 1)])
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate=5\nseqLength={stated or frames}\nimWidth={WIDTH}\n"
        f"imHeight={HEIGHT}\nimExt=.png\n",
        encoding="utf-8",
    )
    return folder


def write_video(file: Path, *, frames: int = 12, frames_per_s: float = 10.0) -> Path:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), frames_per_s, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for number in range(1, frames + 1):
        writer.write(np.ascontiguousarray(numbered(number)[:, :, ::-1]))
    writer.release()
    return file


def frame(number: int) -> VideoFrame:
    return VideoFrame(number, numbered(number))


def tracks(*rows: tuple[int, tuple[float, float, float, float], float, int]) -> FrameTracks:
    """Tracks of a frame: id, box, score, label of each."""
    ids, boxes, scores, labels = ([row[field] for row in rows] for field in range(4))
    return FrameTracks(
        np.array(ids, dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(scores, dtype=np.float64),
        np.array(labels, dtype=np.int64),
        np.arange(len(rows)),
    )
