"""Waiting: at once where something was found, longer and longer where nothing is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mpibatch.runtime import waiting
from mpibatch.runtime.waiting import BURST, FIRST_SLEEP_S, LONGEST_SLEEP_S, Backoff


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long it slept, without sleeping."""
    taken: list[float] = []
    monkeypatch.setattr(waiting.time, "sleep", taken.append)  # type: ignore[attr-defined]
    yield taken


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_burst_then_sleeps_that_grow_to_the_longest(naps: list[float]) -> None:
    backoff = Backoff()
    for _ in range(BURST):
        backoff.rest(False, [])
    assert naps == []
    for _ in range(12):
        backoff.rest(False, [])
    assert naps[:3] == [FIRST_SLEEP_S, 2 * FIRST_SLEEP_S, 4 * FIRST_SLEEP_S]
    assert naps[-1] == LONGEST_SLEEP_S == max(naps)
    backoff.rest(True, [])
    assert len(naps) == 12
    for _ in range(BURST + 1):
        backoff.rest(False, [])
    assert naps[12:] == [FIRST_SLEEP_S]


def test_the_longest_sleep_can_be_chosen(naps: list[float]) -> None:
    backoff = Backoff(0.0003)
    for _ in range(BURST + 10):
        backoff.rest(False, [])
    assert max(naps) == 0.0003


def test_a_descriptor_that_is_ready_wakes(pipe: tuple[int, int]) -> None:
    backoff = Backoff(2.0)
    os.write(pipe[1], b"x")
    begun = time.monotonic()
    for _ in range(BURST + 17):  # Without it this would take 7 s.
        backoff.rest(False, [(pipe[0], False)])
    assert time.monotonic() - begun < 2


def test_where_all_will_come_by_descriptors_it_waits_for_them_alone(pipe: tuple[int, int]) -> None:
    backoff = Backoff()
    begun = time.monotonic()
    backoff.rest(True, [(pipe[0], False)], patience_s=0.1)
    assert time.monotonic() - begun > 0.09
    os.write(pipe[1], b"x")
    begun = time.monotonic()
    backoff.rest(False, [(pipe[0], False)], patience_s=20)
    assert time.monotonic() - begun < 2


def test_a_descriptor_is_waited_for_to_be_writable_only_where_asked(
    pipe: tuple[int, int], naps: list[float]
) -> None:
    patient, backoff = Backoff(30.0), Backoff(0.05)
    for one in (patient, backoff):
        for _ in range(BURST + 20):
            one.rest(False, [])
    assert max(naps) == 30.0
    begun = time.monotonic()
    patient.rest(False, [(pipe[1], True)])
    assert time.monotonic() - begun < 10
    begun = time.monotonic()
    backoff.rest(False, [(pipe[1], False)])
    assert time.monotonic() - begun > 0.04
