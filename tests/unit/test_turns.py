"""From a configuration to orders, sizes and regions; what cannot be is refused with the key to change."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from data_sets import HEIGHT, WIDTH, coco_document, write_coco, write_image
from PIL import Image

from accel_det.cli import compose_detection as compose
from accel_det.cli import main, show_data, turns
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import dump, validate
from accel_det.data.canvases import Canvases, LikeAspects
from accel_det.data.order import EpochOrder


def config_of(root: Path, **data: Any) -> DetectionConfig:
    """Images a.png (dog) and b.png (dog, cat), and a background image of another shape."""
    train, val = coco_document(), coco_document()
    train["images"].append({"id": "c", "file_name": "c.png", "width": 20, "height": 40})
    write_coco(root, train)
    write_image(root / "train" / "c.png", seed=9, width=20, height=40)
    write_coco(root, val, split="val")
    for seed, name in enumerate(("a.png", "b.png")):
        write_image(root / "val" / name, seed=20 + seed)  # other pixels than in train
    sets = {"set": {"format": "coco", "root": str(root)}}
    tree = {
        "name": "small",
        "model": {"name": "yolov5n"},
        "data": {"sets": sets, "train": "set:train", "val": "set:val", "resize": {"size_px": 64}, "workers": 0} | data,
        "train": {"epochs": 2, "images_per_update": 2},
    }
    return validate(tree)


def test_each_order_has_its_own_number_of_turns(tmp_path: Path) -> None:
    # Two classes with two and one images (a crowd is no object), and one image without objects.
    expected = {"shuffled": 3, "sequential": 3, "weighted": 3, "class_balanced": 5}
    for order, length in expected.items():
        config = config_of(tmp_path, order=order)
        table = compose.open_tables(config).train
        assert turns.turns_per_epoch(config, table) == length
        indices = [draw.index for draw in turns.epoch_order(config, table).draws(0, range(length))]
        if order == "class_balanced":
            assert sorted(indices) == [0, 1, 1, 1, 2]
        elif order == "sequential":
            assert indices == [0, 1, 2]


def test_the_shuffled_order_is_that_of_the_seed_alone(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    table = compose.open_tables(config).train
    order = turns.update_order(config, table, multiple_px=32)
    assert isinstance(order, EpochOrder)
    assert order.draws(0, range(30)) == EpochOrder(3, seed=0).draws(0, range(30))


def test_rectangles_keep_the_order_of_a_sequence(tmp_path: Path) -> None:
    for order, kind in (("sequential", EpochOrder), ("shuffled", LikeAspects)):
        config = config_of(tmp_path, order=order, resize={"size_px": 64, "rectangular": True})
        found = turns.update_order(config, compose.open_tables(config).train, multiple_px=32)
        assert isinstance(found, Canvases)
        assert isinstance(found._order, kind)
    config = config_of(tmp_path, order="sequential", resize={"size_px": 64, "rectangular": True})
    draws = turns.update_order(config, compose.open_tables(config).train, multiple_px=32).draws(0, range(2))
    assert [(draw.index, draw.size_px) for draw in draws] == [(0, (64, 64)), (1, (64, 64))]


def test_evaluation_in_rectangles_follows_the_configuration(tmp_path: Path) -> None:
    rule = compose.resize_rule(config_of(tmp_path, resize={"size_px": 128, "rectangular": True}))
    assert rule.rectangular
    assert rule.canvas(HEIGHT, WIDTH) == (96, 128)
    assert compose.resize_rule(config_of(tmp_path, resize={"size_px": 128})).canvas(HEIGHT, WIDTH) == (128, 128)


def test_a_size_to_draw_must_suit_the_network(tmp_path: Path) -> None:
    config = config_of(tmp_path, resize={"size_px": 64, "train_sizes_px": [64, 100]})
    with pytest.raises(ValueError, match=r"data\.resize\.train_sizes_px holds 100, but yolov5n needs .* 32: use 96"):
        compose.resize_rule(config)


REFUSED = {
    "a size for each image of a letterbox": (
        {"resize": {"train_sizes_px": [64], "draw_size_every": 0}},
        r"draw_size_every is 0, .* letterbox",
    ),
    "rectangles without letterbox": ({"resize": {"mode": "stretch", "rectangular": True}}, r"rectangular needs mode"),
    "a mosaic in rectangles": (
        {"resize": {"rectangular": True}, "augment": {"mosaic": 0.5}},
        r"augment\.mosaic is 0\.5.*set augment\.mosaic to 0",
    ),
    "a shorter side above the longer": (
        {"resize": {"mode": "shortest_edge", "size_px": 400, "train_sizes_px": [800], "max_size_px": 700}},
        r"a shorter side of 800 is above max_size_px, 700",
    ),
    "proposals of another split": ({"proposals": {"test": "x.jsonl"}}, r"data\.proposals\.test"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_combinations_that_cannot_be_are_refused(case: str, tmp_path: Path) -> None:
    data, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        config_of(tmp_path, **data)


def test_a_resume_notices_what_decides_the_order_and_older_checkpoints_agree(tmp_path: Path) -> None:
    plain = config_of(tmp_path)
    table = compose.open_tables(plain).train
    before = turns.agreement(plain, table)
    assert [before[key] for key in before if "resize" in key or "proposals" in key] == [None] * 4
    for resize in ({"rectangular": True}, {"train_sizes_px": [64]}, {"train_sizes_px": [64], "draw_size_every": 5}):
        changed = turns.agreement(config_of(tmp_path, resize={"size_px": 64} | resize), table)
        assert changed != before
        assert json.loads(json.dumps(changed)) == changed, "a checkpoint keeps it as JSON"


def test_regions_of_the_configuration_reach_both_splits(tmp_path: Path) -> None:
    for split, names in (("train", "abc"), ("val", "ab")):
        lines = [json.dumps({"name": name, "boxes": [[1, 2, 9, 9 + k]]}) for k, name in enumerate(names)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), "utf-8")
    given = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "val")}
    config = config_of(tmp_path, proposals=given)
    tables = compose.open_tables(config)
    for table in (tables.train, tables.val, compose.open_validation(config, tables.train.classes)):
        regions = table.proposals(1)
        assert regions is not None
        assert torch.equal(regions, torch.tensor([[1.0, 2, 9, 10]]))
    assert compose.open_tables(config_of(tmp_path)).train.proposals(0) is None
    fingerprint = turns.agreement(config, tables.train)["the proposals (fingerprint)"]
    assert re.fullmatch("[0-9a-f]{64}", str(fingerprint))
    with pytest.raises(ValueError, match=r"^data\.proposals\.train: .*val\.jsonl: no regions for set/train/c\.png"):
        compose.open_tables(config_of(tmp_path, proposals={"train": given["val"]}))


def test_a_run_says_what_is_unusual_about_its_order_and_sizes(tmp_path: Path) -> None:
    assert turns.describe(config_of(tmp_path), compose.open_tables(config_of(tmp_path)).train) == []
    config = config_of(tmp_path, order="class_balanced", resize={"size_px": 64, "train_sizes_px": [64, 96]})
    assert turns.describe(config, compose.open_tables(config).train) == [
        "order: class_balanced, 5 turns per epoch of 3 images",
        "sizes: 64, 96 px, drawn for every 1 update(s)",
    ]


def test_a_table_with_regions_travels_to_another_process(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(
        "\n".join(json.dumps({"name": n, "boxes": [[1, 2, 3, 4]]}) for n in "abc"), "utf-8"
    )
    config = config_of(tmp_path, proposals={"train": str(tmp_path / "r.jsonl")})
    table = compose.open_tables(config).train
    copy = object.__new__(type(table))
    copy.__setstate__(table.__getstate__())
    assert torch.equal(copy.proposals(2), torch.tensor([[1.0, 2, 3, 4]]))  # type: ignore[arg-type]


@pytest.mark.parametrize("split", ["train", "val"])
def test_show_data_writes_a_page_with_everything_in_it(
    split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(dump(config_of(tmp_path)), "utf-8")
    out = tmp_path / "out"
    arguments = [str(tmp_path / "small.yaml"), "--out", str(out), "--split", split, "--images", "9", "--json"]
    assert show_data.run(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    text = (out / "index.html").read_text("utf-8")
    assert answer["page"] == str(out / "index.html")
    names = [Path(name).name for name in answer["pictures"]]
    assert names == [
        "classes.png",
        "object_sizes.png",
        "object_aspects.png",
        "objects_per_image.png",
        "anchors.png",
        "samples.jpg",
    ]
    assert text.count('src="data:image/') == len(names) == text.count("<img ")
    assert answer["near_duplicates"] == 0 and "No image of val looks like one of train." in text
    # 3 and 2 images, of which 1 and 0 without objects; 3 objects and 1 ignored region in each split.
    assert "<td>train</td><td>3</td><td>1</td><td>3</td>" in text
    assert "<td>val</td><td>2</td><td>0</td><td>3</td>" in text
    assert "<td>dog</td><td>2</td><td>2</td><td>66.7 %</td><td>2</td><td>2</td><td>66.7 %</td>" in text
    columns = {"train": 4, "val": 2}[split]  # the file and three epochs, or the network's input
    assert Image.open(out / "samples.jpg").width == 12 + columns * 412


def test_show_data_shows_a_mirrored_copy_beside_its_picture_unless_told_not_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(dump(config_of(tmp_path)), "utf-8")
    with Image.open(tmp_path / "train" / "a.png") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "val" / "b.png")
    arguments = [str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--json"]
    for more, count in (([], 1), (["--skip-duplicates"], None)):
        assert show_data.run([*arguments, *more]) == 0
        assert json.loads(capsys.readouterr().out)["near_duplicates"] == count
        text = (tmp_path / "out" / "index.html").read_text("utf-8")
        assert ("1 of 2 images of val (50.0 %) look like one of train, 1 of them mirrored." in text) == bool(count)
    with Image.open(tmp_path / "out" / "near_duplicates.jpg") as pair:
        assert pair.width == 12 + 2 * 412


def test_show_data_names_an_image_that_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "small.yaml").write_text(dump(config_of(tmp_path)), "utf-8")
    damaged = tmp_path / "val" / "b.png"
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert show_data.run([str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "Cannot be decoded, and was not compared: set/val/b.png: PNG of 40x30 pixels cannot be decoded" in text


def test_show_data_is_a_command_that_says_what_it_needs() -> None:
    for arguments, message in (
        ([], "show-data needs a configuration file"),
        (["x.yaml", "--images", "0"], "--images is 0 and --epoch 0, expected at least 1 and 0"),
    ):
        with pytest.raises(ValueError, match=message):
            main._dispatch(["show-data", *arguments])


def test_regions_for_a_network_that_takes_none_are_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, proposals={"train": "regions.jsonl"})
    with pytest.raises(ValueError, match=r"data\.proposals is set, but yolov5n as configured takes no regions"):
        compose.make_network(config, num_classes=2, device_type="cpu")
