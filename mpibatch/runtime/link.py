"""The processor's end of the connection to its worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

from mpibatch.core.framing import FrameError, FrameReader, frame
from mpibatch.messages import FromProcessor, ProcessorSpec, ToProcessor
from mpibatch.runtime.forking import end_copy

_RECEIVE_BYTES = 64 << 10


class Link:
    """Frames to and from the worker. `forked`: this is a copy of the process, and must not speak for it."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd
        self._source = fd
        self._reader: FrameReader[ToProcessor] = FrameReader(ToProcessor)
        self._rest: Iterator[ToProcessor] = iter(())
        self._incoming = bytearray(_RECEIVE_BYTES)
        self.forked = False
        os.register_at_fork(after_in_child=self._let_go)

    @property
    def fd(self) -> int:
        """The worker's end."""
        return self._fd

    @property
    def source(self) -> int:
        """Where messages come from: it can be read when there are some that have not been."""
        return self._source

    def listen_to(self, source: int) -> None:
        """From now on, what the worker sends comes from there; what is sent still goes to the worker."""
        os.set_inheritable(source, False)
        self._source = source

    def first(self) -> ProcessorSpec:
        """Wait for the first message. Raises `FrameError` if it is not a `ProcessorSpec`."""
        message = next(self.messages())
        if not isinstance(message, ProcessorSpec):
            raise FrameError(f"{type(message).__name__} came before ProcessorSpec")
        return message

    def messages(self) -> Iterator[ToProcessor]:
        """The messages that are there; blocks until there is one. Ends the process if the worker has died."""
        while True:
            some = False
            for message in self._rest:
                some = True
                yield message
            if some:
                return
            self._rest = self._read()

    def arrived(self, *, may_read: bool) -> list[ToProcessor]:
        """The messages that are there. `may_read`: more can be read without waiting, from `source`."""
        return [*self._rest, *self._read()] if may_read else list(self._rest)

    def _read(self) -> Iterator[ToProcessor]:
        try:
            length = os.readv(self._source, [self._incoming])
        except ConnectionError:
            length = 0
        if not length:
            self._worker_died()
        return self._reader.feed(memoryview(self._incoming)[:length])

    def send(self, message: FromProcessor) -> None:
        """Send all of it; blocks meanwhile, as the worker always reads."""
        if self.forked:
            end_copy()
        view = memoryview(frame(message))
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except ConnectionError:
            self._worker_died()

    def _let_go(self) -> None:
        """In a child that the script forks."""
        if not self.forked:  # Where such a child forks again, the number may be that of a file of its own.
            os.close(self._fd)
            if self._source != self._fd:
                os.close(self._source)
        self.forked = True

    @staticmethod
    def _worker_died() -> NoReturn:
        os._exit(1)
