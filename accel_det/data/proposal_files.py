"""The forms in which regions are stored: parquet, JSON lines, and MATLAB files of selective search."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from accel_det.data.lines import one_line, parse_json
from accel_det.data.matlab import read_matlab_file


class Regions(NamedTuple):
    """What a file says.

    Attributes:
        names: (N) of the images, as the file has them.
        starts: (N + 1,) where the regions of each begin.
        boxes: (R, 4) float32, xyxy, pixels.
        scores: (R,) float32, higher is better; None where the file has none.
    """

    names: Sequence[str]
    starts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32] | None


def read_parquet(file: Path) -> Regions:
    """Columns name (text), boxes (a list of four numbers for each region, or all numbers in one list), maybe scores."""
    try:
        table = pq.read_table(file)
        present = table.column_names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as parquet ({_first_line(error)}); write the file again") from None
    missing = {"name", "boxes"} - set(present)
    if missing:
        raise ValueError(
            f"{file}: no column {', '.join(sorted(missing))}; it has {', '.join(present)}, expected name, boxes "
            "and maybe scores"
        )
    names = _texts(table.column("name"), file)
    try:
        starts, boxes = _list_column(table.column("boxes"), width=4)
        scores = None
        if "scores" in present:
            score_starts, scores = _list_column(table.column("scores"), width=1)
            _same_counts(file, names, starts, score_starts)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(
            f"{file}: boxes and scores must be lists of numbers without nulls ({_first_line(error)}); write the file again"
        ) from None
    return Regions(names, starts, boxes.reshape(-1, 4), None if scores is None else scores.reshape(-1))


def read_json_lines(file: Path) -> Regions:
    """A line {"name": text, "boxes": [[x1, y1, x2, y2], ...], "scores": [...]} for each image; scores in all or none."""
    names, counts, all_boxes, all_scores = [], [0], [], []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
                with np.errstate(over="ignore"):
                    name, boxes = record["name"], np.asarray(record["boxes"], np.float32)
                    scores = np.asarray(record["scores"], np.float32) if "scores" in record else None
            except (ValueError, KeyError, TypeError, OverflowError) as error:
                raise _line_error(file, number, _first_line(error)) from None
            if not isinstance(name, str) or (boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4)):
                raise _line_error(file, number, f"name {name!r}, boxes of shape {boxes.shape}")
            boxes = boxes.reshape(-1, 4)
            if scores is not None and scores.shape != (len(boxes),):
                raise _line_error(file, number, f"{len(boxes)} boxes and scores of shape {scores.shape}")
            names.append(name)
            counts.append(len(boxes))
            all_boxes.append(boxes)
            all_scores += [] if scores is None else [scores]
    if all_scores and len(all_scores) != len(names):
        raise ValueError(f"{file}: {len(all_scores)} of {len(names)} lines have scores; give them in all or in none")
    return Regions(
        names,
        np.cumsum(counts, dtype=np.int64),
        np.concatenate([np.zeros((0, 4), np.float32), *all_boxes]),
        np.concatenate(all_scores) if all_scores else None,
    )


def read_matlab(file: Path) -> Regions:
    """Cells `images` (names) and `boxes` ((P, 4) each: y1, x1, y2, x2, where the first pixel of an image is 1, 1).

    The corners name the first and the last pixel of a region, so that it reaches from x1 - 1 to x2 in coordinates in which
    pixels have a width.

    Source: the files of selective search (Uijlings et al., 2013) that Fast R-CNN was published with.
    """
    try:
        found = read_matlab_file(file, ("boxes", "images"))
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read as a MATLAB file ({_first_line(error)}); fetch it again") from None
    missing = [key for key in ("boxes", "images") if key not in found]
    if missing:
        raise ValueError(f"{file}: no variable {', '.join(missing)}; expected `boxes` and `images` of selective search")
    cells, images = (np.asarray(found[key]).reshape(-1) for key in ("boxes", "images"))
    if len(cells) != len(images):
        raise ValueError(f"{file}: {len(cells)} cells of boxes for {len(images)} images; fetch it again")
    names, counts, all_boxes = [], [0], []
    for cell, image in zip(cells, images, strict=True):
        name, numbers = image, np.asarray(cell)
        if not isinstance(name, str):
            raise ValueError(
                f"{file}: an entry of images is {one_line(repr(name), most=80)}, expected a text; fetch it again"
            )
        if numbers.size and (numbers.ndim != 2 or numbers.shape[1] != 4 or numbers.dtype.kind not in "iuf"):
            raise ValueError(f"{file}: boxes of {name} are {numbers.dtype} of shape {numbers.shape}, expected (P, 4)")
        with np.errstate(over="ignore"):
            y1, x1, y2, x2 = numbers.reshape(-1, 4).astype(np.float32).T
        names.append(name)
        counts.append(len(x1))
        all_boxes.append(np.stack((x1 - 1, y1 - 1, x2, y2), axis=1))
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *all_boxes])
    return Regions(names, np.cumsum(counts, dtype=np.int64), boxes, None)


READERS: Mapping[str, Callable[[Path], Regions]] = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".mat": read_matlab,
}


def _list_column(column: pa.ChunkedArray, *, width: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the rows of each record begin, and all numbers, of a column of lists; a null list is an empty one."""
    lists = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    lengths = np.nan_to_num(pc.list_value_length(lists).to_numpy(zero_copy_only=False)).astype(np.int64)
    values = pc.list_flatten(lists)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type):
        inner = pc.list_value_length(values)
        if len(inner) and pc.any(pc.or_kleene(pc.is_null(inner), pc.not_equal(inner, width))).as_py():
            raise TypeError(f"a region has not {width} numbers")
        values = pc.list_flatten(values)
    elif width > 1:
        if (lengths % width).any():
            raise TypeError(f"numbers of an image are no multiple of {width}")
        lengths //= width
    if values.null_count:
        raise TypeError("a number is null")
    numbers = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64), numbers


def _same_counts(file: Path, names: list[str], starts: NDArray[np.int64], score_starts: NDArray[np.int64]) -> None:
    differ = np.diff(starts) != np.diff(score_starts)
    if differ.any():
        row = int(np.argmax(differ))
        raise ValueError(
            f"{file}: {names[row]} has {np.diff(starts)[row]} boxes and {np.diff(score_starts)[row]} scores; "
            "write the file again"
        )


def _texts(column: pa.ChunkedArray, file: Path) -> list[str]:
    try:
        texts: list[str] = column.to_pylist()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: column name is no UTF-8 ({error}); write the file again") from None
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{file}: column name is {column.type}, expected text without nulls; write the file again")
    return texts


def _line_error(file: Path, number: int, what: str) -> ValueError:
    return ValueError(
        f'{file}, line {number}: {what}; expected {{"name": "a.jpg", "boxes": [[x1, y1, x2, y2], ...], "scores": [...]}}'
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
