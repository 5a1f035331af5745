"""What a tracker can be told, the published combinations, and settings by name."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

_MOST_SHOWN = 60  # letters of what somebody wrote

SettingValue = bool | int | float | str | None


@dataclass(frozen=True)
class TrackerSettings:
    """All settings; the defaults are those that Deep SORT publishes. Noise is a standard deviation as a share of the box height.

    Attributes:
        on_bad_box: a box that is not finite, has no extent or lies absurdly far out, a score outside [0, 1], an embedding that is
            not of unit length: "stop" refuses the frame, "skip" leaves the row out.
        min_confidence: a detection of a lower score is left out, or, where low_confidence is given, comes second.
        low_confidence: a detection scored from here up to min_confidence may continue a confirmed track that was seen in the
            frame before, but starts none; None leaves such detections out. ByteTrack: 0.1.
        new_track_confidence: a detection starts a track from this score on; None for min_confidence.
        min_height_px: a detection of a lower height is left out.
        nms_iou: of two detections of a class that overlap by more, the better stays; 1 keeps all.
        n_init: detections in a row that confirm a track, that of its birth included; a tentative track ends with its first miss.
        max_age: frames since its last detection up to which a confirmed track can be continued; missed so long, it ends.
        confirm_at_once_frames: in so many first frames a track is confirmed at its birth.
        max_cosine_distance: pairs farther apart in appearance are refused in the cascade; None tracks without appearance.
        budget: embeddings that are kept of each track, the latest.
        appearance_momentum: share of the old in a moving average that stands in for the kept embeddings; None keeps them.
        overlap_max_cosine_distance: pairs farther apart in appearance are refused in association by overlap too; None asks
            overlap alone.
        motion_weight: share of the squared Mahalanobis distance in the cost of the cascade; the rest is cosine distance. Without
            appearance 1 makes a cascade by motion alone, and 0 leaves it out.
        cascade_by_age: tracks seen last have the first choice; else all choose at once.
        cascade_tentative: tentative tracks take part in the cascade.
        gate: what the Mahalanobis distance that refuses pairs is of: "full" x, y, aspect and height, "position" x and y, "none".
        gate_level: probability that a detection of the track itself passes the gate.
        gate_widening: the gate on the squared distance grows by this share of itself with each missed frame.
        max_iou_distance: pairs of a larger 1 - IoU are refused in association by overlap.
        overlap_max_age: frames since its last detection up to which a track takes part in association by overlap.
        low_max_iou_distance: the same limit as max_iou_distance for detections of low confidence.
        class_switch_iou: a detection of another class continues a track only if it overlaps the track's predicted box by this
            IoU; None never, 0 always.
        process_position_std, process_velocity_std: noise added each frame to x, y and height; and to their velocities.
        process_height_velocity_std: the same for the velocity of the height alone; None for process_velocity_std.
        measured_position_std: noise of a detection's x, y and height.
        initial_position_std, initial_velocity_std: of a new track, whose velocity is taken for 0.
        initial_height_velocity_std: the same for the velocity of the height alone; None for initial_velocity_std.
        process_aspect_std, process_aspect_velocity_std: noise added each frame to width / height; not a share of anything.
        measured_aspect_std, initial_aspect_std, initial_aspect_velocity_std: likewise.
        lost_size_damping: factor on the velocities of aspect and height in every frame after a miss; 1 keeps them. ByteTrack: 0
            for the height.
        reupdate_after_gap: when a track is found again, its filter runs anew from the last detection along a straight line to the
            new one, instead of taking the detection in after a row of blind predictions.
        reported_box: "filtered" reports the state after the detection was taken in, "detected" the detection.

    Source: Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017; low_confidence: Zhang et al.,
        ByteTrack, 2022, algorithm 1; reupdate_after_gap: Cao et al., Observation-Centric SORT, 2023, section 4.1;
        cascade_by_age off and appearance_momentum: Du et al., StrongSORT, 2023, section 3.2.
    """

    on_bad_box: Literal["stop", "skip"] = "stop"
    min_confidence: float = 0.3
    low_confidence: float | None = None
    new_track_confidence: float | None = None
    min_height_px: float = 0.0
    nms_iou: float = 1.0
    n_init: int = 3
    max_age: int = 30
    confirm_at_once_frames: int = 0
    max_cosine_distance: float | None = 0.2
    budget: int = 100
    appearance_momentum: float | None = None
    overlap_max_cosine_distance: float | None = None
    motion_weight: float = 0.0
    cascade_by_age: bool = True
    cascade_tentative: bool = False
    gate: Literal["full", "position", "none"] = "full"
    gate_level: float = 0.95
    gate_widening: float = 0.0
    max_iou_distance: float = 0.7
    overlap_max_age: int = 1
    low_max_iou_distance: float = 0.5
    class_switch_iou: float | None = None
    process_position_std: float = 1 / 20
    process_velocity_std: float = 1 / 160
    process_height_velocity_std: float | None = None
    measured_position_std: float = 1 / 20
    initial_position_std: float = 2 / 20
    initial_velocity_std: float = 10 / 160
    initial_height_velocity_std: float | None = None
    process_aspect_std: float = 1e-2
    process_aspect_velocity_std: float = 1e-5
    measured_aspect_std: float = 1e-1
    initial_aspect_std: float = 1e-2
    initial_aspect_velocity_std: float = 1e-5
    lost_size_damping: float = 1.0
    reupdate_after_gap: bool = False
    reported_box: Literal["filtered", "detected"] = "filtered"

    def __post_init__(self) -> None:
        for name in ("min_confidence", "nms_iou", "motion_weight", "max_iou_distance", "lost_size_damping"):
            self._expect(name, "a number in [0, 1]", lambda value: 0 <= value <= 1)
        for name in ("low_confidence", "new_track_confidence", "low_max_iou_distance", "class_switch_iou"):
            self._expect(name, "a number in [0, 1]", lambda value: 0 <= value <= 1)
        for name in ("max_cosine_distance", "overlap_max_cosine_distance"):
            self._expect(name, "a number in (0, 2]", lambda value: 0 < value <= 2)
        for name in ("n_init", "max_age", "budget", "overlap_max_age"):
            self._expect(name, "a number from 1 on", lambda value: value >= 1)
        for name in ("confirm_at_once_frames", "min_height_px", "gate_widening"):
            self._expect(name, "a number from 0 on", lambda value: 0 <= value < math.inf)
        for name in (field.name for field in dataclasses.fields(self) if field.name.endswith("_std")):
            self._expect(name, "a number above 0", lambda value: 0 < value < math.inf)
        self._expect("gate_level", "a number in (0, 1)", lambda value: 0 < value < 1)
        self._expect("appearance_momentum", "a number in [0, 1)", lambda value: 0 <= value < 1)
        self._expect("on_bad_box", "stop or skip", lambda value: value in ("stop", "skip"))
        self._expect("gate", "full, position or none", lambda value: value in ("full", "position", "none"))
        self._expect("reported_box", "filtered or detected", lambda value: value in ("filtered", "detected"))
        self._expect_combinations()

    def _expect(self, name: str, expected: str, holds: Callable[[Any], bool]) -> None:
        value = getattr(self, name)
        if value is not None and not holds(value):
            raise ValueError(f"{name}: expected {expected}, got {_shown(value)}")

    def _expect_combinations(self) -> None:
        if self.low_confidence is not None and self.low_confidence >= self.min_confidence:
            raise ValueError(
                f"low_confidence: expected less than min_confidence, which is {self.min_confidence:g}, "
                f"got {self.low_confidence:g}"
            )
        if self.new_track_confidence is not None and self.new_track_confidence < self.min_confidence:
            raise ValueError(
                f"new_track_confidence: expected at least min_confidence, which is {self.min_confidence:g}, "
                f"got {self.new_track_confidence:g}"
            )
        if self.max_cosine_distance is None and self.motion_weight not in (0, 1):
            raise ValueError(
                "motion_weight: expected 0 or 1 without appearance, "
                f"got {self.motion_weight:g}; give max_cosine_distance to mix both"
            )
        if self.gate == "none" and self.motion_weight > 0:
            raise ValueError(
                f"gate: expected full or position where motion_weight is above 0, got none with {self.motion_weight:g}"
            )
        if self.overlap_max_cosine_distance is not None and self.max_cosine_distance is None:
            raise ValueError(
                "overlap_max_cosine_distance: expected none without appearance; give max_cosine_distance too"
            )

    @property
    def uses_appearance(self) -> bool:
        return self.max_cosine_distance is not None

    @property
    def has_cascade(self) -> bool:
        return self.uses_appearance or self.motion_weight > 0

    @property
    def least_confidence(self) -> float:
        """The score from which on a detection has any effect."""
        return self.min_confidence if self.low_confidence is None else self.low_confidence


PRESETS: dict[str, TrackerSettings] = {
    "deepsort": TrackerSettings(),
    "deepsort_pytorch": TrackerSettings(min_confidence=0.5, nms_iou=0.5, max_age=70),
    "sort": TrackerSettings(min_confidence=0.5, max_age=1, max_cosine_distance=None),
    "bytetrack": TrackerSettings(
        min_confidence=0.6,
        low_confidence=0.1,
        new_track_confidence=0.7,
        n_init=2,
        confirm_at_once_frames=1,
        max_cosine_distance=None,
        max_iou_distance=0.8,
        overlap_max_age=30,
        lost_size_damping=0.0,
    ),
}
"""Name -> published settings: of the Deep SORT paper, of its best known implementation in PyTorch, of SORT, of ByteTrack.

SORT and ByteTrack run on Deep SORT's filter; of SORT, n_init is that of its implementation.
"""


def settings_from(values: Mapping[str, SettingValue], preset: str = "deepsort") -> TrackerSettings:
    """The settings of a preset with some of them replaced.

    Raises:
        ValueError: the preset or a setting is not known, or a value does not fit.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"there is no preset `{preset[:_MOST_SHOWN]}` of the tracker{_hint(preset, PRESETS)} (known: {', '.join(PRESETS)})"
        )
    kinds = get_type_hints(TrackerSettings)
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(
                f"the tracker has no setting `{name[:_MOST_SHOWN]}`{_hint(name, kinds)} (known: {', '.join(kinds)})"
            )
        if not _fits(value, kinds[name]):
            raise ValueError(f"{name}: expected {_kind_text(kinds[name])}, got {_shown(value)}")
    return dataclasses.replace(PRESETS[preset], **dict[str, Any](values))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _hint(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _fits(value: SettingValue, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _kind_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if isinstance(kind, UnionType):
        return " or ".join(_kind_text(one) for one in get_args(kind))
    return {bool: "true or false", int: "a whole number", float: "a number", type(None): "none"}[kind]
