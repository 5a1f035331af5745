"""Files of embeddings: what comes back is what went in, and everything else is one clear line."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from accel_det.metrics.nearest import each_once, nearest
from accel_det.metrics.saved_embeddings import FORMATS, SavedEmbeddings, read_embeddings, write_embeddings
from accel_det.types import Role


def drawn(count: int = 5, width: int = 7, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    units: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return units


def full(count: int = 5) -> SavedEmbeddings:
    return SavedEmbeddings(
        [f"Straße/人 {number}.jpg" for number in range(count)],
        drawn(count),
        ["a", None, "b", "set/\U0001f697", "a"][:count],
        [None, "c1", "c2", "c1", None][:count],
        [Role.QUERY, Role.GALLERY, Role.BOTH, 1, 2][:count],
        "net, update 7",
    )


def message_of(file: Path) -> str:
    with pytest.raises(ValueError) as caught:
        read_embeddings(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ") and "\n" not in text and ";" in text
    return text


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("known", [True, False])
def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path: Path, suffix: str, known: bool) -> None:
    saved = full() if known else SavedEmbeddings(["x.jpg", "x.jpg"], drawn(2))
    file = tmp_path / "new folder" / f"e{suffix}"
    write_embeddings(file, saved)
    found = read_embeddings(file)
    assert found.embeddings.dtype == np.float32 and found.embeddings.flags.writeable
    assert found.embeddings.tobytes() == saved.embeddings.tobytes() and found.embeddings.shape == saved.embeddings.shape
    for kept, was in zip(found, saved, strict=True):
        if not isinstance(was, np.ndarray):
            assert kept == was
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_embeddings_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_embeddings(tmp_path / f"{name}{suffix}", full())
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_without_pictures_keeps_the_length_of_embeddings(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"e{suffix}"
    write_embeddings(file, SavedEmbeddings([], np.zeros((0, 9), np.float32)))
    assert read_embeddings(file).embeddings.shape == (0, 9)


def test_other_programs_find_the_columns_and_the_network_in_a_parquet_file(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    write_embeddings(file, full())
    table = pq.read_table(file)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 7)
    assert table.column_names == ["name", "embedding", "identity", "camera", "role"]
    assert json.loads(table.schema.metadata[b"accel_det.embeddings"]) == {
        "format_version": 1,
        "model": "net, update 7",
        "dimension": 7,
    }
    write_embeddings(file, SavedEmbeddings(["x.jpg"], drawn(1)))
    assert pq.read_table(file).column_names == ["name", "embedding"]


def test_a_file_of_several_row_groups_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    write_embeddings(file, full())
    pq.write_table(pq.read_table(file), file, row_group_size=2)
    assert read_embeddings(file).embeddings.tobytes() == full().embeddings.tobytes()


def test_pictures_are_picked_with_all_that_is_known_of_them() -> None:
    kept = full().keep([4, 1])
    assert kept.names == [full().names[4], full().names[1]]
    assert kept.embeddings.tobytes() == full().embeddings[[4, 1]].tobytes()
    assert (kept.identities, kept.cameras, kept.roles) == (["a", None], [None, "c1"], [2, Role.GALLERY])
    assert kept.model == "net, update 7"
    assert full().keep([]).embeddings.shape == (0, 7)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (full()._replace(names=["one"]), r"float32 of shape \(5, 7\) for 1 names"),
        (full()._replace(embeddings=drawn().astype(np.float64)), "float64"),
        (full()._replace(embeddings=2 * drawn()), "has length 2, expected 1"),
        (full()._replace(embeddings=np.full((5, 7), np.nan, np.float32)), "has length nan"),
        (full()._replace(embeddings=np.zeros((5, 0), np.float32)), r"shape \(5, 0\)"),
        (full()._replace(roles=[1, 2, 3, 4, 1]), r"role 4, expected 1 \(query\)"),
        (full()._replace(cameras=["a"]), "1 cameras for 5 names"),
        (full()._replace(identities=[None, "", "b", "c", "d"]), "'' is no name"),
        (full()._replace(names=["\udce4.jpg", *"abcd"]), "is no name, expected Unicode"),
    ],
)
@pytest.mark.parametrize("suffix", FORMATS)
def test_what_makes_no_sense_is_not_written(tmp_path: Path, suffix: str, saved: SavedEmbeddings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_embeddings(tmp_path / f"e{suffix}", saved)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_foreign_and_missing_files_are_one_clear_line(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"e{suffix}"
    assert "no such file; write one with `accel-det embed" in message_of(file)
    for content in (b"", b"PAR1", b"PK\x03\x04", b"some text\nof two lines\n", b"\x80\x04N."):
        file.write_bytes(content)
        message_of(file)
    file.unlink()
    file.mkdir()
    assert "cannot be read" in message_of(file)
    with pytest.raises(ValueError, match=r"ends in \.parquet or \.npz"):
        read_embeddings(tmp_path / "e.csv")


def test_parquet_files_with_other_columns_are_foreign(tmp_path: Path) -> None:
    file = tmp_path / "e.parquet"
    pq.write_table(pa.table({"name": ["a"], "embedding": [[1.0]]}), file)
    assert "does not hold embeddings (no `accel_det.embeddings` in its metadata)" in message_of(file)
    write_embeddings(file, full())
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["embedding"]), file)
    assert "column embedding is missing" in message_of(file)
    as_lists = pa.array(full().embeddings.tolist(), pa.list_(pa.float32()))
    pq.write_table(table.set_column(1, "embedding", as_lists), file)
    assert "column embedding is list" in message_of(file)
    pq.write_table(table.replace_schema_metadata({b"accel_det.embeddings": b'{"format_version": 2}'}), file)
    assert "format_version is 2, expected 1" in message_of(file)


def test_npz_files_with_other_arrays_are_foreign_and_pickles_are_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "e.npz"
    np.savez(file, x=np.zeros(3))
    assert "no array about" in message_of(file)
    about = np.array(json.dumps({"format_version": 1}))
    np.savez(file, about=about, names=np.array(["a"]), embeddings=np.zeros((1, 1, 1), np.float32))
    assert "array embeddings is float32 of shape (1, 1, 1)" in message_of(file)
    np.savez(file, about=about, names=np.array(["a"], dtype=object), embeddings=drawn(1))
    assert "allow_pickle=False" in message_of(file)
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "does not hold embeddings (one array)" in message_of(file)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_anywhere_is_noticed_or_changes_no_embedding(tmp_path: Path, suffix: str) -> None:
    """One byte is changed, or the end is lost: either one clear line, or every number as it was."""
    file, saved = tmp_path / f"e{suffix}", full()
    write_embeddings(file, saved)
    whole = file.read_bytes()
    draws = random.Random(7)
    noticed = 0
    for attempt in range(150):
        data = bytearray(whole)
        place = draws.randrange(len(data))
        if attempt % 5:
            data[place] ^= 1 << draws.randrange(8)
        else:
            del data[place:]
        file.write_bytes(data)
        try:
            found = read_embeddings(file)
        except ValueError as error:
            noticed += 1
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
        else:
            assert found.embeddings.tobytes() == saved.embeddings.tobytes()
    assert noticed >= 60


def test_the_nearest_pictures_are_those_that_a_full_sort_finds() -> None:
    queries = SavedEmbeddings([f"q{n}" for n in range(6)], drawn(6, seed=1))
    gallery = SavedEmbeddings([f"g{n}" for n in range(11)], drawn(11, seed=2))
    lists = nearest(queries, gallery, top=4)
    for query, found in enumerate(lists):
        similarities = [
            sum(float(a) * float(b) for a, b in zip(queries.embeddings[query], other, strict=True))
            for other in gallery.embeddings
        ]
        expected = sorted(range(11), key=lambda position: -similarities[position])[:4]
        assert [match.position for match in found] == expected
        assert [match.similarity for match in found] == pytest.approx([similarities[n] for n in expected], abs=1e-6)


def test_a_file_is_never_its_own_answer_however_its_path_is_written(tmp_path: Path) -> None:
    vectors = drawn(3)
    gallery = SavedEmbeddings([str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")], vectors)
    queries = SavedEmbeddings([str(tmp_path / "new" / ".." / "b.jpg"), str(tmp_path / "d.jpg")], vectors[[1, 1]])
    itself, copy = nearest(queries, gallery, top=10)
    assert sorted(match.position for match in itself) == [0, 2]
    assert copy[0].position == 1 and copy[0].similarity == pytest.approx(1) and len(copy) == 3
    alone = nearest(gallery.keep([0]), gallery.keep([0]), top=1)
    assert alone == [[]]


def test_rounding_makes_no_similarity_larger_than_one() -> None:
    vectors = drawn(300, 33)
    assert (vectors @ vectors.T).max() > 1, "without rounding errors this shows nothing"
    queries, gallery = (SavedEmbeddings([f"{side}{n}" for n in range(300)], vectors) for side in "qg")
    lists = nearest(queries, gallery, top=1)
    assert [match.position for (match,) in lists] == list(range(300))
    assert max(match.similarity for (match,) in lists) == pytest.approx(1, abs=1e-7)
    assert max(match.similarity for (match,) in lists) <= 1


def test_a_file_that_is_there_twice_is_taken_once() -> None:
    saved = full()._replace(names=["a.jpg", "new/../b.jpg", "./a.jpg", "b.jpg", "c.jpg"])
    kept = each_once(saved)
    assert kept.names == ["a.jpg", "new/../b.jpg", "c.jpg"]
    assert kept.embeddings.tobytes() == saved.embeddings[[0, 1, 4]].tobytes() and kept.identities == ["a", None, "a"]
    assert each_once(kept) is kept
    with pytest.raises(ValueError, match="more than once"):
        nearest(kept, saved, top=1)


def test_equal_pictures_are_answered_in_the_order_of_the_gallery() -> None:
    (found,) = nearest(
        SavedEmbeddings(["q"], drawn(1)), SavedEmbeddings(list("abcd"), drawn(1).repeat(4, axis=0)), top=4
    )
    assert [match.position for match in found] == [0, 1, 2, 3]


def test_embeddings_of_two_lengths_and_empty_sides_are_refused() -> None:
    with pytest.raises(ValueError, match="of the queries have 7 numbers, those of the gallery 5"):
        nearest(SavedEmbeddings(["q"], drawn(1)), SavedEmbeddings(["g"], drawn(1, 5)), top=1)
    with pytest.raises(ValueError, match="1 queries and 0 pictures in the gallery"):
        nearest(SavedEmbeddings(["q"], drawn(1)), SavedEmbeddings([], drawn(0)), top=1)
