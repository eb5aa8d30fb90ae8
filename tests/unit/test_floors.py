"""Imports go down only: the floors of the package, read from its source.

Imports within functions count as well as those at the top. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import mpibatch

ROOT = Path(mpibatch.__file__).parent

FLOORS: list[tuple[str, ...]] = [
    ("errors", "work", "messages", "results", "entry"),
    ("core",),
    ("inputs", "outputs"),
    ("runtime",),
    ("slurm", "monitor", "azureml"),
    (
        "launch",
        "local_world",
        "restarts",
        "rank",
        "worker_rank",
        "start",
        "dry_run",
        "doctor",
        "merge",
        "company",
        "submission",
        "sessions",
        "pipeline_rank",
    ),
    ("api",),
    ("cli", "__main__"),
]
"""From the ground up. A module or package that is not here has to be given its place first."""

OF_MODULES = {0, 5, 7}
"""Floors of single modules, which may know each other. The packages of one floor do not."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

CORE_MAY_IMPORT = {
    "__future__",
    "bisect",
    "codecs",
    "collections",
    "difflib",
    "fnmatch",
    "functools",
    "itertools",
    "math",
    "msgspec",
    "numpy",
    "re",
    "shlex",
    "struct",
    "typing",
}
"""Nothing with which a decision could read a clock, a file, the environment, or chance."""

NOT_AT_THE_TOP = {
    "h5py",
    "jinja2",
    "mpi4py",
    "numpy",
    "pandas",
    "pyarrow",
    "rich",
    "yaml",
}
"""Slow to load: imported in the functions that need them, so that nothing else waits for them."""


class Import(NamedTuple):
    """One imported name. `at_top`: it happens when the module is loaded."""

    target: str
    line: int
    at_top: bool


def imports(source: str, package: str) -> Iterator[Import]:
    """All imports of a module of `package`. `from a import b` is told of as `a.b`."""
    yield from _walk(ast.parse(source).body, package, at_top=True)


def _walk(nodes: list[ast.stmt], package: str, *, at_top: bool) -> Iterator[Import]:
    for node in nodes:
        match node:
            case ast.Import(names):
                yield from (Import(name.name, node.lineno, at_top) for name in names)
            case ast.ImportFrom(module, names, level):
                parts = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                base = ".".join([*parts, *([module] if module else [])])
                yield from (Import(f"{base}.{name.name}", node.lineno, at_top) for name in names)
            case ast.If(test=ast.Name("TYPE_CHECKING"), body=body, orelse=orelse):
                yield from _walk(body, package, at_top=False)
                yield from _walk(orelse, package, at_top=at_top)
            case _:
                inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from _walk(_statements(node), package, at_top=at_top and not inside)


def _statements(node: ast.AST) -> list[ast.stmt]:
    """Statements below a statement, wherever they stand in it."""
    found: list[ast.stmt] = []
    for child in ast.iter_child_nodes(node):
        found += [child] if isinstance(child, ast.stmt) else _statements(child)
    return found


def room_of(name: str) -> str | None:
    """First part of a module's name below `mpibatch`; None for the package itself and what is foreign."""
    parts = name.split(".")
    return parts[1] if parts[0] == "mpibatch" and len(parts) > 1 else None


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What is wrong with a module's imports, in words."""
    room = room_of(module)
    if room is not None and room not in FLOOR_OF:
        return [f"{module}: {room} is on no floor: give it a place in FLOORS"]
    package = module if is_package else module.rpartition(".")[0]
    return [
        f"{module}, line {found.line}: {found.target}: {wrong}"
        for found in imports(source, package)
        if (wrong := _wrong(room, found))
    ]


def _wrong(room: str | None, found: Import) -> str | None:
    top = found.target.split(".")[0]
    if top != "mpibatch":
        if room == "core" and top not in CORE_MAY_IMPORT:
            return "is nothing that a pure decision needs"
        return (
            "is slow to load: import it where it is used" if found.at_top and top in NOT_AT_THE_TOP else None
        )
    target = room_of(found.target)
    if target is None or target == "__version__":
        return None
    if room is None and found.at_top:
        return "the package itself imports nothing when it is loaded"
    if target not in FLOOR_OF:
        return "is on no floor"
    if room is None or target == room or FLOOR_OF[target] < FLOOR_OF[room]:
        return None
    if FLOOR_OF[target] == FLOOR_OF[room] and FLOOR_OF[room] in OF_MODULES:
        return None
    return "is not below"


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_go_down_only(module: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert violations(module, source, is_package=path.name == "__init__.py") == []


def present() -> Iterator[tuple[str, int]]:
    """The rooms that exist, with their floors: some are built later."""
    for room, floor in FLOOR_OF.items():
        if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file():
            yield room, floor


def test_all_modules_are_found() -> None:
    names = {name for name, _ in modules()}
    assert all((ROOT / room).is_dir() == (floor not in OF_MODULES) for room, floor in present())
    assert {"mpibatch", "mpibatch.core", "mpibatch.core.dispatch", "mpibatch.errors"} <= names


RIGHT = [
    ("mpibatch.core.x", "import math\nfrom collections.abc import Iterable\nfrom mpibatch.work import Piece"),
    ("mpibatch.core.x", "from mpibatch.core.y import z\nfrom mpibatch.core import y\nfrom . import y"),
    ("mpibatch.core.x", "def f():\n    import numpy as np"),
    ("mpibatch.core.x", "if TYPE_CHECKING:\n    import numpy as np"),
    ("mpibatch.runtime.x", "import os\nfrom mpibatch.core import history\nfrom mpibatch import __version__"),
    ("mpibatch.messages", "from mpibatch.work import Outcome"),
    ("mpibatch.__main__", "import mpibatch.cli\nfrom mpibatch.launch import launch"),
    ("mpibatch.monitor.x", "from mpibatch.runtime.run_folder import RunFolder\nfrom .y import z"),
    ("mpibatch", "def __getattr__(name):\n    from mpibatch.entry import EntryScript"),
]

WRONG = [
    ("mpibatch.core.x", "import os", "pure"),
    ("mpibatch.core.x", "import os.path", "pure"),
    ("mpibatch.core.x", "from time import time", "pure"),
    ("mpibatch.core.x", "def f():\n    if x:\n        import random", "line 3"),
    ("mpibatch.core.x", "class A:\n    def f(self):\n        with a:\n            import logging", "line 4"),
    ("mpibatch.core.x", "try:\n    pass\nexcept E:\n    import threading", "pure"),
    ("mpibatch.core.x", "match a:\n    case 1:\n        import subprocess", "pure"),
    ("mpibatch.core.x", "if TYPE_CHECKING:\n    from mpibatch.runtime.planner import Plan", "not below"),
    ("mpibatch.core.x", "from mpibatch import runtime", "not below"),
    ("mpibatch.core.x", "from ..runtime import planner", "not below"),
    ("mpibatch.core.x", "import numpy", "slow"),
    ("mpibatch.core.x", "class A:\n    import numpy", "slow"),
    ("mpibatch.runtime.x", "try:\n    import pandas\nexcept ImportError:\n    pass", "slow"),
    ("mpibatch.work", "def f():\n    from mpibatch.core.config import Job", "not below"),
    ("mpibatch.inputs.x", "from mpibatch.outputs import text", "not below"),
    ("mpibatch.monitor.x", "import mpibatch.slurm.script", "not below"),
    ("mpibatch.runtime.x", "def f():\n    from mpibatch.cli import main", "not below"),
    ("mpibatch.launch", "from mpibatch.nowhere import x", "no floor"),
    ("mpibatch.helpers", "", "no floor"),
    ("mpibatch", "from mpibatch.api import run", "itself"),
]


@pytest.mark.parametrize(("module", "source"), RIGHT)
def test_what_is_right_is_let_through(module: str, source: str) -> None:
    assert violations(module, source) == []


@pytest.mark.parametrize(("module", "source", "words"), WRONG)
def test_what_is_wrong_is_seen(module: str, source: str, words: str) -> None:
    (found,) = violations(module, source)
    assert words in found
