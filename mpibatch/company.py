"""Long work on rank 0 after a session, while the other ranks wait for their dismissal: they hear that it lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mpibatch.core.framing import encode
from mpibatch.messages import Ping
from mpibatch.runtime.transport import Port

PING_S = 0.2
"""Seconds between two of them: the least silence that a job may call death is one second."""

T = TypeVar("T")


class Company(Generic[T]):
    """`work` in a thread of its own; `keep` returns what it returned, or raises what it raised."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._found: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="company", daemon=True)

    def _run(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:  # `keep` raises it.
            self._error = error

    def keep(self, port: Port | None, others: Sequence[int]) -> T:
        self._thread.start()
        while self._thread.is_alive():
            self._thread.join(PING_S)
            if port is not None:
                for rank in others:
                    port.send(rank, encode(Ping()))
                port.receive()  # They may still say something; nobody needs it now.
        if self._error is not None:
            raise self._error
        return self._found  # type: ignore[return-value]
