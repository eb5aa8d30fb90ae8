"""A worker's own log: logs/sys/node/<node>/<rank>.txt."""

from __future__ import annotations

import datetime
import os
import sys
from typing import TextIO


class WorkerLog:
    """Writes lines at once. A log that cannot be written is told of once on stderr and costs nothing else."""

    def __init__(self, path: str | None, level: str) -> None:
        self._file: TextIO | None = None
        self._path = path
        self._quiet = level == "WARNING"
        self.detailed = level == "DEBUG"
        if path is None:
            return
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._file = open(path, "a", encoding="utf-8", errors="surrogateescape", buffering=1)  # noqa: SIM115
        except OSError as error:
            self._fail(error)

    def debug(self, text: str) -> None:
        if self.detailed:
            self._write("DEBUG", text)

    def info(self, text: str) -> None:
        if not self._quiet:
            self._write("INFO", text)

    def warning(self, text: str) -> None:
        self._write("WARNING", text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, level: str, text: str) -> None:
        if self._file is None:
            return
        stamp = datetime.datetime.now().isoformat(sep=" ", timespec="milliseconds")
        try:
            self._file.write(f"{stamp} {level} {text}\n")
        except (OSError, ValueError) as error:
            self._file = None
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        print(f"mpibatch: the log {self._path} cannot be written: {error}", file=sys.stderr)
