"""Answers questions of a survey on rank 0: what a damaged file could crash, in a process beside it.

That process is started once it is needed, which takes a tenth of a second, and again after it has died.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import time
import weakref
from collections.abc import Sequence
from typing import Any

from mpibatch.runtime.deaths import Death
from mpibatch.runtime.supervisor import interpreter_command, processor_environment
from mpibatch.runtime.surveying.answering import READY
from mpibatch.runtime.surveying.blame import answer_surely, one_by_one
from mpibatch.runtime.surveying.burden import may_crash
from mpibatch.runtime.surveying.questions import read_answer, write

log = logging.getLogger(__name__)

_DYING_S = 5.0
_RECEIVED_BYTES = 1 << 20


class Late(Exception):
    """There is no answer after the time that a question was given."""


class Here:
    """Who answers on rank 0. What it has started ends with it."""

    def __init__(self) -> None:
        self._child: _Child | None = None

    def ask(self, questions: Sequence[Any]) -> list[Any]:
        """All answers, however long it takes."""
        return [self.answer(question) for question in questions]

    def answer(self, question: Any, patience_s: float | None = None) -> Any:
        """The answer; a file whose reader dies is one that cannot be read. Raises Late after `patience_s`, where a
        process beside this one is asked."""
        if not may_crash(question):
            return answer_surely(question)
        try:
            return self._beside(question, patience_s)
        except _Died as death:
            log.info("the process that answers questions of the survey died: %s: %s", death, question)
            return one_by_one(question, lambda one: self.answer(one, patience_s), f"its reader died: {death}")

    def _beside(self, question: Any, patience_s: float | None) -> Any:
        if self._child is None:
            try:
                self._child = _Child()
            except (OSError, _Died):  # No process can be started here: better unprotected than not at all.
                log.warning("a file of a table is looked at by rank 0 itself", exc_info=True)
                return answer_surely(question)
        try:
            return self._child.answer(question, patience_s)
        except BaseException:  # Also a signal that asks to stop: what it was asked is never read any more.
            self._child.end()
            self._child = None
            raise


class _Died(Exception):
    """The process has ended; the text says how."""


class _Child:
    """A process that answers one question at a time."""

    def __init__(self) -> None:
        """Start it. Raises OSError, and _Died where it does not come to its first word."""
        ours, theirs = socket.socketpair()
        call = (
            f"from mpibatch.runtime.surveying.answering import main; main({theirs.fileno()}, {os.getpid()})"
        )
        with theirs:
            try:
                # Of its words on stderr none is for people: a C++ library tells there what it dies of.
                self._process = subprocess.Popen(
                    interpreter_command(None, call), env=processor_environment([], {}), cwd="/",
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        self._socket = ours
        self._end = weakref.finalize(self, _end, self._process, ours)
        try:
            if self._line(None) != READY:
                raise _Died("it did not begin as it should")
        except BaseException:
            self.end()
            raise

    def answer(self, question: Any, patience_s: float | None) -> Any:
        try:
            self._socket.settimeout(None)
            self._socket.sendall(write(question).encode() + b"\n")
        except OSError:
            raise self._death() from None
        return read_answer(self._line(patience_s))

    def _line(self, patience_s: float | None) -> bytes:
        """What it says next, in one line."""
        end = None if patience_s is None else time.monotonic() + patience_s
        said = bytearray()
        while not said.endswith(b"\n"):
            self._socket.settimeout(None if end is None else max(end - time.monotonic(), 0.001))
            try:
                more = self._socket.recv(_RECEIVED_BYTES)
            except TimeoutError:
                raise Late from None
            except OSError:
                more = b""
            if not more:
                raise self._death()
            said += more
        return bytes(said)

    def _death(self) -> _Died:
        try:
            code = self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return _Died("it has stopped to answer")
        return _Died(Death(self._process.pid, code, "").words)

    def end(self) -> None:
        self._end()


def _end(process: subprocess.Popen[bytes], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.close()
    process.kill()
    process.wait()
