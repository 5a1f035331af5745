"""What `track` looks at: footages with networks that find objects in them, or with what was found before."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from accel_det.inference import Detector, Embedder, load_detector, load_embedder
from accel_det.inference.tracking import EmbeddingFinder, Finder, MotionFinder, NetworkFinder, Patches, Stopwatch
from accel_det.tracking.settings import TrackerSettings
from accel_det.video.footage import Footage, open_footage
from accel_det.video.saved import Findings, SavedFinder, SavedFootage, read_findings

_SAVED = {".parquet", ".txt", ".npy"}


class Input(NamedTuple):
    """A footage, and what was found in it before, if it was."""

    footage: Footage
    findings: Findings | None

    @property
    def has_embeddings(self) -> bool:
        return self.findings is not None and self.findings.has_embeddings


class Networks(NamedTuple):
    """The detector, and the network for re-identification; each may be missing."""

    detector: Detector | None
    embedder: Embedder | None

    def classes_of(self, one: Input) -> tuple[str, ...]:
        """Names, by label."""
        if one.findings is not None:
            return one.findings.classes
        assert self.detector is not None
        return self.detector.classes

    def finder(
        self,
        one: Input,
        settings: TrackerSettings,
        patches: Patches,
        *,
        classes: Sequence[str],
        camera_motion: bool,
        watch: Stopwatch,
    ) -> Finder:
        """Says what is to be seen in the frames of an input."""
        found: Finder
        if one.findings is None:
            assert self.detector is not None
            found = NetworkFinder(
                self.detector,
                self.embedder,
                min_score=settings.least_confidence,
                classes=classes,
                patches=patches,
                watch=watch,
            )
        elif self.embedder is None:
            found = SavedFinder(one.findings)
        else:
            found = EmbeddingFinder(SavedFinder(one.findings), self.embedder, patches=patches, watch=watch)
        return MotionFinder(found, watch=watch) if camera_motion else found


def open_networks(detector: str | None, reid: str | None, *, device: str) -> Networks:
    """Load the networks that were named.

    Raises:
        ValueError: one of them is no such network.
    """
    return Networks(
        None if detector is None else load_detector(detector, device=device),
        None if reid is None else load_embedder(reid, device=device),
    )


def open_inputs(
    sources: Sequence[str], *, detections: str | None, has_detector: bool, classes: Sequence[str]
) -> list[Input]:
    """The footages, each with its saved detections where no detector is there.

    Args:
        sources: footages, or files of saved detections, which have no pictures.
        detections: the file for a footage, {name} for its name.
        classes: the first is the name of what files hold that do not say.

    Raises:
        ValueError: no such footage or file, or one for which nothing says what is in it.
    """
    named = tuple(classes[:1]) or ("object",)
    inputs = []
    for source in sources:
        path = Path(source)
        if path.suffix in _SAVED and not path.is_dir():
            findings = read_findings(path, classes=named)
            inputs.append(Input(SavedFootage(findings, name=path.stem), findings))
    footages = open_footage(
        [source for source in sources if Path(source).suffix not in _SAVED or Path(source).is_dir()]
    )
    for footage in footages:
        if has_detector:
            inputs.append(Input(footage, None))
            continue
        if detections is None:
            raise ValueError(
                f"{footage.name}: nothing finds objects in it; give --detector RUN, or --detections with saved ones"
            )
        file = Path(detections.replace("{name}", footage.name))
        inputs.append(Input(footage, read_findings(file, classes=named, frames_per_s=footage.frames_per_s)))
    return inputs
