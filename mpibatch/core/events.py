"""What the dispatcher is told and what it orders: two closed unions of frozen structs. Pure.

Workers are known by their numbers, attempts by theirs; nothing here knows of ranks or of messages.
"""

from __future__ import annotations

import msgspec

from mpibatch.core.accounting import Elsewhere, Verdict
from mpibatch.work import Piece

# Events


class WorkerReady(msgspec.Struct, frozen=True, gc=False):
    """It can be given work: `init()` is done there, or it is heard of again after `WorkerLost`."""

    worker: int


class AttemptSucceeded(msgspec.Struct, frozen=True, gc=False):
    worker: int
    attempt: int
    succeeded: int
    rows: int
    seconds: float


class AttemptFailed(msgspec.Struct, frozen=True, gc=False):
    """User code failed, hung or died: it costs a try."""

    worker: int
    attempt: int
    seconds: float
    alike: str = ""
    """What equal errors have in common: their kind, without what is particular to an item."""
    out_of_memory: bool = False
    """The kernel killed the processor for memory."""
    deadly: bool = False
    """What it ran in had to be started anew: beside others it is not tried again."""
    indivisible: bool = False
    """No single item is to blame, so that it is no use to look for one."""


class AttemptsReturned(msgspec.Struct, frozen=True, gc=False):
    """Granted, never started, given back: costs nothing. Empty: a recall found that all had been started."""

    worker: int
    attempts: list[int]


class WorkerLost(msgspec.Struct, frozen=True, gc=False):
    """Silent or dead. If it is not dead after all, its answers may still come, and may count."""

    worker: int


class WorkerGone(msgspec.Struct, frozen=True, gc=False):
    """It gave up or left, for good: its answers will not come. What it had costs nothing."""

    worker: int


class StopRequested(msgspec.Struct, frozen=True, gc=False):
    """Nothing new starts. `at_once`: what is running is given up too."""

    reason: str
    at_once: bool


class FailedElsewhere(msgspec.Struct, frozen=True, gc=False):
    """So much has failed by now in the other shares of the array, which the thresholds hold for as well."""

    elsewhere: Elsewhere


class Due(msgspec.Struct, frozen=True, gc=False):
    """What `Later` asked for: its time has come."""

    number: int


Event = (
    WorkerReady
    | AttemptSucceeded
    | AttemptFailed
    | AttemptsReturned
    | WorkerLost
    | WorkerGone
    | StopRequested
    | FailedElsewhere
    | Due
)


# Commands


class Granted(msgspec.Struct, frozen=True, gc=False):
    """One attempt of a grant. `retry`: tries that the piece has used up before it. `alone`: nothing may run beside
    it."""

    attempt: int
    piece: Piece
    retry: int
    alone: bool = False


class Grant(msgspec.Struct, frozen=True, gc=False):
    """Hand these to the worker, to be done in this order."""

    worker: int
    granted: list[Granted]


class Recall(msgspec.Struct, frozen=True, gc=False):
    """Ask for those of these attempts back that have not been started."""

    worker: int
    attempts: list[int]


class RecordSuccess(msgspec.Struct, frozen=True, gc=False):
    """The success just told of is accepted: journal it, keep its fragment."""

    attempt: int
    piece: Piece


class RecordFailure(msgspec.Struct, frozen=True, gc=False):
    """The failure just told of: journal it. `final`: the piece has failed and is not tried again. Attempt 0: this
    piece has not been tried, but fails with the one that was."""

    attempt: int
    piece: Piece
    tries: int
    final: bool


class RecordLoss(msgspec.Struct, frozen=True, gc=False):
    """The piece has failed because the workers that had it were lost `losses` times."""

    piece: Piece
    losses: int


class RecordSplit(msgspec.Struct, frozen=True, gc=False):
    """The piece is replaced by two, of which the second begins at item number `at`: journal it."""

    piece: Piece
    at: int


class Later(msgspec.Struct, frozen=True, gc=False):
    """Say `Due(number)` in so many seconds."""

    number: int
    seconds: float


class Retire(msgspec.Struct, frozen=True, gc=False):
    """Release this worker now, for good: its node has not the memory for so many. What it had is done by others."""

    worker: int


class Quarantine(msgspec.Struct, frozen=True, gc=False):
    """Tell people: these workers get no more work, as attempts that failed there succeeded elsewhere.

    `whole_node`: they are all that are left of their node; `failures`: in a row, without one success.
    """

    workers: list[int]
    whole_node: bool
    failures: int


class Remark(msgspec.Struct, frozen=True, gc=False):
    """Something that people should be told, once: bisection is off, a worker is retired or used again."""

    text: str
    workers: list[int] = []
    """Whom it is about: people know them by rank and host, which are to be told after the text."""


class Drop(msgspec.Struct, frozen=True, gc=False):
    """An answer that came too late: log it, use nothing of it."""

    worker: int
    attempt: int


class Conclude(msgspec.Struct, frozen=True, gc=False):
    """The run has ended: release all workers, at once unless it is complete."""

    verdict: Verdict
    reason: str


Command = (
    Grant
    | Recall
    | RecordSuccess
    | RecordFailure
    | RecordLoss
    | RecordSplit
    | Later
    | Retire
    | Quarantine
    | Remark
    | Drop
    | Conclude
)
