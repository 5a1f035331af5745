"""Exit codes, and errors as one line instead of a traceback.

0   done, or nothing left to do
1   a defect of the program, with a traceback to report
2   bad input: configuration, data, weights, checkpoint or arguments; the line says what to do
3   `check` found what stops a run
4   the Hub could not be reached or refused a push
130 interrupted by Ctrl-C; a run saved a checkpoint first
143 ended by SIGTERM; a run saved a checkpoint first
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

DONE, DEFECT, BAD_INPUT, CHECK_FAILED, HUB_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

_LOST_PEER = (
    "Connection closed by peer",
    "Connection reset by peer",
    "gloo/transport",
    "Broken pipe",
    "NCCL",
    "Timed out",
)
_LOST_WORKER = (
    "a process that decodes images was killed, perhaps for want of memory: lower data.workers, then --resume auto"
)


class Explained(NamedTuple):
    """An error in words, and its exit code."""

    message: str
    code: int


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run a command; what a user can cause becomes one line on stderr and an exit code."""
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except Exception as error:
        found = explain(error)
        if found is None:
            raise
        complain(found.message)
        return found.code


def explain(error: Exception) -> Explained | None:
    """What a person is told of an error; None for a defect of the program, which needs its traceback."""
    text = str(error)
    first_line = text.partition("\n")[0]
    if isinstance(error, ConnectionError):
        return Explained(f"{_LOST_WORKER} ({text})", DEFECT)
    if isinstance(error, ValueError | OSError):
        return Explained(text, BAD_INPUT)
    if isinstance(error, MemoryError):
        return Explained(
            f"out of memory: {text}; lower train.max_images_per_forward, or raise runtime.max_memory_gb", BAD_INPUT
        )
    if lost_another_process(error):
        return Explained("lost contact with another process; the line of the process that ended first says why", DEFECT)
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return Explained(f"{_LOST_WORKER} ({first_line})", DEFECT)
    if isinstance(error, RuntimeError) and any(sign in text for sign in ("out of memory", "can't allocate memory")):
        return Explained(
            f"{first_line}; lower train.max_images_per_forward, which accumulates instead, or raise "
            "runtime.max_memory_gb",
            BAD_INPUT,
        )
    return None


def lost_another_process(error: Exception) -> bool:
    """Whether an error only says that another process is gone, not why."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _LOST_PEER)


def complain(message: str) -> None:
    """One error on stderr; where several processes meet the same one before they know each other, the first speaks."""
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or _have_met():
        speaker = f" (process {rank})" if rank else ""
        for line in message.splitlines():
            print(f"error{speaker}: {line}", file=sys.stderr)  # noqa: T201


def answer(value: dict[str, Any]) -> None:
    """The machine-readable result of `--json`: one line on stdout, and nothing else there."""
    print(json.dumps(value, default=str))  # noqa: T201


def _have_met() -> bool:
    import torch.distributed as dist

    return bool(dist.is_available() and dist.is_initialized())
