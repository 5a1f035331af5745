"""Where tracks go, and what was found as a file."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from footage_cases import HEIGHT, WIDTH, frame, number_of, numbered, tracks
from PIL import Image

from accel_det.tracking.frames import FrameDetections
from accel_det.video.annotate import Annotator
from accel_det.video.footage import VideoFile, VideoFrame, require_pixels
from accel_det.video.saved import FindingsWriter, Found, SavedFinder, read_findings
from accel_det.video.sinks import AnnotatedVideo, JsonLines, MotText, ParquetTable, TrackPictures, crop_bounds

CLASSES = ("person", "car")
ONE = (1, (10.0, 12.0, 30.0, 40.0), 0.9, 0)
TWO = (2, (40.5, 8.25, 60.0, 20.75), 0.75, 1)


def test_text_counts_pixels_and_frames_from_one_as_motchallenge_does(tmp_path: Path) -> None:
    sink = MotText(tmp_path / "walk.txt")
    sink.write(frame(1), tracks(ONE))
    sink.write(frame(2), tracks())
    sink.write(frame(3), tracks(ONE, TWO))
    sink.close()
    # left, top, width, height: the box's corner at pixel 10 from 0 is pixel 11 from 1.
    assert (tmp_path / "walk.txt").read_text().splitlines() == [
        "1,1,11.00,13.00,20.00,28.00,0.9000,-1,-1,-1",
        "3,1,11.00,13.00,20.00,28.00,0.9000,-1,-1,-1",
        "3,2,41.50,9.25,19.50,12.50,0.7500,-1,-1,-1",
    ]


def test_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    sinks = [
        JsonLines(tmp_path / "walk.jsonl", classes=CLASSES, frames_per_s=4.0),
        ParquetTable(tmp_path / "walk.parquet", classes=CLASSES, frames_per_s=4.0),
    ]
    for sink in sinks:
        for number, found in enumerate((tracks(ONE), tracks(), tracks(ONE, TWO)), start=1):
            sink.write(frame(number), found)
        sink.close()
    lines = [json.loads(line) for line in (tmp_path / "walk.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["time_s"], len(line["tracks"])) for line in lines] == [
        (1, 0.0, 1),
        (2, 0.25, 0),
        (3, 0.5, 2),
    ]
    assert lines[2]["tracks"][1] == {"id": 2, "class": "car", "score": 0.75, "box_xyxy": [40.5, 8.25, 60.0, 20.75]}
    rows = pq.read_table(tmp_path / "walk.parquet").to_pylist()
    flat = [(line["frame"], line["time_s"], one) for line in lines for one in line["tracks"]]
    assert len(rows) == len(flat) == 3
    for row, (number, moment, one) in zip(rows, flat, strict=True):
        assert (row["frame"], row["time_s"], row["track"], row["class"], row["score"]) == (
            number, moment, one["id"], one["class"], one["score"],
        )  # fmt: skip
        assert [row[side] for side in ("x1", "y1", "x2", "y2")] == one["box_xyxy"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_video_shows_each_frame_with_its_boxes(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"walk{suffix}"
    sink = AnnotatedVideo(file, annotator=Annotator(classes=CLASSES, trail_frames=5), frames_per_s=10.0)
    for number in range(1, 11):
        sink.write(frame(number), tracks((1, (20.0, 20.0, 44.0, 44.0), 0.9, 0)))
    sink.close()
    shown = [require_pixels(one) for one in VideoFile(file)]
    assert [one.shape for one in shown] == [(HEIGHT, WIDTH, 3)] * 10
    for number, pixels in enumerate(shown, start=1):
        assert abs(float(pixels[-6:, :10].mean()) - 8 * number) < 4, "the grey beside the box says the number"
        # The color of track 1 is (230, 57, 70): red stands out along the box's left side, in no corner of the picture.
        side = pixels[26:40, 20:22].astype(int)
        assert (side[..., 0] - side[..., 2]).mean() > 60


def test_frames_of_two_sizes_make_no_video(tmp_path: Path) -> None:
    sink = AnnotatedVideo(
        tmp_path / "walk.mp4", annotator=Annotator(classes=CLASSES, trail_frames=5), frames_per_s=10.0
    )
    sink.write(frame(1), tracks(ONE))
    with pytest.raises(ValueError, match=r"walk\.mp4: frame 2 is 80 x 48 pixels, expected 64 x 48 as the first"):
        sink.write(VideoFrame(2, numbered(2, width=80)), tracks(ONE))


def test_a_file_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    sinks = {
        "walk.txt": MotText(tmp_path / "walk.txt"),
        "walk.jsonl": JsonLines(tmp_path / "walk.jsonl", classes=CLASSES, frames_per_s=4.0),
        "walk.parquet": ParquetTable(tmp_path / "walk.parquet", classes=CLASSES, frames_per_s=4.0),
        "walk.mp4": AnnotatedVideo(
            tmp_path / "walk.mp4", annotator=Annotator(classes=CLASSES, trail_frames=5), frames_per_s=10.0
        ),
    }
    for name, sink in sinks.items():
        sink.write(frame(1), tracks(ONE))
        assert not (tmp_path / name).exists()
        sink.close()
        assert (tmp_path / name).stat().st_size > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(sinks)


def test_pictures_of_a_track_come_once_a_second_and_are_cut_at_the_border(tmp_path: Path) -> None:
    sink = TrackPictures(tmp_path / "crops", frames_per_s=3.0)
    for number in range(1, 8):
        outside = (3, (-30.0, -30.0, -10.0, -10.0), 0.9, 0)
        sink.write(frame(number), tracks((1, (-5.0, 20.4, 20.2, 90.0), 0.9, 0), outside))
    sink.close()
    files = sorted(file.relative_to(tmp_path / "crops").as_posix() for file in (tmp_path / "crops").rglob("*.jpg"))
    assert files == ["000001/000001.jpg", "000001/000004.jpg", "000001/000007.jpg"]
    with Image.open(tmp_path / "crops" / files[1]) as picture:
        assert picture.size == (21, 28)
        assert number_of(np.asarray(picture)) == 4
    assert crop_bounds((-5.0, 20.4, 20.2, 90.0), height=HEIGHT, width=WIDTH) == (0, 20, 21, 48)


def found(seed: int, *, count: int, length: int | None, moved: bool) -> Found:
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(0, 40, (count, 4))
    boxes[:, 2:] += boxes[:, :2] + 1
    embeddings = None
    if length is not None:
        embeddings = generator.normal(size=(count, length)).astype(np.float32).astype(np.float64)
    detections = FrameDetections(boxes, generator.random(count), generator.integers(0, 2, count), embeddings)
    motion = np.eye(2, 3) + generator.normal(scale=0.1, size=(2, 3)) if moved else None
    return Found(detections, motion)


@pytest.mark.parametrize(("length", "moved"), [(None, False), (8, False), (None, True), (8, True)])
def test_what_was_found_comes_back_bit_for_bit(length: int | None, moved: bool, tmp_path: Path) -> None:
    given = {number: found(number, count=number % 4, length=length, moved=moved) for number in range(1, 600, 2)}
    writer = FindingsWriter(tmp_path / "walk.parquet", classes=CLASSES, frames_per_s=12.5)
    for number, one in given.items():
        writer.write(number, one)
    writer.close()
    read = read_findings(tmp_path / "walk.parquet")
    assert (read.classes, read.frames_per_s, read.numbers) == (CLASSES, 12.5, list(given))
    for one, back in zip(given.values(), read.found, strict=True):
        assert np.array_equal(one.detections.boxes, back.detections.boxes)
        assert np.array_equal(one.detections.scores, back.detections.scores)
        assert np.array_equal(one.detections.labels, back.detections.labels)
        if length is None:
            assert back.detections.embeddings is None
        elif len(one.detections.boxes):
            assert np.array_equal(one.detections.embeddings, back.detections.embeddings)
        assert (back.motion is None) == (not moved) and (one.motion is None or np.array_equal(one.motion, back.motion))


def test_detections_of_motchallenge_and_of_deep_sort_say_the_same(tmp_path: Path) -> None:
    rows = [[1, -1, 11, 13, 20, 28, 0.5, -1, -1, -1], [3, -1, 1, 2, 4, 8, 0.25, -1, -1, -1]]
    (tmp_path / "det.txt").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    features = np.array([[3.0, 4.0], [0.0, 2.0]])
    np.save(tmp_path / "walk.npy", np.concatenate([np.array(rows), features], axis=1))
    text = read_findings(tmp_path / "det.txt", classes=("person",), frames_per_s=2.0)
    table = read_findings(tmp_path / "walk.npy", classes=("person",), frames_per_s=2.0)
    for read in (text, table):
        assert (read.classes, read.frames_per_s, list(read.numbers)) == (("person",), 2.0, [1, 2, 3])
        assert [len(one.detections.boxes) for one in read.found] == [1, 0, 1]
        assert read.found[0].detections.boxes.tolist() == [[10, 12, 30, 40]]
        assert read.found[2].detections.scores.tolist() == [0.25]
    assert text.found[0].detections.embeddings is None
    assert table.found[0].detections.embeddings.tolist() == [[0.6, 0.8]]


def test_a_file_of_text_without_a_row_is_footage_where_nothing_was_found(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("")
    read = read_findings(tmp_path / "det.txt")
    assert (list(read.numbers), read.found) == ([], [])


def test_a_single_detection_in_a_late_frame_takes_no_memory_for_those_before(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("3000000,-1,11,13,20,28,0.5,-1,-1,-1\n")
    tracemalloc.start()
    read = read_findings(tmp_path / "det.txt")
    finder = SavedFinder(read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read.numbers) == len(read.found) == 3_000_000
    assert [len(one.detections.boxes) for one in finder.find([frame(1), VideoFrame(3_000_000, None)])] == [0, 1]
    assert peak < 9 * 3_000_000, "a pointer for each frame, and no more"


def test_frames_that_a_file_does_not_have_are_empty(tmp_path: Path) -> None:
    (tmp_path / "det.txt").write_text("2,-1,11,13,20,28,0.5,-1,-1,-1\n")
    finder = SavedFinder(read_findings(tmp_path / "det.txt"))
    assert [len(one.detections.boxes) for one in finder.find([frame(1), frame(2), frame(9)])] == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.parquet", None, r"missing\.parquet: no such file; expected saved detections"),
        ("text.parquet", b"nothing", r"text\.parquet: no parquet file"),
        ("walk.json", b"[]", r"walk\.json: ends in '\.json', expected saved detections"),
        ("pickled.npy", b"\x80\x04}", r"pickled\.npy: no \.npy file of numbers"),
    ],
)
def test_files_that_hold_no_detections_are_refused_by_name(
    name: str, data: bytes | None, message: str, tmp_path: Path
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_findings(tmp_path / name)


def test_a_saved_file_whose_cells_or_metadata_are_spoiled_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "walk.parquet"
    writer = FindingsWriter(file, classes=CLASSES, frames_per_s=4.0)
    for number in (1, 2):
        writer.write(number, found(number, count=2, length=3, moved=True))
    writer.close()
    whole = pq.read_table(file)
    key = b"accel_det.findings"

    def written(column: str, values: list[object]) -> None:
        place = whole.schema.get_field_index(column)
        pq.write_table(
            whole.set_column(place, whole.schema.field(column), pa.array(values, whole.schema.field(column).type)), file
        )

    boxes = whole["boxes"].to_pylist()
    cases: list[tuple[str, list[object], str]] = [
        ("boxes", [boxes[0], None], "column boxes has rows without a value"),
        ("boxes", [boxes[0], [boxes[1][0], None]], "frame 2 has an entry without a value"),
        ("scores", [[0.5, 0.5], [0.5]], "frame 2 has 2 boxes and other numbers of the rest"),
        ("labels", [[0, 1], [0, 2]], "frame 2 has a label outside of the 2 classes"),
        ("frame", [2, 1], "frame 1 comes after a later one"),
        ("embeddings", [[[1.0], [1.0]], [[1.0], [1.0, 2.0]]], "frame 2 has embeddings of several lengths"),
    ]
    for column, values, message in cases:
        written(column, values)
        with pytest.raises(ValueError, match=rf"walk\.parquet: {message}"):
            read_findings(file)
    for facts, message in (
        (b"{", "its metadata are no JSON"),
        (b'{"format_version": 9}', "format 9, expected 1"),
        (b'{"format_version": 1, "classes": ["a"], "frames_per_s": 0}', "its metadata name no classes or no rate"),
    ):
        pq.write_table(whole.replace_schema_metadata({key: facts}), file)
        with pytest.raises(ValueError, match=rf"walk\.parquet: {message}"):
            read_findings(file)
    pq.write_table(whole.rename_columns([*whole.column_names[:-1], "moved"]), file)
    with pytest.raises(ValueError, match=r"walk\.parquet: holds no findings of frames"):
        read_findings(file)


def test_arrays_of_another_shape_or_without_numbers_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "narrow.npy", np.zeros((3, 7)))
    with pytest.raises(ValueError, match=r"narrow\.npy: \(3, 7\), expected a row per detection: the 10 columns"):
        read_findings(tmp_path / "narrow.npy")
    rows = np.ones((3, 12))
    rows[1, 4] = np.nan
    np.save(tmp_path / "nan.npy", rows)
    with pytest.raises(ValueError, match=r"nan\.npy: row 1 has a value that is no number"):
        read_findings(tmp_path / "nan.npy")
    rows[1] = 0
    np.save(tmp_path / "zero.npy", rows)
    with pytest.raises(ValueError, match=r"zero\.npy: frame 0, expected whole numbers from 1"):
        read_findings(tmp_path / "zero.npy")
