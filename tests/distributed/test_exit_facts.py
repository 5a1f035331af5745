"""exit.json names the file that ended a run, whichever process met it."""

import shutil
from pathlib import Path

import pytest
from harness import Life
from small_run import IMAGES_PER_UPDATE, NUM_TRAIN, exit_facts, write_config

from accel_det.data.order import permutation

ORDER = permutation(NUM_TRAIN, seed=0, epoch=0)


@pytest.mark.parametrize(("rank", "position"), [(1, IMAGES_PER_UPDATE - 1), pytest.param(0, 0, marks=pytest.mark.slow)])
def test_a_file_that_one_process_cannot_read_is_named_by_what_the_run_leaves(
    tmp_path: Path, drawn_images: Path, rank: int, position: int
) -> None:
    """The header is whole, so the check at the start passes; the pixels end too early."""
    images = tmp_path / "images"
    shutil.copytree(drawn_images, images)
    name = f"{ORDER[position]:02}.png"
    file = images / "train" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    # Passed over by the pass that settles the buckets: the file comes in the second micro-batch of its process.
    config = write_config(tmp_path, images=images)
    keys = ["--train.max_images_per_forward", "3"] if rank else []
    with Life([str(config), *keys], world=2, output=tmp_path) as life:
        codes = life.codes(timeout_s=60)
        assert codes[rank] == 2, life.output()
        assert codes[1 - rank] not in (0, None)
    facts = exit_facts(tmp_path / "small")
    assert name in facts["reason"]
    assert "error: " in facts["reason"]
    assert (facts["step"], facts["code"]) == (0, 2)
    assert sorted(path.name for path in (tmp_path / "small").glob("exit*")) == ["exit.json"]
