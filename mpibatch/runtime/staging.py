"""The processor's side of `mode: download`: it starts the stager, and asks it for the copies of a mini-batch."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from socket import SHUT_WR, socket, socketpair
from typing import NoReturn

from mpibatch.core.framing import FrameReader, frame
from mpibatch.messages import Staged, Used, Wanted
from mpibatch.runtime.link import Link
from mpibatch.runtime.stager import Stager
from mpibatch.work import WARN_IN_PLACE, Assignment, Paths

FOLDER = "staged"
"""Below the processor's scratch folder."""
_END_S = 1.0
"""How long a stager has to end. It may hang in a file system, and then its worker kills it."""


class Staging:
    """`copies_of` an attempt once it has begun, `used` when it has ended, `close` at the end.

    The time for which a copy is waited for counts as the attempt's: as if `run()` read the file where it is.
    """

    def __init__(self, stager: socket, inputs: Sequence[int]) -> None:
        """`inputs`: the numbers of those that are copied."""
        self._stager = stager
        self._inputs = frozenset(inputs)
        self._reader: FrameReader[Staged] = FrameReader(Staged)
        self._told = False
        self.warnings = 0
        """Bits `WARN_*` for the attempt whose copies were asked for last."""

    def copies_of(self, work: Assignment) -> bytes | None:
        """The paths that `run()` is to have, joined by NUL; None where the input is read in place."""
        self.warnings = 0
        if not self._is_copied(work):
            return None
        staged = self._ask(work.attempt)
        if staged.trouble:
            self.warnings = WARN_IN_PLACE
            self._tell(staged.trouble)
        return staged.paths or None

    def used(self, work: Assignment) -> None:
        """The attempt has ended, or was taken back: its copies go."""
        if self._is_copied(work):
            try:
                self._stager.sendall(frame(Used(work.attempt)))
            except ConnectionError:
                _stager_died()

    def close(self) -> None:
        """The stager ends, and holds nothing in the scratch folder any more."""
        try:
            self._stager.shutdown(SHUT_WR)  # Not just closed: what the script has forked may have it too.
        except OSError:
            return
        poll = select.poll()
        poll.register(self._stager, select.POLLHUP | select.POLLIN)
        poll.poll(round(1000 * _END_S))
        self._stager.close()

    def _is_copied(self, work: Assignment) -> bool:
        return work.input in self._inputs and isinstance(work.source, Paths)

    def _ask(self, attempt: int) -> Staged:
        try:
            self._stager.sendall(frame(Wanted(attempt)))
            while True:
                data = self._stager.recv(1 << 16)
                if not data:
                    _stager_died()
                for staged in self._reader.feed(data):
                    # Another one comes late: a signal handler of the script has broken off the wait for it.
                    if staged.attempt == attempt:
                        return staged
        except ConnectionError:
            _stager_died()

    def _tell(self, trouble: str) -> None:
        """Once, as what follows says the same; that it happened at all is one of the run's warnings."""
        if self._told:
            return
        self._told = True
        line = f"mpibatch: mode: download: no copies in {trouble}: read in place\n"
        try:
            os.write(2, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass


def start_staging(link: Link, clock: memoryview, scratch: str, inputs: Sequence[int]) -> Staging:
    """Put a stager between the worker and this process. Before the script is loaded, so that there is one thread,
    and nothing of the script is in the copy of this process that becomes the stager. OSError: no process to be had.
    """
    ours, its = socketpair()
    onward, incoming = socketpair()
    worker = os.dup(link.fd)
    try:
        child = os.fork()
        if not child:
            # Once more, so that it is no child of the script's process: one that waits for all its children
            # would wait for it.
            try:
                if os.fork() == 0:
                    ours.close()
                    incoming.close()
                    folder = os.path.join(os.fsencode(scratch), FOLDER.encode())
                    Stager(worker, onward, its, clock, folder, frozenset(inputs)).serve()
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    finally:
        os.close(worker)
        its.close()
        onward.close()
    link.listen_to(incoming.detach())
    return Staging(ours, inputs)


def _stager_died() -> NoReturn:
    """Nothing more will come: its worker starts another processor, with another stager."""
    os._exit(1)
