"""The one place that builds an Accelerator, and checks that the world it got is the one that was asked for."""

import os
import platform
import re
import resource
import sys
import warnings
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

from accel_det.config.schema import RuntimeSection

__all__ = [
    "Accelerator",
    "Topology",
    "check_expectations",
    "check_trackers",
    "default_device",
    "make_accelerator",
    "topology",
    "versions",
]

_PRECISION_VARIABLE = "ACCELERATE_MIXED_PRECISION"


class Topology(NamedTuple):
    """Where a run runs."""

    processes: int
    machines: int
    device: str
    precision: str
    threads: int
    backend: str


def world_size() -> int:
    """Number of processes that the launcher started, known before any process group exists."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the process that speaks, known before any process group exists."""
    return int(os.environ.get("RANK", "0")) == 0


def check_expectations(runtime: RuntimeSection) -> None:
    """Compare what the run expects with what the launcher set, before any process group exists.

    Raises:
        ValueError: another number of processes, another precision, or a precision that the device cannot do.
    """
    started = world_size()
    if runtime.processes not in (None, started):
        raise ValueError(
            f"runtime.processes is {runtime.processes}, but {started} were started: launch with "
            f"`accelerate launch --config_file FILE` whose num_processes is {runtime.processes}, or change the key"
        )
    told = os.environ.get(_PRECISION_VARIABLE)
    if runtime.precision is not None and told is not None and told != runtime.precision:
        raise ValueError(
            f"runtime.precision is {runtime.precision}, but accelerate was told mixed_precision {told}: "
            "make them agree in the accelerate config, or leave the key out"
        )
    if (runtime.precision or told) == "fp16" and not _has_accelerator():
        raise ValueError("precision fp16 needs a GPU, and there is none: use bf16 or no mixed precision on a CPU")


def check_trackers(names: list[str]) -> None:
    """Refuse a tracker whose package is missing, which accelerate would drop without a word.

    Raises:
        ValueError: names it, and those that can be used.
    """
    available = sorted(str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers())
    missing = [name for name in names if name not in available]
    if missing:
        raise ValueError(
            f"journal.trackers: {', '.join(missing)} cannot be used here; install the package, or choose among "
            f"{', '.join(available) or 'none'}"
        )


def make_accelerator(runtime: RuntimeSection, *, deterministic: bool, trackers: list[str], folder: str) -> Accelerator:
    """Join the other processes. Collective: every process must call it.

    Raises:
        ValueError: the world is not the one that the launcher or the configuration promised.
    """
    check_expectations(runtime)
    threads = runtime.threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    torch.set_num_threads(threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True)
    # Images are channels last, so gradients of small networks come in other strides than the buckets': a copy, no error.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    accelerator = Accelerator(
        # Without this, processes that a launcher started on a machine without GPU do not find each other.
        cpu=not _has_accelerator(),
        mixed_precision=runtime.precision,
        log_with=list(trackers) or None,
        project_dir=folder,
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=timedelta(seconds=runtime.timeout_s)),
        ],
    )
    if accelerator.num_processes != world_size():
        raise ValueError(
            f"the launcher started {world_size()} processes, but they found a world of {accelerator.num_processes}: "
            "use one of the files in accelerate_configs, or run `accelerate config` again"
        )
    _bound_memory(runtime, accelerator.device)
    return accelerator


def default_device() -> str:
    """Where inference runs unless told otherwise."""
    return str(torch.accelerator.current_accelerator()) if _has_accelerator() else "cpu"


def topology(accelerator: Accelerator) -> Topology:
    """Where this run runs."""
    return Topology(
        processes=accelerator.num_processes,
        machines=max(
            1, accelerator.num_processes // int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
        ),
        device=torch.cuda.get_device_name() if accelerator.device.type == "cuda" else accelerator.device.type,
        precision=accelerator.mixed_precision,
        threads=torch.get_num_threads(),
        backend=_backend(accelerator.device) if accelerator.num_processes > 1 else "none",
    )


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    found = {"python": platform.python_version()}
    for name in ("accel_det", "torch", "torchvision", "accelerate", "datasets", "transformers", "safetensors", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _backend(device: torch.device) -> str:
    """`get_backend` says "undefined" of a group that was made without naming one; the group itself knows."""
    group = torch.distributed.distributed_c10d._get_default_group()
    return str(group._get_backend(device).name())


def _has_accelerator() -> bool:
    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}
    return torch.accelerator.is_available() and not use_cpu


def _bound_memory(runtime: RuntimeSection, device: torch.device) -> None:
    share = runtime.max_memory_share
    if device.type == "cuda":
        total_gb = torch.cuda.get_device_properties(device).total_memory / 2**30
        if runtime.max_memory_gb is not None:
            share = min(share or 1.0, runtime.max_memory_gb / total_gb)
        if share is not None:
            torch.cuda.set_per_process_memory_fraction(share, device)
    elif runtime.max_memory_gb is not None and sys.platform == "linux":
        limit = int(runtime.max_memory_gb * 2**30) + _reserved_bytes()
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _reserved_bytes() -> int:
    """Memory that is claimed and not used, which a limit of the data segment counts as well: pyarrow claims 1 GiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"(VmData|VmRSS):\s+(\d+) kB", status)}
    return max(0, sizes.get("VmData", 0) - sizes.get("VmRSS", 0))
