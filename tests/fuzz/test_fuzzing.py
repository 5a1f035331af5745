"""No damaged input of any reader ends in anything but a result that holds, or one error."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import sweep
from damage import BYTES, JSON, TEXT, XML, damaged
from fuzzed_readers import READERS
from valid_inputs import INPUTS

HERE = Path(__file__).parent


def swept(*words: str) -> dict[str, dict[str, Any]]:
    """What a sweep in a process of its own says of each reader."""
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "sweep.py"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, errors="replace")
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode not in (0, sweep.FAILED):
        raise AssertionError(
            f"the sweep ended with {done.returncode} behind reader {len(verdicts)}: {done.stderr[-3000:]}"
        )
    return {verdict["reader"]: verdict for verdict in verdicts}


@lru_cache(maxsize=1)
def swept_by_default() -> dict[str, dict[str, Any]]:
    return swept("--inputs", "200", "--slow-inputs", "25")


def assert_no_failure(verdict: dict[str, Any]) -> None:
    assert not verdict["failures"], "\n".join(f"{number}: {what}" for number, what in verdict["failures"])
    assert verdict["read"] + verdict["refused"] == verdict["inputs"]


@pytest.mark.parametrize("reader", READERS)
def test_200_damaged_inputs_give_a_result_that_holds_or_one_error(reader: str) -> None:
    verdict = swept_by_default()[reader]
    assert_no_failure(verdict)
    assert verdict["inputs"] == (25 if READERS[reader].slow else 200)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_2000_damaged_inputs_of_every_reader_do() -> None:
    verdicts = swept("--inputs", "2000", "--slow-inputs", "500", "--first", "200")
    assert set(verdicts) == set(READERS)
    for verdict in verdicts.values():
        assert_no_failure(verdict)


def test_a_number_is_always_the_same_damage_and_most_numbers_are_some() -> None:
    from random import Random

    for name, mutations in (("coco", JSON), ("cvat", XML), ("csv", TEXT), ("parquet", BYTES)):
        content = next(text for place, text in INPUTS[name].items() if not place.endswith(".png"))
        data = content if isinstance(content, bytes) else content.encode()
        found = [damaged(data, mutations, Random(f"{name} {number}")) for number in range(100)]
        assert found == [damaged(data, mutations, Random(f"{name} {number}")) for number in range(100)]
        assert sum(one != data for one in found) >= 85 and len(set(found)) >= 80


def test_the_sweep_notices_what_it_must_not_let_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def judged(read: Any) -> str:
        return sweep._outcome(READERS["csv"]._replace(read=read), tmp_path)[1]

    def raising(error: BaseException) -> Any:
        def read(folder: Path) -> list[Any]:
            raise error

        return read

    assert "KeyError" in judged(raising(KeyError("x")))
    assert "MemoryError" in judged(raising(MemoryError()))
    assert "no single line" in judged(raising(ValueError(f"{tmp_path}: a\nb")))
    assert "names no file" in judged(raising(ValueError("somewhere")))
    assert "letters" in judged(raising(ValueError(f"{tmp_path}{'x' * 6000}")))
    assert judged(raising(ValueError(f"{tmp_path}/a: wrong"))) == "" and judged(lambda folder: []) == ""
