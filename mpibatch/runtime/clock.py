"""The memory that a worker and its processor share: what is running since when, what is taken back, and how often
`run()` has said that it gets on.

A page of little-endian 64-bit numbers; each is written by one side only. Attempts are granted to a processor in
rising order.
"""

from __future__ import annotations

CLOCK_BYTES = 4096

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


class Clock:
    """The worker's side; `page` is the shared memory."""

    def __init__(self, page: memoryview) -> None:
        self._page = page.cast("Q")

    def running(self) -> tuple[int, int]:
        """(attempt, start in nanoseconds); may be torn, see `core.liveness.OverTime`."""
        return self._page[ATTEMPT], self._page[STARTED]

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
