"""Tracking scores by hand, against published values, and under changes that must not matter."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from mot_cases import TUD, boxes_at, random_sequence, truth_at, tud

from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_assignment import assign
from accel_det.metrics.mot_files import MotBoxes, MotTruth
from accel_det.metrics.mot_sequence import MotRule


def score(truth: MotTruth, found: MotBoxes, rule: MotRule | None = None) -> dict[str, float]:
    return mot_scores([mot_counts(truth, found, rule)])


def reorder(table: MotBoxes, order: np.ndarray) -> MotBoxes:
    return MotBoxes(*(column[order] for column in table))


def test_the_published_numbers_of_tud_come_out() -> None:
    """MOTA and IDF1 as py-motmetrics publishes them, HOTA as TrackEval gives it, for the results of one tracker."""
    counts = {name: mot_counts(*tud(name)) for name in TUD}
    campus, stadtmitte = (mot_scores([counts[name]]) for name in TUD)
    both = mot_scores(list(counts.values()))
    assert [campus[n] for n in ("MOTA", "IDF1", "HOTA", "DetA", "AssA")] == pytest.approx(
        [0.526462, 0.557659, 0.3914, 0.4180, 0.3691], abs=1e-4
    )
    assert [stadtmitte[n] for n in ("MOTA", "IDF1", "HOTA")] == pytest.approx([0.564014, 0.644619, 0.3978], abs=1e-4)
    assert [both[n] for n in ("MOTA", "IDF1", "HOTA", "DetA", "AssA")] == pytest.approx(
        [0.555116, 0.624296, 0.4000, 0.3977, 0.4124], abs=1e-4
    )
    assert [both[n] for n in ("IDSW", "FP", "FN", "tracks", "found_tracks")] == [14, 58, 602, 18, 25]


def test_one_track_found_by_two_identities_by_hand() -> None:
    """Four boxes of one track, all found exactly, by identity 1 twice and by identity 2 twice.

    MOTA = 1 - 1 switch / 4 boxes. IDF1: the better identity has 2 of 4, as both are 2 long: 2 / (2 + (2 + 2) / 2). HOTA:
    each match has association 2 / (4 + 2 - 2), at every threshold, and all is detected: sqrt(1 * 1/2).
    """
    scores = score(
        truth_at([(1, 9, 0), (2, 9, 0), (3, 9, 0), (4, 9, 0)]), boxes_at([(1, 1, 0), (2, 1, 0), (3, 2, 0), (4, 2, 0)])
    )
    assert scores["MOTA"] == 0.75 and scores["IDSW"] == 1 and scores["Frag"] == 0
    assert scores["IDF1"] == 0.5 and (scores["IDTP"], scores["IDFP"], scores["IDFN"]) == (2, 2, 2)
    assert (scores["DetA"], scores["AssA"], scores["HOTA"]) == pytest.approx((1, 0.5, math.sqrt(0.5)), abs=1e-12)
    assert (scores["AssRe"], scores["AssPr"], scores["LocA"]) == pytest.approx((0.5, 1, 1), abs=1e-12)


def test_one_box_beside_its_truth_by_hand() -> None:
    """Boxes 10 wide and 2.5 apart overlap by 7.5 / 12.5 = 0.6: found at the 12 of 19 thresholds up to 0.6."""
    scores = score(truth_at([(1, 1, 0)]), boxes_at([(1, 1, 2.5)]))
    assert scores["HOTA"] == scores["DetA"] == scores["AssA"] == pytest.approx(12 / 19, abs=1e-12)
    assert scores["LocA"] == pytest.approx((12 * 0.6 + 7 * 1) / 19, abs=1e-12)
    assert (scores["MOTA"], scores["MOTP"], scores["IDF1"]) == pytest.approx((1, 0.6, 1), abs=1e-12)
    strict = score(truth_at([(1, 1, 0)]), boxes_at([(1, 1, 2.5)]), MotRule(iou=0.7))
    assert (strict["MOTA"], strict["IDF1"], strict["FP"], strict["FN"]) == (-1, 0, 1, 1)
    assert strict["HOTA"] == scores["HOTA"]


def test_an_overlap_of_exactly_the_threshold_is_enough() -> None:
    """A box of 10 px and one of 5 px inside it; and 0.6, which a threshold one bit above forgives in MOTA alone."""
    half = score(truth_at([(1, 1, 0)]), boxes_at([(1, 1, 2)], width=5))
    assert (half["MOTP"], half["TP"], half["IDTP"]) == (0.5, 1, 1)
    above = score(truth_at([(1, 1, 0)]), boxes_at([(1, 1, 2.5)]), MotRule(iou=math.nextafter(0.6, 1)))
    assert (above["MOTP"], above["TP"], above["IDTP"]) == (0.6, 1, 0)  # as in TrackEval


def test_a_gap_is_a_fragment_and_a_match_is_kept_though_another_lies_better() -> None:
    """Identity 1 lies 2 px off; from frame 3 on identity 2 lies exactly, but 1 is kept until it is away in frame 5."""
    truth = truth_at([(frame, 1, 0) for frame in range(1, 8)])
    found = boxes_at(
        [*((frame, 1, 2) for frame in (1, 2, 3, 4)), *((frame, 2, 0) for frame in (3, 4)), (6, 2, 0), (7, 1, 50)]
    )
    scores = score(truth, found)
    assert (scores["TP"], scores["FP"], scores["FN"]) == (5, 3, 2)
    assert (scores["IDSW"], scores["Frag"]) == (1, 0)
    assert scores["MOTP"] == pytest.approx((4 * (8 / 12) + 1) / 5)
    # Frame 5 has no results and is passed over, as in TrackEval; a result elsewhere makes it a gap.
    interrupted = MotBoxes(*(np.concatenate(c) for c in zip(found, boxes_at([(5, 3, 500)]), strict=True)))
    assert score(truth, interrupted)["Frag"] == 1


def test_tracks_are_mostly_tracked_above_80_and_lost_below_20_percent() -> None:
    """Of three tracks of ten boxes, eight, nine and one are found."""
    truth = truth_at([(frame, track, 100 * track) for track in range(3) for frame in range(10)])
    found = boxes_at([(frame, track, 100 * track) for track, most in enumerate((8, 9, 1)) for frame in range(most)])
    scores = score(truth, found)
    assert (scores["MT"], scores["PT"], scores["ML"]) == (1, 1, 1)
    assert scores["recall"] == 18 / 30 and scores["precision"] == 1


def test_results_on_distractors_are_no_mistakes_and_uncounted_boxes_need_not_be_found() -> None:
    """A pedestrian, a reflection, a car and a pedestrian that does not count; a result lies on each of them."""
    rows = [(1, 1, 0.0), (1, 2, 100.0), (1, 3, 200.0), (1, 4, 300.0)]
    truth = truth_at(rows, classes=[1, 12, 3, 1], counted=[True, True, True, False])
    found = boxes_at(rows)
    scores = score(truth, found)
    assert (scores["TP"], scores["FP"], scores["FN"]) == (
        1,
        2,
        0,
    )  # as in TrackEval the result on the last is a mistake
    plain = score(truth, found, MotRule(preprocess=False))
    assert (plain["TP"], plain["FP"], plain["FN"]) == (3, 1, 0)
    cars = score(truth, found, MotRule(classes=(3,), distractors=(1, 3, 12)))
    assert (cars["TP"], cars["FP"], cars["FN"]) == (1, 0, 0)


def test_boxes_that_are_hidden_too_much_are_treated_as_distractors() -> None:
    rows = [(1, 1, 0.0), (1, 2, 100.0), (1, 3, 200.0)]
    truth = truth_at(rows, classes=[1, 1, 1])._replace(visibility=np.array([0.29, 0.3, -1]))
    for found, expected in ((rows, (2, 0, 0)), (rows[1:], (2, 0, 0)), (rows[:1], (0, 0, 2))):
        scores = score(truth, boxes_at(found), MotRule(min_visibility=0.3))
        assert (scores["TP"], scores["FP"], scores["FN"]) == expected
    assert score(truth, boxes_at(rows[:1]))["TP"] == 1


@pytest.mark.parametrize("seed", range(12))
def test_order_of_rows_and_frames_and_names_of_identities_change_no_number(seed: int) -> None:
    truth, found = random_sequence(seed)
    draw = np.random.default_rng(seed)
    expected = score(truth, found)
    order = draw.permutation(len(found.frames))
    assert score(truth, reorder(found, order)) == expected
    order = draw.permutation(len(truth.frames))
    assert truth.classes is not None and truth.visibility is not None
    assert score(MotTruth(*(column[order] for column in truth if column is not None)), found) == expected
    names, other_names = draw.permutation(5000), draw.permutation(5000)
    renamed = score(truth._replace(ids=names[truth.ids]), found._replace(ids=other_names[found.ids]))
    assert renamed == pytest.approx(expected, abs=1e-12)
    # Time runs backwards: what is matched frame by frame may differ, what is matched as a whole may not.
    backwards = score(truth._replace(frames=99 - truth.frames), found._replace(frames=99 - found.frames))
    whole = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDTP")
    assert [backwards[name] for name in whole] == pytest.approx([expected[name] for name in whole], abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_the_truth_itself_is_a_perfect_result_under_any_names(seed: int) -> None:
    truth, _ = random_sequence(seed)
    area = truth.boxes[:, 2:].min(axis=1) > 0
    truth = MotTruth(*(column[area] for column in truth if column is not None))
    own = truth.counted & (truth.classes == 1)
    found = MotBoxes(truth.frames[own], 7 * truth.ids[own] + 1, truth.boxes[own], truth.boxes[own, 0])
    scores = score(truth, found)
    whole = ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR")
    none = ("FP", "FN", "IDSW", "IDFP", "IDFN", "ML", "PT")
    if own.any():
        assert [scores[name] for name in whole] == pytest.approx([1] * len(whole), abs=1e-12)
    assert [scores[name] for name in none] == [0] * len(none)
    assert scores["tracks"] == scores["found_tracks"] == scores["MT"] == len(set(truth.ids[own].tolist()))


def test_nothing_found_nothing_to_find_and_neither() -> None:
    one, none = [(1, 1, 0.0)], boxes_at([])
    missed = score(truth_at(one), none)
    assert (missed["HOTA"], missed["MOTA"], missed["IDF1"], missed["FN"], missed["ML"]) == (0, 0, 0, 1, 1)
    invented = score(truth_at([]), boxes_at(one))
    assert (invented["HOTA"], invented["MOTA"], invented["FP"], invented["IDFP"]) == (0, 0, 1, 1)
    empty = score(truth_at([]), none)
    assert (empty["HOTA"], empty["MOTA"], empty["FP"], empty["FN"]) == (0, 0, 0, 0)
    assert json.loads(json.dumps(missed, allow_nan=False)) == missed
    together = mot_scores([mot_counts(truth_at(one), boxes_at(one)), mot_counts(truth_at([]), boxes_at(one))])
    assert (together["MOTA"], together["IDF1"], together["DetA"]) == pytest.approx((0, 2 / 3, 0.5))


def test_sequences_are_added_before_they_are_divided() -> None:
    """One box found of one, and none of three: MOTA 1/4, where the mean of the two sequences would be 1/2."""
    short, long = truth_at([(1, 1, 0)]), truth_at([(1, 1, 0), (2, 1, 0), (3, 1, 0)])
    both = mot_scores([mot_counts(short, boxes_at([(1, 1, 0)])), mot_counts(long, boxes_at([]))])
    assert (both["MOTA"], both["IDF1"], both["DetA"], both["AssA"]) == pytest.approx((0.25, 0.4, 0.25, 1))


@pytest.mark.parametrize("seed", range(20))
def test_the_best_assignment_is_that_of_all_permutations(seed: int) -> None:
    draw = np.random.default_rng(seed)
    table = draw.random((4, 4)) * (draw.random((4, 4)) < 0.6)
    best = max(
        sum(table[row, column] for row, column in enumerate(order)) for order in itertools.permutations(range(4))
    )
    rows, columns = np.nonzero(table)
    scores = table[rows, columns]
    chosen = assign(rows, columns, scores=scores, groups=np.zeros(len(rows), dtype=np.int64))
    assert scores[chosen].sum() == pytest.approx(best, abs=1e-12)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == chosen.sum()


def test_portions_of_pairs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = random_sequence(4, num_tracks=12)
    expected = score(truth, found)
    monkeypatch.setattr("accel_det.metrics.mot_sequence._PAIRS_AT_ONCE", 7)
    assert score(truth, found) == expected


def test_a_box_that_covers_the_whole_range_and_frames_far_apart_change_no_other_match() -> None:
    """The search for overlapping boxes lays frames side by side; here they are as wide as they may be."""
    truth, found = random_sequence(3)
    wide = np.array([[-1e7, -1e7, 1e7, 1e7]])
    one = np.array([2**40])
    far_truth = MotTruth(
        *(np.concatenate(c) for c in zip(truth[:4], (one, one, wide, one > 0), strict=True)), None, None
    )
    far_found = MotBoxes(*(np.concatenate(c) for c in zip(found, (one, one, wide, one), strict=True)))
    scores = score(far_truth, far_found)
    plain = score(truth, found, MotRule(preprocess=False))
    assert scores["TP"] == plain["TP"] + 1
    assert (scores["FP"], scores["FN"], scores["IDSW"]) == (plain["FP"], plain["FN"], plain["IDSW"])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"iou": 0}, "iou is 0, expected above 0 and up to 1"),
        ({"iou": math.nan}, "iou is nan, expected"),
        ({"min_visibility": 1.5}, "min_visibility is 1.5, expected 0 to 1"),
        ({"classes": ()}, "classes is empty, expected at least one class"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MotRule(**settings)


def test_boxes_that_make_no_sense_are_refused() -> None:
    good = boxes_at([(1, 5, 0), (2, 5, 0)])
    truth = truth_at([(1, 5, 0)])
    with pytest.raises(ValueError, match="results: id 5 is in frame 1 twice, expected every id once in a frame"):
        mot_counts(truth, boxes_at([(1, 5, 0), (1, 5, 9)]))
    with pytest.raises(ValueError, match="truth: id 5 is in frame 1 twice"):
        mot_counts(truth_at([(1, 5, 0), (1, 5, 9)]), good)
    with pytest.raises(ValueError, match=r"results: frame 1, id 5: box \[0.0, 0.0, -1.0, 10.0\], expected left"):
        mot_counts(truth, boxes_at([(1, 5, 0)], width=-1))
    with pytest.raises(ValueError, match=r"results: frame 1, id 5: box \[nan, 0.0"):
        mot_counts(truth, boxes_at([(1, 5, math.nan)]))
    with pytest.raises(ValueError, match="expected left, top, width, height up to 10000000, the last two at least 0"):
        mot_counts(truth, boxes_at([(1, 5, 1.1e7)]))
    with pytest.raises(ValueError, match=r"results: frames \(2,\), ids \(1,\), boxes \(2, 4\), expected"):
        mot_counts(truth, good._replace(ids=good.ids[:1]))
