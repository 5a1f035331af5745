"""Pushing to a hub that works, that fails and that is not there; and fetching what was pushed."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.utils._http as hub_http
import pytest
from fake_hub import FakeHub, Fault, revision_name
from publish_cases import contents, export_info, small_state

from accel_det.publish.export import ExportError, read_export, write_export
from accel_det.publish.hub import (
    BackgroundPusher,
    Destination,
    PushError,
    fetch_export,
    push_folder,
    push_run,
    try_push,
)

REPO = "ada/street-detector"
TOKEN = "hf_" + "Planted0" * 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub client's own pauses take no time, and it knows no account."""

    class Clock:
        sleep = staticmethod(lambda seconds: None)
        time = staticmethod(time.time)

    monkeypatch.setattr(hub_http, "time", Clock)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no_token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(token=TOKEN) as running:
        yield running


def export(folder: Path, fill: float = 1.0) -> Path:
    write_export(folder, state=small_state(fill), info=export_info(name=f"run {fill}"))
    return folder


def to(hub: FakeHub, *, token: str = TOKEN, attempts: int = 3, silence_s: float = 20.0) -> Destination:
    return Destination(REPO, token=token, endpoint=hub.address, attempts=attempts, silence_s=silence_s)


def no_wait(_: float) -> None:
    pass


def test_a_push_is_one_commit_that_holds_the_folder_byte_for_byte(hub: FakeHub, tmp_path: Path) -> None:
    folder = export(tmp_path / "best")
    result = push_folder(folder, to=to(hub), message="Step 400: best")
    assert result.ok
    assert result.url == f"{hub.address}/{REPO}"
    found = hub.repositories[REPO]
    assert found.private
    assert found.revisions == [contents(folder)]
    assert found.messages == ["Step 400: best"]
    assert result.revision == revision_name(contents(folder))
    assert not [request for request in hub.requests if "xet" in request]


def test_a_second_push_replaces_every_file_and_an_equal_one_commits_nothing(hub: FakeHub, tmp_path: Path) -> None:
    old, new = export(tmp_path / "old", 1.0), export(tmp_path / "new", 2.0)
    for folder in (old, new, new):
        assert push_folder(folder, to=to(hub), message="x").ok
    assert hub.repositories[REPO].revisions == [contents(old), contents(new)]


def test_what_was_pushed_can_be_fetched_and_read(hub: FakeHub, tmp_path: Path) -> None:
    folder = export(tmp_path / "best")
    push_folder(folder, to=to(hub), message="x")
    fetched = fetch_export(REPO, endpoint=hub.address, token=TOKEN, cache=tmp_path / "cache")
    assert contents(fetched) == contents(folder)
    assert read_export(fetched)[0] == read_export(folder)[0]
    with pytest.raises(PushError, match=r"ada/nothing: the hub answered 404"):
        fetch_export("ada/nothing", endpoint=hub.address, token=TOKEN, cache=tmp_path / "cache")


STEPS = ("POST /api/repos/create", "validate-yaml", "preupload", "objects/batch", "PUT /large", "/commit/")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
        {"kind": "cut"},
        {"kind": "cut_answer"},
    ],
    ids=["500", "503", "429", "cut", "cut_answer"],
)
def test_a_fault_that_passes_costs_a_retry_and_nothing_else(
    hub: FakeHub, tmp_path: Path, step: str, fault: dict[str, object]
) -> None:
    old, new = export(tmp_path / "old", 1.0), export(tmp_path / "new", 2.0)
    if step != "POST /api/repos/create":
        push_folder(old, to=to(hub), message="old")
    hub.faults = [Fault(step, times=1, **fault)]  # type: ignore[arg-type]
    assert push_folder(new, to=to(hub), message="new", wait=no_wait).ok
    assert hub.faults[0].times == 0
    before = [contents(old)] if step != "POST /api/repos/create" else []
    assert hub.repositories[REPO].revisions == [*before, contents(new)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["status", "cut"])
def test_a_fault_that_stays_leaves_the_old_revision_and_is_told_in_one_line(
    hub: FakeHub, tmp_path: Path, step: str, kind: str
) -> None:
    old, new = export(tmp_path / "old", 1.0), export(tmp_path / "new", 2.0)
    push_folder(old, to=to(hub), message="old")
    hub.faults = [Fault(step, kind=kind)]
    pauses: list[float] = []
    result = try_push(new, to=to(hub), message="new", wait=pauses.append)
    assert not result.ok
    assert pauses == [2.0, 8.0], "three attempts, with longer and longer pauses"
    assert "\n" not in result.error
    assert ("the hub answered 500" if kind == "status" else "no answer from the hub") in result.error
    assert hub.repositories[REPO].revisions == [contents(old)]


@pytest.mark.parametrize(("status", "advice"), [(401, "hf auth login"), (403, "use a token that may write there")])
def test_a_refusal_is_not_retried_and_says_what_to_do(hub: FakeHub, tmp_path: Path, status: int, advice: str) -> None:
    hub.faults = [Fault("POST /api/repos/create", status=status), Fault(f"GET /api/models/{REPO}", status=status)]
    pauses: list[float] = []
    result = try_push(export(tmp_path / "best"), to=to(hub), message="x", wait=pauses.append)
    assert (result.ok, pauses) == (False, [])
    assert f"the hub answered {status}" in result.error
    assert advice in result.error
    assert sum("repos/create" in request for request in hub.requests) == 1


def test_a_wrong_token_may_not_write(hub: FakeHub, tmp_path: Path) -> None:
    result = try_push(export(tmp_path / "best"), to=to(hub, token="hf_" + "wrong000" * 5), message="x", wait=no_wait)
    assert not result.ok
    assert "401" in result.error
    assert hub.repositories == {}


def test_no_hub_at_all_is_a_result_not_a_crash(tmp_path: Path) -> None:
    destination = Destination(REPO, token=TOKEN, endpoint="http://127.0.0.1:9")  # port 9: nothing listens there
    result = try_push(export(tmp_path / "best"), to=destination, message="x", wait=no_wait)
    assert not result.ok
    assert "no answer from the hub" in result.error
    assert result.line().startswith(f"not pushed to {REPO}: ")


def test_a_hub_that_says_nothing_is_given_up(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("repos/create", kind="slow", delay_s=3.0)]
    start = time.monotonic()
    result = try_push(export(tmp_path / "best"), to=to(hub, attempts=2, silence_s=0.2), message="x", wait=no_wait)
    assert not result.ok
    assert time.monotonic() - start < 2.5
    assert "Timeout" in result.error


def test_a_planted_token_appears_in_no_file_no_log_and_no_error(
    hub: FakeHub,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    caplog.set_level(logging.DEBUG)
    folder = export(tmp_path / "run" / "export" / "best")
    lines: list[str] = []
    for number, step in enumerate(STEPS):
        for status in (403, 500):
            hub.faults = [Fault(step, status=status)]  # its answer repeats the authorization header
            lines.append(repr(try_push(folder, to=to(hub), message="x", wait=no_wait)))
            with pytest.raises(PushError) as caught:
                push_folder(folder, to=to(hub, attempts=1), message="x", wait=no_wait)
            lines.append(repr(caught.value))
        assert len(lines) == 4 * (number + 1)
    assert sum("***" in line for line in lines) > 0, "the hub did repeat the token, and it was blotted out"
    lines.append(repr(to(hub)))
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    captured = capfd.readouterr()
    for place in (*lines, caplog.text, captured.out, captured.err, written.decode(errors="replace")):
        assert TOKEN not in place


def test_a_folder_that_holds_the_token_or_is_damaged_is_not_sent(hub: FakeHub, tmp_path: Path) -> None:
    folder = export(tmp_path / "best")
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card + TOKEN)
    with pytest.raises(ExportError, match=r"README\.md: holds the access token"):
        push_folder(folder, to=to(hub), message="x")
    (folder / "README.md").write_text(card)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(ExportError, match=r"model\.safetensors: damaged"):
        push_folder(folder, to=to(hub), message="x")
    assert hub.requests == []


def test_push_run_takes_the_export_that_is_asked_for(hub: FakeHub, tmp_path: Path) -> None:
    best, last = export(tmp_path / "run/export/best", 1.0), export(tmp_path / "run/export/last", 2.0)
    assert push_run(tmp_path / "run", REPO, token=TOKEN, endpoint=hub.address).ok
    assert push_run(tmp_path / "run", REPO, which="last", token=TOKEN, endpoint=hub.address).ok
    assert hub.repositories[REPO].revisions == [contents(best), contents(last)]
    assert hub.repositories[REPO].messages == ["run: best", "run: last"]
    with pytest.raises(ExportError, match="no export in it"):
        push_run(tmp_path / "nothing", REPO, token=TOKEN, endpoint=hub.address)
    with pytest.raises(PushError, match="expected owner/name"):
        push_run(tmp_path / "run", "street-detector", token=TOKEN, endpoint=hub.address)
    hub.faults = [Fault("/commit/", status=403)]
    refused = push_run(export(tmp_path / "other", 3.0), REPO, token=TOKEN, endpoint=hub.address)
    assert not refused.ok
    assert "the hub answered 403" in refused.error


def pusher(hub: FakeHub, report: list[str]) -> BackgroundPusher:
    return BackgroundPusher(to(hub), report=report.append, wait=no_wait)


def test_in_the_background_submitting_takes_no_time_and_the_newest_export_wins(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("/commit/", kind="slow", delay_s=0.5, times=1)]
    lines: list[str] = []
    background = pusher(hub, lines)
    expected = {}
    folder = tmp_path / "best"
    slowest_s = 0.0
    for number in range(1, 6):
        export(folder, float(number))  # each replaces the one before, which may be on its way just now
        expected[number] = contents(folder)
        start = time.monotonic()
        background.submit(folder, message=f"step {number}")
        slowest_s = max(slowest_s, time.monotonic() - start)
        while number == 1 and not any("/commit/" in request for request in hub.requests):
            time.sleep(0.005)
    result = background.close(timeout_s=20)
    assert slowest_s < 0.3
    assert result is not None
    assert result.revision == revision_name(expected[5])
    assert lines[-1] == result.line() == f"pushed to {hub.address}/{REPO}, revision {result.revision}"
    assert hub.repositories[REPO].revisions == [expected[1], expected[5]]
    assert hub.repositories[REPO].messages == ["step 1", "step 5"]


@pytest.mark.parametrize(
    "fault",
    [Fault("/", status=500), Fault("/", status=429), Fault("/", status=403), Fault("PUT /large", kind="cut")],
    ids=["500", "429", "403", "cut"],
)
def test_in_the_background_a_failing_hub_is_told_and_training_goes_on(
    hub: FakeHub, tmp_path: Path, fault: Fault
) -> None:
    hub.faults = [fault]
    lines: list[str] = []
    background = pusher(hub, lines)
    background.submit(export(tmp_path / "best"), message="x")
    result = background.close(timeout_s=20)
    assert result is not None
    assert not result.ok
    assert lines == [result.line()]
    assert lines[0].startswith(f"not pushed to {REPO}: ")
    assert "\n" not in lines[0]
    assert hub.head(REPO) == {}
    background.submit(tmp_path / "best", message="too late")
    assert background.close(timeout_s=1) == result


def test_in_the_background_neither_a_missing_folder_nor_a_broken_report_raises(hub: FakeHub, tmp_path: Path) -> None:
    def broken(_: str) -> None:
        raise OSError("the journal is closed")

    background = BackgroundPusher(to(hub), report=broken)
    background.submit(tmp_path / "missing", message="x")
    background.submit(export(tmp_path / "best"), message="x")
    result = background.close(timeout_s=20)
    assert result is not None
    assert result.ok
    assert hub.head(REPO) == contents(tmp_path / "best")


def test_closing_does_not_wait_longer_than_it_is_told(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("repos/create", kind="slow", delay_s=1.0)]
    background = pusher(hub, [])
    background.submit(export(tmp_path / "best"), message="x")
    start = time.monotonic()
    result = background.close(timeout_s=0.1)
    assert time.monotonic() - start < 0.8
    assert result is not None
    assert "still under way after 0.1 s" in result.error
    assert pusher(hub, []).close(timeout_s=5) is None


@pytest.mark.parametrize("step", ["PUT /large", "/commit/"])
def test_a_process_killed_in_the_middle_of_a_push_leaves_the_old_revision(
    hub: FakeHub, tmp_path: Path, step: str
) -> None:
    old, new = export(tmp_path / "old", 1.0), export(tmp_path / "new", 2.0)
    push_folder(old, to=to(hub), message="old")
    arrived = threading.Event()
    hub.faults = [Fault(step, kind="hold", held=arrived)]
    code = (
        "import sys; from pathlib import Path; from accel_det.publish.hub import Destination, push_folder\n"
        "assert 'torch' not in sys.modules, 'pushing needs no torch'\n"
        "push_folder(Path(sys.argv[1]), to=Destination(sys.argv[2], endpoint=sys.argv[3]), message='new')"
    )
    environment = {**os.environ, "HF_TOKEN": TOKEN}
    process = subprocess.Popen([sys.executable, "-c", code, str(new), REPO, hub.address], env=environment)
    assert arrived.wait(30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.faults = []
    assert hub.repositories[REPO].revisions == [contents(old)]
    assert push_folder(new, to=to(hub), message="new").ok
    assert hub.repositories[REPO].revisions == [contents(old), contents(new)]
