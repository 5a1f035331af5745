"""A run that skips bad images: the same updates on one process and on several, and an end above the cap."""

import shutil
from pathlib import Path

import pytest
from harness import Life
from small_run import NUM_TRAIN, entries, exit_facts, write_config

SKIP = ["--data.on_bad_image", "skip", "--train.images_per_update", "2", "--train.steps", str(NUM_TRAIN)]
# As in test_kill_and_resume: live norms and Adam's first updates would blow rounding up.
PLAIN = ["--model.batch_norm", "frozen", "--optimizer.name", "sgd", "--optimizer.lr", "0.001"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    """The drawn images, of which two of training and one of validation break off behind their header, and one is empty."""
    root = tmp_path_factory.mktemp("bad")
    shutil.copytree(drawn_images, root / "images")
    for name, length in (("train/03.png", 400), ("train/11.png", 2000), ("val/02.png", 400), ("train/07.png", 0)):
        file = root / "images" / name
        file.write_bytes(file.read_bytes()[:length])
    return write_config(root / "runs", images=root / "images")


def test_processes_that_skip_images_compute_what_one_computes(config: Path) -> None:
    """With two processes and two images per update, a bad image leaves a process without any."""
    for name, world in (("one", 1), ("two", 2)):
        arguments = [str(config), "--name", name, *SKIP, *PLAIN]
        with Life(arguments, world=world, output=config.parent) as life:
            assert life.codes() == [0] * world, life.output()
            told = [line for line in life.output().splitlines() if "left out: " in line]
        assert sorted(line.partition("left out: ")[2].partition(":")[0] for line in told) == [
            "drawn/train/03.png",
            "drawn/train/11.png",
            "drawn/val/02.png",
        ]
    one, two = (entries(config.parent / name) for name in ("one", "two"))
    assert len(one) == NUM_TRAIN
    for entry, other in zip(one, two, strict=True):
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5), entry["step"]
    assert entries(config.parent / "one", "val")[-1]["AP"] == entries(config.parent / "two", "val")[-1]["AP"]


def test_a_run_ends_where_more_images_are_bad_than_it_may_skip(config: Path) -> None:
    arguments = [str(config), "--name", "capped", *SKIP, "--data.max_bad_images", "2"]
    with Life(arguments, world=2, output=config.parent) as life:
        assert life.codes() == [2, 2], life.output()
    reason = exit_facts(config.parent / "capped")["reason"]
    assert "3 images cannot be read, more than data.max_bad_images, 2; the last: drawn/" in reason
