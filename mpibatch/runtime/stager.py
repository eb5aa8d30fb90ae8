"""The stager: a process beside a processor that copies the files of what is granted before it is `run()`.

It stands between the worker and the processor: what the worker sends goes through it at once, unchanged, so that it
knows of a grant while the processor is busy in `run()`. It is a process and not a thread, so that a script that holds
the interpreter's lock does not stop the copying, and a script that forks has no thread of ours.

One thread passes on, one copies and removes, the main one answers the processor: so a file system that hangs holds up
none but the mini-batch that needs it, whose time then runs out as if the script read it itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Collection
from socket import socket
from typing import Any, NoReturn, assert_never

from mpibatch.core.framing import FrameReader, frame
from mpibatch.messages import Grant, Staged, ToProcessor, ToStager, Used, Wanted
from mpibatch.runtime.clock import LATEST, REVOKED_FIRST, REVOKED_LAST
from mpibatch.runtime.copying import copy_files
from mpibatch.work import Assignment, Paths

MOST_KEPT = 3
"""Mini-batches whose copies lie in scratch at a time: the one that runs and two ahead."""
_RECEIVE_BYTES = 64 << 10
_IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Stager:
    """`worker`: what the worker sends comes from there; `processor`: there it goes; `asked`: what the processor asks.

    `folder`: for copies, below the processor's scratch folder. `inputs`: the numbers of those that are copied.
    """

    def __init__(
        self,
        worker: int,
        processor: socket,
        asked: socket,
        clock: memoryview,
        folder: bytes,
        inputs: Collection[int],
    ) -> None:
        self._worker = worker
        self._processor = processor
        self._asked = asked
        self._clock = clock
        self._folder = folder
        self._inputs = inputs
        self._changed = threading.Condition()
        self._waiting: dict[int, bytes] = {}
        """By attempt, in their order: the files of what is to be copied, or is just being copied."""
        self._staged: dict[int, Staged] = {}
        """What has been copied and is not used up."""
        self._used: list[int] = []
        """What is to be removed."""

    def serve(self) -> NoReturn:
        """Until the processor or the worker has ended."""
        for number in _IGNORED_SIGNALS:  # As its processor does: it is to end when that ends.
            signal.signal(number, signal.SIG_IGN)
        for work in (self._pass_on, self._copy):
            threading.Thread(target=_or_end, args=(work,), daemon=True).start()
        _or_end(self._answer)
        os._exit(0)

    # From the worker to the processor

    def _pass_on(self) -> None:
        reader: FrameReader[ToProcessor] = FrameReader(ToProcessor)
        while data := os.read(self._worker, _RECEIVE_BYTES):
            for message in reader.feed(data):
                if isinstance(message, Grant):
                    self._expect(message.assignments)
            # After that, so that the processor never asks for what is not expected. It may block as long as the
            # processor is busy, which has enough to do then.
            self._processor.sendall(data)
        os._exit(0)  # The worker has died: the processor sees that as the end of what comes from here.

    def _expect(self, granted: list[Assignment]) -> None:
        with self._changed:
            for work in granted:
                if isinstance(work.source, Paths) and work.input in self._inputs:
                    self._waiting[work.attempt] = work.source.blob
            self._changed.notify_all()

    # Copies

    def _copy(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._used or self._may_copy())
                used, self._used = self._used, []
                attempt, blob = next(iter(self._waiting.items())) if not used else (0, b"")
            for one in used:  # First, as that makes room.
                shutil.rmtree(self._folder_of(one), ignore_errors=True)
            if not used:
                self._settle(attempt, self._stage(attempt, blob))

    def _may_copy(self) -> bool:
        return bool(self._waiting) and len(self._staged) < MOST_KEPT

    def _stage(self, attempt: int, blob: bytes) -> Staged:
        copied = copy_files(
            blob.split(b"\0"),
            self._folder_of(attempt),
            lambda: attempt in self._waiting and not self._taken_back(attempt),
        )
        return Staged(attempt, b"\0".join(copied.paths), copied.trouble)

    def _settle(self, attempt: int, staged: Staged) -> None:
        with self._changed:
            if self._waiting.pop(attempt, None) is not None:
                self._staged[attempt] = staged
            else:  # The processor has passed over it.
                self._used.append(attempt)
            self._changed.notify_all()

    def _taken_back(self, attempt: int) -> bool:
        """Whether the processor is to pass over it. Not if that has begun it: it may have done so just before."""
        clock = self._clock
        return clock[REVOKED_FIRST] <= attempt <= clock[REVOKED_LAST] and clock[LATEST] < attempt

    def _folder_of(self, attempt: int) -> bytes:
        return b"%s/%d" % (self._folder, attempt)

    # The processor

    def _answer(self) -> None:
        reader: FrameReader[ToStager] = FrameReader(ToStager)
        while data := self._asked.recv(_RECEIVE_BYTES):
            for message in reader.feed(data):
                match message:
                    case Wanted(attempt):
                        self._asked.sendall(frame(self._when_staged(attempt)))
                    case Used(attempt):
                        self._let_go(attempt)
                    case _:
                        assert_never(message)

    def _when_staged(self, attempt: int) -> Staged:
        """Wait for it. The oldest that is not used up is copied before all others, so its time comes."""
        with self._changed:
            self._changed.wait_for(lambda: attempt not in self._waiting)
            unknown = Staged(attempt, b"", "")  # It did not come through here.
            return self._staged.get(attempt, unknown)

    def _let_go(self, attempt: int) -> None:
        with self._changed:
            self._waiting.pop(attempt, None)
            if self._staged.pop(attempt, None) is not None:
                self._used.append(attempt)
            self._changed.notify_all()


def _or_end(work: Any) -> None:
    """Do it; where that cannot be done, this process ends, and the processor sees that."""
    try:
        work()
    except ConnectionError:  # The other side has died.
        os._exit(0)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
