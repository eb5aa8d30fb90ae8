"""A function or class of the caller becomes an entry script: pickled by value here, and loaded in each processor."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mpibatch.errors import ScriptError
from mpibatch.runtime.files import write_whole

PICKLE = "function.pkl"
SEARCH_PATH = "search_path.json"
SCRIPT = "entry.py"
_SOURCE = '''\
"""The entry script of mpibatch.run(): what it was given lies beside it, {digest}."""

from mpibatch.api.shipped import load

init, run, shutdown = load(__file__)
'''


class Shipped(NamedTuple):
    """What the entry script exports."""

    init: Callable[[], object] | None
    run: Callable[..., object]
    shutdown: Callable[[], object] | None


def ship(what: Any, folder: Path) -> Path:
    """Write an entry script for a function or a class into `folder`; its path. ScriptError if it cannot be."""
    import cloudpickle

    _check(what)
    try:
        data = cloudpickle.dumps(what)
    except Exception as error:  # Whatever it refers to may raise whatever it likes.
        raise ScriptError(
            f"{_name(what)} cannot be sent to other processes: {type(error).__name__}: {error}. It refers to"
            " something that cannot be pickled (an open file, a lock, a connection): make that in __init__ of a"
            " class, which is called in each process."
        ) from error
    write_whole(folder / PICKLE, data)
    search_path = [os.path.abspath(entry) for entry in sys.path]
    write_whole(folder / SEARCH_PATH, json.dumps(search_path).encode())
    # With the digest, so that another function is another script, and no finished run is taken for its own.
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    write_whole(folder / SCRIPT, _SOURCE.format(digest=digest).encode())
    return folder / SCRIPT


def load(script: str) -> Shipped:
    """What lies beside `script`, in the processor."""
    folder = Path(script).parent
    search_path = json.loads((folder / SEARCH_PATH).read_bytes())
    # At the end: modules that the caller could import can be here, and what is here comes first.
    sys.path += [entry for entry in search_path if entry not in sys.path]
    import cloudpickle

    what = cloudpickle.loads((folder / PICKLE).read_bytes())
    return _of_class(what) if inspect.isclass(what) else Shipped(None, what, None)


def _of_class(cls: type) -> Shipped:
    """`__init__` is `init()`, `run` or `__call__` is `run()`, and `shutdown` or `close` is `shutdown()`."""
    made: list[Any] = []
    name = _run_name(cls)
    method = getattr(cls, name)
    ending = next((one for one in ("shutdown", "close") if callable(getattr(cls, one, None))), None)

    def init() -> None:
        made.append(cls())

    if _takes_two(method):

        def run(mini_batch: Any, context: Any) -> Any:
            return getattr(made[0], name)(mini_batch, context)
    else:

        def run(mini_batch: Any) -> Any:  # type: ignore[misc]
            return getattr(made[0], name)(mini_batch)

    def shutdown() -> Any:
        return getattr(made[0], str(ending))()

    if inspect.iscoroutinefunction(method):
        run = _awaiting(run)
    return Shipped(init, run, shutdown if ending else None)


def _awaiting(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    async def awaiting(*arguments: Any) -> Any:
        return await run(*arguments)

    return awaiting


def _check(what: Any) -> None:
    if inspect.isclass(what):
        _run_name(what)
        needed = [
            one.name
            for one in list(inspect.signature(what.__init__).parameters.values())[1:]
            if one.default is one.empty
            and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]
        if needed:
            raise ScriptError(
                f"{_name(what)} is made without arguments in each process, and its __init__ wants"
                f" {', '.join(needed)}: give them defaults, or pass functools.partial(...) or a function"
            )
    elif not callable(what):
        raise ScriptError(
            f"{what!r} is a {type(what).__name__}: pass a function run(mini_batch), a class with run(mini_batch), or"
            " the path of an entry script, score.py"
        )


def _run_name(cls: type) -> str:
    for name in ("run", "__call__"):
        if any(name in one.__dict__ for one in cls.__mro__[:-1]):
            return name
    raise ScriptError(f"class {cls.__name__} has no method run(self, mini_batch), and no __call__")


def _takes_two(method: Callable[..., object]) -> bool:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return (
        len([one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]) >= 2
    )


def _name(what: Any) -> str:
    return str(getattr(what, "__qualname__", None) or repr(what))
