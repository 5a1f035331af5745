"""Malformed configurations: every one is one line for each thing that is wrong, with the file and the key."""

from pathlib import Path
from typing import NamedTuple

import pytest

from accel_det.config.load import ConfigError, load_config

VALID = """\
name: street
model: {name: yolov3_tiny}
data:
  sets: {s: {format: street, root: ""}}
  train: "s:train"
  val: "s:val"
train: {steps: 3}
"""


class Configuration(NamedTuple):
    """A file, and a regular expression for the first line of the error."""

    name: str
    content: str | bytes
    line: str


def replaced(name: str, old: str, new: str, line: str) -> Configuration:
    assert old in VALID
    return Configuration(name, VALID.replace(old, new), line)


def added(name: str, text: str, line: str) -> Configuration:
    return Configuration(name, f"{VALID}{text}\n", line)


LAUGHS = "a: &a0 [x]\n" + "".join(f"a{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9))

CONFIGURATIONS = [
    Configuration("an empty file", "", "expected keys such as `model:` at the top, found NoneType"),
    Configuration("a list", "- model\n", "expected keys such as `model:` at the top, found list"),
    Configuration("no UTF-8", "name: \xe4".encode("latin-1"), "not readable as UTF-8 text"),
    Configuration("a NUL byte", "name: a\0b", "not readable as UTF-8 text"),
    Configuration("aliases that multiply", LAUGHS, "line 2, column .*: aliases are not supported: write the value out"),
    Configuration("1,000 lists in each other", "a: " + "[" * 1000, "line 1, column .*: nested more than 32 levels deep"),
    Configuration("two megabytes", VALID + "#" * 2_000_000, r"2000\d\d\d bytes, expected at most 1000000"),
    Configuration("an object of Python", "name: !!python/object/apply:os.system [true]", "line 1, column 7: could not det"),
    Configuration("not closed", VALID + "ema: {", r"line 8, column \d+: expected"),
    Configuration("a tab", VALID + "ema:\n\tdecay: 1", "line 9, column 1: found character"),
    Configuration("JSON with a comma too many", '{"name": "a",, "b": 1}', "line 1, column 14: "),
    Configuration("half of a surrogate pair", 'name: "\\ud800"', "line 1, column 7: .* is half of a surrogate pair"),
    Configuration("a merge", VALID + "ema: {<<: {decay: 1}}", "a key must be a plain word"),
    added("a key twice", "name: other", "line 8, column 1: key `name` is given twice"),
    added("an unknown key", "shedule: {}", "unknown key `shedule`; did you mean `schedule`"),
    added("an unknown key within", "ema: {dceay: 1}", "unknown key `ema.dceay`; did you mean `decay`"),
    added("a list for a section", "ema: [1]", "`ema`: Input should be a valid dictionary .* but it is"),
    added("nan for a number", "optimizer: {lr: .nan}", "`optimizer.lr`: Input should be .* but it is nan"),
    added("infinity for a number", "optimizer: {lr: .inf}", "`optimizer.lr`: Input should be .* but it is inf"),
    added("a number of 5,000 digits", f"ema: {{decay: {'9' * 5000}}}", "not readable as YAML: .* digits"),
    replaced("a word for a number", "steps: 3", "steps: many", "`train.steps`: Input should be a valid integer, .*'many'"),
    replaced("a negative number", "steps: 3", "steps: -5", "`train.steps`: Input should be greater .* but it is -5"),
    replaced("no training", "train: {steps: 3}\n", "", "key `train` is missing"),
    replaced("no model", "model: {name: yolov3_tiny}\n", "", "key `model` is missing"),
    replaced("a set without format", "format: street, ", "", "key `data.sets.s.format` is missing"),
    replaced("a number for a selection", '"s:train"', "5", "`data.train`: Input should be a valid string, but it is 5"),
]  # fmt: skip


@pytest.mark.parametrize("case", CONFIGURATIONS, ids=lambda case: case.name)
def test_a_malformed_configuration_is_lines_that_name_file_and_key(case: Configuration, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(case.content if isinstance(case.content, bytes) else case.content.encode())
    with pytest.raises(ConfigError, match=rf"run\.yaml.*{case.line}") as error:
        load_config(file)
    for line in str(error.value).split("\n"):
        assert line.startswith(str(file)) and line.isprintable() and len(line) < 1000


def test_the_valid_configuration_loads(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(VALID)
    assert load_config(tmp_path / "run.yaml").config.name == "street"
