"""The keys of data.augment: each reaches the augmentation, and what cannot work together is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from accel_det.cli.compose_detection import augmentation, plain_from_epoch
from accel_det.config.augment import AugmentSection
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_config
from accel_det.data.transforms import Augmentation

ROOT = Path(__file__).parents[2]


def config(augment: dict[str, Any], *, resize: dict[str, Any] | None = None, **train: Any) -> DetectionConfig:
    return DetectionConfig.model_validate(
        {
            "name": "some",
            "model": {"name": "yolov5n"},
            "data": {
                "sets": {"a": {"format": "street"}},
                "train": "a:train",
                "val": "a:val",
                "augment": augment,
                "resize": resize or {},
            },
            "train": train or {"epochs": 10.0},
        }
    )


def test_every_key_reaches_the_augmentation_and_every_range_has_a_key() -> None:
    values = {
        name: [0.7, 1.3] if name == "scale" else 9 if name == "mosaic_tiles" else round(0.001 + index / 10_000, 4)
        for index, name in enumerate(AugmentSection.model_fields)
    }
    found = augmentation(config(values))._asdict()
    assert found.pop("scale") == (0.7, 1.3)
    # These two limits have no key of their own.
    assert (found.pop("min_side_px"), found.pop("max_aspect")) == (1.0, 100.0)
    del values["scale"], values["plain_epochs"]
    assert found == values
    assert len({*values.values()}) == len(values)


def test_without_flips_the_defaults_of_the_keys_change_nothing() -> None:
    assert augmentation(config({"flip": 0.0})) == Augmentation()


@pytest.mark.parametrize(
    ("train", "turns", "expected"),
    [
        ({"epochs": 10.0}, 77, 8.5),
        # 100 updates of 16 images are 20 epochs of 80 turns.
        ({"steps": 100, "images_per_update": 16}, 80, 18.5),
    ],
)
def test_plain_epochs_are_counted_from_the_end_of_the_budget(
    train: dict[str, Any], turns: int, expected: float
) -> None:
    with_mosaic = config({"mosaic": 1.0, "plain_epochs": 1.5}, **train)
    assert plain_from_epoch(with_mosaic, turns_per_epoch=turns) == pytest.approx(expected)
    assert plain_from_epoch(config({"mosaic": 1.0}, **train), turns_per_epoch=turns) is None


def test_a_mosaic_is_refused_in_other_modes_than_letterbox() -> None:
    with pytest.raises(
        ValidationError, match=r"augment\.mosaic is 0\.5, which needs resize\.mode: letterbox, but that is stretch"
    ):
        config({"mosaic": 0.5}, resize={"mode": "stretch"})


def test_mixup_without_mosaics_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"mixup is 0\.1, but it blends mosaics, and mosaic is 0"):
        config({"mixup": 0.1})


@pytest.mark.parametrize("key", ["zoom_out", "iou_crop"])
def test_what_is_for_single_images_is_refused_where_every_image_is_a_mosaic(key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key} is 0\.5, but it is for single images, and mosaic is 1"):
        config({"mosaic": 1.0, key: 0.5})
    config({"mosaic": 0.9, key: 0.5})
    config({"mosaic": 1.0, "plain_epochs": 5, key: 0.5})


def test_the_files_that_the_page_names_beside_a_recipe_hold_that_recipe() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/augmentation.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    compared = []
    recipes = re.findall(r"((?:^#.*\n)+)(augment: .*)$", block[1], re.MULTILINE)
    for comment, recipe in recipes:
        expected = AugmentSection.model_validate(yaml.safe_load(recipe)["augment"])
        for name in re.findall(r"\w+\.yaml", comment):
            assert load_config(ROOT / "configs/detection" / name).config.data.augment == expected, name
            compared.append(name)
    assert {"ssd300_voc0712.yaml", "ssd512_voc0712.yaml", "yolov5s_coco.yaml", "yolov3_coco_darknet.yaml"} < set(
        compared
    )
    assert len(recipes) == block[1].count("augment:")
