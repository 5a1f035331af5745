"""One update on two real processes: what is not finite stops both before anything changes."""

import hashlib
from pathlib import Path

import torch
from gradients import Work, make_model, my_batches
from harness import run_world
from torch.optim import AdamW

from accel_det.config.schema import RuntimeSection
from accel_det.engine.ema import MovingAverage
from accel_det.engine.runtime import make_accelerator
from accel_det.engine.step import NonFiniteLoss, train_step

WORK = Work("yolov5n", 64, (2, 1, 3, 1), ((2,), (2,)), "synchronized")


def digest(tensors: list[torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(tensor.detach().numpy().tobytes() for tensor in tensors)).hexdigest()


def update_with_a_broken_forward_pass(broken_rank: int) -> tuple[str, str, str, str]:
    """State after a good update, the error of the next one, the state after that, and an image of this process."""
    accelerator = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    model = make_model(WORK).float()
    average = MovingAverage(model, decay=0.9, ramp_steps=1.0)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    wrapped, prepared = accelerator.prepare(model, optimizer)
    batches = my_batches(WORK, accelerator.process_index)

    def state() -> str:
        moments = [value for values in optimizer.state.values() for value in values.values()]
        return digest([*model.parameters(), *average.model.parameters(), *moments])

    train_step(accelerator, wrapped, prepared, batches, seed=0)
    before, error = state(), "no error"
    if accelerator.process_index == broken_rank:
        network = model.get_submodule("network")
        network.register_forward_hook(lambda module, inputs, outputs: [output * torch.nan for output in outputs])
    try:
        train_step(accelerator, wrapped, prepared, batches, seed=1)
    except NonFiniteLoss as problem:
        error = str(problem)
    return before, error, state(), batches[0].frames[-1].name


def test_a_loss_that_is_no_number_stops_both_processes_before_the_update_and_names_the_images(tmp_path: Path) -> None:
    found = run_world(update_with_a_broken_forward_pass, 2, 1, folder=tmp_path)
    (before, good_error, after, _), (other_before, bad_error, other_after, name) = found
    assert before == after == other_before == other_after
    for error in (good_error, bad_error):
        assert "is not finite" in error
        assert "nothing was updated" in error
    assert name in bad_error
    assert "not from process 0's own losses" in good_error
