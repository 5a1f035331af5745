"""Bytes to uint8 RGB: the one place that knows decoders and EXIF.

One convention: pixels, sizes and boxes are those of the image as its EXIF orientation says it is to be looked at. The
orientation is read from the EXIF block alone (JPEG, PNG, WebP, AVIF, TIFF), never from XMP.
"""

import io
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_PIXELS = 178_956_970
"""The largest image taken, in pixels: 512 MiB of RGB, where Pillow warns. At twice that it stops by itself."""

_ORIENTATION_TAG = 274
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = (5, 6, 7, 8)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH_BYTE = 24
_MARKER, _EXIF_SEGMENT, _SCAN = 0xFF, b"\xe1", b"\xda"
"""Of a JPEG: the byte that begins every segment, and the second one of EXIF blocks and of the pixels."""

_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")

Decoder = Callable[[bytes], Tensor]


def decode(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """An encoded image as RGB, upright.

    Grey, palette, 1-bit, CMYK and YCbCr become RGB; an alpha channel is composited on white; of 16-bit grey the high
    byte is kept; of an animation or of several pages the first is taken; ICC profiles are not applied. torchcodec
    decodes plain 8-bit JPEG and PNG where it is installed, Pillow everything else: the pixels are the same.

    Args:
        data: the content of the file.
        name: of the file, for the message.
        max_pixels: a larger image is refused by its header, before anything is decoded.

    Returns:
        (3, H, W) uint8 RGB; in memory pixel after pixel, as decoders write them: to copy an image into planes before it is
        resized takes longer than to resize it as it is, and the result is the same.

    Raises:
        ValueError: not an image, too large, truncated or damaged, or of a kind without an RGB meaning (float pixels).
    """
    image = _open(io.BytesIO(data), name=name, max_pixels=max_pixels)
    turn = _orientation(image)
    fast = _fast_decoder(image, data) if turn == _UPRIGHT else None
    plain = _without_exif(data, image.format) if fast is not None else None
    if fast is not None and plain is not None:
        try:
            return fast(plain).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        except (RuntimeError, ValueError):
            pass  # Pillow reads more than torchcodec does (arithmetic JPEG), and says better what is wrong.
    try:
        rgb = _to_rgb(image)
    except Exception as error:  # decoders raise nearly anything on damaged data: OSError, SyntaxError, IndexError, ...
        raise ValueError(
            f"{name}: {image.format} of {image.width}x{image.height} pixels cannot be decoded: {error}; "
            "the file is truncated, damaged or of an unsupported kind: restore it, or leave it out of the set"
        ) from error
    if turn in _TURNS:
        rgb = rgb.transpose(_TURNS[turn])
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def image_size(
    source: bytes | str | os.PathLike[str], *, name: str = "", max_pixels: int = MAX_PIXELS
) -> tuple[int, int]:
    """Height and width in pixels of an upright image, from its header alone.

    Args:
        source: the content of a file, or its path.
        name: of the file, for the message; a path names itself.
        max_pixels: as for `decode`.

    Raises:
        ValueError: there is no such file, it is not an image, or it is too large.
    """
    return image_header(source, name=name, max_pixels=max_pixels)[1:]


def image_header(
    source: bytes | str | os.PathLike[str], *, name: str = "", max_pixels: int = MAX_PIXELS
) -> tuple[int, int, int]:
    """EXIF orientation (1 to 8), and height and width in pixels once it is applied; arguments as for `image_size`."""
    if isinstance(source, bytes):
        return _header(io.BytesIO(source), name=name or "image", max_pixels=max_pixels)
    path = Path(source)
    try:
        with path.open("rb") as stream:
            return _header(stream, name=name or str(path), max_pixels=max_pixels)
    except OSError as error:
        raise ValueError(f"{name or path}: cannot be read: {error.strerror or error}; restore the file") from error


def _header(stream: io.BytesIO | io.BufferedReader, *, name: str, max_pixels: int) -> tuple[int, int, int]:
    image = _open(stream, name=name, max_pixels=max_pixels)
    turn = _orientation(image)
    if turn in _SWAPS_SIDES:
        return turn, image.width, image.height
    return turn, image.height, image.width


def _open(stream: io.BytesIO | io.BufferedReader, *, name: str, max_pixels: int) -> Image.Image:
    """The header of an image; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's bomb and EXIF warnings: the limit is checked below.
            image = Image.open(stream)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: more pixels than the limit of {max_pixels}: {error}; scale the file down") from error
    except Exception as error:  # as in decode: header parsers raise nearly anything
        stream.seek(0)
        raise ValueError(f"{name}: not an image: {_describe(stream.read(16))}; {_conversion_advice()}") from error
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{name}: {image.width}x{image.height} pixels are more than the limit of {max_pixels}; scale the file down"
        )
    if image.width < 1 or image.height < 1:
        raise ValueError(f"{name}: an image of {image.width}x{image.height} pixels; restore the file")
    return image


def _describe(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC, which cannot be read here"
    return f"it starts with {head!r}, which no known image format does or which ends too early"


def _conversion_advice() -> str:
    return "convert it to JPEG or PNG, restore it, or leave it out of the set"


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it is damaged. Pillow has already turned the sides of TIFF."""
    block = image.info.get("exif")
    if block is None and image.format == "PNG":
        block = _png_exif(image)
    if not block:
        return _UPRIGHT
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exif.load(block)
        turn = int(exif.get(_ORIENTATION_TAG, _UPRIGHT))
    except Exception:  # damaged EXIF is as good as none; its parser raises nearly anything
        return _UPRIGHT
    return turn if turn in _TURNS else _UPRIGHT


def _png_exif(image: Image.Image) -> bytes | None:
    """The EXIF chunk of a PNG, which may come after the pixels; Pillow would decode them to get there."""
    stream = getattr(image, "fp", None)
    if stream is None:
        return None
    position = stream.tell()
    stream.seek(0)
    found = None
    if stream.read(8) == _PNG_SIGNATURE:
        while len(head := stream.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind == b"eXIf":
                found = b"Exif\x00\x00" + stream.read(min(length, 1 << 20))
                break
            stream.seek(length + 4, os.SEEK_CUR)
    stream.seek(position)
    return found


def _to_rgb(image: Image.Image) -> Image.Image:
    """Decodes the first frame and converts it to mode RGB."""
    image.load()
    mode = image.mode
    if mode.startswith("I"):
        high = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(high.astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise ValueError("float pixels have no fixed range; convert it to 8 bits")
    if mode in _ALPHA_MODES or "transparency" in image.info:
        if mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _fast_decoder(image: Image.Image, data: bytes) -> Decoder | None:
    """torchcodec's decoder where it is known to give Pillow's pixels: 8-bit grey or RGB without transparency."""
    if image.mode not in ("L", "RGB") or "transparency" in image.info or image.format not in ("JPEG", "PNG"):
        return None
    if image.format == "PNG" and data[_PNG_BIT_DEPTH_BYTE] != 8:
        return None
    decoders = _torchcodec()
    if decoders is None:
        return None
    return decoders[0] if image.format == "JPEG" else decoders[1]


def _without_exif(data: bytes, kind: str | None) -> bytes | None:
    """A file without its EXIF blocks, by which torchcodec turns images even where they are damaged; None: it is not simple."""
    if kind == "PNG":
        return data if b"eXIf" not in data else None
    kept, position = [data[:2]], 2
    while (head := data[position : position + 4])[1:2] != _SCAN:
        length = 2 + int.from_bytes(head[2:], "big")
        if len(head) < 4 or head[0] != _MARKER or length < 4:
            return None
        if head[1:2] != _EXIF_SEGMENT:
            kept.append(data[position : position + length])
        position += length
    return b"".join((*kept, data[position:]))


@lru_cache(maxsize=1)
def _torchcodec() -> tuple[Decoder, Decoder] | None:
    """JPEG and PNG decoders of torchcodec, or None where it is not installed or does not load."""
    try:
        from torchcodec.decoders import decode_jpeg, decode_png
    except (ImportError, OSError, RuntimeError):
        return None
    decoders: tuple[Decoder, Decoder] = (decode_jpeg, decode_png)
    return decoders
