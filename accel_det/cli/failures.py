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
from typing import Any

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


def guarded(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run a command; what a user can cause becomes one line on stderr and an exit code."""
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except ConnectionError as error:
        complain(f"{_LOST_WORKER} ({error})")
        return DEFECT
    except (ValueError, OSError) as error:
        complain(str(error))
        return BAD_INPUT
    except MemoryError as error:
        complain(f"out of memory: {error}; lower train.max_images_per_forward, or raise runtime.max_memory_gb")
        return BAD_INPUT
    except RuntimeError as error:
        if any(sign in str(error) for sign in _LOST_PEER):
            complain("lost contact with another process; the line of the process that ended first says why")
            return DEFECT
        if "DataLoader worker" in str(error):
            complain(f"{_LOST_WORKER} ({str(error).splitlines()[0]})")
            return DEFECT
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            first_line = str(error).splitlines()[0]
            complain(f"{first_line}; lower train.max_images_per_forward, which accumulates instead")
            return BAD_INPUT
        raise


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
