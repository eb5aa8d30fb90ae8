"""How processors die: what of, in words for people, and how often a worker bears it."""

from __future__ import annotations

import signal

import msgspec

from mpibatch.core.environment_script import shown_output
from mpibatch.runtime.memory import MemoryWatch, gibibytes
from mpibatch.work import Cause, ErrorReport

MOST_INIT_FAILURES = 3
"""In a row; then the worker gives up (CONTRACT section 2)."""
MOST_FRUITLESS_DEATHS = 3
"""In a row, of processors that died between mini-batches without one outcome."""


class Death(msgspec.Struct, frozen=True):
    """How a child ended."""

    pid: int
    returncode: int
    """As of subprocess: minus the signal's number if a signal ended it."""
    stderr_tail: str
    peak_bytes: int = 0
    """The most memory that was resident at a time; 0: unknown."""
    blur_bytes: int = 0
    """A peak below that is not seen: so much had the process from which it was started."""
    unmade: str = ""
    """What of its environment was being made, where its interpreter has not begun; empty: it has."""

    @property
    def words(self) -> str:
        if self.returncode >= 0:
            return f"exit code {self.returncode}"
        try:
            name = signal.Signals(-self.returncode).name
        except ValueError:
            name = f"signal {-self.returncode}"
        if -self.returncode == signal.SIGKILL:
            return f"{name} (not sent by mpibatch: most likely the kernel, because memory ran out{self.peak})"
        return name

    @property
    def peak(self) -> str:
        if not self.peak_bytes:
            return ""
        most = "at most " if self.peak_bytes <= self.blur_bytes else ""
        return f"; its peak resident memory was {most}{gibibytes(self.peak_bytes)}"


def _unmade(death: Death, place: str, why: str) -> ErrorReport:
    """What the script of a processor's environment has come to."""
    ending = f"was stopped: {why}" if why else f"ended with {death.words}"
    advice = "It is run before every processor's interpreter: try it in a shell on that host, with what is before it."
    return ErrorReport(
        "EnvironmentFailed",
        f"{death.unmade}: it {ending} {place}{shown_output(death.stderr_tail)}\n{advice}",
        death.stderr_tail,
    )


class Deaths:
    """Those of one worker's processors. `where`: for people; `processors_here`: on its node, 0 if unknown."""

    def __init__(self, where: str, memory: MemoryWatch, processors_here: int = 0) -> None:
        self._where = where
        self._memory = memory
        self._processors_here = processors_here
        self._init_failures = 0
        self._fruitless = 0

    def init_failed(self) -> int:
        """How often in a row it has, with this one."""
        self._init_failures += 1
        return self._init_failures

    def init_succeeded(self) -> None:
        self._init_failures = 0

    def fruitless(self) -> bool:
        """One has died between two mini-batches: nobody is to blame. Whether that may go on."""
        self._fruitless += 1
        return self._fruitless < MOST_FRUITLESS_DEATHS

    def fruitful(self) -> None:
        """There was an outcome, or an attempt that is to blame."""
        self._fruitless = 0

    def judge(
        self, death: Death, killed_for: tuple[Cause, str] | None, when: str
    ) -> tuple[Cause, ErrorReport]:
        """The error of what was running. `killed_for`: why we killed it; `when`: for people."""
        place = f"(pid {death.pid} of {self._where}, {when})"
        cause, why = killed_for or ("died", "")
        if death.unmade:
            return cause, _unmade(death, f"(pid {death.pid} of {self._where})", why)
        tail = death.stderr_tail
        if cause == "timed_out":
            return cause, ErrorReport("TimedOut", f"the processor was killed: {why} {place}", tail)
        if why:
            return cause, ErrorReport("Died", f"{why}, so it was killed {place}", tail)
        if death.returncode == -signal.SIGKILL and self._memory.killed():
            return "out_of_memory", ErrorReport("OutOfMemory", self._out_of_memory(death, place), tail)
        return cause, ErrorReport("Died", f"it died: {death.words} {place}", tail)

    def _out_of_memory(self, death: Death, place: str) -> str:
        told = [f"the kernel killed the processor because memory ran out{death.peak}"]
        limit, available = self._memory.limit_bytes(), self._memory.available_bytes()
        if limit is not None:
            told.append(f"the limit of its cgroup is {gibibytes(limit)}")
        if available is not None:
            told.append(f"the node has {gibibytes(available)} to give now")
        if self._processors_here:
            told.append(f"processors on this node: {self._processors_here}")
        advice = "Run fewer processes on a node (process_count_per_node), or take a smaller mini_batch_size."
        return f"{'; '.join(told)} {place}. {advice}"
