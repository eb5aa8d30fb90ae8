"""The process beside rank 0 in which the libraries of tables are used: answers questions, a line each."""

from __future__ import annotations

import os
import socket
import sys

from mpibatch.runtime.surveying.blame import answer_surely
from mpibatch.runtime.surveying.questions import read_question, write

READY = b"ready\n"
"""Its first line: from now on it answers."""
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


def main(fd: int, parent: int) -> None:
    """Until the socket `fd` ends. `parent`: the process that has started it."""
    _end_with(parent)
    with socket.socket(fileno=fd) as connection, connection.makefile("rwb") as lines:
        lines.write(READY)
        lines.flush()
        for line in lines:
            lines.write(write(answer_surely(read_question(line))).encode() + b"\n")
            lines.flush()


def _end_with(parent: int) -> None:
    """A library that does not come back from a damaged file must not outlive who has asked it."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
