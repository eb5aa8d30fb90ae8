"""Loading real entry scripts in real processors, and the words for those that cannot be loaded."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from process.child import Child
from support import wait_until

from mpibatch.core.framing import frame
from mpibatch.errors import ScriptError
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.messages import Grant, InputSpec
from mpibatch.runtime.entry_script import takes_context
from mpibatch.runtime.script_errors import MESSAGE_CHARACTERS, log_error, report
from mpibatch.work import Assignment, Slice, Succeeded


def test_what_a_script_may_rely_on(tmp_path: Path) -> None:
    script = """
        import os, sys
        import beside, deep
        at_import = list(sys.argv)
        def init():
            global started
            started = True
        def run(mini_batch):
            return [__file__, __name__, *at_import, sys.path[0], sys.path[1], beside.NAME, deep.NAME, started,
                    os.getcwd(), type(mini_batch).__mro__[1].__name__, mini_batch.task_id]
    """
    source = tmp_path / "the source"
    (source / "src").mkdir(parents=True)
    (source / "src" / "beside.py").write_text("NAME = 'beside'")
    (source / "deep.py").write_text("NAME = 'deep'")
    arguments = ["--model", "a b", "--x=1"]
    file = "the source/src/entry.py"
    changes: dict[str, Any] = {"source_directory": str(source), "argv": arguments}
    with Child(tmp_path, script, file=file, environment={"PYTHONDONTWRITEBYTECODE": ""}, **changes) as child:
        rows = child.ready().rows("a").decode().splitlines()
        path = str(source / "src" / "entry.py")
        assert rows[:6] == [path, "entry", path, *arguments]
        assert rows[6:10] == [str(source), str(source / "src"), "beside", "deep"]
        assert rows[10:] == ["True", str(tmp_path / "scratch"), "list", "10"]
        assert child.finish() == 0
    assert list((source / "src" / "__pycache__").glob("entry.*.pyc")), "its bytecode is cached as usual"


def test_a_dotted_module(tmp_path: Path) -> None:
    package = tmp_path / "app" / "jobs"
    package.mkdir(parents=True)
    (tmp_path / "app" / "__init__.py").write_text("import sys; seen = list(sys.argv)")
    (package / "__init__.py").write_text("")
    (package / "rules.py").write_text("NAME = 'rules'")
    script = """
        import sys
        from app import seen
        from . import rules
        def run(mini_batch):
            return [__name__, __file__, rules.NAME, seen, sys.path[:2]]
    """
    changes: dict[str, Any] = {
        "script": "app.jobs.main",
        "is_module": True,
        "source_directory": str(tmp_path),
    }
    with Child(tmp_path, script, file="app/jobs/main.py", argv=["--x"], **changes) as child:
        rows = child.ready().rows("a").decode().splitlines()
        path = str(package / "main.py")
        assert rows == [
            "app.jobs.main",
            path,
            "rules",
            str([path, "--x"]),
            str([str(tmp_path), str(package)]),
        ]


def test_a_script_named_like_a_module_that_is_loaded(tmp_path: Path) -> None:
    script = """
        import signal
        def run(mini_batch):
            return [__name__, signal.SIGTERM.name]
    """
    with Child(tmp_path, script, file="signal.py") as child:
        assert child.ready().rows("a") == b"entry_script_signal\nSIGTERM\n"


def test_the_context(tmp_path: Path) -> None:
    script = """
        def run(files, anything):
            c = anything
            return [c.minibatch_index, c.retry_count, c.global_row_index_lower_bound, c.dataset,
                    c.partition_key_value]
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a", retry=2, position=77) == b"10\n2\n77\nimages/\n{}\n"


UNUSABLE = {
    "no run": (
        "def run_batch(x): pass\ndef other(): pass",
        "functions are other, run_batch (is run_batch meant",
    ),
    "nothing": ("from os.path import join", "has no function run(mini_batch); it has no functions"),
    "no function": ("run = 3", "is no function but of type int"),
    "no parameter": ("def run(): pass", "has the parameters (); it is called as run(mini_batch), or as"),
    "too many": ("def run(a, b, c): pass", "has the parameters (a, b, c)"),
    "keyword": ("def run(a, *, model): pass", "has the parameters (a, *, model)"),
    "syntax": ("def run(x):\n  return [", "'[' was never closed (entry.py, line 2)"),
    "indent": ("def run(x):\nreturn []", "expected an indented block"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_no_processor_can_use_it(name: str, tmp_path: Path) -> None:
    script, words = UNUSABLE[name]
    with Child(tmp_path, script) as child:
        failed = child.init_failed()
        assert failed.unusable
        assert words in failed.error.message
        assert failed.error.type in {"ScriptError", "SyntaxError", "IndentationError"}
        assert "mpibatch/" not in failed.error.details
        assert child.ends()
        assert child.process.wait(30) == 1


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    missing: dict[str, Any] = {"script": str(tmp_path / "absent.py")}
    with Child(tmp_path, "", **missing) as child:
        failed = child.init_failed()
        assert failed.unusable
        assert f"{tmp_path}/absent.py cannot be read: No such file or directory" in failed.error.message


@pytest.mark.parametrize(("module", "absent"), [("app.absent", "app.absent"), ("absent.main", "absent")])
def test_a_module_that_is_not_there(module: str, absent: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"script": module, "is_module": True, "source_directory": str(tmp_path)}
    with Child(tmp_path, "", file="app/__init__.py", **changes) as child:
        failed = child.init_failed()
        assert failed.unusable
        assert f"there is no {absent} (looked in {tmp_path})" in failed.error.message


NOT_STARTED = {
    "raises at import": ("1 / 0", "ZeroDivisionError", "division by zero"),
    "missing import": (
        "import no_such_package",
        "ModuleNotFoundError",
        f"but {sys.executable} has no such module",
    ),
    "missing name": ("from os import no_such", "ImportError", "cannot import name 'no_such'"),
    "exits at import": (
        "import sys; sys.exit('no')",
        "SystemExit",
        "no: the script called sys.exit('no') while it",
    ),
    "argparse": (
        "import argparse; argparse.ArgumentParser(prog='p').parse_args()",
        "SystemExit",
        "2: the script called sys.exit(2) while it was imported; argparse did not accept the arguments:"
        " unrecognized arguments: --unknown; parse_known_args() passes over",
    ),
    "argparse lacks one": (
        "import argparse\nparser = argparse.ArgumentParser(prog='p')\n"
        "parser.add_argument('--model', required=True)\nparser.parse_known_args()",
        "SystemExit",
        "did not accept the arguments: the following arguments are required: --model; parse_known_args()",
    ),
    "argparse takes a beginning": (
        "import argparse\nparser = argparse.ArgumentParser(prog='p')\nparser.add_argument('--unknown_a')\n"
        "parser.add_argument('--unknown_b')\nparser.parse_known_args()",
        "SystemExit",
        "ambiguous option: --unknown could match --unknown_a, --unknown_b; ArgumentParser(allow_abbrev=False)",
    ),
    "init raises": ("def init(): raise OSError(5, 'bad disk')", "OSError", "[Errno 5] bad disk"),
    "init exits": (
        "import sys\ndef init(): sys.exit()",
        "SystemExit",
        "the script called sys.exit() in init()",
    ),
    "init interrupts": (
        "def init(): raise KeyboardInterrupt",
        "KeyboardInterrupt",
        "in init(), line 1 of entry.py",
    ),
    "init takes one": ("def init(x): pass", "TypeError", "missing 1 required positional argument"),
    "init evaluates": ("def init(): eval('(')", "SyntaxError", "was never closed"),
}


@pytest.mark.parametrize("name", NOT_STARTED)
def test_import_or_init_fails(name: str, tmp_path: Path) -> None:
    script, kind, words = NOT_STARTED[name]
    with Child(tmp_path, script + "\ndef run(x): pass", argv=["--unknown"]) as child:
        failed = child.init_failed()
        assert not failed.unusable
        assert failed.error.type == kind
        assert words in failed.error.message
        assert "importlib" not in failed.error.details
        assert "mpibatch/" not in failed.error.details
        assert kind in child.errors
        assert "process007" in child.errors
        assert child.process.wait(30) == 1


def test_another_version_says_so(tmp_path: Path) -> None:
    with Child(tmp_path, "1 / 0", version="0.0.7") as child:
        failed = child.init_failed()
        assert failed.unusable
        assert failed.error.type == "VersionMismatch"
        assert "the run is one of mpibatch 0.0.7" in failed.error.message
        assert sys.executable in failed.error.message


def test_a_first_message_of_another_version(tmp_path: Path) -> None:
    with Child(tmp_path, "", start=False) as child:
        child.send_raw(b"\x01" + bytes(7) + b"\xc0")
        failed = child.init_failed()
        assert failed.unusable
        assert failed.error.type == "VersionMismatch"


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(function)(plain(function))


def one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(batch: list[str]) -> Any:
        return [function(item, None) for item in batch]

    return wrapper


class Model:
    def run(self, batch: list[str]) -> None: ...

    def __call__(self, batch: list[str], context: object) -> None: ...


def one(a: list[str]) -> None: ...
def two(a: list[str], b: object) -> None: ...
def optional(a: list[str], b: object = None) -> None: ...
def more(a: list[str], b: object = None, c: int = 3, *, d: int = 4) -> None: ...
def position_only(a: list[str], b: object, /) -> None: ...
def rest(a: list[str], *others: object) -> None: ...
def anything(*args: object) -> None: ...


itself = plain(one)
itself.__wrapped__ = itself  # type: ignore[attr-defined]

RUNS: list[tuple[Callable[..., Any], bool]] = [
    (one, False),
    (two, True),
    (optional, True),
    (more, True),
    (position_only, True),
    (rest, False),
    (anything, False),
    (plain(two), False),
    (wrapping(one), False),
    (wrapping(two), True),
    (wrapping(wrapping(two)), True),
    (wrapping(plain(two)), False),
    (one_by_one(two), False),
    (wrapping(one_by_one(two)), False),
    (functools.lru_cache(two), True),
    (functools.partial(two, b=1), False),
    (functools.partial(two), True),
    (Model().run, False),
    (Model(), True),
    (itself, False),
    (str.upper, False),
    (lambda a, b: [], True),
]


@pytest.mark.parametrize(("run", "expected"), RUNS, ids=range(len(RUNS)))
def test_who_gets_the_context(run: Callable[..., Any], expected: bool) -> None:
    assert takes_context(run, "entry.py") is expected


@pytest.mark.parametrize("run", [lambda: 0, lambda a, b, c: 0, lambda a, *, k: 0, lambda **k: 0])
def test_a_run_that_cannot_be_called(run: Callable[..., Any]) -> None:
    with pytest.raises(ScriptError, match="it is called as"):
        takes_context(run, "entry.py")


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_decorated_run_is_called_as_it_is_exported(wrapped: bool, tmp_path: Path) -> None:
    parameters = "batch, context" if wrapped else "batch"
    script = f"""
        import functools
        def deco(f):
            @functools.wraps(f)
            def wrapper(*args, **kwargs):
                return [*f(*args, **kwargs), len(args)]
            return wrapper
        @deco
        def run({parameters}):
            return batch
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a") == (b"a\n2\n" if wrapped else b"a\n1\n")


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("sulking")


def test_reports_are_bounded_and_hold_no_surrogates() -> None:
    words, text = report(raised(ValueError("\ud800" + "x" * 100_000)), "in run()")
    assert len(words.message) == MESSAGE_CHARACTERS
    assert words.message.startswith("\\ud800xxx")
    assert len(words.details.encode()) <= 16 << 10
    assert words.details.startswith("Traceback (most recent call last):\n")
    assert "bytes left out]" in words.details
    assert len(text) > 100_000


def test_an_error_without_words_is_told_by_its_line() -> None:
    words, _ = report(raised(AssertionError()), "in run()")
    assert words.message.startswith("in run(), line ")
    assert words.message.endswith("of test_entry_script.py: raise error")
    assert report(AssertionError(), "in run()")[0].message == "in run()"


def test_an_error_that_cannot_be_shown() -> None:
    assert report(raised(Silent()), "in run()")[0].message == "(its __str__ raised RuntimeError)"


def test_the_error_file_names_the_items(tmp_path: Path) -> None:
    path = tmp_path / "new" / "error.txt"
    log_error(os.fsencode(path), "mini-batch 3", [f"item{n}" for n in range(12)], "Traceback\n")
    log_error(os.fsencode(path), "mini-batch 4", ["f\udcff"], "Traceback\n")
    entries = path.read_text().split("=== ")[1:]
    assert "mini-batch 3\n    item0\n" in entries[0]
    assert "    item9\n    and 2 more\nTraceback\n" in entries[0]
    assert "    f\\udcff\nTraceback\n" in entries[1]


def test_an_error_file_that_cannot_be_written(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log_error(os.fsencode(tmp_path), "mini-batch 3", [], "Traceback\n")
    assert "mini-batch 3\nTraceback\n\n(not in" in capfd.readouterr().err


def test_classes_and_functions_of_the_script_can_be_pickled(tmp_path: Path) -> None:
    script = """
        import copy, pickle
        class Thing:
            pass
        def run(batch):
            thing = pickle.loads(pickle.dumps(Thing()))
            again = pickle.loads(pickle.dumps(batch))
            return [type(thing) is Thing, again == batch, again.task_id, copy.copy(batch).task_id]
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a", "b") == b"True\nTrue\n10\n10\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_inside_run(method: str, tmp_path: Path) -> None:
    script = f"""
        import multiprocessing
        def square(x):
            return int(x) ** 2
        def run(batch):
            with multiprocessing.get_context("{method}").Pool(2) as pool:
                return pool.map(square, batch)
    """
    with Child(tmp_path, script) as child:
        outcome = child.ready().does("1", "2", "3")
        assert isinstance(outcome, Succeeded), (outcome, child.stderr)
        assert outcome.fragment == b"1\n4\n9\n"
        assert child.finish() == 0


# Progress from inside run()


def test_heartbeats_reach_the_worker_while_run_goes_on(tmp_path: Path) -> None:
    script = f"""
        import os, time
        from mpibatch import EntryScript
        def run(batch, context):
            context.heartbeat()
            EntryScript().heartbeat()
            while not os.path.exists({str(tmp_path / "go")!r}):
                time.sleep(0.001)
            for _ in range(100_000):
                EntryScript().heartbeat()
            return batch
    """
    with Child(tmp_path, script) as child:
        child.ready()
        assert child.heartbeats() == 0
        child.grant(["a"])
        wait_until(lambda: child.heartbeats() == 2, "both are seen")
        assert child.clock()[0] == 1
        (tmp_path / "go").touch()
        child.outcome()
        assert child.heartbeats() == 100_002


def test_heartbeats_of_a_process_that_the_script_has_forked(tmp_path: Path) -> None:
    script = """
        import multiprocessing
        import mpibatch
        entry_script = mpibatch.EntryScript()
        def one(item):
            entry_script.heartbeat()
            return item
        def run(batch):
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return pool.map(one, batch)
    """
    with Child(tmp_path, script) as child:
        assert child.ready().rows("a", "b", "c") == b"a\nb\nc\n"
        assert child.heartbeats() == 3


def test_what_readers_hold_open_is_closed_at_the_end_after_shutdown(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    script = """
        from mpibatch.inputs.ranges import KeptFile
        close = KeptFile.close
        def tell(self):
            print("closed")
            close(self)
        KeptFile.close = tell
        def run(batch):
            return [len(batch)]
        def shutdown():
            print("shutdown")
    """
    setup = msgspec.msgpack.encode(CsvSetup(header=b"a\n"))
    inputs = [InputSpec(kind="csv", options={}, setup=setup)]
    with Child(tmp_path, script, inputs=inputs) as child:
        child.ready()
        source = Slice(os.fsencode(tmp_path / "t.csv"), 2, 4, 0, 1)
        child.send_raw(frame(Grant([Assignment(1, 0, 0, 1, 0, 0, 0, source)])))
        outcome = child.outcome()
        assert isinstance(outcome, Succeeded), outcome
        open_before = child.stdout.count("closed")
        assert child.finish() == 0
        assert child.stdout.splitlines()[open_before:] == ["shutdown", "closed"]
