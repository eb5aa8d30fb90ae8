"""Python imports this at its start where this folder is on PYTHONPATH: in rank 0 of a run, storage breaks then.

`BROKEN_STORAGE` says how, as JSON: `{"calls": ["fsync"], "below": DIR, "nth": 3, "error": 5, "log": FILE}`: the third
call of these functions of `os` for a file in DIR fails with EIO; `"short": true`: a write takes half and the next one
fails. Each call is a line of the log: its number, the function, the file; the failed one ends in `failed`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class Broken:
    """Takes the place of functions of `os`, and fails the n-th call of them all together."""

    def __init__(self, how: dict[str, Any]) -> None:
        self._nth: int = how["nth"]
        self._error: int = how["error"]
        self._short: bool = how.get("short", False)
        self._below: str = how["below"]
        self._log = os.open(how["log"], _LOG_FLAGS, 0o666)
        self._write = os.write
        self._calls = 0
        self._lock = threading.Lock()
        for name in how["calls"]:
            setattr(os, name, self._broken(name, getattr(os, name)))

    def _broken(self, name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            file = _file_of(arguments[0])
            if not file.startswith(self._below):
                return whole(*arguments, **options)
            with self._lock:
                self._calls += 1
                number = self._calls
            fails = number == self._nth
            self._write(self._log, f"{number} {name} {file}{' failed' * fails}\n".encode())
            if fails and self._short and len(arguments[1]) > 1:
                self._nth += 1  # The rest, which is written next.
                return whole(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
            if fails:
                raise _error(self._error, arguments[0])
            return whole(*arguments, **options)

        return call


def _file_of(what: Any) -> str:
    """The path of a file or folder, or of what a file descriptor is open for, if that has one."""
    return os.fsdecode(os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what)


def _error(number: int, what: Any) -> OSError:
    """As the kernel's: it names the file where that was given by name."""
    return OSError(number, os.strerror(number), *([] if isinstance(what, int) else [os.fspath(what)]))


def _is_rank_0() -> bool:
    rank = os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    return sys.orig_argv[1:4] == ["-m", "mpibatch", "run"] and rank == "0"


if "BROKEN_STORAGE" in os.environ and _is_rank_0():
    Broken(json.loads(os.environ["BROKEN_STORAGE"]))
