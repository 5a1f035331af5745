"""MATLAB files: what scipy writes is read back the same, and nothing damaged gets through."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from accel_det.data.matlab import read_matlab_file

VARIABLES = {
    "tracks": np.array([[1, 16, 1, 1], [17, 95, 1, 1]], np.int32),
    "scores": np.array([[0.5, -1e300, np.inf]]),
    "single": np.array([[1.5], [2.5]], np.float32),
    "names": np.array(["a", "Zoë's", ""], object),
    "boxes": np.array([np.arange(8.0).reshape(2, 4), np.zeros((0, 4))], object),
    "title": "selective search",
    "deep": np.array([[1, 2]], np.uint16),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_texts_and_cells_are_read_as_scipy_reads_them(compressed: bool, tmp_path: Path) -> None:
    file = tmp_path / "all.mat"
    scipy.io.savemat(file, VARIABLES, do_compression=compressed)
    found, expected = read_matlab_file(file, list(VARIABLES)), scipy.io.loadmat(file)
    assert set(found) == set(VARIABLES)
    for name in ("tracks", "scores", "single", "deep"):
        np.testing.assert_array_equal(found[name], expected[name], strict=True)
    assert found["title"] == expected["title"][0] == VARIABLES["title"]
    assert np.reshape(found["names"], -1).tolist() == ["a", "Zoë's", ""]
    for cell, array in zip(np.reshape(found["boxes"], -1), VARIABLES["boxes"], strict=True):
        np.testing.assert_array_equal(cell, array, strict=True)


def test_a_file_of_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    """Written by hand after the format's description: a 1 by 2 array of doubles, stored as 16-bit numbers, named n."""
    header = b"MATLAB 5.0".ljust(124) + b"\x01\x00MI"
    flags, shape = b"\0\0\0\x06\0\0\0\x08\0\0\0\x06\0\0\0\0", b"\0\0\0\x05\0\0\0\x08\0\0\0\x01\0\0\0\x02"
    name, numbers = b"\0\x01\0\x01n\0\0\0", b"\0\x04\0\x04\x01\x02\0\x03"
    body = flags + shape + name + numbers
    (tmp_path / "big.mat").write_bytes(header + b"\0\0\0\x0e" + len(body).to_bytes(4) + body)
    np.testing.assert_array_equal(read_matlab_file(tmp_path / "big.mat", ["n"])["n"], [[0x102, 3]])


def test_a_file_cut_anywhere_is_refused_or_lacks_its_last_variable(tmp_path: Path) -> None:
    file = tmp_path / "cut.mat"
    scipy.io.savemat(file, {"a": np.ones((3, 4)), "b": np.array(["x", "y"], object)})
    whole = file.read_bytes()
    refused = 0
    for length in range(0, len(whole), 8):
        file.write_bytes(whole[:length])
        try:
            found = read_matlab_file(file, ["a", "b"])
        except ValueError:
            refused += 1
            continue
        assert set(found) < {"a", "b"}
    # Only behind the header, and between the two variables, is a cut not seen.
    assert refused == len(range(0, len(whole), 8)) - 2


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ({"a": 1}, "of class 2; expected real numbers"),
        (np.array([[1 + 2j]]), "of class 6; expected real numbers"),
        (np.array(["ab", "cd"]), r"'a' of the shape \(2, 2\) is no text of one line"),
    ],
)
def test_structures_complex_numbers_and_tables_of_letters_are_refused(
    variable: object, said: str, tmp_path: Path
) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"a": variable, "b": np.ones((1, 1))})
    with pytest.raises(ValueError, match=said):
        read_matlab_file(tmp_path / "a.mat", ["a"])
    assert read_matlab_file(tmp_path / "a.mat", ["b"])["b"] == [[1.0]]


def test_a_file_of_level_7_3_is_told_how_to_become_readable(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"of MATLAB 7\.3; save it with -v7"):
        read_matlab_file(tmp_path / "a.mat", ["a"])
