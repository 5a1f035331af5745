"""Damages the input of every reader at random, from a seed, and judges what comes of it.

    PYTHONPATH=.:tests python tests/fuzz/sweep.py --inputs 10000 [--first 0] [READER ...]

writes a line of JSON for each reader, and ends with 3 if one of them failed. What a number does is a function of it and of the
reader's name: `--first 4711 --inputs 1 csv` does again what went wrong at 4711.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

import datasets
from damage import damaged
from fuzzed_readers import READERS, Reader
from small_sets import write_files
from valid_inputs import INPUTS

from accel_det.data import shards
from accel_det.data.locate import IMAGE_SUFFIXES

FAILED = 3  # 1 and 2 are those of Python and argparse, for a sweep that ended early
LIMIT_S = 5
MOST_BYTES = 500 << 20
_MOST_LINE = 5000
_MOST_SHOWN = 5
_IN_MEMORY = Path("/dev/shm")


class Verdict(NamedTuple):
    """How a reader did.

    Attributes:
        reader: its name.
        inputs: how many were tried.
        read, refused: of how many there was a result that holds; for how many one error.
        failures: what went wrong with others: the number, and what happened.
        seconds: taken by all of them.
        grown_bytes: of memory, at most, since the first.
    """

    reader: str
    inputs: int
    read: int
    refused: int
    failures: list[tuple[int, str]]
    seconds: float
    grown_bytes: int


class _TooSlow(BaseException):
    """Not an Exception: what reads nearly anything may catch those."""


def sweep(name: str, numbers: range, folder: Path) -> Verdict:
    """Tries the inputs of some numbers."""
    reader, files = READERS[name], INPUTS[name]
    write_files(folder, files)
    targets = [place for place in files if Path(place).suffix.lower() not in IMAGE_SUFFIXES] or list(files)
    failures: list[tuple[int, str]] = []
    read = 0
    start, before = time.monotonic(), _peak_bytes()
    assert _outcome(reader, folder) == (True, ""), f"{name}: its valid input: {_outcome(reader, folder)}"
    for number in numbers:
        rng = Random(f"{name} {number}")
        path = folder / rng.choice(targets)
        valid = path.read_bytes()
        path.write_bytes(damaged(valid, reader.mutations, rng))
        with _limited():
            has_result, problem = _outcome(reader, folder)
        path.write_bytes(valid)
        read += has_result
        if problem:
            failures.append((number, problem))
    grown = _peak_bytes() - before
    if grown > MOST_BYTES:
        failures.append((numbers.start, f"{grown >> 20} MiB of memory were taken"))
    refused = len(numbers) - read - len(failures)
    return Verdict(name, len(numbers), read, refused, failures, time.monotonic() - start, grown)


def _outcome(reader: Reader, folder: Path) -> tuple[bool, str]:
    """Whether there was a result, and what is wrong with it or with the error."""
    try:
        defects = reader.read(folder)
    except ValueError as error:
        text = str(error)
        lines = text.split("\n") if type(error).__name__ == "ConfigError" else [text]  # a line for each mistake
        return False, next((problem for line in lines if (problem := _problem(line, folder))), "")
    except (Exception, _TooSlow):
        return False, traceback.format_exc(limit=-4)
    return True, next((problem for defect in defects if (problem := _problem(defect.line(), folder))), "")


def _problem(line: str, folder: Path) -> str:
    """What is wrong with a line for people, or ""."""
    if len(line.splitlines()) != 1 or any(ord(letter) < 32 for letter in line):
        return f"no single line: {line[:300]!r}"
    if len(line) > _MOST_LINE:
        return f"{len(line)} letters: {line[:300]!r}"
    if str(folder) not in line:
        return f"names no file: {line[:300]!r}"
    if "MemoryError" in line or "out of memory" in line:
        return f"too much memory: {line[:300]!r}"
    return "" if line.isascii() or _is_text(line) else f"no Unicode: {line[:300]!r}"


def _is_text(line: str) -> bool:
    with contextlib.suppress(UnicodeEncodeError):
        return bool(line.encode())
    return False


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Stops what takes too long; what does not even stop for that ends the process, with its stack."""
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise _TooSlow(f"longer than {LIMIT_S} s")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _prepare(cache: str) -> None:
    """Own caches, no pauses, no bars; and no more memory than the limit on top of what is taken now."""
    os.environ["XDG_CACHE_HOME"] = cache
    datasets.config.HF_DATASETS_CACHE = Path(cache)
    datasets.config.STREAMING_READ_RETRY_INTERVAL = datasets.config.STREAMING_OPEN_RETRY_INTERVAL = 0
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL + 1)
    shards._PAUSES_S = (0.0, 0.0, 0.0)
    signal.signal(signal.SIGALRM, _stop)
    faulthandler.enable()
    faulthandler.register(signal.SIGVTALRM, chain=True)  # the default, which follows, ends the process
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (taken + 2 * MOST_BYTES, resource.RLIM_INFINITY))


def _memory_folder() -> str | None:
    """Where files are memory; None: in the usual place."""
    return str(_IN_MEMORY) if _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) else None


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("--inputs", type=int, default=200, help="of each reader")
    parser.add_argument(
        "--slow-inputs", type=int, help="of each reader that takes a tenth of a second; default: as many"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    given = parser.parse_args(words)
    failed = False
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        _prepare(f"{folder}/cache")
        for name in given.readers or READERS:
            inputs = given.slow_inputs if READERS[name].slow and given.slow_inputs is not None else given.inputs
            verdict = sweep(name, range(given.first, given.first + inputs), Path(folder) / name.replace(" ", "_"))
            failed |= bool(verdict.failures)
            shown = verdict._replace(failures=verdict.failures[:_MOST_SHOWN])
            sys.stdout.write(json.dumps({**shown._asdict(), "failed": len(verdict.failures)}) + "\n")
            sys.stdout.flush()
    return FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
