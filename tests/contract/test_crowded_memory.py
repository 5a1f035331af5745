"""What a training step needs where an image holds 500 objects, for the four kinds of loss of set prediction.

Everything that grows with the number of objects must do so within reason: a cost matrix or mask that grew with the product of
two such numbers without a bound would be seen here. Each step runs in a process of its own, so that nothing else counts.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
OBJECTS = 500
MIB = 2**20
# Measured: 2 (softmax), 2 (grouped), 43 (denoising) and 54 (bins) MiB.
BOUNDS_MIB = {"detr_resnet50": 50, "rfdetr_nano": 50, "rtdetr_v2_resnet18": 130, "dfine_n": 160}


def peak_above_rest(name: str, objects: int) -> int:
    """Bytes, of one forward and backward pass in this process, above what was resident before."""
    import torch
    from transformers_cases import build_tiny, scene

    from accel_det.engine.memory import ProcessMemory

    torch.set_num_threads(1)
    model = build_tiny(name).train()
    memory = ProcessMemory(1.0)

    def step(count: int) -> None:
        model.zero_grad(set_to_none=True)
        losses = model.losses(scene((count, 0), size_px=64))
        torch.stack([term.sum for term in losses.values()]).sum().backward()

    step(2)  # what is loaded and kept at the first use
    memory.begin()
    rest = memory.peak_bytes()
    step(objects)
    return memory.peak_bytes() - rest


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.slow
def test_an_image_of_500_objects_needs_no_more_memory_than_its_kind_of_loss_may() -> None:
    code = (
        f"import json, sys; sys.path[:0] = {[str(TESTS), str(Path(__file__).parent)]!r}; import test_crowded_memory as t; "
        f"print(json.dumps([t.peak_above_rest(name, {OBJECTS}) for name in {list(BOUNDS_MIB)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    used = dict(zip(BOUNDS_MIB, json.loads(done.stdout.splitlines()[-1]), strict=True))
    over = {name: f"{peak / MIB:.0f} MiB" for name, peak in used.items() if peak > BOUNDS_MIB[name] * MIB}
    assert not over
