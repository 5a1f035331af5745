"""Image files that are damaged, odd, or no images: in a set, and each by itself."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from PIL import Image
from small_sets import HEIGHT, WIDTH, png, write_files

from accel_det.data.decode import decode, image_size
from accel_det.data.sources import SetSpec

ODD = (
    Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "formats/odd_images"
)

NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def encoded(kind: str, image: Image.Image = NOISE, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(orientation: int) -> bytes:
    """A JPEG with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return encoded("JPEG", exif=exif)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *, pixels: bytes = b"") -> bytes:
    """A PNG that claims a size, and has other pixels or none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bmp_of(width: int, height: int) -> bytes:
    """A BMP that claims a size, and has no pixels."""
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


KINDS = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")}
PROGRESSIVE = encoded("JPEG", progressive=True)
LOSSLESS = encoded("WEBP", lossless=True)
TEXT = b"<html><body>404 Not Found</body></html>"


class Picture(NamedTuple):
    """An image file, and the (height, width) that it has upright; or a regular expression for why it has no pixels."""

    name: str
    data: bytes
    outcome: tuple[int, int] | str


NONE = r": not an image: "
DAMAGED = r" of 40x30 pixels cannot be decoded: .*truncated, damaged"
BOMB = r"pixels are more than the limit of 178956970|more pixels than the limit of 178956970"
UPRIGHT, ON_ITS_SIDE = (HEIGHT, WIDTH), (WIDTH, HEIGHT)
SHARES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

CUT = [
    Picture(f"{kind} cut at {share:.0%}", data[: int(len(data) * share)], f"{NONE}|{DAMAGED}")
    for kind, data in {**KINDS, "progressive JPEG": PROGRESSIVE, "lossless WEBP": LOSSLESS}.items()
    for share in SHARES
]

NO_IMAGES = [
    Picture("an empty file", b"", f"{NONE}the file is empty"),
    Picture("a text", TEXT, rf"{NONE}it starts with b'<html><body>404"),
    Picture("zeros", bytes(1000), NONE),
    Picture("the first two bytes of a JPEG", b"\xff\xd8", f"{NONE}it starts with .* or which ends too early"),
    Picture("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>', NONE),
    Picture("HEIC", b"\0\0\0\x18ftypheic" + bytes(12), f"{NONE}HEIC, which cannot be read here"),
    Picture("a pickle", b"\x80\x04\x95\x05\0\0\0\0\0\0\0\x8c\x01a\x94.", NONE),
    Picture("a header without pixels", png_of(40, 30), DAMAGED),
    Picture("0 by 0 pixels", png_of(0, 0), rf"{NONE}|an image of 0x0 pixels"),
    Picture("no height", png_of(40, 0), rf"{NONE}|an image of 40x0 pixels"),
    Picture("30,000 by 30,000 pixels, PNG", png_of(30_000, 30_000), BOMB),
    Picture("65,535 by 65,535 pixels, BMP", bmp_of(65_535, 65_535), BOMB),
    Picture("2,147,483,647 pixels wide, PNG", png_of(2**31 - 1, 1), BOMB),
    Picture("13,400 by 13,400 pixels, PNG", png_of(13_400, 13_400), BOMB),
    Picture("pixels that are not compressed", png_of(40, 30, pixels=bytes(3630)), DAMAGED),
    Picture("a PNG with a wrong check sum of its header", KINDS["PNG"][:29] + bytes(4) + KINDS["PNG"][33:], NONE),
    Picture("float pixels", encoded("TIFF", Image.new("F", (40, 30))), "float pixels have no fixed range; convert it to 8 bits"),
]  # fmt: skip

ODD_KINDS = [
    *(Picture(f"EXIF orientation {turn}", turned(turn), ON_ITS_SIDE if turn >= 5 else UPRIGHT) for turn in range(1, 9)),
    Picture("EXIF orientation 9, which there is not", turned(9), UPRIGHT),
    Picture("EXIF that is damaged", encoded("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), UPRIGHT),
    Picture("CMYK JPEG", encoded("JPEG", NOISE.convert("CMYK")), UPRIGHT),
    Picture("CMYK TIFF", encoded("TIFF", NOISE.convert("CMYK")), UPRIGHT),
    Picture("CIELAB", encoded("TIFF", NOISE.convert("LAB")), UPRIGHT),
    Picture("16-bit grey", encoded("PNG", Image.fromarray(np.full((30, 40), 40_000, np.uint16))), UPRIGHT),
    Picture("32-bit grey", encoded("TIFF", Image.new("I", (40, 30), 70_000)), UPRIGHT),
    Picture("1 bit", encoded("PNG", NOISE.convert("1")), UPRIGHT),
    Picture("grey with alpha", encoded("PNG", NOISE.convert("LA")), UPRIGHT),
    Picture("a palette with transparency", encoded("PNG", NOISE.convert("P"), transparency=3), UPRIGHT),
    Picture("an animated GIF", encoded("GIF", save_all=True, append_images=[NOISE] * 3), UPRIGHT),
    Picture("an animated WebP", encoded("WEBP", save_all=True, append_images=[NOISE] * 3), UPRIGHT),
    Picture("three pages of TIFF", encoded("TIFF", save_all=True, append_images=[NOISE] * 2), UPRIGHT),
    Picture("a progressive JPEG", PROGRESSIVE, UPRIGHT),
    Picture("a color profile that is none", encoded("PNG", icc_profile=b"no profile"), UPRIGHT),
    Picture("bytes behind the end", KINDS["JPEG"] + TEXT, UPRIGHT),
    Picture("10 MB of pixels for 1,200", png_of(40, 30, pixels=zlib.compress(bytes(10**7))), UPRIGHT),
    Picture("one pixel", encoded("PNG", Image.new("RGB", (1, 1))), (1, 1)),
    Picture("1 by 65,000 pixels", encoded("PNG", Image.new("L", (1, 65_000))), (65_000, 1)),
]  # fmt: skip

PICTURES = [*CUT, *NO_IMAGES, *ODD_KINDS]

FILES = {
    "MM2A_46_R_T.png": (327, 142),
    "classify.jpg": (1700, 1200),
    "file_example_TIFF_1MB.tiff": (434, 650),
    "hand-rabbit.PNG": (640, 427),
    "not_an_image.txt": f"{NONE}the file is empty",
    "predictions.jpg": (153, 297),
    "rabbit.JPG": (992, 1024),
    "rabbit2.jpg": (863, 1440),
    "sky-rabbit.gif": (640, 432),
    "sky-rabbit.heic": f"{NONE}HEIC, which cannot be read here",
    "whatsnew.avif": (200, 240),
    "woodland-rabbit.png": (640, 427),
}
"""Height and width that the header of each has; of those that cannot be read, why."""


def assert_pixels_or_reason(data: bytes, outcome: tuple[int, int] | str, name: str) -> None:
    if isinstance(outcome, str):
        with pytest.raises(ValueError, match=outcome) as error:
            decode(data, name=name)
        assert str(error.value).startswith(name) and str(error.value).isprintable()
        return
    pixels = decode(data, name=name)
    assert tuple(pixels.shape) == (3, *outcome) and image_size(data) == outcome


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_an_image_file_has_pixels_or_one_reason(picture: Picture) -> None:
    assert_pixels_or_reason(picture.data, picture.outcome, "folder/a.jpg")


@pytest.mark.parametrize("name", FILES)
def test_every_odd_image_of_the_real_data_has_pixels_or_one_reason(name: str) -> None:
    if not ODD.is_dir():
        pytest.skip(f"odd images are not there: no {ODD}")
    assert_pixels_or_reason((ODD / name).read_bytes(), FILES[name], str(ODD / name))
    assert {file.name for file in ODD.iterdir()} == set(FILES)


HEADER, ROWS = "image,label,x1,y1,x2,y2\n", "a.png,dog,1,2,11,14\nb.png,dog,1,2,11,14\n"
VALID = {"train.csv": HEADER + ROWS, "images/a.png": png(0), "images/b.png": png(1)}


def second(name: str, data: bytes, found: str, line: str, left: Left | None = None) -> Entry:
    """Another second image."""
    return Entry(f"set: {name}", {"images/b.png": data}, found, line, left)


def by_name(name: str, found: str, line: str, left: Left | None = None, **files: bytes) -> Entry:
    """A third image, by its name in the table."""
    rows = f"{HEADER}{ROWS}{name},dog,1,2,11,14\n"
    return Entry(f"set: the name {name!r}", {"train.csv": rows} | files, found, line, left)


HEADERS = "unreadable_file"

ENTRIES = [
    second("an empty image", b"", HEADERS, r"b\.png, .*: not an image: the file is empty"),
    second("a text for an image", TEXT, HEADERS, r"b\.png, .*: not an image: it starts with b'<html>"),
    second("HEIC for an image", b"\0\0\0\x18ftypheic" + bytes(12), HEADERS, r"b\.png, .*: not an image: HEIC"),
    second("a bomb for an image", png_of(60_000, 60_000), HEADERS, r"b\.png, .*more pixels than the limit"),
    second("an image cut within its header", KINDS["PNG"][:20], HEADERS, r"b\.png, .*: not an image"),
    second("an image cut in the middle", KINDS["PNG"][:1000], "undecodable_file", r"set/images/b\.png: .* cannot be decoded"),
    second("an image on its side", turned(6), "exif_orientation", r"b\.png, .*: EXIF orientation 6", (2, 2)),
    by_name("c.png", "missing_file", r"train\.csv, line 4: no file 'c\.png'"),
    by_name("B.PNG", "duplicate_file case_mismatch", r"train\.csv, line 4: .*b\.png again"),
    by_name("http://host/c.png", "missing_file", "line 4: no file 'http://host/c.png'"),
    by_name("file:///etc/passwd", "missing_file", "line 4: no file 'file:///etc/passwd'"),
    by_name("zip://c.png::d.zip", "missing_file", "line 4: no file 'zip://c.png::d.zip'"),
    by_name("x" * 5000, "missing_file", "line 4: no file 'xxx"),
    by_name("c\u2028d.png", "missing_file", r"line 4: no file 'c\\u2028d\.png'"),
]  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_a_broken_image_of_a_set_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path, VALID, entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", "csv", str(tmp_path)), read_images=True))


def _folder(path: Path) -> None:
    path.mkdir()


def _dead_link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (_folder, "cannot be read: Is a directory"),
        (_dead_link, "cannot be read: No such file"),
        (_loop, "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_folder_or_a_link_in_place_of_an_image_is_named(
    make: Callable[[Path], None], line: str, tmp_path: Path
) -> None:
    write_files(tmp_path, VALID)
    (tmp_path / "images/b.png").unlink()
    make(tmp_path / "images/b.png")
    entry = Entry("a place", {}, HEADERS, rf"b\.png, .*{line}")
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", "csv", str(tmp_path))))
