"""Silence and overtime."""

from __future__ import annotations

import math

from mpibatch.core.liveness import Liveness, OverTime

S = 10**9


def test_who_was_never_heard_of_is_not_watched() -> None:
    assert Liveness(60).silent(1e9) == []


def test_a_lease_runs_out_after_its_time_not_at_it() -> None:
    liveness = Liveness(60)
    liveness.heard(0, 100)
    liveness.heard(1, 130)
    assert liveness.silent(160) == []
    assert liveness.silent(160.1) == [0]
    liveness.heard(0, 161)
    assert liveness.silent(190.5) == [1]
    assert liveness.silent(222) == [0, 1]


def test_the_forgotten_are_not_told_of_until_they_speak() -> None:
    liveness = Liveness(60)
    liveness.heard(0, 0)
    liveness.forget(0)
    liveness.forget(7)
    assert liveness.silent(1000) == []
    liveness.heard(0, 1000)
    assert liveness.silent(1061) == [0]


def test_a_stall_of_ours_is_nobodys_silence() -> None:
    liveness = Liveness(60)
    liveness.heard(0, 0)
    liveness.extend(500)
    assert liveness.silent(555) == []
    assert liveness.silent(561) == [0]


def test_over_time_needs_the_same_reading_twice() -> None:
    over = OverTime(2)
    assert not over.judge(1, 0, 2 * S)
    assert not over.judge(1, 0, 2 * S + 1)
    assert over.judge(1, 0, 2 * S + 2)
    # Told once, it begins anew.
    assert not over.judge(1, 0, 2 * S + 3)
    assert over.judge(1, 0, 2 * S + 4)


def test_a_torn_reading_is_not_over_time() -> None:
    over = OverTime(2)
    assert not over.judge(2, 0, 9 * S)  # Number of the new attempt, start of the old one.
    assert not over.judge(2, 9 * S - 1, 9 * S)
    assert not over.judge(2, 0, 9 * S)
    assert not over.judge(3, 0, 9 * S)
    assert not over.judge(3, 1, 9 * S)
    assert over.judge(3, 1, 9 * S)


def test_nothing_running_is_never_over_time() -> None:
    over = OverTime(2)
    assert not over.judge(5, 0, 9 * S)
    assert not over.judge(0, 0, 9 * S)
    assert not over.judge(5, 0, 9 * S)


def test_no_timeout() -> None:
    over = OverTime(math.inf)
    assert not over.judge(1, 0, 10**18)
    assert not over.judge(1, 0, 10**18)
