"""The entry script as a processor has it: loading it, what its `run()` is given, and its errors in words."""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType
from typing import Any

import msgspec

from mpibatch.entry import EntryScript
from mpibatch.errors import ScriptError
from mpibatch.messages import ProcessorSpec
from mpibatch.work import Assignment, ErrorReport, Paths

MESSAGE_CHARACTERS = 2_000
DETAILS_BYTES = 16 << 10
_LOGGED_BYTES = 1 << 20
_LOGGED_ITEMS = 10

_OURS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


class MiniBatch(list[str]):
    """The list that `run()` gets."""

    __slots__ = ("task_id",)

    task_id: int
    """The mini-batch's number."""


class Context:
    """The second argument of `run()`, for scripts that take one."""

    def __init__(self, work: Assignment, datasets: Sequence[str]) -> None:
        self.minibatch_index = work.mini_batch
        self.retry_count = work.retry
        self.global_row_index_lower_bound = work.position
        self.dataset = datasets[work.input]
        self.partition_key_value: dict[str, Any] = dict(work.keys or {})
        self._source = work.source

    @property
    def original_paths(self) -> list[str]:
        """Where the files of the mini-batch are: with `mode: download`, `run()` is given paths of their copies.
        Empty for tables and for members of archives."""
        source = self._source
        return os.fsdecode(source.blob).split("\0") if isinstance(source, Paths) else []

    def heartbeat(self) -> None:
        """As `mpibatch.EntryScript().heartbeat()`: `run()` gets on."""
        EntryScript().heartbeat()


class Hooks(msgspec.Struct, frozen=True, kw_only=True):
    """What the script exports. `takes_context`: `run(mini_batch, context)`."""

    run: Callable[..., object]
    takes_context: bool
    init: Callable[[], object] | None
    shutdown: Callable[[], object] | None


# Loading


def load(spec: ProcessorSpec) -> Hooks:
    """Import the script, with `sys.argv` and `sys.path` set before; `init()` is the caller's to call.

    Raises `ScriptError` where no other processor could do better (as a `SyntaxError` tells too), else
    whatever the script raises.
    """
    script = os.fsdecode(spec.script)
    source = os.fsdecode(spec.source_directory) if spec.source_directory is not None else None
    sys.argv = [script, *map(os.fsdecode, spec.argv)]
    if spec.tensorflow_v1:  # By name, as it lives on a higher floor.
        importlib.import_module("mpibatch.azureml.tensorflow_v1").stand_in()
    module = _import_dotted(script, source) if spec.is_module else _import_file(script, source)
    return _exports(module, script)


def _put_on_path(source_directory: str | None, folder: str | None) -> None:
    wanted = dict.fromkeys(entry for entry in (source_directory, folder) if entry)
    sys.path[:0] = wanted


def _import_file(path: str, source_directory: str | None) -> ModuleType:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ScriptError(
            f"the entry script {path} cannot be read: {error.strerror}; look at entry_script and "
            "source_directory in the job file, and whether this node sees that folder"
        ) from None
    _put_on_path(source_directory, os.path.dirname(path))
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules:  # A script called json.py must not become everybody's json.
        name = f"entry_script_{name}"
    loader = importlib.machinery.SourceFileLoader(name, path)
    module_spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert module_spec is not None
    module = importlib.util.module_from_spec(module_spec)
    # Before it runs, so that classes of the script can be pickled, and imported by what it imports.
    sys.modules[name] = module
    loader.exec_module(module)
    return sys.modules[name]  # As `import` does: a module may put another object in its place.


def _import_dotted(name: str, source_directory: str | None) -> ModuleType:
    _put_on_path(source_directory, None)
    origin = _find_dotted(name)
    if origin is not None:
        sys.argv[0] = origin
        at = 1 if source_directory else 0
        folder = os.path.dirname(origin)
        if folder not in sys.path[:at]:
            sys.path.insert(at, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        where = source_directory or "sys.path, as no source_directory is given"
        raise ScriptError(
            f"the entry script's module {name} cannot be found: there is no {error.name} "
            f"(looked in {where}); look at entry_script and source_directory in the job file"
        ) from None


def _find_dotted(name: str) -> str | None:
    """The file of a dotted module, found without importing its packages; None if it is no plain file."""
    path: Sequence[str] | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        found = importlib.machinery.PathFinder.find_spec(".".join(parts[:count]), path)
        if found is None:
            return None
        path = found.submodule_search_locations
        if count < len(parts) and path is None:
            return None
    return found.origin if found and found.has_location else None


# What it exports


def _exports(module: ModuleType, script: str) -> Hooks:
    run = getattr(module, "run", None)
    if run is None:
        raise ScriptError(f"{script} has no function run(mini_batch){_functions_of(module)}")
    if not callable(run):
        raise ScriptError(f"`run` of {script} is no function but of type {type(run).__name__}")
    hooks = {name: getattr(module, name, None) for name in ("init", "shutdown")}
    for name, function in (("run", run), *hooks.items()):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ScriptError(f"`{name}` of {script} is an async function, which is never awaited: use def")
    return Hooks(
        run=run,
        takes_context=takes_context(run, script),
        init=hooks["init"] if callable(hooks["init"]) else None,
        shutdown=hooks["shutdown"] if callable(hooks["shutdown"]) else None,
    )


def _functions_of(module: ModuleType) -> str:
    names = [
        name
        for name in dir(module)
        if inspect.isfunction(function := getattr(module, name)) and function.__module__ == module.__name__
    ]
    near = difflib.get_close_matches("run", [name.lower() for name in names], 1, 0.4)
    nearest = next((name for name in names if name.lower() in near), None)
    found = f"; its functions are {', '.join(names)}" if names else "; it has no functions"
    return found + (f" (is {nearest} meant to be run?)" if nearest else "")


def takes_context(run: Callable[..., object], script: str) -> bool:
    """Whether `run` is to be called as `run(mini_batch, context)`.

    The callable that is really exported decides; where it is a wrapper that takes `*args`, so does
    what it wraps. A second positional parameter gets the context even if it has a default.
    """
    function: Any = run
    for _ in range(100):  # A wrapper may claim to wrap itself.
        try:
            parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
        except (TypeError, ValueError):  # Callables written in C tell nothing, as functools.lru_cache's.
            if not hasattr(function, "__wrapped__"):
                return False
            function = function.__wrapped__
            continue
        named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if not (takes_any and len(named) < 2 and hasattr(function, "__wrapped__")):
            break
        function = function.__wrapped__
    if function is run:
        needed = [p.name for p in named if p.default is p.empty]
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
        if not (named or takes_any) or len(needed) > 2 or keywords:
            raise ScriptError(
                f"`run` of {script} has the parameters {inspect.signature(run, follow_wrapped=False)}; "
                "it is called as run(mini_batch), or as run(mini_batch, context) if it takes two"
            )
    return len(named) >= 2


# Errors in words


def report(error: BaseException, where: str) -> tuple[ErrorReport, str]:
    """The error as people are shown it, and its full traceback. `where`: "in run()"."""
    _cut_chain(error)
    trace = error.__traceback__
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as failed:
        text = f"{type(error).__name__} (its traceback cannot be shown: {failed!r})\n"
    text = _plain(text)
    message = _plain(_message(error, trace, where))[:MESSAGE_CHARACTERS]
    return ErrorReport(_plain(type(error).__name__), message, _shortened(text, DETAILS_BYTES)), text


def _message(error: BaseException, trace: TracebackType | None, where: str) -> str:
    if isinstance(error, SystemExit):
        return _exit_message(error, where)
    try:
        message = str(error)
    except BaseException as failed:  # It is the script's code too.
        return f"(its __str__ raised {type(failed).__name__})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{message}: the script imports it, but {sys.executable} has no such module; install it there, "
            "put it into the source_directory, or name an interpreter that has it (`python:` in the job file)"
        )
    return message or _place(trace, where)


def _exit_message(error: SystemExit, where: str) -> str:
    if error.code is None:
        return f"the script called sys.exit() {where}"
    message = f"{error.code}: the script called sys.exit({error.code!r}) {where}"
    frames = traceback.walk_tb(error.__traceback__)
    if error.code == 2 and any(frame.f_globals.get("__name__") == "argparse" for frame, _ in frames):
        message += (
            "; argparse did not accept the arguments (why: see stderr); parse_known_args() passes over "
            "those that mpibatch adds"
        )
    return message


def _place(trace: TracebackType | None, where: str) -> str:
    """For errors without a message: the line that raised it."""
    steps = list(traceback.walk_tb(trace))
    if not steps:
        return where
    frame, line = steps[-1]
    name = frame.f_code.co_filename
    source = linecache.getline(name, line).strip()
    return f"{where}, line {line} of {os.path.basename(name)}: {source}"


def _cut_chain(error: BaseException | None) -> None:
    """Let the tracebacks of an error, and of those behind it, begin in the script's code."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = _cut(error.__traceback__)
        error = error.__cause__ or error.__context__


def _cut(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith((_OURS, "<frozen importlib")) and name != importlib.__file__:
            break
        trace = trace.tb_next
    return trace


def _plain(text: str) -> str:
    """Without surrogates, which no message and no log could hold."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8: the start and, as it says most, more of the end."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head = data[: limit // 4].decode(errors="ignore")
    tail = data[len(data) - limit // 2 :].decode(errors="ignore")
    return f"{head}\n[{len(data) - limit * 3 // 4:,} bytes left out]\n{tail}"


def log_error(path: bytes, about: str, items: Sequence[str], text: str) -> None:
    """Append a traceback to the error file, or to stderr where that fails; never raises."""
    shown = [f"    {item}" for item in items[:_LOGGED_ITEMS]]
    if len(items) > _LOGGED_ITEMS:
        shown.append(f"    and {len(items) - _LOGGED_ITEMS} more")
    moment = time.strftime("%Y-%m-%d %H:%M:%S%z")
    entry = "\n".join([f"=== {moment} {about}", *shown, _shortened(text, _LOGGED_BYTES), ""])
    data = entry.encode("utf-8", "backslashreplace")
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "ab") as file:
            file.write(data)
    except OSError as error:
        try:
            os.write(2, data + f"(not in {path!a}: {error.strerror})\n".encode())
        except OSError:
            pass
