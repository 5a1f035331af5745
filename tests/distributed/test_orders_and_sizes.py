"""Balanced orders, drawn sizes and rectangles on several processes, across a kill: the same samples as on one."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from harness import Life
from PIL import Image
from small_run import STEPS, entries, last_step, write_config

SETTINGS = {
    "balanced, in rectangles of drawn sizes": {
        "data.order": "class_balanced",
        "data.resize.rectangular": "true",
        "data.resize.train_sizes_px": "[64, 96]",
        "data.resize.draw_size_every": "2",
    },
    "weighted, in squares of drawn sizes": {"data.order": "weighted", "data.resize.train_sizes_px": "[32, 64, 96]"},
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    """The drawn images on canvases of five aspects."""
    root = tmp_path_factory.mktemp("shapes")
    shutil.copytree(drawn_images, root / "images")
    for annotations in (root / "images").glob("*/_annotations.coco.json"):
        document = json.loads(annotations.read_text("utf-8"))
        for record in document["images"]:
            file = annotations.parent / record["file_name"]
            record["width"] += 20 * (record["id"] % 5)
            wide = Image.new("RGB", (record["width"], record["height"]))
            wide.paste(Image.open(file))
            wide.save(file)
        annotations.write_text(json.dumps(document), "utf-8")
    return write_config(root / "runs", images=root / "images")


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_a_killed_run_goes_on_with_the_same_samples_on_another_number_of_processes(config: Path, case: str) -> None:
    # As in test_kill_and_resume: live norms and Adam's first updates would blow rounding up.
    common = {"model.batch_norm": "frozen", "optimizer.name": "sgd", "optimizer.lr": "0.01", **SETTINGS[case]}
    flags = [text for key, value in common.items() for text in (f"--{key}", value)]
    name = case.partition(",")[0]
    run, whole = config.parent / name, config.parent / f"{name}-whole"
    with Life([str(config), "--name", name, *flags], world=2, output=config.parent) as life:
        life.wait_until(lambda: last_step(run) >= 3)
        life.send(signal.SIGKILL, rank=1)
        life.codes(timeout_s=30)
    with Life([str(config), "--name", name, *flags, "--resume", "auto"], world=3, output=config.parent) as life:
        assert life.codes() == [0] * 3, life.output()
    with Life([str(config), "--name", whole.name, *flags], world=1, output=config.parent) as life:
        assert life.codes() == [0], life.output()
        assert f"order: {common['data.order']}" in life.output()
    found, expected = entries(run), entries(whole)
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    for entry, other in zip(found, expected, strict=True):
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5), entry["step"]
