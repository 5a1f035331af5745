"""`train.max_images_per_forward: auto` in a whole run: measured once, written down, and taken up by a resume."""

import json
import signal
from pathlib import Path

import pytest
from harness import Life
from small_run import IMAGES_PER_UPDATE, STEPS, last_step, write_config


def test_a_measured_micro_batch_is_written_down_and_a_resume_on_as_many_processes_takes_it_up(
    tmp_path: Path, drawn_images: Path
) -> None:
    config = write_config(tmp_path, images=drawn_images, name="auto")
    run = tmp_path / "auto"
    keys = ["--train.max_images_per_forward", "auto", "--runtime.max_memory_gb", "4"]
    with Life([str(config), *keys], world=1, output=tmp_path) as life:
        life.wait_until(lambda: last_step(run) >= 3)
        life.send(signal.SIGTERM, rank=0)
        assert life.codes() == [143], life.output()
        said = life.output()
    assert f"memory: {IMAGES_PER_UPDATE} images per forward pass fit: measured 0." in said
    assert "of 3.60 GiB per process" in said
    facts = json.loads((run / "run.json").read_text())
    assert facts["images_per_forward"] == {"images": IMAGES_PER_UPDATE, "processes": 1}
    # Another number than a measurement would give shows where the number comes from.
    (run / "run.json").write_text(json.dumps(facts | {"images_per_forward": {"images": 4, "processes": 1}}))
    with Life([str(config), *keys, "--resume", "auto"], world=1, output=tmp_path) as life:
        assert life.codes() == [0], life.output()
        said = life.output()
    assert "1 process(es) x 3 forward pass(es) x 4 images" in said
    assert "images per forward pass fit" not in said
    assert last_step(run) == STEPS


@pytest.mark.slow
def test_a_resume_on_other_processes_measures_anew_and_an_unbounded_cpu_takes_the_whole_share(
    tmp_path: Path, drawn_images: Path
) -> None:
    config = write_config(tmp_path, images=drawn_images, name="auto")
    run = tmp_path / "auto"
    keys = ["--train.max_images_per_forward", "auto"]
    with Life([str(config), *keys], world=1, output=tmp_path) as life:
        life.wait_until(lambda: last_step(run) >= 3)
        life.send(signal.SIGTERM, rank=0)
        assert life.codes() == [143], life.output()
        assert "images per forward pass fit" not in life.output()
    assert json.loads((run / "run.json").read_text())["images_per_forward"] == {"images": 12, "processes": 1}
    with Life([str(config), *keys, "--resume", "auto"], world=2, output=tmp_path) as life:
        assert life.codes() == [0, 0], life.output()
        assert "2 process(es) x 1 forward pass(es) x 6 images" in life.output()
    assert json.loads((run / "run.json").read_text())["images_per_forward"] == {"images": 6, "processes": 2}
