"""The processor as its worker sees it: a child process with a socket, a clock and a way to die.

The child is a fresh interpreter in its own session (so its own process group), without the launcher's
variables. The group is killed before the child is reaped: until then its number cannot be used again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mpibatch
from mpibatch.core.framing import FrameReader, frame
from mpibatch.core.launcher_variables import of_a_launcher
from mpibatch.messages import FromProcessor, ToProcessor
from mpibatch.runtime.clock import CLOCK_BYTES, Clock
from mpibatch.runtime.deaths import Death

_incoming = bytearray(64 << 10)
_MOST_AT_ONCE = 16 << 20
"""Bytes that are read before the worker looks after all else again. A socket that nobody fills any more has less."""
_STDERR_TAIL_BYTES = 4096
_STDERR_TAIL_LINES = 15


def processor_environment(keep: list[str], extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without what the launcher set, but with `keep` (names or `PREFIX_*`)."""

    def kept(name: str) -> bool:
        return any(name.startswith(k[:-1]) if k.endswith("*") else name == k for k in keep)

    environment = {name: value for name, value in os.environ.items() if kept(name) or not of_a_launcher(name)}
    return {**environment, **extra}


def interpreter_command(python: str | None, call: str) -> list[str]:
    """The command that makes an interpreter execute `call` with mpibatch importable, and nothing of the
    current folder on its path. Another interpreter (`python`) has to have an mpibatch of its own."""
    if python is not None:
        return [python, "-P", "-c", call]
    # At the end: only where no other place has mpibatch, as when it runs from a checkout.
    home = str(Path(mpibatch.__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({home!r}); {call}"]


def shell_command(script: str, state: str, call: str) -> list[str]:
    """The command by which a script of `core.environment_script` becomes an interpreter that executes `call`:
    this one, for which mpibatch is on the path, or another one, which has to have an mpibatch of its own."""
    return ["bash", script, state, sys.executable, "-P", "-c", code_for_any(call)]


def code_for_any(call: str) -> str:
    """Code that executes `call`, with mpibatch on the path where this is the interpreter that executes it."""
    home = str(Path(mpibatch.__file__).resolve().parents[1])
    return f"import sys; sys.executable == {sys.executable!r} and sys.path.append({home!r}); {call}"


def let_go(process: subprocess.Popen[bytes]) -> None:
    """Have a script of `core.environment_script` begin: it waits for a line on its stdin."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # It has died.
        process.stdin.write(b"\n")
        process.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


class Child:
    """One running processor. `fds` wake the worker; `receive` and `send` never block."""

    def __init__(
        self, command: list[str], *, environment: dict[str, str], cwd: str, stdout_file: str, stderr_file: str,
        waits: bool = False,
    ) -> None:  # fmt: skip
        """Start it. `command` is given the numbers of its socket and its clock in place of {fd} and {clock}.

        `waits`: it is a script of `core.environment_script`, and begins with `let_go`.

        OSError where the interpreter cannot be started or a log file not opened.
        """
        ours, theirs = socket.socketpair()
        clock = os.memfd_create("mpibatch-clock")
        self._stderr_file = stderr_file
        try:
            os.ftruncate(clock, CLOCK_BYTES)
            self._page = mmap.mmap(clock, CLOCK_BYTES)
            self.clock = Clock(memoryview(self._page))
            with open(stdout_file, "ab") as stdout, open(stderr_file, "ab") as stderr:
                self._stderr_start = stderr.tell()
                self._process = subprocess.Popen(
                    [word.replace("{fd}", str(theirs.fileno())).replace("{clock}", str(clock)) for word in command],
                    stdin=subprocess.PIPE if waits else subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                    cwd=cwd, env=environment, pass_fds=(theirs.fileno(), clock), start_new_session=True,
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(clock)
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except BaseException:
            ours.close()
            self._process.kill()
            self._process.wait()
            raise
        # Until it has become its interpreter it was this process, and so much it has on its account.
        self._blur_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        ours.setblocking(False)
        self._socket = ours
        self._reader: FrameReader[FromProcessor] = FrameReader(FromProcessor)
        self._unsent = bytearray()
        self.received = 0
        """Bytes that have come from it."""
        self.eof = False
        """Its end of the socket is closed: it is dying, or its script has closed it."""

    @property
    def pid(self) -> int:
        return self._process.pid

    def let_go(self) -> None:
        """Somebody watches over it now: it may begin, if it waits for that."""
        if self._process.stdin is not None:
            let_go(self._process)

    def fds(self) -> list[tuple[int, bool]]:
        """What to wait for: (file descriptor, whether it is also waited for to be writable)."""
        if self.eof:
            return [(self._pidfd, False)]
        return [(self._socket.fileno(), bool(self._unsent)), (self._pidfd, False)]

    def send(self, message: ToProcessor) -> None:
        """Send now what the socket takes, the rest with later calls of `flush`."""
        self._unsent += frame(message)
        self.flush()

    def flush(self) -> None:
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:  # It is dying: `ended` will tell how.
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def receive(self) -> Iterator[FromProcessor]:
        """Messages that have come whole. FrameError if something else than ours was written."""
        until = self.received + _MOST_AT_ONCE
        while not self.eof and self.received < until:
            try:
                # Into the same memory each time: a fresh buffer of this size costs more than the call.
                length = self._socket.recv_into(_incoming)
            except BlockingIOError:
                return
            except ConnectionResetError:
                length = 0
            if not length:
                self.eof = True
                return
            self.received += length
            yield from self._reader.feed(memoryview(_incoming)[:length])
            if length < len(_incoming):
                return

    def ended(self) -> bool:
        """Whether it has died; it is not reaped by asking."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def ends_within(self, seconds: float) -> bool:
        """Wait so long for its death, at most: a process that waits for a broken disk does not die."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(round(1000 * seconds)))

    def kill(self) -> None:
        """SIGKILL to its whole group; returns at once. Harmless to repeat before `bury`."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has not become the leader of its group yet, or is a zombie that was alone. Not by `Popen.kill`,
            # which reaps a zombie.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def bury(self) -> Death:
        """After `ended`: kill what is left of its group, reap it, tell how it died."""
        self.kill()
        pid = self._process.pid
        _, status, usage = os.wait4(pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return Death(
            pid, self._process.returncode, self._stderr_tail(), usage.ru_maxrss << 10, self._blur_bytes
        )

    def close(self) -> None:
        """Let go of its socket, clock and process handle."""
        self._socket.close()
        self.clock.close()
        self._page.close()
        os.close(self._pidfd)

    def _stderr_tail(self) -> str:
        try:
            with open(self._stderr_file, "rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._stderr_start, end - _STDERR_TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError as error:
            return f"(its stderr cannot be read: {error})"
        return "\n".join(lines[-_STDERR_TAIL_LINES:])
