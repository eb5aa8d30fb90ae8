"""Waiting for the moment of a fault."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from faults.kinds import BEGAN, CALLED
from faults.scenario import Moment

from mpibatch.runtime.journal import HEADER_SIZE
from mpibatch.runtime.run_folder import RunFolder

MOST_S = 40.0


class Moments:
    """Of one start of a run. `marks`: the folder of the script's marks; `elapsed_s`: of an undisturbed run."""

    def __init__(self, marks: Path, output: Path, items: int, elapsed_s: float) -> None:
        self._elapsed_s = elapsed_s
        self._from = time.monotonic()
        folder = RunFolder(output)
        known = folder.sessions()
        session = (known[-1] if known else 0) + 1
        self._places: dict[str, Callable[[], bool]] = {
            "start": lambda: True,
            "survey": folder.survey.exists,
            "init": lambda: _size(marks / BEGAN) > 0,
            "first mini-batch": lambda: _size(marks / CALLED) > 0,
            # Rows are appended a moment before they are made durable, and the records after them.
            "commit": lambda: _size(folder.rows(session)) > 0 or _size(folder.journal(session)) > HEADER_SIZE,
            "end": lambda: _size(marks / CALLED) >= items,
        }

    def reached(self, moment: Moment, process: subprocess.Popen[bytes]) -> bool:
        """Wait for a moment; False if the process has ended before. The next one may count from now."""
        is_there = self._places[moment.place]
        end = self._from + MOST_S
        while not is_there():
            if process.poll() is not None or time.monotonic() > end:
                return False
            time.sleep(0.0005)
        due = time.monotonic() + moment.delay
        if moment.place == "start":
            due = self._from + moment.delay * self._elapsed_s
        while time.monotonic() < due:
            if process.poll() is not None:
                return False
            time.sleep(0.001)
        return process.poll() is None

    def again(self) -> None:
        """From now on `start` is now."""
        self._from = time.monotonic()


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0
