"""Exports and data sets to the Hub, and exports from it, in one commit, with retries; a hub that fails stops no training.

Files are handed over as open files, not as paths. So huggingface_hub sends the weights by its HTTP (LFS) protocol:
every hub speaks it, it is the same with and without hf_xet, and HF_HUB_DISABLE_XET need not be set before the import.
And what is sent is the folder as it was when it was opened, even if training replaces it meanwhile. `upload_folder` is
not used: with hf_xet it may make several commits, and a reader could meet new weights with an old configuration.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol

from accel_det.publish import layout
from accel_det.publish.opened import OpenExport
from accel_det.publish.redact import redact_message

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FIRST_WAIT_S = 2.0
_TALKATIVE = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")
_RETRIED_STATUS = (408, 409, 412, 425, 429)
_LONGEST_ERROR = 300
_LATER = "try again later"
_ADVICE = {
    401: "log in with `hf auth login`, or set HF_TOKEN",
    403: "use a token that may write there, or another repository",
    404: "check the name of the repository, and that the token may see it",
}

Wait = Callable[[float], None]
Kind = Literal["model", "dataset"]
"""Of a repository."""

_AGAIN: dict[Kind, str] = {
    "model": "push it with `accel-det push` later",
    "dataset": "push it with the same command later, which writes no shard again",
}


class Upload(Protocol):
    """What is pushed together.

    Attributes:
        files: by their place in the repository.
    """

    @property
    def files(self) -> Mapping[str, BinaryIO]: ...

    def check(self, secrets: tuple[str, ...]) -> None:
        """Refuse what must not be published; raises ValueError."""

    def outdated(self, existing: Iterable[str]) -> list[str]:
        """Of the files that are in the repository, those that must go."""


class PushError(ValueError):
    """A push that did not happen; one line without secrets."""


class PushResult(NamedTuple):
    """What became of a push.

    Attributes:
        ok: the folder is on the hub.
        repo: owner/name.
        url: its page, if ok.
        revision: the commit that holds it, if ok.
        error: one line without secrets, if not.
    """

    ok: bool
    repo: str
    url: str = ""
    revision: str = ""
    error: str = ""

    def line(self) -> str:
        """For people and journals."""
        if self.ok:
            return f"pushed to {self.url}, revision {self.revision}"
        return f"not pushed to {self.repo}: {self.error}"


@dataclass(frozen=True)
class Destination:
    """Where to push, and how patiently.

    Attributes:
        repo: owner/name; made if it does not exist.
        private: whether one that is made is private; one that exists stays as it is.
        token: None: what HF_TOKEN or `hf auth login` gave.
        endpoint: address of the hub; None: HF_ENDPOINT, or the official one.
        attempts: how often to try when the hub or the network fails; refusals are not retried.
        silence_s: seconds without an answer after which a connection is given up.
        kind: of the repository.
    """

    repo: str
    private: bool = True
    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    attempts: int = 3
    silence_s: float = 120.0
    kind: Kind = "model"

    def __post_init__(self) -> None:
        if not is_repo_name(self.repo):
            raise PushError(f"repository {self.repo!r}: expected owner/name, such as `ada/street-detector`")
        if self.attempts < 1:
            raise PushError(f"attempts is {self.attempts}, expected at least 1")


def is_repo_name(text: str) -> bool:
    """Whether this can be owner/name of a repository."""
    return _REPO.fullmatch(text) is not None


def push_folder(folder: Path, *, to: Destination, message: str, wait: Wait = time.sleep) -> PushResult:
    """Push an export in one commit: the hub holds what it held before, or all of this.

    Args:
        message: of the commit.
        wait: how to pass seconds between attempts.

    Raises:
        PushError: refused, or failed at every attempt.
        ExportError: the folder is no whole export, or holds the access token.
    """
    with OpenExport(folder) as export:
        return push_upload(export, to=to, message=message, wait=wait)


def try_push(folder: Path, *, to: Destination, message: str, wait: Wait = time.sleep) -> PushResult:
    """As `push_folder`, but a failure is a result."""
    try:
        with OpenExport(folder) as export:
            return _try_push(export, to, message=message, wait=wait)
    except layout.ExportError as error:
        return PushResult(False, to.repo, error=str(error))


def push_run(
    run: Path,
    repo: str,
    *,
    which: str = "best",
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
    wait: Wait = time.sleep,
) -> PushResult:
    """Push one export of a run.

    Args:
        run: the run's folder, or an export folder.
        which: "best" or "last".

    Returns:
        What became of it: a hub that fails or refuses is a result.

    Raises:
        ValueError: there is no such export, it is damaged, or `repo` is no owner/name.
    """
    to = Destination(repo, private=private, token=token, endpoint=endpoint)
    try:
        return push_folder(
            layout.find_export(run, choices=(which,)), to=to, message=f"{run.resolve().name}: {which}", wait=wait
        )
    except PushError as error:
        return PushResult(False, repo, error=str(error))


def fetch_export(
    repo: str, *, endpoint: str | None = None, token: str | None = None, cache: Path | None = None
) -> Path:
    """Download an export, or find it in the cache.

    Args:
        cache: None: where huggingface_hub keeps what it downloads.

    Raises:
        PushError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import snapshot_download

    try:
        with _quiet_hub():
            return Path(
                snapshot_download(
                    repo, allow_patterns=list(layout.FILES), endpoint=endpoint, token=token, cache_dir=cache
                )
            )
    except Exception as error:  # the hub's client raises nearly anything
        raise PushError(f"{repo}: {_explain(error, _secrets(token), again=_LATER)}") from None


class BackgroundPusher:
    """Pushes exports while training goes on: one thread, the newest export wins, nothing it meets reaches training.

    Args:
        to: where.
        report: takes one line for each push that ended; called from the thread.
        wait: how to pass seconds between attempts.
    """

    def __init__(self, to: Destination, *, report: Callable[[str], None], wait: Wait = time.sleep) -> None:
        self._to = to
        self._report = report
        self._wait = wait
        self._condition = threading.Condition()
        self._pending: tuple[OpenExport, str] | None = None
        self._busy = False
        self._closed = False
        self._last: PushResult | None = None
        threading.Thread(target=self._work, name="push", daemon=True).start()

    def submit(self, folder: Path, *, message: str) -> None:
        """Have an export pushed, as it is now; returns at once. One that still waits for its turn is dropped."""
        try:
            export = OpenExport(folder)
        except layout.ExportError as error:
            self._tell(PushResult(False, self._to.repo, error=str(error)))
            return
        with self._condition:
            dropped, self._pending = self._pending, (export, message)
            if self._closed:
                dropped, self._pending = self._pending, None
            self._condition.notify_all()
        if dropped is not None:
            dropped[0].close()

    def close(self, *, timeout_s: float) -> PushResult | None:
        """Wait for what is under way, at most so many seconds; nothing is taken afterwards.

        Returns:
            What became of the last export; None if there was none.
        """
        with self._condition:
            self._closed = True
            self._condition.notify_all()
            if self._condition.wait_for(lambda: self._pending is None and not self._busy, timeout=timeout_s):
                return self._last
        return PushResult(False, self._to.repo, error=f"still under way after {timeout_s:g} s; {_AGAIN[self._to.kind]}")

    def _work(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._pending is not None or self._closed)
                if self._pending is None:
                    return
                (export, message), self._pending = self._pending, None
                self._busy = True
            with export:
                result = _try_push(export, self._to, message=message, wait=self._wait)
            self._tell(result)

    def _tell(self, result: PushResult) -> None:
        self._last = result
        with contextlib.suppress(Exception):  # a journal that is closed or full ends neither thread nor training
            self._report(result.line())


def _try_push(export: Upload, to: Destination, *, message: str, wait: Wait) -> PushResult:
    try:
        return push_upload(export, to=to, message=message, wait=wait)
    except (PushError, layout.ExportError) as error:
        return PushResult(False, to.repo, error=str(error))
    except Exception as error:
        return PushResult(False, to.repo, error=_explain(error, _secrets(to.token), again=_AGAIN[to.kind]))


def push_upload(upload: Upload, *, to: Destination, message: str, wait: Wait = time.sleep) -> PushResult:
    """Push open files in one commit: the hub holds what it held before, or all of this.

    Raises:
        PushError: refused, or failed at every attempt.
        ValueError: what `Upload.check` refuses.
    """
    secrets = _secrets(to.token)
    upload.check(secrets)
    for attempt in range(to.attempts):
        try:
            with _quiet_hub():
                return _commit(upload, to, message=message)
        except Exception as error:  # the hub's client raises nearly anything
            if attempt + 1 == to.attempts or not _may_pass(error):
                raise PushError(_explain(error, secrets, again=_AGAIN[to.kind])) from None
        wait(_FIRST_WAIT_S * 4**attempt)
    raise AssertionError("unreachable")


def _commit(upload: Upload, to: Destination, *, message: str) -> PushResult:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session

    # By itself it waits without limit: a hub that accepts a connection and says nothing would hold the thread for ever.
    get_session().timeout = to.silence_s
    api = HfApi(endpoint=to.endpoint, token=to.token)
    url = api.create_repo(to.repo, repo_type=to.kind, private=to.private, exist_ok=True)
    for stream in upload.files.values():
        stream.seek(0)
    existing = api.list_repo_files(to.repo, repo_type=to.kind) if to.kind == "dataset" else []
    changes: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, stream) for name, stream in upload.files.items()),
        *(CommitOperationDelete(name) for name in upload.outdated(existing)),
    ]
    commit = api.create_commit(to.repo, changes, repo_type=to.kind, commit_message=message)
    return PushResult(True, to.repo, url=str(url), revision=commit.oid)


def _secrets(token: str | None) -> tuple[str, ...]:
    from huggingface_hub import get_token

    return tuple(secret for secret in (token, get_token()) if secret)


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, None where there was no answer."""
    for link in _chain(error):
        status = getattr(getattr(link, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _may_pass(error: BaseException) -> bool:
    """Whether it may go away by itself: all but refusals, and what the user set so."""
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if any(
        isinstance(link, HFValidationError | LocalTokenNotFoundError | OfflineModeIsEnabled) for link in _chain(error)
    ):
        return False
    status = _status(error)
    return status is None or status >= 500 or status in _RETRIED_STATUS


def _explain(error: BaseException, secrets: tuple[str, ...], *, again: str) -> str:
    links = list(_chain(error))
    status = _status(error)
    if status is None:
        said = str(links[-1]) or type(links[-1]).__name__
        text = f"no answer from the hub ({type(error).__name__}: {said}); {again}"
    else:
        said = next(
            (str(getattr(link, "server_message", None) or "") for link in links if hasattr(link, "response")), ""
        )
        advice = _ADVICE.get(status, again)
        text = f"the hub answered {status}{f' ({said[:_LONGEST_ERROR]})' if said else ''}; {advice}"
    return redact_message(text, secrets=secrets)


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Without what the client and its HTTP library log: it holds signed addresses and whatever a server repeats, and
    every failure is told in one line here."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
