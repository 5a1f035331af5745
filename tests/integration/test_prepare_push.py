"""`accel-det prepare --push`: shards, card and manifest on a hub, in one commit; and what goes wrong, in one line."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_hub import FakeHub, Fault
from street_config import write_street_config

from accel_det.cli import prepare
from accel_det.cli.failures import BAD_INPUT, DONE, HUB_FAILED, guarded
from accel_det.data.sources import SetSpec, open_split
from accel_det.publish.hub import Destination
from accel_det.publish.prepared import push_prepared

REPO = "ada/street"
TOKEN = "hf_" + "Planted0" * 5


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scenes of the street are kept, once drawn."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def hub(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """The hub that commands find, from a folder with a configuration; they are logged in to it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    write_street_config(tmp_path / "tiny.yaml")
    with FakeHub(token=TOKEN) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.address)
        yield running


def written(folder: Path) -> dict[str, bytes]:
    """What of a prepared folder belongs on a hub: all but what tells an interrupted writing how it began."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_one_commit_holds_card_manifest_and_shards_and_the_command_says_where(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(prepare.run, ["tiny.yaml", "shards", "--workers", "1", "--push", REPO, "--json"]) == DONE
    told = json.loads(capsys.readouterr().out)
    found = hub.repositories[f"datasets/{REPO}"]
    assert found.private and found.messages == ["Data of tiny"] and found.revisions == [written(Path("shards"))]
    assert set(found.revisions[0]) == {
        "README.md",
        "prepared.json",
        "data/train-00000-of-00001.parquet",
        "data/val-00000-of-00001.parquet",
    }
    assert told["push"]["ok"] and told["push"]["url"] == f"{hub.address}/datasets/{REPO}"
    assert f'load_dataset("{REPO}", split="train", streaming=True)' in found.revisions[0]["README.md"].decode()


def test_plain_datasets_streams_what_was_pushed_by_its_name(hub: FakeHub, tmp_path: Path) -> None:
    assert guarded(prepare.run, ["tiny.yaml", "shards", "--workers", "1", "--push", REPO]) == DONE
    program = "\n".join(
        (
            "import datasets, json",
            f"rows = datasets.load_dataset('{REPO}', split='train', streaming=True)",
            "print(json.dumps([[row['image'].size, row['objects']['bbox']] for row in rows]))",
        )
    )
    # The endpoint is read when the client is imported, so it takes a process of its own.
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    table, _ = open_split({"s": SetSpec("s", "hub", "shards")}, "s:train")
    stored = table.stored_objects()
    boxes = [stored.boxes[stored.starts[i] : stored.starts[i + 1]].tolist() for i in range(6)]
    assert json.loads(done.stdout) == [[[96, 64], objects] for objects in boxes]


def test_shards_of_an_earlier_push_go_in_the_same_commit_and_other_files_stay(hub: FakeHub, tmp_path: Path) -> None:
    assert guarded(prepare.run, ["tiny.yaml", "small", "--workers", "1", "--push", REPO, "--public"]) == DONE
    found = hub.repositories[f"datasets/{REPO}"]
    assert not found.private
    found.revisions.append(
        {**found.revisions[-1], "data/train-00001-of-00002.parquet": b"old", "data/notes.txt": b"mine"}
    )
    command = ["tiny.yaml", "tar", "--kind", "webdataset", "--workers", "1", "--push", REPO]
    assert guarded(prepare.run, command) == DONE
    assert len(found.revisions) == 3
    assert found.revisions[-1] == {**written(Path("tar")), "data/notes.txt": b"mine"}
    assert guarded(prepare.run, command) == DONE  # it is all there
    assert len(found.revisions) == 3


def test_pictures_of_identities_are_pushed_alike_and_take_the_place_of_earlier_queries(hub: FakeHub) -> None:
    street = {"format": "street", "parameters": {"identities": 4, "per_camera": 1, "height": 64, "width": 32}}
    people = {
        "name": "people",
        "task": "reid",
        "model": {"name": "osnet_x0_25"},
        "data": {"sets": {"street": street}, "train": "street:train", "val": "street:val", "size_px": [32, 16]},
        "train": {"epochs": 1, "images_per_update": 32},
    }
    Path("people.yaml").write_text(yaml.safe_dump(people))
    earlier = {f"data/{split}-00000-of-00001.parquet": b"old" for split in ("query", "gallery")}
    assert guarded(prepare.run, ["people.yaml", "shards", "--workers", "1", "--push", REPO]) == DONE
    found = hub.repositories[f"datasets/{REPO}"]
    assert found.messages == ["Data of people"] and found.revisions == [written(Path("shards"))]
    card = found.revisions[0]["README.md"].decode()
    assert f'load_dataset("{REPO}", split="train", streaming=True)' in card and "Pictures of identities" in card
    found.revisions.append({**found.revisions[0], **earlier})
    found.revisions[-1]["README.md"] = b"another card"
    assert guarded(prepare.run, ["people.yaml", "shards", "--workers", "1", "--push", REPO]) == DONE
    assert found.revisions[-1] == written(Path("shards")) and len(found.revisions) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--push street", "repository 'street': expected owner/name"),
        ("--push ada/street --public --private", "not allowed with argument"),
    ],
)
def test_a_name_that_is_none_is_refused_before_anything_is_written(
    hub: FakeHub, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    try:
        code = guarded(prepare.run, ["tiny.yaml", "shards", *arguments.split()])
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == BAD_INPUT and message in capsys.readouterr().err
    assert not Path("shards").exists() and not hub.requests


@pytest.mark.parametrize(
    ("token", "fault", "message"),
    [
        (
            "",
            None,
            "); log in with `hf auth login`, or set HF_TOKEN",
        ),
        (TOKEN, Fault("/commit/", status=403), "the hub answered 403"),
    ],
    ids=["no token", "may not write"],
)
def test_a_refusal_is_one_line_that_leaves_the_shards_and_exit_code_4(
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str,
    fault: Fault | None,
    message: str,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    hub.faults = [fault] if fault else []
    assert guarded(prepare.run, ["tiny.yaml", "shards", "--workers", "1", "--push", REPO]) == HUB_FAILED
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line.startswith(f"error: not pushed to {REPO}: ") and message in line and TOKEN not in line
    assert len(written(Path("shards"))) == 4 and not hub.head(f"datasets/{REPO}")


def test_without_a_network_the_shards_stay_and_the_line_says_how_to_go_on(hub: FakeHub) -> None:
    assert guarded(prepare.run, ["tiny.yaml", "shards", "--workers", "1"]) == DONE
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    to = Destination(REPO, token=TOKEN, endpoint=nobody, attempts=2, kind="dataset")
    waits: list[float] = []
    result = push_prepared(Path("shards"), to=to, message="x", wait=waits.append)
    assert not result.ok and waits == [2.0]
    assert result.error.startswith("no answer from the hub (")
    assert result.error.endswith("push it with the same command later, which writes no shard again")


def test_what_passes_costs_a_retry_and_a_folder_that_is_not_whole_is_refused(hub: FakeHub) -> None:
    assert guarded(prepare.run, ["tiny.yaml", "shards", "--workers", "1"]) == DONE
    to = Destination(REPO, token=TOKEN, endpoint=hub.address, kind="dataset")
    hub.faults = [Fault("PUT /large", kind="cut", times=1), Fault("/commit/", status=503, times=1)]
    assert push_prepared(Path("shards"), to=to, message="x", wait=lambda _: None).ok
    assert hub.head(f"datasets/{REPO}") == written(Path("shards"))
    card = Path("shards/README.md")
    card.write_text(f"{card.read_text()}\n{TOKEN}\n")
    with pytest.raises(ValueError, match=r"^shards/README\.md: holds the access token"):
        push_prepared(Path("shards"), to=to, message="x")
    Path("shards/data/val-00000-of-00001.parquet").unlink()
    with pytest.raises(
        ValueError, match=r"^shards/data/val-00000-of-00001\.parquet: No such file or directory; prepare"
    ):
        push_prepared(Path("shards"), to=to, message="x")
    assert len(hub.repositories[f"datasets/{REPO}"].revisions) == 1
