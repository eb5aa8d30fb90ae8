"""The rates of the last seconds."""

from __future__ import annotations

import pytest

from mpibatch.core.accounting import Tally
from mpibatch.runtime.rates import WINDOW_S, Rates


def tally(ended: int, rows: int = 0, failed: int = 0) -> Tally:
    return Tally(
        items_total=1000, mini_batches_total=100, mini_batches_succeeded=ended - failed,
        mini_batches_failed=failed, rows=rows,
    )  # fmt: skip


def test_before_two_looks_nothing_is_known() -> None:
    rates = Rates()
    assert (rates.mini_batches_per_s, rates.rows_per_s, rates.remaining_s(tally(0))) == (0.0, 0.0, None)
    rates.add(100.0, tally(10))
    assert (rates.mini_batches_per_s, rates.remaining_s(tally(10))) == (0.0, None)
    rates.add(100.0, tally(20))
    assert rates.mini_batches_per_s == 0.0


def test_while_nothing_ends_there_is_no_estimate() -> None:
    rates = Rates()
    rates.add(0.0, tally(5))
    rates.add(5.0, tally(5))
    assert rates.remaining_s(tally(5)) is None


def test_rates_and_what_remains() -> None:
    rates = Rates()
    rates.add(10.0, tally(0))
    rates.add(14.0, tally(20, rows=400, failed=2))
    assert rates.mini_batches_per_s == pytest.approx(5)
    assert rates.rows_per_s == pytest.approx(100)
    assert rates.remaining_s(tally(20)) == pytest.approx(80 / 5)
    assert rates.remaining_s(tally(100)) == 0


def test_a_slow_start_is_forgotten() -> None:
    rates = Rates()
    rates.add(0.0, tally(0))
    for second in range(100, 200):
        rates.add(float(second), tally(second - 100))
    assert rates.mini_batches_per_s == pytest.approx(1)
    rates.add(200.0 + WINDOW_S, tally(99))
    rates.add(201.0 + WINDOW_S, tally(99))
    assert rates.mini_batches_per_s == 0.0
