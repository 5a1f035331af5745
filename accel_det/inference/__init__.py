"""Trained networks on pictures: `accel_det.load(path).detect(["image.jpg"])`, or `.embed(["crop.jpg"])`."""

from pathlib import Path

from accel_det.inference.detector import Detector, ImageDetections, build_detector
from accel_det.inference.embedder import Embedder, build_embedder
from accel_det.inference.pictures import Picture
from accel_det.publish import hub, layout
from accel_det.publish.export import DetectorInfo, EmbedderInfo, ExportError, ExportInfo, read_export

__all__ = [
    "Detector",
    "Embedder",
    "ImageDetections",
    "Picture",
    "build_detector",
    "build_embedder",
    "load",
    "load_detector",
    "load_embedder",
    "require_detector",
]


def load(path: str | Path, *, device: str = "cpu") -> Detector | Embedder:
    """What an export holds: a detector, or an embedder of pictures.

    Args:
        path: an export folder, a run's folder (its best export, or else its last), or, if there is no such folder,
            owner/name of a repository on the Hub, which is downloaded.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        ValueError: no export there, or it is damaged; the message says what to do.
    """
    info, state = read_export(_locate(path))
    try:
        if isinstance(info, DetectorInfo):
            return Detector(build_detector(info, state), info, device=device)
        assert isinstance(info, EmbedderInfo)
        return Embedder(build_embedder(info, state), info, device=device)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from None


def load_detector(path: str | Path, *, device: str = "cpu") -> Detector:
    """As `load`; what is no detector is refused."""
    found = load(path, device=device)
    if not isinstance(found, Detector):
        raise ExportError(f"{path}: task is {found.info.task!r}, expected 'detection'; this export is not a detector")
    return found


def load_embedder(path: str | Path, *, device: str = "cpu") -> Embedder:
    """As `load`; what embeds no pictures is refused."""
    found = load(path, device=device)
    if not isinstance(found, Embedder):
        raise ExportError(f"{path}: task is {found.info.task!r}, expected 'reid'; this export embeds no pictures")
    return found


def require_detector(info: ExportInfo, path: str | Path) -> DetectorInfo:
    """The description of a detector.

    Raises:
        ExportError: it is of another task.
    """
    if not isinstance(info, DetectorInfo):
        raise ExportError(f"{path}: task is {info.task!r}, expected 'detection'; this export is not a detector")
    return info


def _locate(path: str | Path) -> Path:
    folder = Path(path)
    if folder.is_dir() or layout.standing(folder).is_dir():
        return layout.find_export(folder)
    if folder.exists():
        raise ExportError(f"{path}: a file, expected the export folder that it is in")
    if isinstance(path, str) and hub.is_repo_name(path):
        try:
            return layout.find_export(hub.fetch_export(path))
        except hub.PushError as error:
            raise ExportError(f"{path}: no such folder here, and no such export on the Hub: {error}") from None
    raise ExportError(f"{path}: no such folder; expected an export, a run's folder, or owner/name on the Hub")
