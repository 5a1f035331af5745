"""What PyYAML, pydantic, numpy and faster-coco-eval do, and this code relies on or works around.

If one of these fails, the library has changed: audit the code that the docstring names again; do not edit the
assertion.
"""

import numpy as np
import pytest
import yaml
from faster_coco_eval import COCO, COCOeval_faster
from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    number: float = 0.0
    count: int = 0
    option: bool | int | float | str | list[float] = 0


def test_pyyaml_takes_an_exponent_without_a_point_for_text() -> None:
    """config/load.py adds YAML 1.2's rule, for reading and for writing."""
    assert yaml.safe_load("1e-3") == "1e-3"
    assert yaml.safe_dump("1e-3").startswith("1e-3\n")
    assert yaml.safe_load("1.0e-3") == 0.001
    assert yaml.safe_load(yaml.safe_dump(1e-7)) == 1e-7


def test_pyyaml_takes_no_for_false() -> None:
    """config/load.py knows true and false alone, because `no` is a precision."""
    assert yaml.safe_load("no") is False


def test_pyyaml_keeps_the_last_of_two_equal_keys_without_a_word() -> None:
    """config/load.py refuses the second."""
    assert yaml.safe_load("{a: 1, a: 2}") == {"a": 2}


def test_pyyaml_expands_aliases() -> None:
    """config/load.py refuses them: a short file could grow without bound."""
    assert yaml.safe_load("{a: &x [1], b: *x}") == {"a": [1], "b": [1]}


@pytest.mark.parametrize(
    "values", [{"number": "0.1"}, {"count": 1.0}, {"count": True}, {"count": "1"}, {"nubmer": 1.0}]
)
def test_strict_pydantic_takes_no_text_for_a_number_and_no_unknown_key(values: dict[str, object]) -> None:
    """config/schema.py relies on it for every key."""
    with pytest.raises(ValidationError):
        Strict.model_validate(values)
    assert Strict.model_validate({"number": 1}).number == 1.0


def test_errors_of_a_union_name_every_branch() -> None:
    """config/load.py folds them into one line by these names."""
    with pytest.raises(ValidationError) as error:
        Strict.model_validate({"option": {"a": 1}})
    assert [detail["loc"] for detail in error.value.errors()] == [
        ("option", branch) for branch in ("bool", "int", "float", "str", "list[float]")
    ]


def test_a_union_keeps_the_kind_that_was_given() -> None:
    """config/schema.py: an option of a network may be any of these, and 1 is not true."""
    for value in (True, 1, 1.0, "1", [1.0]):
        found = Strict.model_validate({"option": value}).option
        assert found == value
        assert type(found) is type(value)


def test_draws_of_philox_stay_what_they_are() -> None:
    """data/transforms.py draws its augmentations by these methods. The numbers are those of numpy 2.4.6."""
    rng = np.random.Generator(np.random.Philox(key=5))
    drawn = [rng.random(), rng.uniform(-1.0, 1.0), rng.random()]
    assert drawn == [0.7337459554446363, 0.1810412891454185, 0.20780894066207112]


def test_the_axes_of_a_coco_evaluation_are_thresholds_recalls_classes_areas_limits() -> None:
    """metrics/coco.py reads averages from these axes by position.

    Two classes; class 1 is found with an overlap of 0.6, class 2 not at all; the object of class 1 is medium.
    """
    images = [{"id": 1, "height": 100, "width": 100}]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    objects = [
        {"id": n, "image_id": 1, "category_id": n, "bbox": [0, 0, 50, 50], "area": 2500.0, "iscrowd": 0} for n in (1, 2)
    ]
    found = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 30], "area": 1500.0, "iscrowd": 0, "score": 0.9}
    ]
    base = {"images": images, "categories": categories}
    evaluation = COCOeval_faster(COCO(base | {"annotations": objects}), COCO(base | {"annotations": found}), "bbox")
    evaluation.params.maxDets = [1, 10, 100]
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    assert precision.shape == (10, 101, 2, 4, 3)
    assert recall.shape == (10, 2, 4, 3)
    # Thresholds 0.50, 0.55 and 0.60 are met; area ranges are all, small, medium, large; -1 where no object is.
    assert (recall[:, 0, 0, -1] == 1).tolist() == [True] * 3 + [False] * 7
    assert recall[0, :, 0, -1].tolist() == [1.0, 0.0]
    assert recall[0, 0, :, -1].tolist() == [1.0, -1.0, 1.0, -1.0]
    assert precision[0, :, 0, 0, -1].tolist() == pytest.approx([1.0] * 101)


def test_an_evaluation_takes_id_0_for_no_match() -> None:
    """metrics/coco.py counts images, classes and annotations from 1."""
    base = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}]}
    one = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81.0, "iscrowd": 0, "score": 0.9}
    recalls = []
    for first_id in (0, 1):
        both = [COCO(base | {"annotations": [one | {"id": first_id}]}) for _ in range(2)]
        evaluation = COCOeval_faster(*both, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        recalls.append(float(np.asarray(evaluation.eval["recall"])[0, 0, 0, -1]))
    assert recalls[1] == 1.0
    assert recalls[0] == 0.0
