"""A world here that is started again when it was lost: how often, with which command, and when it is of no use."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from mpibatch.core.first_words import ONLY_AT_FIRST
from mpibatch.errors import EXIT_INTERRUPTED, EXIT_STOPPED, LaunchError, StoppedError, tell
from mpibatch.launch import FIRST_STARTED, STARTED, TTY
from mpibatch.local_world import World, WorldEnd, find_mpiexec, launcher_command
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.local_folder import LOCAL_FOLDER, PARENT, SIGNALS_FILE
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.stops import catch_signals
from mpibatch.runtime.supervisor import interpreter_command

MOST_FRUITLESS = 2
"""Restarts in a row that finish nothing; then another one would not either."""

_CALL = "from mpibatch.__main__ import main; raise SystemExit(main())"


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """When a lost world is started again."""

    most: int
    patience_s: float
    """After so many seconds without a sign of rank 0 it is taken for frozen."""
    run_folder: str
    """Where it shows what a world has finished."""
    of_steps: list[str] = []
    """Of a pipeline: the run folders of its steps, where that shows as well."""


class _Parent:
    """Signals of this process become lines of a file that rank 0 reads."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._world: World | None = None
        self._names: list[str] = []

    @property
    def asked(self) -> bool:
        """A person, or the batch system, wants an end."""
        return bool(self._names)

    @property
    def interrupted(self) -> bool:
        return "SIGINT" in self._names

    def install(self) -> None:
        catch_signals(self._pass_on)

    def speak_to(self, folder: Path) -> None:
        """From now on signals go there; those that nobody has been told of too."""
        self._folder = folder
        for name in self._names:
            self._note(name)

    def watch(self, world: World) -> None:
        self._world = world

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        self._names.append(name)
        self._note(name)
        if len(self._names) > 2 and self._world is not None:
            self._world.kill()

    def _note(self, name: str) -> None:
        with contextlib.suppress(OSError):  # All has ended a moment ago.
            if self._folder is not None:
                # Appended, as the next signal may come in the midst of this.
                with open(self._folder / SIGNALS_FILE, "a", encoding="ascii") as file:
                    file.write(f"{name}\n")


def run_world(arguments: Sequence[str], ranks: int, started_at: float, restarts: Restarts) -> int:
    """Run `mpibatch ARGUMENTS` as a world of so many ranks here, again when it is lost; the exit code of rank 0."""
    launcher = launcher_command(find_mpiexec(), ranks)
    parent = _Parent()
    parent.install()
    folder = RunFolder(restarts.run_folder)
    folders = [folder, *map(RunFolder, restarts.of_steps)]
    words = list(arguments)
    done, number, fruitless = _finished(folders), 0, 0
    while True:
        stop_file = _changed(folder.stop)
        began_at = time.monotonic() if number else started_at
        ended = _run_one(launcher, words, (began_at, started_at), restarts.patience_s, parent)
        if ended.code is not None:
            return EXIT_INTERRUPTED if parent.interrupted and ended.code == EXIT_STOPPED else ended.code
        if not (ended.begun or number or parent.asked):
            raise LaunchError(
                f"{ended.how} before rank 0 had begun; what it said stands above."
                f" The command was: {shlex.join(_command(launcher[0], words))}"
            )
        if ended.in_session:
            words = [word for word in words if word not in ONLY_AT_FIRST]
        done, before = _finished(folders), done
        fruitless = fruitless + 1 if number and done == before else 0
        asked = parent.asked or _changed(folder.stop) not in (None, stop_file)
        if asked or number >= restarts.most or fruitless >= MOST_FRUITLESS:
            _tell_lost(ended, number, fruitless, dropped=len(words) < len(arguments))
            return EXIT_INTERRUPTED if parent.interrupted else EXIT_STOPPED
        number += 1
        _show_cursor()
        _say(
            f"the MPI ranks were lost ({ended.how}); starting again ({number} of {restarts.most}):"
            " what was finished is kept"
        )


def _run_one(
    launcher: tuple[list[str], dict[str, str]],
    words: Sequence[str],
    times: tuple[float, float],
    patience_s: float,
    parent: _Parent,
) -> WorldEnd:
    with tempfile.TemporaryDirectory(prefix="mpibatch-local-") as name:
        parent.speak_to(Path(name))
        environment = {
            **os.environ,
            **launcher[1],
            LOCAL_FOLDER: name,
            STARTED: str(times[0]),
            FIRST_STARTED: str(times[1]),
            PARENT: f"{os.getpid()}:{process_started(os.getpid())}",
        }
        if sys.stderr.isatty():
            environment[TTY] = os.ttyname(sys.stderr.fileno())
        world = World(_command(launcher[0], words), environment, Path(name), patience_s)
        parent.watch(world)
        return world.wait()


def _command(launcher: Sequence[str], words: Sequence[str]) -> list[str]:
    return [*launcher, *interpreter_command(None, _CALL), *words]


def _tell_lost(ended: WorldEnd, restarts: int, fruitless: int, *, dropped: bool) -> None:
    _show_cursor()
    again = f", after {restarts} {'restart' if restarts == 1 else 'restarts'}" if restarts else ""
    if fruitless >= MOST_FRUITLESS:
        again += f", the last {fruitless} of which have finished nothing: what kills it has to be found first"
    without = f" (without {' and '.join(ONLY_AT_FIRST)})" if dropped else ""
    tell(
        StoppedError(
            f"the MPI ranks were lost ({ended.how}) before the run ended{again}."
            f" What was finished is kept: start the same command again{without} to continue."
        )
    )


def _finished(folders: Sequence[RunFolder]) -> dict[str, int]:
    """How long each journal is, without its header: it grows with what is finished. Those of surveys too."""
    from mpibatch.runtime.journal import HEADER_SIZE

    sizes = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            for journal in folder.private.rglob("session-*.journal"):
                size = journal.stat().st_size - HEADER_SIZE
                if size > 0:
                    sizes[str(journal)] = size
    return sizes


def _changed(file: Path) -> int | None:
    """When a file was changed last; None if there is none."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def _show_cursor() -> None:
    """Rank 0 may have hidden it while it drew."""
    if sys.stderr.isatty():
        _write("\r\x1b[K\x1b[?25h")


def _say(text: str) -> None:
    _write(f"mpibatch: {text}\n")


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
