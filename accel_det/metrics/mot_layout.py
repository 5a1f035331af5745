"""Which file holds the truth of a sequence, and which the results: single files, or folders as MOTChallenge has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from accel_det.metrics.mot_files import MotBoxes, MotTruth, read_results, read_sequence_info, read_truth

_INSIDE = (Path("gt", "gt.txt"), Path("gt.txt"))
_LAYOUTS = "<sequence>/gt/gt.txt, <sequence>/gt.txt or <sequence>.txt"


class SequenceFiles(NamedTuple):
    """One sequence.

    Attributes:
        info: its `seqinfo.ini`, None where there is none.
    """

    name: str
    truth: Path
    results: Path
    info: Path | None


class FoundSequences(NamedTuple):
    """Sequences by name, and files of results that no truth belongs to."""

    sequences: list[SequenceFiles]
    unused: list[Path]


def find_sequences(truth: Path, results: Path, *, names: Sequence[str] = ()) -> FoundSequences:
    """Pair truth and results by the name of the sequence.

    Args:
        truth: a file, the folder of a sequence, or a folder of `<sequence>/gt/gt.txt`, `<sequence>/gt.txt`, `<sequence>.txt`.
        results: a file, or a folder of `<sequence>.txt`.
        names: of the sequences that are meant; all that have truth where it is empty.

    Raises:
        ValueError: nothing is there, or a sequence that is meant has no truth or no results.
    """
    all_truths = _truths(truth)
    unknown = [name for name in names if name not in all_truths]
    if unknown:
        raise ValueError(f"{truth}: no truth of sequence {unknown[0]}; there is that of {listed(list(all_truths))}")
    truths = {name: file for name, file in all_truths.items() if not names or name in names}
    if results.is_file():
        if len(truths) > 1:
            raise ValueError(
                f"{results}: one file, but {truth} holds {len(truths)} sequences ({listed(list(truths))}); give a folder "
                "with <sequence>.txt of each, or choose one with --sequences"
            )
        files = dict.fromkeys(truths, results)
    elif results.is_dir():
        files = {name: results / f"{name}.txt" for name in truths}
    else:
        raise ValueError(f"{results}: no such file or folder; correct the path of the results")
    missing = [name for name, file in files.items() if not file.is_file()]
    if missing:
        raise ValueError(
            f"{results}: no results of {listed(missing)}, expected {missing[0]}.txt; a tracker that found nothing leaves an "
            "empty file; choose what is to be scored with --sequences"
        )
    unused = sorted(file for file in results.glob("*.txt") if file.stem not in all_truths)
    return FoundSequences([SequenceFiles(n, f, files[n], _info_beside(f)) for n, f in truths.items()], unused)


def read_sequence(files: SequenceFiles) -> tuple[MotTruth, MotBoxes]:
    """Truth and results, within the frames of the sequence where these are known.

    Raises:
        ValueError: see `read_truth`, `read_results` and `read_sequence_info`; or a frame beyond the last.
    """
    truth, found = read_truth(files.truth), read_results(files.results)
    if files.info is not None:
        most = read_sequence_info(files.info).num_frames
        for file, frames in ((files.truth, truth.frames), (files.results, found.frames)):
            if len(frames) and frames.max() > most:
                raise ValueError(
                    f"{file}: frame {frames.max()}, but {files.info} says seqLength={most}; choose the files of one sequence"
                )
    return truth, found


def listed(names: Sequence[object]) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(str, names[:5])) + rest


def _truths(path: Path) -> dict[str, Path]:
    """Name of each sequence -> file of its truth."""
    if path.is_file():
        folder = path.parent.parent if path.parent.name == "gt" else path.parent
        return {folder.resolve().name if path.name == "gt.txt" else path.stem: path}
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or folder; correct the path of the truth")
    own = _inside(path)
    if own is not None:
        return {path.resolve().name: own}
    entries = sorted(path.iterdir())
    single = {entry.stem: entry for entry in entries if entry.suffix == ".txt" and entry.is_file()}
    folders = {entry.name: file for entry in entries if entry.is_dir() and (file := _inside(entry)) is not None}
    found = dict(sorted((single | folders).items()))
    if not found:
        raise ValueError(f"{path}: no truth in it, expected {_LAYOUTS}; correct the path")
    return found


def _inside(folder: Path) -> Path | None:
    return next((folder / inside for inside in _INSIDE if (folder / inside).is_file()), None)


def _info_beside(truth: Path) -> Path | None:
    """The `seqinfo.ini` of the sequence that a file of truth belongs to."""
    if truth.name != "gt.txt":
        return None
    folder = truth.parent.parent if truth.parent.name == "gt" else truth.parent
    info = folder / "seqinfo.ini"
    return info if info.is_file() else None
