"""The model card: a front matter that the Hub reads, and a body that people read."""

import re

import pytest
import yaml
from huggingface_hub import ModelCard
from publish_cases import HOSTILE_CLASSES, export_info

from accel_det.publish.card import front_matter, render_card


def body_of(text: str) -> str:
    return text.split("\n---\n", 1)[1]


def test_class_names_survive_the_front_matter_whatever_they_contain() -> None:
    text = render_card(export_info(classes=HOSTILE_CLASSES))
    card = ModelCard(text)  # the Hub's own reader
    assert tuple(card.data.to_dict()["class_names"]) == HOSTILE_CLASSES
    assert tuple(yaml.safe_load(front_matter(export_info(classes=HOSTILE_CLASSES)))["class_names"]) == HOSTILE_CLASSES
    assert card.text.strip().startswith("# blood-1")


def test_the_front_matter_says_what_the_hub_asks() -> None:
    data = ModelCard(render_card(export_info())).data
    assert data.license == "apache-2.0"
    assert data.library_name == "accel_det"
    assert data.pipeline_tag == "object-detection"
    assert "object-detection" in data.tags
    results = {result.metric_type: result for result in data.eval_results}
    assert {name: result.metric_value for name, result in results.items()} == {
        "AP": 0.5125,
        "AP50": 0.75,
        "VOC12/mAP": 0.74,
    }
    assert results["AP"].task_type == "object-detection"
    assert (results["AP"].dataset_name, results["AP"].dataset_type) == ("bccd:val", "bccd-val")


def test_without_a_licence_or_numbers_the_card_says_so_and_claims_none() -> None:
    text = render_card(export_info(licence=None, metrics={}))
    data = ModelCard(text).data
    assert data.license is None
    assert data.eval_results is None
    assert "Licence of the weights: not stated" in text
    assert "Not evaluated" in text


def test_tables_have_one_row_for_each_class_and_the_same_columns_everywhere() -> None:
    text = body_of(render_card(export_info(classes=HOSTILE_CLASSES, metrics={"AP": 0.5, "AP/yes": 0.25})))
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    classes = tables[1].splitlines()
    assert classes[0] == "| class | AP | AP50 |"
    assert len(classes) == 2 + len(HOSTILE_CLASSES)
    assert "| yes | 0.2500 | - |" in classes
    assert "<script>" not in text


def test_a_number_that_the_split_cannot_give_is_not_shown_as_minus_one() -> None:
    text = render_card(export_info())
    assert "-1.0" not in text
    assert "| RBC | 0.5000 | 0.7000 |" in text
    assert "| WBC | - | - |" in text


def test_the_card_tells_the_data_the_command_and_the_versions() -> None:
    text = render_card(export_info())
    assert "| train | bccd:train | 205 | MIT | `" + "ab" * 32 + "` |" in text
    assert "| val | bccd:val | 87 | not stated | `" + "cd" * 32 + "` |" in text
    assert "```sh\naccel-det train configs/blood.yaml\n```" in text
    assert "torch 2.15.0" in text
    assert "accel_det.load(" in text


@pytest.mark.parametrize("command", ["a\n```\nb", "````"])
def test_a_command_cannot_end_its_own_code_block(command: str) -> None:
    training = export_info().training
    text = render_card(export_info(training=training.__class__(1, 0, command, {})))
    fence = "`" * (max(map(len, re.findall("`+", command))) + 1)
    assert f"{fence}sh\n{command}\n{fence}\n" in text
