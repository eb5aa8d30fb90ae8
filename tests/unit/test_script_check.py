"""runtime.script_check: what a syntax tree tells of `run`, and what it cannot tell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mpibatch.core.config import FilesInput, Job
from mpibatch.core.settings import printable
from mpibatch.errors import EXIT_USAGE, ScriptError
from mpibatch.runtime.script_check import check_script, may_finalize, script_file


def job_of(
    folder: Path, script: str | None = None, *, python: str | None = None, concurrency: int = 1
) -> Job:
    """A job with the entry script score.py in `folder`, or with the module `script`."""
    return Job(
        job_file=str(folder / "job.yaml"),
        job_dir=str(folder),
        name="job",
        entry_script=script or str(folder / "score.py"),
        entry_is_module=script is not None,
        source_directory=str(folder),
        inputs=[FilesInput(files=["/x"], text="/x")],
        output=str(folder / "runs"),
        python=python,
        concurrency=concurrency,
    )


def words(folder: Path, source: str | bytes) -> str:
    (folder / "score.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(ScriptError) as caught:
        check_script(job_of(folder))
    assert caught.value.exit_code == EXIT_USAGE
    assert printable(str(folder / "score.py")) in str(caught.value)
    return str(caught.value)


GOOD = [
    "def run(mini_batch): ...",
    "def run(mini_batch, context): ...",
    "def run(mini_batch, context=None, *more, key=1, **rest): ...",
    "def run(a, b, c=1): ...",
    "def run(*args): ...",
    "def run(a, /, b): ...",
    "@decorated\ndef run(): ...",
    "@decorated\nasync def run(a): ...",
    "async def run(batch): ...",
    "async def run(batch, context):\n    yield 1",
    "run = lambda batch: batch",
    "run: object = other",
    "run, init = make()",
    "[init, *run] = make()",
    "(run := make())",
    "for run in steps: pass",
    "with make() as run: pass",
    "class run:\n    def __init__(self, batch): ...",
    "import run",
    "import run.inner",
    "import steps as run",
    "from steps import run",
    "from steps import do as run",
    "from steps import *",
    "if fast:\n    def run(a): ...\nelse:\n    def run(): ...",
    "try:\n    from fast import run\nexcept ImportError:\n    from slow import run",
    "while True:\n    def run(a): ...\n    break",
    "match x:\n    case [run]: pass",
    "match x:\n    case {'a': 1, **run}: pass",
    "globals()['run'] = print",
    "exec('def run(a): ...')",
    "vars().update(run=print)",
    "import sys\nsetattr(sys.modules[__name__], 'run', print)",
    "def __getattr__(name): return print",
    "def init():\n    global run\n    run = make()",
    "x = '\\d'\ndef run(a): return x is 'a'",  # SyntaxWarnings are not shown, and no errors.
    "# -*- coding: latin-1 -*-\nname = '\xe4'\ndef run(a): ...".encode("latin-1"),
    b"\xef\xbb\xbfdef run(a): ...",
    b"def run(a): ...\r\n",
]


@pytest.mark.parametrize("source", GOOD)
def test_scripts_with_a_run_are_accepted(tmp_path: Path, source: str | bytes) -> None:
    (tmp_path / "score.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    check_script(job_of(tmp_path))


NEEDED = "an entry script needs a function run(mini_batch) at its top level"

WRONG: list[tuple[str | bytes, list[str]]] = [
    ("", ["has no run", NEEDED]),
    ("def init(): ...\ndef Run(batch): ...", ["its functions are init, Run", "was Run in line 2 meant?"]),
    ("def run_batch(batch): ...", ["was run_batch in line 1 meant? Then rename it to run"]),
    ("def score(batch): ...", ["its functions are score"]),
    ("class Model:\n    def run(self, batch): ...", ["the run of class Model is a method"]),
    ("def main():\n    def run(batch): ...", ["has no run", "its functions are main"]),
    ("def main():\n    run = 1\n    import run\n", ["has no run"]),
    ("x.run = 1", ["has no run"]),
    ("import steps.run", ["has no run"]),
    ("from run import steps", ["has no run"]),
    ("class Model:\n    def __getattr__(self, name): ...", ["has no run"]),
    ("async def run(): ...", ["score.py:1: run takes no positional parameter"]),
    ("\ndef run(): ...", ["score.py:2: run takes no positional parameter"]),
    ("def run(*, batch): ...", ["takes no positional parameter"]),
    ("def run(a, b, c): ...", ["run requires 3 parameters (a, b, c)"]),
    ("def run(a, /, b, c, d=1): ...", ["run requires 3 parameters (a, b, c)"]),
    ("def run(a, *, key): ...", ["run requires the keyword key"]),
    (
        "if x:\n    def run(): ...\nelse:\n    async def run(*, a): ...",
        ["score.py:4: run takes no positional"],
    ),
    (
        "def run(a)\n    pass",
        ["score.py:1: the entry script has a syntax error: expected ':'", "def run(a)\n"],
    ),
    ("x = 1\n    y = (2 +\n", ["score.py:2", "syntax error"]),
    ("def run(a): ...\nreturn 1\n", ["score.py:2", "'return' outside function"]),
    ("print 'x'", ["score.py:1", "print 'x'"]),
    (b"name = '\xe4'\n", ["syntax error", "utf-8"]),
    (b"# coding: nonsense\n", ["syntax error", "nonsense"]),
    (b"x = 1\0\n", ["null bytes"]),
]


@pytest.mark.parametrize(("source", "expected"), WRONG)
def test_scripts_without_a_usable_run_are_refused(
    tmp_path: Path, source: str | bytes, expected: list[str]
) -> None:
    message = words(tmp_path, source)
    assert [word for word in expected if word not in message] == [], message


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ("def run(batch): ...", True),
        ("if x:\n    def run(a): ...\nelse:\n    def run(b): ...", True),
        ("async def run(batch): ...", False),
        ("if x:\n    def run(a): ...\nelse:\n    async def run(b): ...", False),
        ("@decorated\ndef run(batch): ...", False),
        ("def run(batch): ...\nrun = made_async(run)", False),
        ("def run(batch): ...\nfrom steps import *", False),
    ],
)
def test_several_at_a_time_need_an_async_run(tmp_path: Path, source: str, is_refused: bool) -> None:
    (tmp_path / "score.py").write_text(source)
    check_script(job_of(tmp_path))
    if not is_refused:
        check_script(job_of(tmp_path, concurrency=8))
        return
    with pytest.raises(
        ScriptError, match=r"no async def, so that no 8 mini-batches .* process_count_per_node"
    ):
        check_script(job_of(tmp_path, concurrency=8))


def test_a_syntax_error_points_at_its_place(tmp_path: Path) -> None:
    message = words(tmp_path, "if True:\n    x = (1 2)\n")
    _, line, pointer = message.split("\n")
    assert line == "    x = (1 2)"
    assert line[pointer.index("^")] == "1"


def test_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("raise SystemExit(5)\ndef run(a): ...\n")
    before = set(sys.modules)
    check_script(job_of(tmp_path))
    assert "score" not in set(sys.modules) - before


def test_syntax_of_another_interpreter_is_its_business(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def run(a) pass")
    check_script(job_of(tmp_path, python="/usr/bin/python9"))
    (tmp_path / "score.py").write_text("def Run(a): pass")
    with pytest.raises(ScriptError, match="has no run"):
        check_script(job_of(tmp_path, python="/usr/bin/python9"))


def test_modules_are_found_below_the_source_directory(tmp_path: Path) -> None:
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "main.py").write_text("def Run(a): ...")
    (package / "__init__.py").write_text("def run(a): ...")
    assert script_file(job_of(tmp_path, "pkg.main")) == str(package / "main.py")
    assert script_file(job_of(tmp_path, "pkg")) == str(package / "__init__.py")
    assert script_file(job_of(tmp_path, "pkg.other")) is None
    check_script(job_of(tmp_path, "pkg"))
    check_script(job_of(tmp_path, "elsewhere"))
    with pytest.raises(ScriptError, match=r"main\.py has no run"):
        check_script(job_of(tmp_path, "pkg.main"))


def test_an_unreadable_script_is_told(tmp_path: Path) -> None:
    (tmp_path / "score.py").mkdir()
    with pytest.raises(ScriptError, match="cannot be read"):
        check_script(job_of(tmp_path))


def test_endlessly_deep_code_is_left_to_the_processor(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("x = " + "-" * 100_000 + "1\ndef Run(a): ...")
    check_script(job_of(tmp_path))


FINALIZES = [
    ("def run(a): ...", False),
    ("def run(a): ...\ndef finalize(): ...", True),
    ("def run(a): ...\nfinalize = None", True),
    ("def run(a): ...\nclass A:\n    def finalize(self): ...", False),
    ("def run(a): ...\nfrom sums import finalize", True),
    ("from sums import *", True),
    ("no python", True),
]


@pytest.mark.parametrize(("source", "may"), FINALIZES)
def test_whether_a_script_may_have_a_finalize(source: str, may: bool, tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text(source)
    assert may_finalize(job_of(tmp_path)) is may


def test_a_module_that_lies_elsewhere_may_have_one(tmp_path: Path) -> None:
    assert may_finalize(job_of(tmp_path, "elsewhere.score"))
