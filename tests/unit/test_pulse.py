"""Whether a processor gets on: tables of timeouts, besides what test_worker tells as stories."""

from __future__ import annotations

import math

import pytest

from mpibatch.runtime.clock import ATTEMPT, CLOCK_BYTES, LATEST, STARTED, Clock
from mpibatch.runtime.pulse import Pulse


class Page:
    def __init__(self) -> None:
        self.memory = memoryview(bytearray(CLOCK_BYTES)).cast("Q")
        self.clock = Clock(self.memory.cast("B"))

    def at(self, attempt: int, started_s: float) -> None:
        self.memory[STARTED], self.memory[LATEST], self.memory[ATTEMPT] = (
            round(started_s * 1e9),
            attempt,
            attempt,
        )


def killed_at(pulse: Pulse, page: Page, *, handed: bool, seconds: range) -> tuple[int, str] | None:
    for now in seconds:
        for _ in range(2):  # A reading that may be torn is looked at twice.
            wrong = pulse.judge(page.clock, 0, handed=handed, now=now, now_ns=now * 10**9)
            if wrong is not None:
                return now, wrong.cause
    return None


@pytest.mark.parametrize(
    ("timeout_s", "expected"), [(0.5, 6), (5, 6), (20, 21), (60, 61), (1000, 61), (math.inf, 61)]
)
def test_between_two_mini_batches(timeout_s: float, expected: int) -> None:
    found = killed_at(Pulse(timeout_s), Page(), handed=True, seconds=range(0, 2000))
    assert found == (expected, "died")


@pytest.mark.parametrize(("timeout_s", "expected"), [(0.5, 11), (5, 16), (1000, 1011), (math.inf, None)])
def test_within_an_attempt(timeout_s: float, expected: int | None) -> None:
    page = Page()
    page.at(7, 10.0)
    found = killed_at(Pulse(timeout_s), page, handed=True, seconds=range(10, 2000))
    assert found == (None if expected is None else (expected, "timed_out"))


def test_counted_from_the_end_of_the_attempt() -> None:
    page, pulse = Page(), Pulse(1000.0)
    page.at(7, 0.0)
    assert killed_at(pulse, page, handed=True, seconds=range(0, 900)) is None
    page.memory[ATTEMPT] = 0
    assert killed_at(pulse, page, handed=True, seconds=range(900, 2000)) == (960, "died")


def test_without_work_for_ever() -> None:
    assert killed_at(Pulse(1.0), Page(), handed=False, seconds=range(0, 2000)) is None
