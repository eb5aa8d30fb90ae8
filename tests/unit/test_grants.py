"""How many pieces go in one message."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.grants import LEAST_IN_FLIGHT, MOST_IN_FLIGHT, RunTimes, in_flight_target


@pytest.mark.parametrize(
    ("mean_s", "waiting", "workers", "target"),
    [
        (None, 10**6, 2, LEAST_IN_FLIGHT),
        (60.0, 10**6, 2, LEAST_IN_FLIGHT),
        (0.02, 10**6, 64, LEAST_IN_FLIGHT),
        (0.001, 10**6, 2, 20),
        (0.001, 40, 2, 10),
        (0.001, 3, 2, LEAST_IN_FLIGHT),
        (0.001, 0, 2, LEAST_IN_FLIGHT),
        (1e-6, 10**6, 2, MOST_IN_FLIGHT),
        (0.0, 10**6, 2, MOST_IN_FLIGHT),
        (1e-6, 10**6, 5000, 100),
    ],
)
def test_targets(mean_s: float | None, waiting: int, workers: int, target: int) -> None:
    assert in_flight_target(mean_s, waiting, workers) == target


@settings(derandomize=True, database=None, deadline=None)
@given(st.none() | st.floats(0, 1e6), st.integers(0, 10**7), st.integers(1, 10**5))
def test_a_target_is_never_out_of_bounds(mean_s: float | None, waiting: int, workers: int) -> None:
    target = in_flight_target(mean_s, waiting, workers)
    assert LEAST_IN_FLIGHT <= target <= MOST_IN_FLIGHT
    assert target == LEAST_IN_FLIGHT or target * 2 * workers <= waiting


def test_the_mean_forgets_a_slow_beginning() -> None:
    times = RunTimes()
    assert times.mean_s is None
    for seconds in (1.0, *[0.001] * 30):
        times.add(seconds)
    assert times.mean_s is not None
    assert times.mean_s < 0.01


def test_the_mean_of_steady_times_is_not_moved_by_one() -> None:
    times = RunTimes()
    for _ in range(100):
        times.add(1.0)
    times.add(3.0)
    assert times.mean_s is not None
    assert 1.0 < times.mean_s < 1.1


@pytest.mark.parametrize("nonsense", [-1.0, math.nan, math.inf, -math.inf])
def test_what_is_no_time_is_left_out(nonsense: float) -> None:
    times = RunTimes()
    times.add(nonsense)
    assert times.mean_s is None
    times.add(1.0)
    times.add(nonsense)
    assert times.mean_s == 1.0
