"""Waiting without burning a core: a short burst of looking, then sleeps that grow to some milliseconds."""

from __future__ import annotations

import select
import time

BURST = 5
"""Fruitless looks before the first sleep: an answer is often some microseconds away."""
FIRST_SLEEP_S = 0.0001
LONGEST_SLEEP_S = 0.005


class Backoff:
    """Call `rest` after each look: with True if it found something."""

    def __init__(self, longest_s: float = LONGEST_SLEEP_S) -> None:
        self._longest_s = longest_s
        self._fruitless = 0
        self._sleep_s = FIRST_SLEEP_S

    def rest(self, found: bool, fds: list[tuple[int, bool]], *, patience_s: float | None = None) -> None:
        """Return at once, or when one of `fds` (descriptor, also for writing) is ready, or after a while.

        `patience_s`: what is waited for will come by `fds`; all else may wait so long, and no second
        look is needed before.
        """
        if patience_s is not None:
            _poll(fds, patience_s)
            return
        if found:
            self._fruitless = 0
            self._sleep_s = FIRST_SLEEP_S
            return
        self._fruitless += 1
        if self._fruitless <= BURST:
            return
        if fds:
            _poll(fds, self._sleep_s)
        else:
            time.sleep(self._sleep_s)
        self._sleep_s = min(self._longest_s, self._sleep_s * 2)


def _poll(fds: list[tuple[int, bool]], wait_s: float) -> None:
    poll = select.poll()
    for fd, writing in fds:
        poll.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
    poll.poll(max(1, round(wait_s * 1000)))
