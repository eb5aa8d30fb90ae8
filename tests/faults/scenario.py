"""What one seed of the kill matrix stands for: a job, a launcher, and faults, each with its moment."""

from __future__ import annotations

import random
import signal
from dataclasses import dataclass

SEGV, KILL, STOP, TERM = signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM

LAUNCHERS = {
    "mpich": ("local", "mpiexec", "alone"),
    "openmpi": ("local", "mpiexec", "ulfm", "continuous", "alone"),
    "": ("alone",),
}
"""By the family of MPI: how a run is started. `alone`: one process that is all of it."""
MOST_FAULTS = 3
HEARTBEAT_TIMEOUT_S = 10


@dataclass(frozen=True)
class Moment:
    """When: `delay` after `place` is reached."""

    place: str
    """`start` is that of the command, or the fault before."""
    delay: float
    """In seconds; after `start` in times that an undisturbed run takes."""

    @property
    def words(self) -> str:
        unit = " of a run" if self.place == "start" else " s"
        return f"{self.delay:.3f}{unit} after {self.place}"


@dataclass(frozen=True)
class Fault:
    """`number` is sent to a process of the part `target`; a frozen one goes on after `thaw_s`, if given."""

    target: str
    number: signal.Signals
    moment: Moment
    thaw_s: float | None = None

    @property
    def words(self) -> str:
        thawed = f", SIGCONT {self.thaw_s:.2f} s later" if self.thaw_s is not None else ""
        return f"{self.number.name} to {self.target}, {self.moment.words}{thawed}"


@dataclass(frozen=True)
class Scenario:
    """All of it follows from `seed` and the family of MPI."""

    seed: int
    kind: str
    launcher: str
    faults: tuple[Fault, ...]

    @property
    def words(self) -> str:
        faults = "; ".join(fault.words for fault in self.faults)
        return f"seed {self.seed}: {self.kind}, {self.launcher}: {faults}"


def make_scenario(seed: int, family: str) -> Scenario:
    """The scenario of a seed: the same on each machine with that family of MPI ("" where there is none)."""
    chance = random.Random(seed)
    kind = chance.choice(("files", "csv-text", "csv-csv", "parquet"))
    launcher = chance.choice(LAUNCHERS[family])
    count = chance.choices(range(1, MOST_FAULTS + 1), (6, 3, 1))[0]
    faults = tuple(_fault(chance, launcher, kind, first=number == 0) for number in range(count))
    return Scenario(seed, kind, launcher, faults)


def _fault(chance: random.Random, launcher: str, kind: str, *, first: bool) -> Fault:
    target = chance.choice(_targets(launcher))
    number = chance.choices((KILL, STOP, TERM, SEGV), (5, 3, 1, 1))[0]
    if target in ("everything", "guardian") and number in (SEGV, TERM):
        number = KILL  # As when a node dies; and a guardian does not heed signals.
    thaw_s = None
    if number == STOP and chance.random() < 0.5:
        thaw_s = chance.choice((0.2, 1.0, 4.0))
    return Fault(target, number, _moment(chance, kind, first=first), thaw_s)


def _targets(launcher: str) -> tuple[str, ...]:
    common = ("processor", "processor", "rank 0", "everything", "guardian")
    if launcher == "alone":
        return common
    return (*common, "worker", "worker", "mpiexec", *(("parent",) if launcher == "local" else ()))


def is_noticed(launcher: str, target: str) -> bool:
    """Whether somebody sees that `target` is frozen, and goes on without it."""
    return target in ("processor", "guardian", "worker") or (launcher == "local" and target == "rank 0")


def survives(launcher: str, fault: Fault) -> bool:
    """Whether the run itself gets over `fault`, so that nobody need start it again."""
    if fault.number == TERM:
        return fault.target in ("processor", "guardian")  # They do not heed it. Others are asked to stop.
    if fault.number == STOP:
        short = fault.thaw_s is not None and fault.thaw_s < HEARTBEAT_TIMEOUT_S / 2
        return short or is_noticed(launcher, fault.target)
    if fault.target in ("processor", "guardian"):
        return True
    if launcher == "local":  # The parent starts the world again.
        return fault.target in ("worker", "rank 0", "mpiexec")
    return launcher in ("ulfm", "continuous") and fault.target == "worker"


def _moment(chance: random.Random, kind: str, *, first: bool) -> Moment:
    aims = ["init", "first mini-batch", "commit", "end"]
    if kind == "csv-text":
        aims.append("survey")
    if first and chance.random() < 0.4:
        return Moment(chance.choice(aims), chance.choice((0.0, chance.uniform(0, 0.05))))
    return Moment("start", chance.uniform(0, 0.9))
