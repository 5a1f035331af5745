"""Who may import whom, how large files may grow, and what no file may do. Source: docs/design, read with `ast`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import PACKAGE, ROOT, calls, functions, imports, parse, part_of, place, python_files

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

EVERYTHING = frozenset({"*"})
MAY_IMPORT: dict[str, frozenset[str]] = {
    "types": frozenset(),
    "draws": frozenset(),
    "plain_yaml": frozenset(),
    "opencv": frozenset(),
    "boxes": frozenset({"types"}),
    "config": frozenset({"plain_yaml"}),
    "data": frozenset({"boxes", "types", "draws", "plain_yaml"}),
    "metrics": frozenset({"types"}),
    "models": frozenset({"boxes", "types", "draws"}),
    "tracking": frozenset({"boxes", "types", "opencv"}),
    "video": frozenset({"data.decode", "data.lines", "metrics.mot_files", "opencv", "report.pictures", "tracking"}),
    "tasks": frozenset({"data", "metrics", "types", "boxes"}),
    "engine": frozenset({"config", "tasks.base", "types", "draws"}),
    "report": frozenset({"boxes", "types", "draws"}),
    "inference": EVERYTHING,
    "publish": EVERYTHING,
    "cli": EVERYTHING,
}
"""Part of accel_det -> the other parts that it may import; a dotted entry admits one module of that part alone."""

_EVALUATE_SHELLS = ("metrics/coco_map/", "metrics/voc_ap/", "metrics/reid_retrieval/", "metrics/mot_tracking/")

ONLY_IN = {
    "accelerate": ("engine/",),
    # The file beside the shells: the schema of the records that two of them take.
    "datasets": ("data/", *_EVALUATE_SHELLS, "metrics/records.py"),
    "evaluate": _EVALUATE_SHELLS,
    "faster_coco_eval": ("metrics/",),
    "torchvision": ("data/", "models/"),
    "transformers": ("models/",),
    "pydantic": ("config/", "publish/"),
    "huggingface_hub": ("publish/", "data/"),
    "defusedxml": ("data/",),
    "s3fs": ("data/s3.py",),
    "optuna": ("cli/study.py",),
    "cv2": ("opencv.py",),
    "pytorch_metric_learning": ("models/reid/",),
}
"""A library -> the only places of accel_det that may import it."""

BASE_LIBRARIES = {
    "types": {"torch"},
    "boxes": {"torch"},
    "draws": set(),
    "plain_yaml": {"yaml"},
    "config": {"pydantic", "pydantic_core", "yaml"},
}
"""The lowest parts, and all that they may import from outside the standard library."""


def test_every_part_of_the_package_has_a_rule_about_imports() -> None:
    parts = {part_of(file) for file in python_files("accel_det")} - {"__init__", "__main__"}
    assert parts <= set(MAY_IMPORT), f"give a rule to {sorted(parts - set(MAY_IMPORT))}"


def test_parts_import_only_the_parts_that_the_design_allows() -> None:
    wrong = []
    swept = 0
    for file in python_files("accel_det"):
        part = part_of(file)
        for found in imports(file):
            if not found.module.startswith("accel_det."):
                continue
            swept += 1
            inner = found.module.removeprefix("accel_det.")
            allowed = MAY_IMPORT.get(part, EVERYTHING) | {part}
            admitted = any(inner == entry or inner.startswith(f"{entry}.") for entry in allowed)
            if not admitted and allowed.isdisjoint(EVERYTHING):
                wrong.append(f"{place(file, found.line)}: {part} must not import {found.module}")
    assert swept >= 150
    assert not wrong, "\n".join(wrong)


def test_libraries_are_imported_only_where_they_belong() -> None:
    wrong = []
    seen = set()
    for file in python_files("accel_det"):
        inside = file.relative_to(PACKAGE).as_posix()
        for found in imports(file):
            library = found.module.partition(".")[0]
            seen.add(library)
            if not inside.startswith(ONLY_IN.get(library, "")):
                wrong.append(f"{place(file, found.line)}: {library} belongs in {', '.join(ONLY_IN[library])} alone")
    assert seen >= {"accelerate", "datasets", "evaluate", "torchvision"}
    assert not wrong, "\n".join(wrong)


def test_the_lowest_parts_need_next_to_nothing() -> None:
    wrong = [
        f"{place(file, found.line)}: {part} must not import {found.module}"
        for file in python_files("accel_det")
        if (part := part_of(file)) in BASE_LIBRARIES
        for found in imports(file)
        if (root := found.module.partition(".")[0]) not in sys.stdlib_module_names | {"accel_det"}
        and root not in BASE_LIBRARIES[part]
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_name_their_module_in_full() -> None:
    relative = [
        place(file, node.lineno)
        for file in python_files("accel_det", "scripts", "tests")
        for node in ast.walk(parse(file))
        if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names))
    ]
    assert not relative, "relative or starred imports: " + ", ".join(relative)


def test_no_file_is_longer_than_400_lines() -> None:
    files = python_files("accel_det", "scripts", "tests", "benchmarks")
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert len(lengths) >= 100
    long = [f"{place(file, 1)} has {length} lines" for file, length in lengths.items() if length > MAX_FILE_LINES]
    assert not long, "\n".join(long)


def test_no_function_is_longer_than_60_lines() -> None:
    found = [(f, file) for file in python_files("accel_det", "scripts", "tests", "benchmarks") for f in functions(file)]
    assert len(found) >= 700
    long = [
        f"{place(file, f.line)}: {f.name} has {f.num_lines} lines"
        for f, file in found
        if f.num_lines > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_names_of_modules_say_what_is_inside() -> None:
    vague = {"util", "utils", "misc", "helper", "helpers", "manager", "common", "stuff"}
    files = python_files("accel_det", "scripts", "tests", "benchmarks")
    wrong = [place(file, 1) for file in files if vague & set(file.relative_to(ROOT).with_suffix("").parts)]
    assert not wrong, ", ".join(wrong)


def test_nothing_that_can_run_foreign_code_is_called() -> None:
    unsafe_calls = {"torch.load", "torch.save", "yaml.unsafe_load", "yaml.full_load", "eval", "exec", "os.system"}
    unsafe_libraries = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    wrong = []
    for file in python_files("accel_det", "scripts"):
        for name, call in calls(file):
            if name in unsafe_calls:
                wrong.append(f"{place(file, call.lineno)}: {name}")
            if any(k.arg in ("trust_remote_code", "allow_pickle") and not _is_false(k.value) for k in call.keywords):
                wrong.append(f"{place(file, call.lineno)}: {name} with foreign code allowed")
            if any(k.arg == "shell" and not _is_false(k.value) for k in call.keywords):
                wrong.append(f"{place(file, call.lineno)}: {name} through a shell")
        wrong += [
            f"{place(file, i.line)}: {i.module}" for i in imports(file) if i.module.split(".")[0] in unsafe_libraries
        ]
    assert not wrong, "\n".join(wrong)


def test_yaml_is_only_read_by_safe_loaders() -> None:
    loads = [
        (file, call)
        for file in python_files("accel_det", "scripts")
        for name, call in calls(file)
        if name in ("yaml.load", "yaml.load_all")
    ]
    assert loads, "nothing reads YAML any more: change this test"
    for file, call in loads:
        loader = next((k.value for k in call.keywords if k.arg == "Loader"), None)
        named = loader.id if isinstance(loader, ast.Name) else ""
        bases = {
            b
            for n in ast.walk(parse(file))
            if isinstance(n, ast.ClassDef) and n.name == named
            for b in map(ast.unparse, n.bases)
        }
        assert named == "SafeLoader" or "yaml.SafeLoader" in bases, place(file, call.lineno)


def test_only_the_command_line_prints_and_ends_the_program() -> None:
    wrong = [
        f"{place(file, call.lineno)}: {name}"
        for file in python_files("accel_det")
        if part_of(file) != "cli"
        for name, call in calls(file)
        if name in ("print", "sys.exit", "exit", "quit", "breakpoint", "input")
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_change_no_process_wide_state_at_import() -> None:
    """Statements of modules and classes, beside definitions and imports, may compute values and nothing more."""
    wrong = [
        place(file, node.lineno)
        for file in python_files("accel_det")
        for node in parse(file).body
        if isinstance(node, ast.For | ast.While | ast.With | ast.Delete | ast.Global | ast.Assert)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _names_own_object(node.value, file))
    ]
    assert not wrong, "statements that do something at import: " + ", ".join(wrong)


def _names_own_object(call: ast.Call, file: Path) -> bool:
    """Whether a call is a method of a class that the same file defines, as `Loader.add_implicit_resolver(...)`."""
    classes = {node.name for node in parse(file).body if isinstance(node, ast.ClassDef)}
    return (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id in classes
    )


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


_IMPORT_EVERYTHING = """
import importlib, json, logging, os, random, signal, sys, threading, warnings
libraries, modules = json.loads(sys.argv[1])
for name in libraries:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
import numpy, torch
def snapshot():
    return {
        "environment": dict(os.environ),
        "log handlers": repr(logging.getLogger().handlers),
        "log level": logging.getLogger().level,
        "warning filters": repr(warnings.filters),
        "signal handlers": repr([signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]),
        "threads": threading.active_count(),
        "python's random state": hash(random.getstate()),
        "numpy's random state": repr(numpy.random.get_state()),
        "torch's random state": hash(bytes(torch.get_rng_state().tolist())),
        "torch's threads": torch.get_num_threads(),
        "torch's default type": repr(torch.get_default_dtype()),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "exception hook": sys.excepthook is sys.__excepthook__,
    }
before = snapshot()
for name in modules:
    importlib.import_module(name)
after = snapshot()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""


def test_importing_every_module_changes_nothing_outside_it(tmp_path: Path) -> None:
    files = python_files("accel_det")
    modules = sorted(
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if file.stem != "__main__"
    )
    foreign = sorted({i.module for file in files for i in imports(file)} - set(modules) - set(sys.stdlib_module_names))
    foreign = [name for name in foreign if not name.startswith("accel_det")]
    assert len(modules) >= 70
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _IMPORT_EVERYTHING, json.dumps([foreign, modules])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [], "changed by importing accel_det"
    assert "accel_det" not in done.stderr


def test_the_package_itself_and_its_configuration_import_without_torch() -> None:
    code = "import sys, accel_det, accel_det.config.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0


def test_every_test_asserts_something() -> None:
    tests = 0
    wrong = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = parse(file)
        asserting = {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _asserts(node, set())
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                tests += 1
                if not _asserts(node, asserting):
                    wrong.append(f"{place(file, node.lineno)}: {node.name}")
    assert tests >= 200
    assert not wrong, "tests without an assertion:\n" + "\n".join(wrong)


def _asserts(function: ast.FunctionDef, asserting: set[str]) -> bool:
    """Whether a function asserts, expects an error, or calls a function of the same file that does."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("raises", "warns", "fail") or name.startswith(("assert_", "expect_")) or name in asserting:
                return True
    return False


def test_the_rules_notice_what_they_forbid(tmp_path: Path) -> None:
    """A rule that can find nothing would pass for ever."""
    file = tmp_path / "sample.py"
    file.write_text("import torch\ntorch.load('x')\n\n\ndef test_nothing() -> None:\n    pass\n", encoding="utf-8")
    assert [name for name, _ in calls(file)] == ["torch.load"]
    assert [found.module for found in imports(file)] == ["torch"]
    function = next(node for node in parse(file).body if isinstance(node, ast.FunctionDef))
    assert not _asserts(function, set())
    assert [(f.name, f.num_lines) for f in functions(file)] == [("test_nothing", 2)]


@pytest.mark.parametrize("folder", ["accel_det", "scripts", "tests", "configs", "accelerate_configs", "docs"])
def test_no_text_names_a_place_on_one_machine(folder: str) -> None:
    texts = [f for f in (ROOT / folder).rglob("*") if f.suffix in {".py", ".yaml", ".md", ".toml"} and f.is_file()]
    own = Path(__file__).resolve()
    marks = (str(ROOT), str(Path.home()) + "/")
    wrong = [
        str(f.relative_to(ROOT)) for f in texts if f.resolve() != own and any(m in f.read_text("utf-8") for m in marks)
    ]
    assert not wrong, ", ".join(wrong)
