"""The entry script as a processor has it: loading it, and what its `run()` is given."""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from mpibatch.entry import EntryScript
from mpibatch.errors import ScriptError
from mpibatch.messages import ProcessorSpec
from mpibatch.runtime.asynchrony import with_loop
from mpibatch.runtime.signatures import finalize_hook, parameters_of
from mpibatch.work import Assignment, Paths

if TYPE_CHECKING:
    from mpibatch.runtime.script_loop import ScriptLoop


class MiniBatch(list[Any]):
    """The list that `run()` gets: paths of files, members of archives, or numbers."""

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
    finalize: Callable[[str | None], object] | None
    """Takes the output file, whether or not the script's does."""
    asynchronous: bool = False
    """What `run()` returns is to be awaited, in `loop`. The others see to that themselves."""
    loop: ScriptLoop | None = None
    """None: nothing of the script is async."""


# Loading


def load(spec: ProcessorSpec) -> Hooks:
    """Import the script, with `sys.argv` and `sys.path` set before; `init()` is the caller's to call.

    Raises `ScriptError` where no other processor could do better (as a `SyntaxError` tells too), else
    whatever the script raises.
    """
    script = os.fsdecode(spec.script)
    source = os.fsdecode(spec.source_directory) if spec.source_directory is not None else None
    sys.argv = [script, *map(os.fsdecode, spec.argv)]
    EntryScript._settle(spec.surroundings)
    # By name, as they live on a higher floor.
    importlib.import_module("mpibatch.azureml.finder").install()
    if spec.tensorflow_v1:
        importlib.import_module("mpibatch.azureml.tensorflow_v1").stand_in()
    module = _import_dotted(script, source) if spec.is_module else _import_file(script, source)
    return with_loop(_exports(module, script), spec.concurrency, script)


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
    hooks = {name: getattr(module, name, None) for name in ("init", "shutdown", "finalize")}
    finalize = hooks["finalize"]
    return Hooks(
        run=run,
        takes_context=takes_context(run, script),
        init=hooks["init"] if callable(hooks["init"]) else None,
        shutdown=hooks["shutdown"] if callable(hooks["shutdown"]) else None,
        finalize=finalize_hook(finalize, script) if callable(finalize) else None,
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
    found = parameters_of(run, most=2)
    if found is None:
        return False
    if found.own and (not (found.named or found.takes_any) or len(found.needed) > 2 or found.needed_keywords):
        raise ScriptError(
            f"`run` of {script} has the parameters {inspect.signature(run, follow_wrapped=False)}; "
            "it is called as run(mini_batch), or as run(mini_batch, context) if it takes two"
        )
    return len(found.named) >= 2
