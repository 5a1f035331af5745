"""Tables in the user's cache folder: what they are keyed by, and how they are read."""

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from accel_det.data.cache import cache_folder, cached, source_of
from accel_det.data.encoded import IMAGE_FEATURES, image_table, jpeg

LARGE = 16 << 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Drawn:
    """Draws a table of one picture, and counts how often."""

    def __init__(self, content: bytes = b"picture") -> None:
        self.content = content
        self.times = 0

    def __call__(self) -> pa.Table:
        self.times += 1
        return image_table([(self.content, "0.jpg")])


def ask(draw: Callable[[], pa.Table], *code: Path, folder: str = "tested", seed: int = 0) -> datasets.Dataset:
    return cached({"seed": seed}, draw, features=IMAGE_FEATURES, code=code, folder=folder)


def test_a_table_is_drawn_again_where_its_parameters_its_code_or_its_folder_differ(tmp_path: Path) -> None:
    draw, code, other = Drawn(), tmp_path / "draw.py", tmp_path / "other.py"
    code.write_text("red")
    other.write_text("blue")
    ask(draw, code)
    other.write_text("green")  # nobody's business
    ask(draw, code)
    assert draw.times == 1
    ask(draw, code, seed=1)
    ask(draw, code, folder="beside")
    ask(draw, code, other)
    assert draw.times == 4
    code.write_text("black")
    ask(draw, code)
    assert draw.times == 5
    assert len(list(cache_folder("tested").glob("*.arrow"))) == 4
    assert len(list(cache_folder("beside").glob("*.arrow"))) == 1


def test_a_table_that_was_drawn_before_is_mapped_and_not_read_into_memory() -> None:
    draw = Drawn(bytes(LARGE))
    ask(draw)
    tracemalloc.start()
    try:
        held = pa.total_allocated_bytes()
        again = ask(draw)
        assert tracemalloc.get_traced_memory()[1] < LARGE / 8
        assert pa.total_allocated_bytes() - held < LARGE / 8
    finally:
        tracemalloc.stop()
    assert draw.times == 1 and again.data.equals(draw())


@pytest.mark.parametrize("length", [0, 31, 32, 33, 100])
def test_a_file_that_is_empty_or_short_is_drawn_again(length: int) -> None:
    draw = Drawn()
    ask(draw)
    (file,) = cache_folder("tested").glob("*.arrow")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[:length])
    assert ask(draw).data.equals(draw()) and draw.times == 3
    assert file.read_bytes() == whole


def test_a_file_of_nothing_but_the_digest_of_nothing_is_drawn_again() -> None:
    draw = Drawn()
    ask(draw)
    (file,) = cache_folder("tested").glob("*.arrow")
    file.write_bytes(hashlib.sha256(b"").digest())
    ask(draw)
    assert draw.times == 2


def test_the_source_of_a_function_is_the_file_that_it_is_written_in() -> None:
    assert source_of(jpeg).name == "encoded.py" and source_of(jpeg).is_file()
