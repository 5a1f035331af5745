"""`accel-det convert` as a user types it: what it writes, says and refuses."""

import json
from pathlib import Path

import pytest
from street_config import write_street_config

from accel_det.cli import check, convert
from accel_det.cli.failures import BAD_INPUT, DONE, guarded


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes of the street are kept, once drawn."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in, with a configuration, and a folder `full` of somebody else's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    write_street_config(tmp_path / "tiny.yaml")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    return tmp_path


def test_what_is_written_is_checked_without_a_defect_and_has_as_many_images_and_objects(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(convert.run, ["tiny.yaml", "as_voc", "--to", "voc", "--json"]) == DONE
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["folder"], told["to"], told["splits"]["train"]["images"]) == ("as_voc", "voc", 6)
    assert "as_voc: read it with format: voc, root: as_voc, splits train and val" in said.err
    (listed,) = [line.partition("data.classes: ")[2] for line in told["lost"] if "data.classes" in line]
    assert f"voc does not store {'; '.join(told['lost'])}" in " ".join(said.err.split())
    keys = [
        "--data.sets.v.format",
        "voc",
        "--data.sets.v.root",
        "as_voc",
        "--data.train",
        "v:train",
        "--data.val",
        "v:val",
    ]
    assert guarded(check.run, ["tiny.yaml", *keys, "--data.classes", listed, "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert not found["stops"]
    for split, counts in told["splits"].items():
        assert (found["splits"][split]["images"], found["splits"][split]["objects"]) == tuple(counts.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "convert needs a configuration file, a folder and a format"),
        ("tiny.yaml other", "convert needs a configuration file, a folder and a format"),
        ("nowhere.yaml other --to coco", "nowhere.yaml: no such file"),
        ("tiny.yaml other --to tfrecord", "--to is tfrecord, expected one of coco, voc, yolo, csv"),
        ("tiny.yaml other --to widerface", "--to widerface has one class, 'face', but the data have"),
        ("tiny.yaml full --to coco", "full: is neither an empty folder nor an interrupted conversion"),
        ("tiny.yaml full/mine.txt --to coco", "full/mine.txt: is neither an empty folder"),
        ("tiny.yaml full/mine.txt/below --to coco", "full/mine.txt/below"),
    ],
)
def test_what_it_cannot_do_is_one_line_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert guarded(convert.run, arguments.split()) == BAD_INPUT
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1], lines
    assert not (folder / "other").exists() and [path.name for path in (folder / "full").iterdir()] == ["mine.txt"]
