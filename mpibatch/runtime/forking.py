"""What a process needs in which the entry script runs, and what becomes of the children that the script forks."""

from __future__ import annotations

import faulthandler
import os
import signal
from _thread import get_ident  # That of `threading`, which costs start-up time.
from types import FrameType
from typing import NoReturn

from mpibatch.runtime.printing import let_print

_IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def prepare() -> None:
    """For a process in which the entry script is to run: its signals, its forks, its crashes, its streams."""
    faulthandler.enable()
    for number in _IGNORED_SIGNALS:
        signal.signal(number, _ignore)
    guard = _ForkGuard()
    os.register_at_fork(
        before=guard.before, after_in_parent=guard.after_in_parent, after_in_child=guard.after_in_child
    )
    let_print()


_pid = os.getpid()


def _ignore(number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which the script's subprocesses would inherit. A forked child dies of it as usual."""
    if os.getpid() != _pid:  # One that was forked by C code, past the guard.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class _ForkGuard:
    """Gives forked children the usual signals back, so that `Pool.terminate()` works in the script.

    Python forgets signals that reach a child before it has begun, and what terminates it waits for
    ever; so they are blocked while it forks, and reach it once they do what they usually do.
    """

    def __init__(self) -> None:
        self._masks: dict[int, set[int]] = {}  # By thread, as several may fork.

    def before(self) -> None:
        self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_SIGNALS)

    def after_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(get_ident()))

    def after_in_child(self) -> None:
        for number in _IGNORED_SIGNALS:
            if signal.getsignal(number) is _ignore:
                signal.signal(number, signal.SIG_DFL)
        self.after_in_parent()


def end_copy() -> NoReturn:
    """A child that the script forked came out of `run()`, into our code."""
    os.write(2, b"mpibatch: a process that the script forked returned from run(); it is ended here\n")
    os._exit(1)
