"""Which functions of the entry script are async, and what is called in their place.

All of them share one event loop, so that what `init()` has opened can be used in `run()`. A function that is not
async is called as it is, outside of the loop.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mpibatch.errors import ScriptError
from mpibatch.runtime.signatures import MOST_WRAPPERS

if TYPE_CHECKING:
    from mpibatch.runtime.entry_script import Hooks

Asynchrony = Literal["no", "yes", "perhaps"]
"""`perhaps`: it wraps what is async; what it returns tells whether that is still to be awaited."""


def asynchrony(function: Callable[..., object]) -> Asynchrony:
    if _is_async(function):
        return "yes"
    wrapped: Any = function
    for _ in range(MOST_WRAPPERS):
        wrapped = getattr(wrapped, "__wrapped__", None)
        if wrapped is None:
            break
        if _is_async(wrapped):
            return "perhaps"
    return "no"


def _is_async(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    called = inspect.getattr_static(type(function), "__call__", None)
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one) for one in (function, called)
    )


def with_loop(hooks: Hooks, concurrency: int, script: str) -> Hooks:
    """The same, each to be called as if it was not async; but for `run` where `asynchronous` is set.

    Raises `ScriptError` where several mini-batches are to run at a time, and `run` is not async.
    """
    run = asynchrony(hooks.run)
    if concurrency > 1 and run == "no":
        raise ScriptError(
            f"`run` of {script} is not async, so that no {concurrency} mini-batches can run in one processor at a"
            " time (concurrency in the job file): make it `async def run`, which awaits what it waits for; or leave"
            " concurrency out and raise process_count_per_node"
        )
    others = (hooks.init, hooks.shutdown, hooks.finalize)
    if run == "no" and all(one is None or asynchrony(one) == "no" for one in others):
        return hooks
    from mpibatch.runtime.script_loop import ScriptLoop  # It loads asyncio, for those only who need it.

    loop = ScriptLoop()
    asynchronous = run == "yes" or concurrency > 1
    return msgspec.structs.replace(
        hooks,
        run=hooks.run if asynchronous else loop.driving(hooks.run),
        init=hooks.init and loop.driving(hooks.init),
        shutdown=loop.ending(hooks.shutdown),
        finalize=hooks.finalize and loop.driving(hooks.finalize),
        loop=loop,
        asynchronous=asynchronous,
    )
