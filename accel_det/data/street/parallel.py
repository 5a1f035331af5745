"""A pure function of an index, evaluated by several processes, the results in order."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TypeVar

ResultT = TypeVar("ResultT")

_MOST_WORKERS = 32
# Below this number for each process, its start costs more than it gains.
_WORTH_A_PROCESS = 8


def in_order(evaluate: Callable[[int], ResultT], count: int, *, workers: int | None = None) -> Iterator[ResultT]:
    """evaluate(0), evaluate(1), ... up to count, the same whatever the number of processes.

    Processes are forked, since they must see the caller's function and start at once; where that is not safe (other
    systems than Linux, a daemonic process), the calling process does all. It also does what a lost process left undone.

    Args:
        evaluate: pure; it must not use torch or pyarrow, whose threads a forked process lacks.
        workers: how many processes; None: one per core.
    """
    wanted = min(workers or cores(), _MOST_WORKERS, count // _WORTH_A_PROCESS)
    if wanted < 2 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        yield from map(evaluate, range(count))
        return
    context = multiprocessing.get_context("fork")
    receivers: list[Connection] = []
    processes: list[BaseProcess] = []
    try:
        for first in range(wanted):
            receiver, sender = context.Pipe(duplex=False)
            # The child closes its copy of the receiver: once the caller is gone, it cannot send any more, and ends.
            worker = context.Process(
                target=_work, args=(evaluate, range(first, count, wanted), sender, receiver), daemon=True
            )
            worker.start()
            sender.close()
            receivers.append(receiver)
            processes.append(worker)
        lost: set[int] = set()
        for index in range(count):
            yield _next_result(evaluate, index, receivers[index % wanted], lost=lost)
    finally:
        for receiver in receivers:
            receiver.close()
        for process in processes:
            process.kill()
            process.join()


def _next_result(evaluate: Callable[[int], ResultT], index: int, receiver: Connection, *, lost: set[int]) -> ResultT:
    if receiver.fileno() not in lost:
        try:
            result: ResultT = receiver.recv()
            return result
        except (EOFError, OSError):
            lost.add(receiver.fileno())
    return evaluate(index)


def _work(evaluate: Callable[[int], object], indices: range, sender: Connection, receiver: Connection) -> None:
    # The caller's handlers are about the caller's work; a process that draws may end at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    receiver.close()
    try:
        for index in indices:
            sender.send(evaluate(index))
    except Exception:
        # The caller evaluates it again, and the error is raised where it can be read.
        os._exit(1)


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
