"""What the system, safetensors, datasets and Pillow do with files and memory, and this code relies on or works around.

If one of these fails, audit the code that the docstring names again; do not edit the assertion.
"""

import errno
import fcntl
import io
import resource
import signal
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from forks import in_a_fork
from PIL import Image


def test_renaming_a_folder_onto_one_with_content_fails_and_onto_an_empty_one_succeeds(tmp_path: Path) -> None:
    """engine/checkpoint.py removes an old checkpoint of the same step before it renames the new one into place."""
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    with pytest.raises(OSError) as error:
        (tmp_path / "new").rename(tmp_path / "old")
    assert error.value.errno in (errno.ENOTEMPTY, errno.EEXIST)
    assert (tmp_path / "old" / "file").read_text() == "old"
    (tmp_path / "old" / "file").unlink()
    (tmp_path / "new").rename(tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"


def test_a_lock_keeps_out_a_second_opening_and_ends_with_its_file(tmp_path: Path) -> None:
    """cli/train.py locks the folder of a run; the lock of a killed run needs no cleaning up."""
    with (tmp_path / "run.lock").open("a+") as first, (tmp_path / "run.lock").open("a+") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        first.close()
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not second.closed


def test_memory_beyond_the_data_limit_is_an_error_with_known_words() -> None:
    """engine/runtime.py sets the limit; cli/failures.py knows the error by these words."""

    def allocate() -> str:
        resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        try:
            torch.ones(6 << 28)  # 6 GiB
        except (RuntimeError, MemoryError) as error:
            return f"{type(error).__name__}: {error}"
        return "allocated"

    answer = in_a_fork(allocate)
    assert answer.startswith("MemoryError") or "can't allocate memory" in answer, answer


def test_a_file_beyond_the_size_limit_is_an_os_error_that_names_no_signal(tmp_path: Path) -> None:
    """engine/checkpoint.py takes a full disk, or a limit, for an OSError; Python ignores SIGXFSZ."""

    def write() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            (tmp_path / "large").write_bytes(bytes(5000))
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "written"

    assert in_a_fork(write) == "EFBIG"
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN


def test_safetensors_refuses_tensors_that_share_memory() -> None:
    """engine/checkpoint.py writes what `state_dict` gives: a network with tied weights needs clones there."""
    tensor = torch.zeros(3)
    with pytest.raises(RuntimeError, match="share memory"):
        safetensors.torch.save({"a": tensor, "b": tensor})


def test_safetensors_gives_the_same_bytes_for_the_same_tensors_in_any_order() -> None:
    """engine/checkpoint.py: equal weights have equal sha256 sums."""
    a, b = torch.arange(3.0), torch.arange(4)
    one, other = safetensors.torch.save({"a": a, "b": b}), safetensors.torch.save({"b": b, "a": a})
    assert one == other
    back = safetensors.torch.load(one)
    assert torch.equal(back["a"], a)
    assert torch.equal(back["b"], b)


@pytest.mark.parametrize("value", [float("nan"), -0.0, 1e-45, float("inf")])
def test_safetensors_keeps_every_bit(value: float) -> None:
    """engine/checkpoint.py: a resumed run continues bit for bit."""
    tensor = torch.tensor([value])
    back = safetensors.torch.load(safetensors.torch.save({"x": tensor}))["x"]
    assert torch.equal(back.view(torch.int32), tensor.view(torch.int32))


def turned_jpeg() -> bytes:
    """4 wide and 2 high in the file, 2 wide and 4 high to look at."""
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.new("RGB", (4, 2)).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def test_an_image_column_that_does_not_decode_leaves_the_bytes() -> None:
    """data/records.py and data/formats/hub.py keep images encoded; data/decode.py alone decodes."""
    features = datasets.Features({"image": datasets.Image(decode=False)})
    table = datasets.Dataset.from_dict({"image": [{"bytes": turned_jpeg(), "path": "a.jpg"}]}, features=features)
    assert table[0]["image"] == {"bytes": turned_jpeg(), "path": "a.jpg"}


def test_an_image_column_that_decodes_turns_images_upright() -> None:
    """data/decode.py follows the same convention, so that sizes and boxes agree with those of `datasets`."""
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [{"bytes": turned_jpeg(), "path": None}]}, features=features)
    assert table[0]["image"].size == (2, 4)
    assert Image.open(io.BytesIO(turned_jpeg())).size == (4, 2)


def test_an_image_column_opens_any_path_that_a_file_names(tmp_path: Path) -> None:
    """data/formats/hub.py refuses paths outside of the set, because `datasets` follows them."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(turned_jpeg())
    features = datasets.Features({"image": datasets.Image()})
    table = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(secret)}]}, features=features)
    assert table[0]["image"].size == (2, 4)


def test_a_table_keeps_the_fingerprint_that_it_is_given() -> None:
    """data/records.py gives one, or `datasets` would pickle the table to make one."""
    info = datasets.DatasetInfo(features=datasets.Features({"a": datasets.Value("int64")}))
    table = datasets.Dataset(pa.table({"a": np.arange(3)}), info=info, fingerprint="0123456789abcdef")
    assert table._fingerprint == "0123456789abcdef"
    assert table["a"][:] == [0, 1, 2]
