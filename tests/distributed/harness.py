"""Real processes for tests: worlds that compute something together, and lives of the training command.

Processes are forked from a server that has imported the libraries once, so a world of four starts in a second. Each has
the environment that a launcher gives it, its own Accelerator, and talks to the others over gloo.
"""

import multiprocessing
import multiprocessing.process
import os
import pickle
import runpy
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "scripts" / "train.py"
_PRELOADED = (
    "torch",
    "torchvision",
    "accelerate",
    "accelerate.tracking",
    "datasets",
    "accel_det.cli.train",
    "accel_det.cli.compose_detection",
    "accel_det.cli.compose_reid",
    "accel_det.models.yolov5.model",
    "accel_det.models.reid.osnet",
    "accel_det.models.torchvision",
)


def run_world(
    function: Callable[..., Any], world: int, *arguments: object, folder: Path, timeout_s: float = 120
) -> list[Any]:
    """Call a module-level function in so many processes at once.

    Args:
        arguments: the same for all; the function finds its rank in its Accelerator.
        folder: empty place for what the processes leave.

    Returns:
        What each process returned, by rank.

    Raises:
        AssertionError: with the traceback of the process that failed, or where one did not end in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    targets = [(function, arguments, rank, world, port, folder) for rank in range(world)]
    processes = [_context().Process(target=_compute, args=target) for target in targets]
    try:
        for process in processes:
            process.start()
        _join(processes, timeout_s)
        failures = [path.read_text() for path in sorted(folder.glob("*.failure"))]
        assert not failures, "\n".join(failures)
        assert [process.exitcode for process in processes] == [0] * world, "a process did not end by itself"
    finally:
        for process in processes:
            process.kill()
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(world)]


class Life:
    """One start of `scripts/train.py` on so many processes; what is still alive at the end of the block is killed.

    Args:
        arguments: of the command.
        output: folder for what each process prints.
    """

    def __init__(self, arguments: Sequence[str], *, world: int, output: Path) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._files = [output / f"{time.monotonic_ns()}-{rank}.txt" for rank in range(world)]
        port = free_port()
        self.processes = [
            _context().Process(target=_train, args=(list(arguments), rank, world, port, self._files[rank]))
            for rank in range(world)
        ]

    def __enter__(self) -> Self:
        for process in self.processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def send(self, number: signal.Signals, *, rank: int) -> None:
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float = 90) -> None:
        """Poll; fails with the output where the processes end first."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            alive = all(process.is_alive() for process in self.processes)
            assert alive and time.monotonic() < deadline, f"it did not come to that:\n{self.output()}"
            time.sleep(0.005)

    def codes(self, *, timeout_s: float = 120) -> list[int | None]:
        """Wait for the end of all processes: their exit codes."""
        _join(self.processes, timeout_s)
        return [process.exitcode for process in self.processes]

    def output(self) -> str:
        return "\n".join(f"--- process {r}\n{f.read_text()}" for r, f in enumerate(self._files) if f.exists())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _context() -> Any:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


def _join(processes: Sequence[multiprocessing.process.BaseProcess], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))


def _enter_world(rank: int, world: int, port: int) -> None:
    """What a launcher tells its processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_PORT": port}
    if world > 1:
        os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    os.environ["ACCELERATE_USE_CPU"] = "true"
    # A process that a launcher starts forks its data workers; this one was made by the server, and would ask that.
    multiprocessing.set_start_method("fork", force=True)


def _compute(
    function: Callable[..., Any], arguments: tuple[object, ...], rank: int, world: int, port: int, folder: Path
) -> None:
    _enter_world(rank, world, port)
    try:
        import torch

        torch.set_num_threads(1)
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(function(*arguments)))
    except BaseException:
        (folder / f"{rank}.failure").write_text(f"process {rank}: {traceback.format_exc()}")
        raise


def _train(arguments: list[str], rank: int, world: int, port: int, output: Path) -> None:
    with output.open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    _enter_world(rank, world, port)
    os.chdir(ROOT)
    sys.argv = [str(TRAIN), *arguments]
    runpy.run_path(str(TRAIN), run_name="__main__")
