"""`accel-det export`: what a run learned, opened by plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from publish_cases import export_info
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from transformers_cases import build_tiny, scene

from accel_det.cli import export
from accel_det.data.transforms import ResizeRule
from accel_det.models import zoo
from accel_det.publish.export import write_export

CLASSES = ("RBC", "WBC", "Platelets")
TINY = {"scale": "tiny", "dropout": 0.0}


def write_run(folder: Path, name: str, *, which: str = "best", mode: Any = "stretch", **options: Any) -> Any:
    """The export of a run with a network of this name; returns the network."""
    torch.manual_seed(4)
    model = zoo.build(name, num_classes=len(CLASSES), options=options)
    info = export_info(model=name, options=options, classes=CLASSES, resize=ResizeRule(mode, 64))
    write_export(folder / "export" / which, state=model.state_dict(), info=info)
    return model.eval()


@pytest.mark.parametrize("name", ["rtdetr_v2_resnet18", "detr_resnet50"])
def test_an_exported_run_gives_the_same_boxes_in_plain_transformers(name: str, tmp_path: Path) -> None:
    """To 1e-5, from images that transformers' own processor prepared; batch statistics are those of the run."""
    model = write_run(tmp_path / "run", name, **TINY)
    assert export.run([str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 0
    other = AutoModelForObjectDetection.from_pretrained(tmp_path / "out", trust_remote_code=False).eval()
    assert other.config.id2label == dict(enumerate(CLASSES))
    batch = scene((2, 1), size_px=64)
    prepared = AutoImageProcessor.from_pretrained(tmp_path / "out")(list(batch.images), return_tensors="pt")
    with torch.no_grad():
        plain = other(**prepared)
        own = model.network(pixel_values=model._pixels(batch), **model._mask(batch))
    torch.testing.assert_close(prepared["pixel_values"], model._pixels(batch), atol=1e-6, rtol=0)
    assert (plain.logits - own.logits).abs().max() <= 1e-5
    assert (plain.pred_boxes - own.pred_boxes).abs().max() <= 1e-5


def test_which_export_is_taken_and_how_images_differ_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "rtdetr_v2_resnet18", which="last", mode="letterbox", **TINY)
    with pytest.raises(ValueError, match="export/best"):
        export.run([str(tmp_path / "run"), "--out", str(tmp_path / "out")])
    assert export.run([str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--which", "last", "--json"]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert len(notes) == 1
    assert "resize.mode letterbox" in notes[0]
    assert "stretch" in notes[0]


def test_other_families_and_folders_with_something_in_them_are_refused_in_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "yolo", "yolov5n")
    with pytest.raises(
        ValueError, match="holds a yolov5n, which transformers does not have; expected one of detr_"
    ) as no:
        export.run([str(tmp_path / "yolo"), "--out", str(tmp_path / "out")])
    assert "\n" not in str(no.value)
    write_run(tmp_path / "detr", "detr_resnet50", **TINY)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="there is something already"):
        export.run([str(tmp_path / "detr"), "--out", str(tmp_path / "full")])
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["precious.txt"]


def test_what_was_loaded_into_a_network_is_told_in_a_line(tmp_path: Path) -> None:
    """The report that training prints at its start."""
    build_tiny("rtdetr_v2_resnet18").save_native(tmp_path / "stored", classes=CLASSES, size_px=64)
    model: Any = zoo.build("rtdetr_v2_resnet18", num_classes=3, options={"pretrained": str(tmp_path / "stored")})
    assert model.loading_report == f"pretrained {tmp_path / 'stored'}: every tensor used"
