"""MOTChallenge's text files: what is read, what is written to the byte, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from detection_cases import data_folder

from accel_det.metrics.mot_files import (
    MotBoxes,
    MotTruth,
    boxes_of,
    boxes_text,
    corners_of,
    read_detections,
    read_results,
    read_sequence_info,
    read_truth,
    write_truth,
)

RESULTS = "2,7,1,2,3,4,0.5,-1,-1,-1\n1, 7, 10.25, 20, 30.5, 40, -1, -1, -1, -1\n"
SEQUENCE = {
    "name": "Here",
    "imDir": "img1",
    "frameRate": "29.97",
    "seqLength": "20",
    "imWidth": "640",
    "imHeight": "480",
    "imExt": ".png",
}


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def seqinfo(**changes: str) -> str:
    return "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in (SEQUENCE | changes).items() if value)


def test_results_are_read_as_they_stand(tmp_path: Path) -> None:
    found = read_results(write(tmp_path / "a.txt", RESULTS))
    assert found.frames.tolist() == [2, 1] and found.ids.tolist() == [7, 7]
    assert found.boxes.tolist() == [[1, 2, 3, 4], [10.25, 20, 30.5, 40]]
    assert found.scores.tolist() == [0.5, -1]


def test_a_windows_file_with_blank_lines_and_seven_columns_reads_alike(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\r\n2,7,1,2,3,4,0.5\r\n  \r\n1,7,10.25,20,30.5,40,-1\r\n\r\n"
    found, expected = (read_results(write(tmp_path / name, t)) for name, t in (("a.txt", text), ("b.txt", RESULTS)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_empty_file_is_a_sequence_without_boxes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\n")
    assert [column.shape for column in read_results(file)] == [(0,), (0,), (0, 4), (0,)]
    truth = read_truth(file)
    assert truth.counted.shape == (0,) and truth.classes is None


def test_truth_of_nine_columns_has_classes_and_visibility(tmp_path: Path) -> None:
    truth = read_truth(write(tmp_path / "gt.txt", "1,0,1,2,3,4,1,7,0.25\n1,1,1,2,3,4,0,1,-1\n"))
    assert truth.classes is not None and truth.visibility is not None
    assert truth.counted.tolist() == [True, False]
    assert truth.classes.tolist() == [7, 1] and truth.visibility.tolist() == [0.25, -1]


@pytest.mark.parametrize("rest", ["", ",-1,-1,-1", ",4.4852,5.5016,0"])
def test_truth_of_other_widths_has_neither(tmp_path: Path, rest: str) -> None:
    truth = read_truth(write(tmp_path / "gt.txt", f"1,1,88,99,61.08,218.56,1{rest}\n"))
    assert truth.boxes.tolist() == [[88, 99, 61.08, 218.56]]
    assert truth.classes is None and truth.visibility is None


@pytest.mark.parametrize(("sequence", "detections"), [("Crossroad01", 486), ("MunichStreet02", 718)])
def test_the_files_of_two_street_sequences_are_written_again_to_the_byte(
    tmp_path: Path, sequence: str, detections: int
) -> None:
    folder = data_folder("tracking/kit") / sequence
    found, truth = read_detections(folder / "det/det.txt"), read_truth(folder / "gt/gt.txt")
    assert len(found.frames) == detections and set(found.ids.tolist()) == {-1}  # as `wc -l` counts
    assert boxes_text(found).encode() == (folder / "det/det.txt").read_bytes()
    write_truth(tmp_path / "new" / "gt.txt", truth)
    assert (tmp_path / "new" / "gt.txt").read_bytes() == (folder / "gt/gt.txt").read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_rows_are_written_by_frame_and_id_with_two_and_four_places() -> None:
    found = MotBoxes(
        frames=np.array([10, 2, 2]),
        ids=np.array([1, 12, 3]),
        boxes=np.array([[-0.001, 1, 2, 3], [1 / 3, 0, 1e6, 0.005], [100, 2.999, 1, 1]]),
        scores=np.array([-0.00001, 0.98766, 1]),
    )
    assert boxes_text(found) == (
        "2,3,100.00,3.00,1.00,1.00,1.0000,-1,-1,-1\n"
        "2,12,0.33,0.00,1000000.00,0.00,0.9877,-1,-1,-1\n"
        "10,1,0.00,1.00,2.00,3.00,0.0000,-1,-1,-1\n"
    )


def test_truth_without_classes_is_written_as_one_class_in_full_sight(tmp_path: Path) -> None:
    one = np.array([1])
    truth = MotTruth(one, one, np.array([[1.0, 2, 3, 4]]), np.array([False]), None, None)
    write_truth(tmp_path / "gt.txt", truth)
    assert (tmp_path / "gt.txt").read_text() == "1,1,1.00,2.00,3.00,4.00,0,1,1\n"
    hidden = truth._replace(classes=np.array([12]), visibility=np.array([0.123456]))
    write_truth(tmp_path / "gt.txt", hidden)
    assert (tmp_path / "gt.txt").read_text() == "1,1,1.00,2.00,3.00,4.00,0,12,0.1235\n"


def test_the_box_of_a_whole_frame_begins_at_1_in_files_and_at_0_elsewhere() -> None:
    corners = np.array([[0.0, 0, 640, 480], [10.5, 20, 11, 25]])
    boxes = boxes_of(corners)
    assert boxes.tolist() == [[1, 1, 640, 480], [11.5, 21, 0.5, 5]]
    np.testing.assert_array_equal(corners_of(boxes), corners)


GOOD = "1,1,1,2,3,4,1,-1,-1,-1\n"
REFUSED_RESULTS = {
    "1,1,1,2,3,4,x,-1,-1,-1": "line 2: column 7 is 'x', expected a number",
    "1,1,1,2,3,,1,-1,-1,-1": "line 2: column 6 is '', expected a number",
    "1,1,1,2,3_0,4,1,-1,-1,-1": "line 2: column 5 is '3_0', expected a number",
    "1,2,1,2,3,4": "line 2: 6 columns in '1,2,1,2,3,4', expected 7, 8, 9 or 10",
    "1 2 1 2 3 4 1": "line 2: 1 columns in '1 2 1 2 3 4 1', expected 7, 8, 9 or 10 with commas between them",
    "1,2,1,2,3,4,1": "line 2: 7 columns, but line 1 has 10; give every row as many",
    "0,2,1,2,3,4,1,-1,-1,-1": r"line 2: frame \(column 1\) is 0, expected a whole number from 1 to 10000000",
    "1.5,2,1,2,3,4,1,-1,-1,-1": r"line 2: frame \(column 1\) is 1.5, expected a whole number",
    "1,-1,1,2,3,4,1,-1,-1,-1": r"line 2: id \(column 2\) is -1, expected a whole number from 0 to 2147483647",
    "1,2,nan,2,3,4,1,-1,-1,-1": r"line 2: left \(column 3\) is nan, expected a number from -10000000 to 10000000",
    "1,2,1,inf,3,4,1,-1,-1,-1": r"line 2: top \(column 4\) is inf, expected a number",
    "1,2,1,2,-3,4,1,-1,-1,-1": r"line 2: width \(column 5\) is -3, expected a number from 0",
    "1,2,1,2,3,4,nan,-1,-1,-1": r"line 2: confidence \(column 7\) is nan, expected a number",
    "\n1,1,9,9,3,4,1,-1,-1,-1": "line 3: id 1 is in frame 1 again, after line 1, expected every id once in a frame",
}


@pytest.mark.parametrize("row", REFUSED_RESULTS)
def test_a_bad_row_of_results_is_one_line_with_place_value_and_rule(tmp_path: Path, row: str) -> None:
    file = write(tmp_path / "a.txt", GOOD + row + "\n")
    with pytest.raises(ValueError, match=REFUSED_RESULTS[row]) as refusal:
        read_results(file)
    assert str(refusal.value).startswith(f"{file}: ") and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("1,1,1,2,3,4,2,1,1", r"flag \(column 7\) is 2, expected a whole number from 0 to 1"),
        ("1,1,1,2,3,4,1,0,1", r"class \(column 8\) is 0, expected a whole number from 1"),
        ("1,1,1,2,3,4,1,1,1.5", r"visibility \(column 9\) is 1.5, expected a number from -1 to 1"),
        ("1,-1,1,2,3,4,1,1,1", r"id \(column 2\) is -1"),
        ("1,1,1,2,3,4,1,1", "8 columns in '1,1,1,2,3,4,1,1', expected 7, 9 or 10"),
        ("1,1,1,2,3,4,1,1,1\n1,1,1,2,3,4,1,1,1", "line 2: id 1 is in frame 1 again, after line 1"),
    ],
)
def test_a_bad_row_of_truth_likewise(tmp_path: Path, row: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_truth(write(tmp_path / "gt.txt", f"{row}\n"))


def test_detections_may_repeat_an_id_that_says_nothing(tmp_path: Path) -> None:
    found = read_detections(write(tmp_path / "det.txt", GOOD + GOOD + "1,-1,1,2,3,4,1,-1,-1,-1\n"))
    assert found.ids.tolist() == [-1, -1, -1]


def test_what_is_no_text_or_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.txt: cannot be read \(No such file or directory\); correct the path"):
        read_results(tmp_path / "a.txt")
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        read_truth(tmp_path)
    with pytest.raises(ValueError, match=r"b\.txt: no text \(invalid start byte at byte 0\)"):
        read_results(write(tmp_path / "b.txt", b"\xff\xd8\xff"))
    with pytest.raises(ValueError, match=r"cannot be written \(Is a directory\); choose another place"):
        write_truth(tmp_path, read_truth(write(tmp_path / "c.txt", "")))


def test_a_sequence_says_its_name_length_rate_and_size(tmp_path: Path) -> None:
    info = read_sequence_info(write(tmp_path / "seqinfo.ini", seqinfo()))
    assert info == ("Here", 20, 29.97, 640, 480, tmp_path / "img1", ".png")
    kit = read_sequence_info(data_folder("tracking/kit") / "Crossroad01" / "seqinfo.ini")
    assert (kit.num_frames, kit.frame_rate, kit.width_px, kit.height_px) == (20, 2, 684, 547)
    assert (kit.image_folder / f"000001{kit.image_suffix}").is_file()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (seqinfo(seqLength=""), "seqLength is missing in .Sequence.; add it, such as `seqLength=600`"),
        (seqinfo(seqLength="20.5"), "seqLength is '20.5', expected a whole number above 0 and up to 10000000"),
        (seqinfo(frameRate="-25"), "frameRate is '-25', expected a number above 0"),
        (seqinfo(imWidth="wide"), "imWidth is 'wide', expected a whole number above 0"),
        ("[Other]\nname=a\n", "no .Sequence., expected .Sequence. with name, imDir"),
        ("name=a\n", "File contains no section headers., expected .Sequence. with name"),
    ],
)
def test_a_sequence_that_makes_no_sense_names_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    file = write(tmp_path / "seqinfo.ini", text)
    with pytest.raises(ValueError, match=complaint) as refusal:
        read_sequence_info(file)
    assert str(refusal.value).startswith(f"{file}: ") and "\n" not in str(refusal.value)
