"""A command in a terminal of its own, as a person has it: keys go in, what is shown comes out."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Self

import support

_CALL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes the pseudo-terminal on stdin the controlling one, so that its Ctrl-C becomes SIGINT."""


class Terminal:
    """Leaving the context kills what runs in it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._keys, screen = pty.openpty()
        self._shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CALL, *command],
            stdin=screen, stdout=screen, stderr=screen, start_new_session=True,
        )  # fmt: skip
        os.close(screen)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        os.close(self._keys)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._keys, 1 << 16)
            except OSError:  # Whoever had the terminal open has ended.
                return
            self._shown += data

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def press(self, keys: bytes) -> None:
        os.write(self._keys, keys)

    def wait_to_show(self, text: str) -> None:
        support.wait_until(
            lambda: text in self.shown or self.process.poll() is not None, f"it shows {text!r}"
        )
        assert text in self.shown, self.shown

    def wait_to_end(self) -> int:
        """Its exit code, once all is shown."""
        code = self.process.wait(support.TIMEOUT_S)
        self._reader.join(support.TIMEOUT_S)
        return code
