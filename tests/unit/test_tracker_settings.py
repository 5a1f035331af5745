"""Settings of the tracker: the published combinations, and what is refused."""

import pytest

from accel_det.tracking.settings import PRESETS, SettingValue, TrackerSettings, settings_from


def test_the_presets_are_the_published_ones() -> None:
    """Wojke et al., 2017, section 2 and 3; the README of deep_sort_pytorch; Bewley et al., 2016; Zhang et al., 2022."""
    paper = PRESETS["deepsort"]
    assert (paper.min_confidence, paper.n_init, paper.max_age, paper.budget) == (0.3, 3, 30, 100)
    assert (paper.max_cosine_distance, paper.max_iou_distance, paper.motion_weight) == (0.2, 0.7, 0.0)
    assert (paper.process_position_std, paper.process_velocity_std) == (1 / 20, 1 / 160)
    assert paper == TrackerSettings()
    ported = PRESETS["deepsort_pytorch"]
    assert (ported.max_cosine_distance, ported.min_confidence, ported.nms_iou, ported.max_iou_distance) == (
        0.2,
        0.5,
        0.5,
        0.7,
    )
    assert (ported.max_age, ported.n_init, ported.budget) == (70, 3, 100)
    sort = PRESETS["sort"]
    assert not sort.has_cascade and (sort.max_age, sort.max_iou_distance) == (1, 0.7)
    byte = PRESETS["bytetrack"]
    assert (byte.low_confidence, byte.min_confidence, byte.new_track_confidence) == (0.1, 0.6, 0.7)
    assert not byte.has_cascade and (byte.max_age, byte.overlap_max_age) == (30, 30)


def test_values_replace_those_of_a_preset() -> None:
    found = settings_from(
        {"max_age": 5, "nms_iou": 1, "max_cosine_distance": None, "gate": "position"}, "deepsort_pytorch"
    )
    assert (found.max_age, found.nms_iou, found.max_cosine_distance, found.gate) == (5, 1, None, "position")
    assert found.min_confidence == PRESETS["deepsort_pytorch"].min_confidence


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_agee": 3}, r"the tracker has no setting `max_agee`; did you mean `max_age`\? \(known: on_bad_box, "),
        ({"max_age": 3.5}, r"max_age: expected a whole number, got 3.5"),
        ({"max_age": True}, r"max_age: expected a whole number, got True"),
        ({"max_age": None}, r"max_age: expected a whole number, got None"),
        ({"max_age": 0}, r"max_age: expected a number from 1 on, got 0"),
        ({"gate": "circle"}, r"gate: expected full or position or none, got 'circle'"),
        ({"gate_level": 1.0}, r"gate_level: expected a number in \(0, 1\), got 1.0"),
        ({"low_confidence": "0.1"}, r"low_confidence: expected a number or none, got '0.1'"),
        ({"low_confidence": 0.5}, r"low_confidence: expected less than min_confidence, which is 0.3, got 0.5"),
        (
            {"new_track_confidence": 0.1},
            r"new_track_confidence: expected at least min_confidence, which is 0.3, got 0.1",
        ),
        ({"max_cosine_distance": 0}, r"max_cosine_distance: expected a number in \(0, 2\], got 0"),
        (
            {"motion_weight": 0.5, "max_cosine_distance": None},
            r"motion_weight: expected 0 or 1 without appearance, got 0.5",
        ),
        ({"motion_weight": 0.5, "gate": "none"}, r"gate: expected full or position where motion_weight is above 0"),
        (
            {"max_cosine_distance": None, "overlap_max_cosine_distance": 0.2},
            r"overlap_max_cosine_distance: expected none without appearance",
        ),
        ({"process_velocity_std": float("nan")}, r"process_velocity_std: expected a number above 0, got nan"),
        ({"min_height_px": float("inf")}, r"min_height_px: expected a number from 0 on, got inf"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_in_one_line(values: dict[str, SettingValue], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as error:
        settings_from(values)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"no preset `deepsrt` of the tracker; did you mean `deepsort`\? \(known: deepsort, "
    ):
        settings_from({}, "deepsrt")
