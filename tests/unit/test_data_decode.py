"""Decoding: EXIF, modes, damage, bombs."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from accel_det.data import decode as module
from accel_det.data.decode import decode, image_size

Pixels = npt.NDArray[np.uint8]

UPRIGHT = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def stored(upright: Pixels, orientation: int) -> Pixels:
    """The rows and columns that a file with this orientation holds.

    Source: EXIF 2.32, tag 274: which side of the picture its row 0 and its column 0 are.
    """
    return {
        1: upright,  # row 0 top, column 0 left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.transpose(1, 0, 2),  # left, top
        6: upright[:, ::-1].transpose(1, 0, 2),  # right, top
        7: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: upright[::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation]


def encode(image: Image.Image, kind: str, *, orientation: int | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    if orientation is not None:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    image.save(stream, kind, **options)
    return stream.getvalue()


def channels_first(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied_to_pixels_and_size(kind: str, orientation: int) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encode(Image.fromarray(stored(UPRIGHT, orientation)), kind, orientation=orientation, **options)
    pixels = decode(data, name="a")
    assert pixels.permute(1, 2, 0).is_contiguous() and pixels.dtype == torch.uint8
    assert torch.equal(pixels, channels_first(UPRIGHT))
    assert image_size(data) == (5, 7)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_of_every_orientation_has_its_corners_where_they_belong(orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # one white block, top left; 8 pixels are the block of JPEG, so it survives
    upright[8:, 24:, 0] = 255  # one red block, bottom right
    picture = Image.fromarray(stored(upright, orientation))
    data = encode(picture, "JPEG", orientation=orientation, quality=100, subsampling=0)
    difference = decode(data, name="a").int() - channels_first(upright).int()
    assert difference.abs().max() <= 3
    assert image_size(data) == (16, 32)


def test_an_orientation_behind_the_pixels_of_a_png_is_seen_without_decoding() -> None:
    data = encode(Image.fromarray(stored(UPRIGHT, 6)), "PNG")
    exif = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    end = data.index(b"IEND") - 4
    data = data[:end] + png_chunk(b"eXIf", exif) + data[end:]
    assert image_size(data) == (5, 7)
    assert torch.equal(decode(data, name="a"), channels_first(UPRIGHT))


def test_damaged_exif_is_as_good_as_none() -> None:
    data = encode(Image.fromarray(UPRIGHT), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert torch.equal(decode(data, name="a"), channels_first(UPRIGHT))


@pytest.mark.parametrize("damage", [(b"Exif", b"Exxf"), (b"\x01\x12\x00\x03", b"\x01\x12\x00\xd0")])
def test_a_jpeg_is_not_turned_by_exif_that_its_header_is_not_read_by(damage: tuple[bytes, bytes]) -> None:
    data = encode(Image.fromarray(UPRIGHT), "JPEG", orientation=6)
    assert damage[0] in data and image_size(data) == (7, 5)
    broken = data.replace(*damage)
    assert image_size(broken) == tuple(decode(broken, name="a").shape[1:]) == (5, 7)


GREY = np.array([[0, 51, 102], [153, 204, 255]], np.uint8)


def grey_rgb() -> torch.Tensor:
    return channels_first(np.repeat(GREY[..., None], 3, axis=2))


def transparent(color: tuple[int, ...], mode: str) -> Image.Image:
    return Image.new(mode, (2, 2), color)


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.fromarray(GREY), "PNG"),
        encode(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        encode(Image.fromarray(GREY).convert("P"), "PNG"),
        encode(Image.fromarray(GREY).convert("P"), "GIF"),
        encode(Image.fromarray(GREY).convert("LA"), "PNG"),
        encode(Image.fromarray(GREY).convert("RGBA"), "PNG"),
        encode(Image.fromarray(GREY), "TIFF"),
        encode(Image.fromarray(GREY), "BMP"),
    ],
    ids=["8-bit", "16-bit", "palette", "GIF", "grey and alpha", "RGBA", "TIFF", "BMP"],
)
def test_grey_in_every_guise_gives_three_equal_channels(data: bytes) -> None:
    assert torch.equal(decode(data, name="a"), grey_rgb())


def test_one_bit_gives_black_and_white() -> None:
    data = encode(Image.fromarray(np.array([[True, False]])), "PNG")
    assert decode(data, name="a").tolist() == [[[255, 0]]] * 3


def test_cmyk_gives_the_color_it_stands_for() -> None:
    data = encode(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF")  # full cyan
    assert decode(data, name="a")[:, 0, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(("alpha", "expected"), [(255, [200, 100, 0]), (0, [255, 255, 255]), (51, [244, 224, 204])])
def test_transparency_is_composited_on_white(alpha: int, expected: list[int]) -> None:
    """200 * .2 + 255 * .8 = 244, and so on; alpha 51 is .2."""
    data = encode(transparent((200, 100, 0, alpha), "RGBA"), "PNG")
    assert decode(data, name="a")[:, 0, 0].tolist() == expected


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    data = encode(image, "PNG", transparency=0)
    assert decode(data, name="a")[:, 0].T.tolist() == [[255, 255, 255], [40, 50, 60]]


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("P", (2, 2), 0), Image.new("P", (2, 2), 1)]
    for frame in frames:
        frame.putpalette([1, 2, 3, 200, 200, 200])
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, name="a")[:, 0, 0].tolist() == [1, 2, 3]


def test_float_pixels_are_refused_with_what_to_do() -> None:
    data = encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(ValueError, match=r"depth\.tif: TIFF of 2x2 pixels.*8 bits"):
        decode(data, name="depth.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_refused_by_name(kind: str, share: float) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(pixels), kind)
    with pytest.raises(ValueError, match=r"cut\.jpg: .*(truncated|not an image)"):
        decode(data[: int(len(data) * share)], name="cut.jpg")


@pytest.mark.parametrize(
    ("data", "found"), [(b"", "empty"), (b"hello world, no image", "hello"), (b"\xff\xd8", "ends")]
)
def test_what_is_no_image_is_refused_with_what_it_starts_with(data: bytes, found: str) -> None:
    for read in (decode, image_size):
        with pytest.raises(ValueError, match=rf"a\.jpg: not an image.*{found}"):
            read(data, name="a.jpg")


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("side", [13_400, 15_000, 30_000, 65_535])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    """13,400 squared is 0.3 % over the limit; there are no pixels in the file, so nothing can have been decoded."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    for read in (decode, image_size):
        with pytest.raises(ValueError, match=r"bomb\.png: .*limit of 178956970"):
            read(data, name="bomb.png")


def test_the_pixel_limit_can_be_set() -> None:
    data = encode(Image.fromarray(UPRIGHT), "PNG")
    assert image_size(data, max_pixels=35) == (5, 7)
    with pytest.raises(ValueError, match="7x5 pixels are more than the limit of 34"):
        image_size(data, max_pixels=34)


def test_a_missing_file_or_a_folder_named_as_an_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    for name in ("folder.jpg", "missing.jpg"):
        with pytest.raises(ValueError, match=f"{name}: cannot be read"):
            image_size(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"subsampling": 0, "quality": 40}),
        ("JPEG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
    ],
)
def test_the_fast_decoder_gives_the_pixels_of_pillow(
    kind: str, mode: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchcodec")
    smooth = np.random.default_rng(2).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    data = encode(Image.fromarray(smooth).resize((97, 61)).convert(mode), kind, **options)
    assert module._fast_decoder(Image.open(io.BytesIO(data)), data) is not None
    fast = decode(data, name="a")
    monkeypatch.setattr(module, "_torchcodec", lambda: None)
    assert torch.equal(fast, decode(data, name="a"))
