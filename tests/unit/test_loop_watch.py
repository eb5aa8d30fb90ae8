"""Whether an event loop gets on: stories of what the shared memory shows."""

from __future__ import annotations

import math

from mpibatch.core.loop_watch import TICKS_TO_END, LoopReading, LoopWatch, Stuck


class Loop:
    """What a loop shows, and who looks at it."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        self.watch = LoopWatch(timeout_s, standstill_s=5.0)
        self.moves = self.ticks = self.step = self.received = 0
        self.running = True
        self.cancelled: list[int] = []

    def looks(self, now: float, *, handed: bool = True) -> Stuck | None:
        reading = LoopReading(self.moves, self.ticks, self.step, self.running, list(self.cancelled))
        return self.watch.judge(reading, self.received, handed=handed, now=now)

    def ticks_once(self) -> None:
        self.ticks += 1
        self.moves += 1


def stuck_at(loop: Loop, seconds: range) -> tuple[int, Stuck] | None:
    for now in seconds:
        found = loop.looks(now)
        if found is not None:
            return now, found
    return None


def test_whoever_holds_the_loop_for_longer_than_a_mini_batch_may_take() -> None:
    loop = Loop()
    loop.step = 7
    assert stuck_at(loop, range(100)) == (12, Stuck("blocked", 7))


def test_it_may_be_nobody_s_step() -> None:
    assert stuck_at(Loop(), range(100)) == (12, Stuck("blocked", 0))


def test_a_loop_that_comes_round_may_wait_for_ever() -> None:
    loop = Loop()
    for now in range(1000):
        loop.ticks_once()
        assert loop.looks(now) is None


def test_steps_are_moves_too() -> None:
    """One after the other works, and none of them for long: the loop does not come round, and yet gets on."""
    loop = Loop()
    for now in range(0, 1000, 9):
        loop.moves += 1
        loop.step = now + 1
        assert loop.looks(now) is None


def test_no_time_limit() -> None:
    assert stuck_at(Loop(math.inf), range(0, 10**6, 1000)) is None


def test_nothing_begins() -> None:
    loop = Loop()
    loop.running = False
    assert stuck_at(loop, range(100)) == (6, Stuck("standstill", 0))
    assert loop.looks(200, handed=False) is None
    assert loop.looks(204) is None, "counted from when it was handed work"
    loop.received = 10
    assert loop.looks(208) is None, "a long answer takes its time"


def test_what_does_not_end_when_it_is_cancelled() -> None:
    loop = Loop()
    loop.cancelled = [3, 4]
    for now in range(TICKS_TO_END):
        assert loop.looks(now) is None
        loop.ticks_once()
    loop.cancelled.remove(3)
    assert loop.looks(TICKS_TO_END) == Stuck("over_time", 4)


def test_what_others_keep_from_the_loop_is_not_obstinate() -> None:
    loop = Loop()
    loop.cancelled = [3]
    loop.step = 9
    assert stuck_at(loop, range(100)) == (12, Stuck("blocked", 9))


def test_cancelled_and_ended_and_cancelled_anew() -> None:
    """Each attempt has its own time: numbers are not used again."""
    loop = Loop()
    for attempt in range(1, 50):
        loop.cancelled = [attempt]
        assert loop.looks(attempt) is None
        loop.ticks += TICKS_TO_END - 1
        loop.moves += 1


def test_we_ourselves_stood_still() -> None:
    loop = Loop()
    assert loop.looks(0.0) is None
    loop.watch.stood_still(100.0)
    assert loop.looks(105.0) is None
    assert loop.looks(112.0) == Stuck("blocked", 0)
