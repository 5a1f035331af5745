"""The configurations and launch files that come with the project, and whether each key of a configuration is read."""

import ast
from pathlib import Path

from accelerate.commands.config.config_args import load_config_from_file
from pydantic import BaseModel
from source_tree import ROOT, dotted_name, imports, parse, part_of, python_files

from accel_det.cli.tracker_settings import read_settings
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_config


def test_every_file_of_tracker_settings_is_understood() -> None:
    files = sorted((ROOT / "trackers").iterdir())
    assert len(files) >= 2
    assert all(read_settings(None, file, []).n_init >= 1 for file in files)


def test_every_configuration_that_comes_with_the_project_loads() -> None:
    folders = sorted({file.parent for file in (ROOT / "configs").rglob("*") if file.is_file()})
    assert folders, "configs/ is empty"
    checked = {}
    for folder in folders:
        files = sorted(folder.glob("*.yaml"))
        assert files, f"{folder.relative_to(ROOT)} holds no configuration"
        checked |= {file: load_config(file).config.name for file in files}
    assert len(checked) == sum(file.is_file() for file in (ROOT / "configs").rglob("*"))
    twice = sorted(name for name in checked.values() if list(checked.values()).count(name) > 1)
    assert not twice, f"runs of these names would share a folder: {twice}"


def test_every_launch_file_is_understood_by_accelerate() -> None:
    files = sorted((ROOT / "accelerate_configs").iterdir())
    assert len(files) >= 13
    for file in files:
        found = load_config_from_file(str(file))
        named = next((kind for kind in ("bf16", "fp16") if kind in file.stem), "no")
        assert found.mixed_precision == named, f"{file.name} says mixed_precision {found.mixed_precision}"
        several = found.num_processes > 1
        assert (str(found.distributed_type).endswith("NO")) != several, f"{file.name}: {found.distributed_type}"
        assert ("cpu" in file.stem) == bool(found.use_cpu), f"{file.name} says use_cpu {found.use_cpu}"


def test_every_key_of_the_configuration_is_read_somewhere() -> None:
    """A key counts as read where a file takes an attribute of its name and speaks of its section."""
    readers = [_attributes_and_names(file) for file in python_files("accel_det") if part_of(file) != "config"]
    keys = _leaf_keys(DetectionConfig)
    assert len(keys) >= 70
    unread = [key for key in keys if not any(_reads(key, attributes, words) for attributes, words in readers)]
    assert not unread, f"nobody reads {', '.join(unread)}: use them, or take them out of the schema"


def _attributes_and_names(file: Path) -> tuple[set[str], set[str]]:
    """Attributes that a file reads, as `base.attribute` and alone; and all words that it uses."""
    nodes = list(ast.walk(parse(file)))
    loads = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    chains = {f"{dotted_name(node.value).rpartition('.')[2]}.{node.attr}" for node in loads}
    names = {node.id for node in nodes if isinstance(node, ast.Name)} | {i.module for i in imports(file)}
    annotations = {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}
    attributes = {node.attr for node in loads}
    return chains | attributes, names | attributes | annotations


def _reads(key: str, attributes: set[str], words: set[str]) -> bool:
    section, _, leaf = key.rpartition(".")
    if not section:
        return f"config.{leaf}" in attributes
    name = section.rpartition(".")[2]
    return leaf in attributes and bool({name, f"{name.capitalize()}Section"} & words)


def _leaf_keys(section: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        keys += [key for kind in inner for key in _leaf_keys(kind, f"{prefix}{name}.")] or [f"{prefix}{name}"]
    return keys
