"""The event loop of an entry script's async functions. Loaded only where there are some."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

from mpibatch.entry import MINI_BATCH


def is_pending(result: object) -> bool:
    """Whether what a function returned is still to be awaited, or gone through with `async for`."""
    return hasattr(type(result), "__await__") or hasattr(type(result), "__aiter__")


async def finished(result: Any) -> Any:
    """What a function has returned, once it is there; of an async generator, its elements."""
    while is_pending(result):
        if hasattr(type(result), "__aiter__"):
            return [element async for element in result]
        result = await result
    return result


class ScriptLoop:
    """Runs in this thread, and only while something is called. Values of context variables that `init()` has set
    are there in `run()`."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._context = contextvars.copy_context()
        self._loop = self._runner.get_loop()

    def driving(self, function: Callable[..., object]) -> Callable[..., Any]:
        """A function that returns what `function` gives in the end."""

        def call(*arguments: Any) -> Any:
            result = function(*arguments)
            if not is_pending(result):
                return result
            self._context.run(MINI_BATCH.set, MINI_BATCH.get())  # Which the loop's own context does not know.
            return self.complete(finished(result))

        return call

    def ending(self, shutdown: Callable[[], object] | None) -> Callable[[], None]:
        """`shutdown`, and after it the end of the loop: what the script has left running in it is cancelled."""

        def call() -> None:
            try:
                if shutdown is not None:
                    self.driving(shutdown)()
            finally:
                self._runner.close()

        return call

    def complete(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the loop until this has ended; what it returns.

        Where a task that the script has made calls `sys.exit()`, asyncio lets go of the loop: whoever awaits that
        task is to get the error, so the loop goes on.
        """
        task = self._loop.create_task(coroutine, context=self._context)
        while True:
            try:
                return self._loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt):
                if task.done():
                    raise
