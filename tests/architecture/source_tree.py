"""The project's own files, parsed: what the architecture tests read."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "accel_det"


class Import(NamedTuple):
    """One imported module, by its full dotted name, and where the statement stands."""

    module: str
    line: int


class Function(NamedTuple):
    """One function or method with its number of lines, decorators left out, docstring included."""

    name: str
    line: int
    num_lines: int


def python_files(*folders: str) -> list[Path]:
    """Every Python file below the given folders of the repository, sorted; a folder that does not exist holds none."""
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def place(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, also those inside functions and for type checkers.

    `from package import name` counts as `package.name` where that is a module of this project, else as `package`.
    """
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}" if base else alias.name
                yield Import(inner if node.level or is_own_module(inner) else base, node.lineno)


def is_own_module(dotted: str) -> bool:
    path = ROOT.joinpath(*dotted.split("."))
    return dotted.startswith("accel_det") and (path.with_suffix(".py").is_file() or path.is_dir())


def part_of(file: Path) -> str:
    """The package or base module of accel_det that a file belongs to, such as "engine" or "boxes"."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def functions(file: Path) -> Iterator[Function]:
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)


def dotted_name(node: ast.expr) -> str:
    """`torch.load` of the expression `torch.load`; what stands before a method without a name of its own is `?`."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted_name(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the dotted name of what is called."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Call):
            yield dotted_name(node.func), node
