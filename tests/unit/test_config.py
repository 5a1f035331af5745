"""Configurations: what is accepted, what is refused, and in which words."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from accel_det.config.detection import DetectionConfig
from accel_det.config.load import ConfigError, Loaded, describe, dump, load_config, validate

BASE = """\
name: a
model: {name: yolov5n}
data:
  sets: {s: {format: coco, root: here}}
  train: s:train
  val: s:val
train: {steps: 3}
"""


def load(tmp_path: Path, text: str = BASE, *overrides: str) -> Loaded:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, overrides)


def refusal(tmp_path: Path, text: str = BASE, *overrides: str) -> str:
    """The message of the refusal, the folder of the file left out."""
    with pytest.raises(ConfigError) as error:
        load(tmp_path, text, *overrides)
    return str(error.value).replace(f"{tmp_path}{os.sep}", "")


def tree(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = yaml.safe_load(BASE)
    return plain | changes


def test_a_minimal_file_loads_and_everything_else_has_its_default(tmp_path: Path) -> None:
    config = load(tmp_path).config
    assert (config.name, config.task, config.model.name, config.train.steps) == ("a", "detection", "yolov5n", 3)
    assert config.data.sets["s"].format == "coco"
    assert (config.optimizer.name, config.schedule.name, config.checkpoint.keep_last) == ("sgd", "cosine", 2)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("train.stepz", "steps"),
        ("optimizer.momentun", "momentum"),
        ("data.resize.size", "size_px"),
        ("data.sets.s.formt", "format"),
        ("modle", "model"),
        ("lr", "optimizer.lr"),
        ("data.flip", "data.augment.flip"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, key: str, nearest: str) -> None:
    message = refusal(tmp_path, BASE, f"--{key}", "1")
    assert message.startswith(f"command line: unknown key `{key}`; did you mean `{nearest}`? (known here: ")
    assert "\n" not in message


def test_an_unknown_key_of_the_file_is_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, BASE.replace("{steps: 3}", "{steps: 3, sede: 1}"))
    assert message.startswith("run.yaml: unknown key `train.sede`; did you mean `seed`?")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optimizer.lr", "fast", "Input should be a valid number, but it is 'fast'"),
        ("optimizer.lr", "'0.1'", "Input should be a valid number, but it is '0.1'"),
        ("optimizer.lr", "-1", "Input should be greater than 0, but it is -1"),
        ("optimizer.lr", ".inf", "Input should be a finite number, but it is inf"),
        ("optimizer.lr", ".nan", "Input should be a finite number, but it is nan"),
        ("optimizer.lr", "", "Input should be a valid number, but it is None"),
        ("train.steps", "2.5", "Input should be a valid integer, but it is 2.5"),
        ("train.steps", "true", "Input should be a valid integer, but it is True"),
        ("train.deterministic", "yes", "Input should be a valid boolean, but it is 'yes'"),
        ("data.train", "3", "Input should be a valid string, but it is 3"),
        ("data.augment.flip", "1.5", "Input should be less than or equal to 1, but it is 1.5"),
        ("checkpoint.keep_last", "1", "Input should be greater than or equal to 2, but it is 1"),
        ("optimizer.name", "lion", "Input should be 'sgd', 'adam' or 'adamw', but it is 'lion'"),
        ("model.options.depth", "{a: 1}", "expected true or false, a number, text, or a list of numbers"),
        ("data.sets.s.parameters.length", "[1]", "expected a number or text"),
        ("name", "../up", "String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', but it is '../up'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_one_line(tmp_path: Path, key: str, value: str, said: str) -> None:
    assert refusal(tmp_path, BASE, f"--{key}", value) == f"command line: `{key}`: {said}"


def test_a_mistake_inside_a_value_given_as_a_whole_names_the_command_line(tmp_path: Path) -> None:
    text = BASE.replace("  train: s:train", "  resize: {mode: letterbox}\n  train: s:train")
    message = refusal(tmp_path, text, "--data.resize", "{mode: shrink}")
    assert message.startswith("command line: `data.resize.mode`: Input should be")
    assert refusal(tmp_path, BASE, "--data.augment.scale", "[a, 2]").startswith("command line: `data.augment.scale.0`:")


def test_every_mistake_has_its_own_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, BASE + "extra: 1\noptimizer: {lr: x}\n", "--ema.decay", "2")
    lines = message.splitlines()
    assert len(lines) == 3
    assert sorted(line.split(":")[0] for line in lines) == ["command line", "run.yaml", "run.yaml"]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, BASE.replace("name: a\n", "")) == "run.yaml: key `name` is missing"
    assert refusal(tmp_path, BASE.replace("train: {steps: 3}\n", "")) == "run.yaml: key `train` is missing"


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.1e-2", ".1e-2", "1.e-3", "0.001"])
def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, BASE, "--optimizer.lr", text).config.optimizer.lr == 0.001
    assert load(tmp_path, f"{BASE}optimizer: {{lr: {text}}}\n").config.optimizer.lr == 0.001


def test_no_is_a_precision_and_not_false(tmp_path: Path) -> None:
    assert load(tmp_path, f"{BASE}runtime: {{precision: no}}\n").config.runtime.precision == "no"
    assert load(tmp_path, BASE, "--train.deterministic", "true").config.train.deterministic is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + "name: b\n", "run.yaml, line 8, column 1: key `name` is given twice"),
        (BASE + "ema: {decay: 0.5, decay: 0.6}\n", "run.yaml, line 8, column 19: key `decay` is given twice"),
        (BASE + "ema: &x {decay: 0.5}\npush: *x\n", "run.yaml, line 9, column 7: aliases are not supported"),
        (BASE + "<<: {task: detection}\n", "run.yaml, line 8, column 1: a key must be a plain word"),
        (BASE + "? [1, 2]\n: 3\n", "run.yaml, line 8, column 3: a key must be a plain word"),
        (BASE + "1: 3\n", "run.yaml: `1`: Keys should be strings"),
        (BASE + "ema: !!python/object:os.system {}\n", "run.yaml, line 8, column 6: could not determine a constructor"),
        ("name: [a\n", "run.yaml, line 2, column 1: expected ',' or ']'"),
        ("", "run.yaml: expected keys such as `model:` at the top, found NoneType"),
        ("- a\n", "run.yaml: expected keys such as `model:` at the top, found list"),
        ("[" * 5000, "run.yaml, line 1, column 33: nested more than 32 levels deep"),
        ("a: " + "x" * 1_000_001, "run.yaml: 1000004 bytes, expected at most 1000000"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(said)
    assert "\n" not in message


def test_a_file_that_is_no_text_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"run\.yaml: not readable as UTF-8 text: .* at byte 6"):
        load_config(file)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path)


def test_environment_variables_are_filled_in_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_ROOT", "/data")
    monkeypatch.delenv("OTHER_ROOT", raising=False)
    loaded = load(tmp_path, BASE.replace("root: here", "root: '${SOME_ROOT}/x/${OTHER_ROOT:-y}'"))
    assert loaded.config.data.sets["s"].root == "/data/x/y"
    assert loaded.environment == {"SOME_ROOT": "/data", "OTHER_ROOT": "y"}
    assert load(tmp_path, BASE, "--runtime.output", "${SOME_ROOT}").environment == {"SOME_ROOT": "/data"}


def test_a_variable_that_is_not_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    said = "environment variable NOWHERE is not set; set it, or write ${NOWHERE:-default}"
    assert refusal(tmp_path, BASE.replace("here", "'${NOWHERE}'")) == f"run.yaml: {said}"
    assert refusal(tmp_path, BASE, "--runtime.output=${NOWHERE}") == f"command line, --runtime.output: {said}"


def test_what_only_resembles_a_variable_stays_as_it_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE, "--runtime.output", "'$HOME/{x}/${1}'")
    assert loaded.config.runtime.output == "$HOME/{x}/${1}"
    assert loaded.environment == {}


def test_overrides_reach_every_depth_and_the_last_one_wins(tmp_path: Path) -> None:
    words = (
        "--optimizer.lr", "0.5", "--optimizer.lr=0.25", "--data.augment.scale", "[0.5, 2]", "--data.sets.t.format=voc",
        "--model.options.level_balance=[4, 1, 0.4]", "--train.steps=null", "--train.epochs", "2", "--name=b=c",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="`name`: String should match"):
        load(tmp_path, BASE, *words)
    config = load(tmp_path, BASE, *words[:-1]).config
    assert config.optimizer.lr == 0.25
    assert config.data.augment.scale == [0.5, 2]
    assert config.data.sets["t"].format == "voc"
    assert config.model.options == {"level_balance": [4, 1, 0.4]}
    assert (config.train.steps, config.train.epochs) == (None, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lr",), "command line: `lr` stands alone; overrides are written `--section.key value`"),
        (("--train.seed",), "command line: --train.seed has no value; write `--train.seed value`"),
        (("--", "1"), "command line: `--` is no key; write it as `--section.key value`"),
        (("--train..seed", "1"), "command line: `--train..seed` is no key; write it as `--section.key value`"),
        (("--name.first", "1"), "command line, --name.first: `name` is 'a', not a section with keys below it"),
        (("--train.seed", "[1"), "command line, --train.seed, line 1, column 3: expected ',' or ']'"),
    ],
)
def test_a_malformed_override_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    assert refusal(tmp_path, BASE, *words).startswith(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--train.epochs", "2"), "`train`: give exactly one of train.steps and train.epochs"),
        (("--train.steps", "null"), "`train`: give exactly one of train.steps and train.epochs"),
        (("--optimizer.nesterov=true", "--optimizer.momentum=0.0"), "`optimizer`: nesterov needs name: sgd"),
        (("--optimizer.nesterov=true", "--optimizer.name=adam"), "`optimizer`: nesterov needs name: sgd"),
        (("--schedule.name=one_cycle", "--schedule.warmup_steps=5"), "`schedule`: one_cycle rises by itself"),
        (("--evaluate.every_steps=5", "--evaluate.every_epochs=1"), "`evaluate`: give at most one of"),
        (("--data.augment.scale", "[2, 1]"), "`data.augment`: scale is [2.0, 1.0], expected [smallest, largest]"),
        (("--data.augment.scale", "[0, 1]"), "`data.augment`: scale is [0.0, 1.0], expected [smallest, largest]"),
    ],
)
def test_combinations_that_cannot_work_are_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    message = refusal(tmp_path, BASE, *words)
    assert message.split(": ", 1)[1].startswith(said)
    assert "\n" not in message


def test_what_is_written_out_loads_to_the_same_configuration(tmp_path: Path) -> None:
    """200 random configurations, from the keys and bounds that `describe` lists."""
    rng = random.Random(0)
    for _ in range(200):
        changes = {
            "name": rng.choice(["a", "x-1.2_b", "0"]),
            "model": {"name": "yolov5n", "options": {"a": rng.choice([True, 3, 1e-7, "no", "1e-3", [1.0, 2.5]])}},
            "optimizer": {"lr": rng.choice([1e-12, 0.1, 1e20, 3]), "weight_decay": 10 ** rng.uniform(-9, 3)},
            "runtime": {
                "output": rng.choice(["no", "true", "null", "é ñ", "a: b", "'q'", "1e5", "x\ny", "#", "é" * 200])
            },
            "data": tree()["data"] | {"classes": rng.choice([None, ["yes", "1", "1.5", "~"]])},
        }
        config = validate(tree(**changes))
        (tmp_path / "again.yaml").write_text(dump(config), encoding="utf-8")
        assert load_config(tmp_path / "again.yaml").config == config


def test_a_configuration_cannot_be_changed_after_it_was_checked(tmp_path: Path) -> None:
    config = load(tmp_path).config
    with pytest.raises(ValueError, match="frozen"):
        config.train.steps = 5  # type: ignore[misc]


def test_every_key_is_listed_once_with_a_meaning_and_can_be_set(tmp_path: Path) -> None:
    found = list(describe(DetectionConfig))
    keys = [key for key, *_ in found]
    assert len(keys) == len(set(keys)) >= 70
    assert [key for key, *_, meaning in found if not meaning] == []
    plain = load(tmp_path).config.model_dump(mode="json")
    leaves = sorted(key.replace("data.sets.s.", "data.sets.NAME.") for key in _leaves(plain))
    assert leaves == sorted(keys)


def test_every_listed_default_loads_as_an_override(tmp_path: Path) -> None:
    checked = 0
    for key, _, default, _ in describe(DetectionConfig):
        if default == "required" or key in ("train.steps", "train.epochs"):
            continue
        load(tmp_path, BASE, f"--{key.replace('.NAME.', '.s.')}", default)
        checked += 1
    assert checked >= 65


def _leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for name, value in values.items():
        free = f"{prefix}{name}" in ("model.options", "data.sets.s.parameters", "data.sets.s.storage", "data.proposals")
        keys += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) and not free else [f"{prefix}{name}"]
    return keys
