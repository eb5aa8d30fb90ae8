"""The memory that a worker and its processor share: what is running since when, what is taken back, and how often
`run()` has said that it gets on.

A page of little-endian 64-bit numbers; each is written by one side only. Attempts are granted to a processor in
rising order. A processor with an event loop, in which several attempts may run, tells of each in a slot, and of the
loop itself; ATTEMPT and STARTED it leaves alone.
"""

from __future__ import annotations

from mpibatch.core.grants import MOST_CONCURRENT
from mpibatch.core.loop_watch import LoopReading

# By the processor:
ATTEMPT = 0
"""The attempt that is running; 0: none."""
STARTED = 1
"""When it began, by `time.monotonic_ns`, which all processes of a host share."""
LATEST = 2
"""The attempt that was begun last; stays when it has ended."""

# By the worker:
REVOKED_FIRST = 3
REVOKED_LAST = 4
"""Attempts from the first to the last of these are taken back: the processor passes over them."""


# By the processor, and what the script forks:
HEARTBEATS = 5
"""How often the script has said that it gets on. Those of several processes at one moment may count as one."""

# By the processor, where it has an event loop:
SLOTS = 6
"""How many slots it uses; 0: it has no event loop."""
MOVES = 7
"""How often code of an attempt has been gone into or come out of, and ticks."""
TICKS = 8
"""How often the loop has come round, counted a few times a second while there is work."""
STEP = 9
"""The attempt whose code holds the loop; 0: none, or what runs is of no attempt."""

FIRST_SLOT = 16
SLOT_NUMBERS = 3
SLOT_ATTEMPT, SLOT_STARTED, SLOT_CANCELLED = range(SLOT_NUMBERS)
"""In a slot: the attempt, or 0; when it began; its number once more when its time is up and it has been told so."""

CLOCK_BYTES = 8 * (FIRST_SLOT + SLOT_NUMBERS * MOST_CONCURRENT)


def place_of(slot: int) -> int:
    """Where a slot begins."""
    return FIRST_SLOT + SLOT_NUMBERS * slot


class Clock:
    """The worker's side; `page` is the shared memory."""

    def __init__(self, page: memoryview) -> None:
        self._page = page.cast("Q")

    def running(self) -> tuple[int, int]:
        """(attempt, start in nanoseconds); may be torn, see `core.liveness.OverTime`."""
        return self._page[ATTEMPT], self._page[STARTED]

    def all_running(self) -> list[tuple[int, int]]:
        """(attempt, start in nanoseconds) of all that run. Of one that may be writing just now it may be torn."""
        slots = self._page[SLOTS]
        if not slots:
            attempt, started_ns = self.running()
            return [(attempt, started_ns)] if attempt else []
        return [(attempt, started_ns) for attempt, started_ns, _ in self._slots(slots) if attempt]

    @property
    def has_loop(self) -> bool:
        """Whether the processor has an event loop."""
        return self._page[SLOTS] > 0

    def loop(self) -> LoopReading:
        """How its event loop gets on."""
        slots = self._slots(self._page[SLOTS])
        return LoopReading(
            moves=self._page[MOVES],
            ticks=self._page[TICKS],
            step=self._page[STEP],
            running=any(attempt for attempt, _, _ in slots),
            cancelled=[attempt for attempt, _, cancelled in slots if attempt and cancelled == attempt],
        )

    def _slots(self, count: int) -> list[tuple[int, int, int]]:
        words = self._page[FIRST_SLOT : place_of(min(count, MOST_CONCURRENT))].tolist()
        return list(zip(words[::SLOT_NUMBERS], words[1::SLOT_NUMBERS], words[2::SLOT_NUMBERS]))

    @property
    def latest(self) -> int:
        """The attempt that was begun last."""
        return self._page[LATEST]

    @property
    def heartbeats(self) -> int:
        return self._page[HEARTBEATS]

    def revoke(self, first: int, last: int) -> int:
        """Take back attempts `first` to `last`; those up to the number returned have been begun all the same.

        Only once those taken back before have been passed over.
        """
        # The end last, so that the processor never sees the old beginning with the new end.
        self._page[REVOKED_FIRST] = first
        self._page[REVOKED_LAST] = last
        # After that. Both may be true: the processor has begun one, looks, and passes over it. It says so.
        return self._page[LATEST]

    def may_revoke(self) -> bool:
        """Whether what was taken back before has been passed over."""
        return self._page[LATEST] >= self._page[REVOKED_LAST]

    def close(self) -> None:
        self._page.release()
