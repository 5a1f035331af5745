"""`accel-det eval-mot` as a user types it: files, folders of sequences, JSON, and what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel_det.cli import eval_mot

DATA = Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[3] / "shared" / "data"))
TRUTH = "".join(f"{frame},5,10,20,30,40,1,1,1\n{frame},6,200,20,30,40,1,12,1\n" for frame in (1, 2, 3, 4))
RESULTS = "".join(f"{frame},{7 + frame // 3},10,20,30,40,1,-1,-1,-1\n" for frame in (1, 2, 3, 4))
ON_REFLECTION = "1,99,200,20,30,40,1,-1,-1,-1\n"

SEQINFO = """[Sequence]
name=one
imDir=img1
frameRate=25
seqLength=4
imWidth=640
imHeight=480
imExt=.jpg
"""


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def two_sequences(folder: Path) -> tuple[str, str]:
    """`one` is followed, with a change of identity after two frames; of `two` nothing is found."""
    write(folder / "gt/one/gt/gt.txt", TRUTH)
    write(folder / "gt/one/seqinfo.ini", SEQINFO)
    write(folder / "gt/two.txt", TRUTH)
    write(folder / "gt/seqmaps/all.csv", "one\ntwo\n")
    write(folder / "results/one.txt", RESULTS + ON_REFLECTION)
    write(folder / "results/two.txt", "")
    return str(folder / "gt"), str(folder / "results")


def scored(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert eval_mot.run([*arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_sequences_are_scored_apart_and_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = scored(capsys, *two_sequences(tmp_path))
    one, two, together = answer["sequences"]["one"], answer["sequences"]["two"], answer["all"]
    assert (one["MOTA"], one["IDF1"], one["IDSW"], one["FP"]) == (0.75, 0.5, 1, 0)
    assert (two["MOTA"], two["FN"]) == (0, 4)
    assert together["MOTA"] == pytest.approx(1 - 5 / 8) and together["IDF1"] == pytest.approx(4 / 12)
    assert answer["rule"]["classes"] == [1] and answer["rule"]["preprocess"] is True


def test_the_table_has_every_sequence_and_all_and_says_what_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gt, results = two_sequences(tmp_path)
    write(tmp_path / "results/three.txt", RESULTS)
    assert eval_mot.run([gt, results]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"not scored, for there is no truth of it: {results}/three.txt"
    assert lines[1] == "counted: class 1; no mistakes: results on classes 2, 7, 8, 12"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [row[0] for row in cells] == ["one", "two", "all"] * 2
    # HOTA of `one`: all found, each of its two identities half of the track; MOTA; IDF1.
    assert [cells[0][column] for column in (1, 5, 7)] == ["0.707", "0.750", "0.500"]
    assert cells[2][5] == "0.375" and cells[5][1] == "1"


def test_a_sequence_may_be_a_folder_or_a_file_and_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gt, results = two_sequences(tmp_path)
    answers = [
        scored(capsys, f"{gt}/one", results),
        scored(capsys, f"{gt}/one/gt/gt.txt", f"{results}/one.txt"),
        scored(capsys, gt, results, "--sequences", "one"),
        scored(capsys, gt, f"{results}/one.txt", "--sequences", "one"),
    ]
    assert all(answer["sequences"] == answers[0]["sequences"] for answer in answers)
    assert list(answers[0]["sequences"]) == ["one"]
    assert list(scored(capsys, f"{gt}/two.txt", f"{results}/two.txt")["sequences"]) == ["two"]


@pytest.mark.parametrize(
    ("options", "tracks", "false"),
    [
        ((), 1, 0),
        (("--no-preprocess",), 2, 0),
        (("--distractors",), 1, 1),
        (("--classes", "1", "12"), 2, 0),
        (("--min_visibility", "0.5"), 1, 0),
    ],
)
def test_what_counts_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], tracks: int, false: int
) -> None:
    gt, results = two_sequences(tmp_path)
    one = scored(capsys, f"{gt}/one", results, *options)["sequences"]["one"]
    assert (one["tracks"], one["FP"]) == (tracks, false)


def test_the_published_numbers_of_tud_come_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DATA / "tracking/tud"
    if not folder.is_dir():
        pytest.skip("no tracking/tud in ACCEL_DET_DATA")
    for name in ("TUD-Campus", "TUD-Stadtmitte"):
        write(tmp_path / f"{name}.txt", (folder / name / "test.txt").read_text())
    together = scored(capsys, str(folder), str(tmp_path))["all"]
    assert (together["MOTA"], together["IDF1"]) == pytest.approx((0.555116, 0.624296), abs=1e-6)
    assert (together["HOTA"], together["IDSW"]) == (pytest.approx(0.4, abs=1e-4), 14)


def test_what_is_missing_or_does_not_fit_is_one_line(tmp_path: Path) -> None:
    gt, results = two_sequences(tmp_path)
    write(tmp_path / "late/one.txt", RESULTS.replace("\n4,", "\n5,"))
    write(tmp_path / "empty/readme.md", "")
    cases = {
        (f"{gt}x", results): f"{gt}x: no such file or folder; correct the path of the truth",
        (gt, f"{results}x"): f"{results}x: no such file or folder; correct the path of the results",
        (str(tmp_path / "empty"), results): "no truth in it, expected <sequence>/gt/gt.txt",
        (gt, str(tmp_path / "late")): "no results of two, expected two.txt",
        (gt, f"{results}/one.txt"): "one file, but .* holds 2 sequences",
        (gt, results, "--sequences", "three"): "no truth of sequence three; there is that of one, two",
        (f"{gt}/one", str(tmp_path / "late")): "one.txt: frame 5, but .*seqinfo.ini says seqLength=4",
        (gt, results, "--classes", "3"): "no box counts: the truth has classes 1, 12, expected class 3",
        (gt, results, "--iou", "0"): "^iou is 0.0, expected above 0 and up to 1",
    }
    for arguments, complaint in cases.items():
        with pytest.raises(ValueError, match=complaint) as refusal:
            eval_mot.run(arguments)
        assert "\n" not in str(refusal.value)


def test_the_program_names_file_and_line_of_a_broken_row(tmp_path: Path) -> None:
    gt, results = two_sequences(tmp_path)
    write(tmp_path / "results/one.txt", RESULTS + "5,1,2\n")
    program = str(Path(sys.executable).parent / "accel-det")
    done = subprocess.run([program, "eval-mot", gt, results], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {results}/one.txt: line 5: 3 columns in '5,1,2', expected 7, 8, 9 or 10")
    assert len(done.stderr.splitlines()) == 1
