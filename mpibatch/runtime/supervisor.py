"""The processor as its worker sees it: a child process with a socket, a clock and a way to die.

The child is a fresh interpreter in its own session (so its own process group), without the launcher's
variables. The group is killed before the child is reaped: until then its number cannot be used again.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

import mpibatch
from mpibatch.core.framing import FrameReader, frame
from mpibatch.messages import FromProcessor, ToProcessor
from mpibatch.runtime.clock import CLOCK_BYTES, Clock
from mpibatch.work import Cause, ErrorReport

_incoming = bytearray(64 << 10)
_STDERR_TAIL_BYTES = 4096
_STDERR_TAIL_LINES = 15

# FACTS, MPI: what a child that might import MPI must not see.
LAUNCHER_PREFIXES = (
    "PMI_", "PMIX_", "OMPI_", "PRTE_", "HYDI_", "HYDRA_", "MPIR_", "I_MPI_", "PALS_", "MPI_LOCAL", "OPAL_",
    "SLURM_STEP", "SLURM_TASK", "SLURM_SRUN_", "SLURM_LAUNCH_", "MPIBATCH_",
)  # fmt: skip
LAUNCHER_NAMES = frozenset(
    (
        "SLURM_PROCID",
        "SLURM_LOCALID",
        "SLURM_NODEID",
        "SLURM_GTIDS",
        "SLURM_MPI_TYPE",
        "SLURM_PMIX_MAPPING_SERV",
    )
)


def processor_environment(keep: list[str], extra: dict[str, str]) -> dict[str, str]:
    """This process's environment without what the launcher set, but with `keep` (names or `PREFIX_*`)."""

    def kept(name: str) -> bool:
        return any(name.startswith(k[:-1]) if k.endswith("*") else name == k for k in keep)

    environment = {
        name: value
        for name, value in os.environ.items()
        if kept(name) or not (name.startswith(LAUNCHER_PREFIXES) or name in LAUNCHER_NAMES)
    }
    return {**environment, **extra}


def interpreter_command(python: str | None, call: str) -> list[str]:
    """The command that makes an interpreter execute `call` with mpibatch importable, and nothing of the
    current folder on its path. Another interpreter (`python`) has to have an mpibatch of its own."""
    if python is not None:
        return [python, "-P", "-c", call]
    # At the end: only where no other place has mpibatch, as when it runs from a checkout.
    home = str(Path(mpibatch.__file__).resolve().parents[1])
    return [sys.executable, "-P", "-c", f"import sys; sys.path.append({home!r}); {call}"]


class Death(msgspec.Struct, frozen=True):
    """How a child ended."""

    pid: int
    returncode: int
    """As of subprocess: minus the signal's number if a signal ended it."""
    stderr_tail: str

    @property
    def words(self) -> str:
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            name = signal.Signals(-self.returncode).name
        except ValueError:
            name = f"signal {-self.returncode}"
        if -self.returncode == signal.SIGKILL:
            return f"{name} (not sent by mpibatch: most likely the kernel, because memory ran out)"
        return name

    def report(self, cause: Cause, why: str, where: str) -> ErrorReport:
        """The error of what was running. `why`: for what mpibatch killed it, or empty; `where`: for people."""
        place = f"(pid {self.pid} of {where})"
        if cause == "timed_out":
            return ErrorReport("TimedOut", f"the processor was killed: {why} {place}", self.stderr_tail)
        how = f"{why}, so it was killed" if why else f"it died: {self.words}"
        return ErrorReport("Died", f"{how} {place}", self.stderr_tail)


class Child:
    """One running processor. `fds` wake the worker; `receive` and `send` never block."""

    def __init__(
        self, command: list[str], *, environment: dict[str, str], cwd: str, stdout_file: str, stderr_file: str
    ) -> None:
        """Start it. `command` is given the numbers of its socket and its clock in place of {fd} and {clock}.

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
                    stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=cwd, env=environment,
                    pass_fds=(theirs.fileno(), clock), start_new_session=True,
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
        ours.setblocking(False)
        self._socket = ours
        self._reader: FrameReader[FromProcessor] = FrameReader(FromProcessor)
        self._unsent = bytearray()
        self.eof = False
        """Its end of the socket is closed: it is dying, or its script has closed it."""

    @property
    def pid(self) -> int:
        return self._process.pid

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
        """The messages that have come whole. FrameError if something else than ours was written."""
        while not self.eof:
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
            yield from self._reader.feed(memoryview(_incoming)[:length])
            if length < len(_incoming):
                return

    def ended(self) -> bool:
        """Whether it has died; it is not reaped by asking."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def kill(self) -> None:
        """SIGKILL to its whole group; returns at once. Harmless to repeat before `bury`."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has not become the leader of its group yet, or is a zombie that was alone.
            self._process.kill()

    def bury(self) -> Death:
        """After `ended`: kill what is left of its group, reap it, tell how it died."""
        self.kill()
        returncode = self._process.wait()
        return Death(self._process.pid, returncode, self._stderr_tail())

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


_GUARDIAN = """
trap '' TERM INT HUP USR1 USR2
group=0
while read -r line; do group=$line; done
[ "$group" = end ] && exit 0
[ "$group" -gt 0 ] 2>/dev/null && kill -9 "-$group"
rm -rf -- "$1"
"""


class Guardian:
    """A tiny process that outlives its worker, however that dies: it then kills the worker's processor
    with all its group, and removes the scratch folder. The end of a pipe tells it."""

    def __init__(self, scratch: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, "mpibatch-guardian", scratch],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            start_new_session=True, bufsize=0,
        )  # fmt: skip

    def watch(self, group: int) -> None:
        """From now on this is the group to kill; 0: none."""
        self._tell(f"{group}\n")

    def dismiss(self) -> None:
        """The worker ends in order: nothing is to be killed."""
        self._tell("end\n")
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
        except BrokenPipeError:  # Somebody killed it; the processor still ends by its socket's end.
            pass
