"""Where frames come from: video files, cameras, folders of images, MOTChallenge sequences. One frame is in memory at a time.

Letters: H and W height and width in pixels.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from accel_det.data.decode import decode
from accel_det.metrics.mot_files import read_sequence_info
from accel_det.opencv import cv2_module

SOURCES_HELP = "video file, folder of images, MOTChallenge sequence or folder of them, or camera:0"

_VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".mjpeg"}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
_CAMERA = re.compile(r"camera:(\d+)")
_IMAGES_PER_S = 25.0
_CAMERA_FRAMES_PER_S = 30.0


class VideoFrame(NamedTuple):
    """One picture of a footage: its number from 1, and (H, W, 3) uint8 RGB; no pixels where only detections were saved."""

    number: int
    pixels: NDArray[np.uint8] | None


def require_pixels(frame: VideoFrame) -> NDArray[np.uint8]:
    """The pixels of a frame.

    Raises:
        ValueError: there are none, for only detections were saved.
    """
    if frame.pixels is None:
        raise ValueError("saved detections have no pictures; name the footage as --source and them as --detections")
    return frame.pixels


class Footage(Protocol):
    """A footage that can be read from its first frame to its last, once.

    Attributes:
        name: of the files that are written about it.
        frames_per_s: as the source states it.
        num_frames: as the source states it; None for a camera.
    """

    name: str
    frames_per_s: float
    num_frames: int | None

    def __iter__(self) -> Iterator[VideoFrame]:
        """The frames, in their order.

        Raises:
            ValueError: a frame cannot be read; names it.
        """
        ...


class ImageFolder:
    """Images of a folder as frames, in the order of the numbers in their names.

    Args:
        files: of the frames, in their order.
        name, frames_per_s: of the footage.
    """

    def __init__(self, files: Sequence[Path], *, name: str, frames_per_s: float = _IMAGES_PER_S) -> None:
        self._files = list(files)
        self.name, self.frames_per_s = name, frames_per_s
        self.num_frames: int | None = len(files)

    def __iter__(self) -> Iterator[VideoFrame]:
        for number, file in enumerate(self._files, start=1):
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ValueError(f"{file}: cannot be read ({error.strerror}); correct the path") from None
            yield VideoFrame(number, decode(data, name=str(file)).permute(1, 2, 0).contiguous().numpy())


class VideoFile:
    """A video file, decoded frame by frame.

    Attributes:
        missing: frames that the file promises and does not hold, known after the last; 0 before.

    Raises:
        ValueError: it is no video that can be decoded.
    """

    def __init__(self, file: Path) -> None:
        cv2 = cv2_module("video")
        self._file = file
        self._capture = cv2.VideoCapture(str(file))
        if not self._capture.isOpened():
            raise ValueError(
                f"{file}: no video that can be decoded; check that it is whole, or convert it to H.264 in .mp4"
            )
        self.name = file.stem
        self.frames_per_s = _stated_rate(self._capture.get(cv2.CAP_PROP_FPS), otherwise=_IMAGES_PER_S)
        # Some containers do not say, and give 0 or a nonsense below.
        stated = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames: int | None = stated if stated > 0 else None
        self.missing = 0

    def __iter__(self) -> Iterator[VideoFrame]:
        number = 0
        for number, pixels in enumerate(_pictures(self._capture), start=1):
            yield VideoFrame(number, pixels)
        if number == 0:
            raise ValueError(f"{self._file}: not one frame can be decoded; the file is damaged or holds no pictures")
        self.missing = max(0, (self.num_frames or number) - number)


class Camera:
    """A camera of this machine, until someone ends it.

    Raises:
        ValueError: there is no such camera.
    """

    def __init__(self, number: int) -> None:
        cv2 = cv2_module("video")
        self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ValueError(f"camera:{number}: no such camera, or it is in use; `ls /dev/video*` lists those of Linux")
        self.name = f"camera-{number}"
        self.frames_per_s = _stated_rate(self._capture.get(cv2.CAP_PROP_FPS), otherwise=_CAMERA_FRAMES_PER_S)
        self.num_frames: int | None = None

    def __iter__(self) -> Iterator[VideoFrame]:
        return (VideoFrame(number, pixels) for number, pixels in enumerate(_pictures(self._capture), start=1))


def open_footage(sources: Sequence[str]) -> list[Footage]:
    """The footages that a person named on a command line, each with a name of its own.

    Args:
        sources: video files, folders of images, MOTChallenge sequences or folders of them, camera:N.

    Raises:
        ValueError: one of them is nothing of this; names it.
    """
    found = [footage for source in sources for footage in _open(source)]
    names: dict[str, int] = {}
    for footage in found:
        number = names[footage.name] = names.get(footage.name, 0) + 1
        if number > 1:
            footage.name = f"{footage.name}-{number}"
    return found


def _open(source: str) -> list[Footage]:
    if camera := _CAMERA.fullmatch(source):
        return [Camera(int(camera[1]))]
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise ValueError(f"{source}: no such file or folder; expected a {SOURCES_HELP}")
    if path.suffix.lower() in _IMAGE_SUFFIXES:
        raise ValueError(f"{source}: one image, expected a {SOURCES_HELP}; `accel-det predict` takes single images")
    return [VideoFile(path)]


def _open_folder(folder: Path) -> list[Footage]:
    if (folder / "seqinfo.ini").is_file() or (folder / "img1").is_dir():
        return [_open_sequence(folder)]
    if files := _images_of(folder):
        return [ImageFolder(files, name=folder.resolve().name)]
    inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    if sequences := [entry for entry in inner if (entry / "seqinfo.ini").is_file() or (entry / "img1").is_dir()]:
        return [_open_sequence(entry) for entry in sequences]
    if videos := sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in _VIDEO_SUFFIXES):
        return [VideoFile(video) for video in videos]
    raise ValueError(f"{folder}: no images, videos or MOTChallenge sequences in it; expected a {SOURCES_HELP}")


def _open_sequence(folder: Path) -> Footage:
    name, rate, images = folder.resolve().name, _IMAGES_PER_S, folder / "img1"
    if (folder / "seqinfo.ini").is_file():
        info = read_sequence_info(folder / "seqinfo.ini")
        name, rate, images = info.name, info.frame_rate, info.image_folder
    files = _images_of(images) if images.is_dir() else []
    if not files:
        raise ValueError(f"{images}: no images there; expected the frames of the sequence {name}")
    numbers = [int(file.stem) if file.stem.isdigit() else None for file in files]
    if None not in numbers and numbers != list(range(1, len(files) + 1)):
        wrong = next(place for place, number in enumerate(numbers, start=1) if place != number)
        raise ValueError(
            f"{images}: frame {wrong} is missing, for {files[wrong - 1].name} comes in its place; frames of a MOTChallenge "
            "sequence count from 1 without gaps"
        )
    return ImageFolder(files, name=name, frames_per_s=rate)


def _images_of(folder: Path) -> list[Path]:
    files = (entry for entry in folder.iterdir() if entry.suffix.lower() in _IMAGE_SUFFIXES)
    return sorted(files, key=lambda file: [int(part) if part.isdigit() else part for part in _parts(file.stem)])


def _parts(stem: str) -> list[str]:
    """Text and digits by turns, beginning with text, so that two names never compare a number with a word."""
    return re.split(r"(\d+)", stem)


def _pictures(capture: Any) -> Iterator[NDArray[np.uint8]]:
    """What OpenCV reads until it gives no more, as red, green and blue."""
    try:
        while (found := capture.read())[0]:
            yield np.ascontiguousarray(found[1][:, :, ::-1])
    finally:
        capture.release()


def _stated_rate(stated: float, *, otherwise: float) -> float:
    return stated if 0 < stated < 1000 else otherwise
