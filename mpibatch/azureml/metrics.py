"""What a script logs by `Run.log` and the like: a line of JSON each, appended to its processor's own file.

A line stands as soon as the call returns, and is there whole: one write to a file that only this processor (and what
it has forked) appends to. So it stays whatever becomes of the attempt that has logged it.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from mpibatch.entry import AT_HOME, MINI_BATCH, EntryScript

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class MetricsFile:
    """Opened at the first line."""

    def __init__(self) -> None:
        self._fd = -1
        self._of: str | None = None
        self._opening = threading.Lock()
        """Threads of the script may log their first lines at the same moment."""

    def add(self, run: str, kind: str, name: str, value: Any) -> None:
        """`kind`: value, list, row, table, image or tag. Raises OSError."""
        around = EntryScript._surroundings
        line = {
            "time": datetime.now(UTC).strftime(_TIME),
            "name": as_json(str(name)),
            kind: as_json(value),
            "process": f"{around.process} on {around.node}" if around is not None else "",
            "mini_batch": MINI_BATCH.get(),
            "run": as_json(run),
        }
        self._write((json.dumps(line, allow_nan=False) + "\n").encode())

    def lines(self, run: str) -> Iterator[dict[str, Any]]:
        """What has been logged to this file for a run so far."""
        try:
            with open(path(), "rb") as file:
                for line in file:
                    try:
                        told: dict[str, Any] = json.loads(line)
                    except ValueError:  # A death has torn it.
                        continue
                    if told.get("run") == as_json(run):
                        yield told
        except FileNotFoundError:
            return

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._of = -1, None

    def _write(self, data: bytes) -> None:
        file = path()
        if file != self._of:
            with self._opening:
                if file != self._of:
                    self._open(file)
        while data:
            data = data[os.write(self._fd, data) :]

    def _open(self, file: str) -> None:
        self.close()
        os.makedirs(os.path.dirname(file), exist_ok=True)
        self._fd = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":  # Torn by the death of the one before.
            os.write(self._fd, b"\n")
        self._of = file  # Last, so that no thread writes before.


METRICS = MetricsFile()


def path() -> str:
    around = EntryScript._surroundings
    if around is not None:
        return os.fsdecode(around.metrics_file)
    return os.path.join(os.getcwd(), AT_HOME, "metrics.jsonl")


def as_json(value: Any) -> Any:
    """`value` as JSON can hold it.

    Numbers and arrays of numpy, pandas, torch and TensorFlow become plain ones; NaN and the infinities, for which
    JSON has no numbers, the texts "NaN", "Infinity" and "-Infinity", which Python's `float` takes; what is unknown
    its `str`.
    """
    match value:
        case None | bool():
            return value
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case int():
            return int(value)
        case float():
            return _finite(float(value))
        case Mapping():
            return {as_json(str(key)): as_json(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset() | range():
            return [as_json(one) for one in value]
    for method in ("tolist", "numpy"):
        convert = getattr(value, method, None)
        if callable(convert):
            return as_json(convert())
    try:
        return _finite(float(value))
    except (TypeError, ValueError, OverflowError):
        return as_json(str(value))


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
