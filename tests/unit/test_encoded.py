"""Encoded images in Arrow tables: one array or many, and the JPEG that is put into them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accel_det.data.encoded import IMAGE_FEATURES, bytes_of, file_bytes, image_array, image_table, jpeg, path_of


def test_images_are_bytes_with_names_or_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"content")
    held = image_array([b"one", b"two"], ["1.png", "2.png"]).to_pylist()
    assert held == [{"bytes": b"one", "path": "1.png"}, {"bytes": b"two", "path": "2.png"}]
    (named,) = image_array(None, [str(tmp_path / "a.png")]).to_pylist()
    assert (path_of(held[0]), bytes_of(held[0])) == (None, b"one")
    assert (path_of(named), bytes_of(named)) == (str(tmp_path / "a.png"), b"content")
    with pytest.raises(ValueError, match=r"gone\.png: cannot be read: No such file or directory; restore the file"):
        file_bytes(str(tmp_path / "gone.png"))


@pytest.mark.parametrize(("part_bytes", "chunks"), [(1, 6), (20, 3), (60, 1), (1000, 1)])
def test_a_table_is_built_in_parts_that_end_where_they_are_large_enough(part_bytes: int, chunks: int) -> None:
    images = [(bytes([index]) * 10, f"{index}.png") for index in range(6)]
    table = image_table(iter(images), part_bytes=part_bytes)
    assert table.column("image").num_chunks == chunks
    assert [(row["bytes"], row["path"]) for row in table.column("image").to_pylist()] == images
    assert table.schema.equals(IMAGE_FEATURES.arrow_schema)


def test_a_table_without_images_has_the_column_all_the_same() -> None:
    table = image_table([])
    assert table.num_rows == 0 and table.schema.equals(IMAGE_FEATURES.arrow_schema)


def test_jpeg_halves_the_color_as_pillow_does_unless_all_of_it_is_wanted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    for options, full_color in (({}, False), ({"subsampling": 0}, True)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95, **options)  # type: ignore[arg-type]
        assert jpeg(pixels, full_color=full_color) == file.getvalue()
    wide = np.concatenate((pixels, pixels), axis=1)
    assert jpeg(wide[:, :17], full_color=True) == jpeg(pixels, full_color=True)  # a view that is not contiguous
