"""How long a failed mini-batch waits for its next try."""

from __future__ import annotations

import pytest

from mpibatch.core.retry_backoff import RetryBackoff


@pytest.mark.parametrize(
    ("failures", "delay_s"), [(1, 1.5), (2, 4.5), (3, 13.5), (4, 20.0), (5, 20.0), (10**6, 20.0)]
)
def test_it_grows_up_to_its_maximum(failures: int, delay_s: float) -> None:
    backoff = RetryBackoff(initial=1.5, factor=3, max=20, jitter=False)
    assert backoff.delay_s(7, failures) == delay_s


def test_jitter_spreads_evenly_between_half_and_all_of_it() -> None:
    backoff = RetryBackoff(initial=8, factor=1, max=8)
    delays = [backoff.delay_s(number, 1) for number in range(1000)]
    assert all(4 <= delay_s <= 8 for delay_s in delays)
    by_fifth = [
        sum(4 + 0.8 * fifth <= delay_s < 4.8 + 0.8 * fifth for delay_s in delays) for fifth in range(5)
    ]
    assert all(150 < count < 250 for count in by_fifth), by_fifth
    assert len(set(delays)) == 1000


def test_the_next_failure_of_one_mini_batch_is_spread_anew() -> None:
    backoff = RetryBackoff(initial=8, factor=1, max=8)
    assert len({backoff.delay_s(3, failures) for failures in range(1, 10)}) == 9
