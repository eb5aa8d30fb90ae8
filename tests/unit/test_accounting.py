"""Tallies, thresholds, verdicts."""

from __future__ import annotations

import pytest

from mpibatch.core.accounting import Tally, Thresholds, exceeded, final_verdict, percent_exceeded


def a_tally(
    *, items_failed: int = 0, mini_batches_failed: int = 0, items_succeeded: int = 5, mini_batches: int = 10
) -> Tally:
    return Tally(
        items_total=100,
        mini_batches_total=mini_batches,
        items_failed=items_failed,
        mini_batches_failed=mini_batches_failed,
        items_succeeded=items_succeeded,
    )


def test_a_success_that_falls_short_fails_items_only() -> None:
    tally = Tally(items_total=20, mini_batches_total=2)
    tally.success(10, 7, 9)
    assert (tally.items_succeeded, tally.items_failed, tally.rows) == (7, 3, 9)
    assert (tally.mini_batches_succeeded, tally.mini_batches_failed) == (1, 0)
    tally.failure(10)
    assert (tally.items_failed, tally.mini_batches_failed, tally.mini_batches_ended) == (13, 1, 2)


def test_pieces_count_their_items_and_only_the_first_failure_its_mini_batch() -> None:
    tally = Tally(items_total=20, mini_batches_total=2)
    tally.success(4, 3, 5, whole=False)
    assert (tally.items_succeeded, tally.items_failed, tally.rows) == (3, 1, 5)
    assert tally.mini_batches_ended == 0
    tally.failure(2)
    tally.failure(3, first=False)
    assert (tally.items_failed, tally.mini_batches_failed, tally.mini_batches_ended) == (6, 1, 1)


@pytest.mark.parametrize(("said", "counted"), [(12, 10), (10, 10), (0, 0), (-4, 0)])
def test_a_success_counts_no_more_than_there_is_and_no_less_than_nothing(said: int, counted: int) -> None:
    tally = Tally(items_total=10, mini_batches_total=1)
    tally.success(10, said, 3)
    assert (tally.items_succeeded, tally.items_failed) == (counted, 10 - counted)


@pytest.mark.parametrize(
    ("threshold", "failed", "words"),
    [
        (None, 99, None),
        (-1, 99, None),
        (0, 0, None),
        (0, 1, "1 items failed; error_threshold is 0"),
        (10, 10, None),
        (10, 11, "11 items failed; error_threshold is 10"),
    ],
)
def test_failed_items(threshold: int | None, failed: int, words: str | None) -> None:
    assert exceeded(a_tally(items_failed=failed), Thresholds(failed_items=threshold)) == words


@pytest.mark.parametrize(
    ("threshold", "failed", "words"),
    [
        (None, 9, None),
        (-1, 9, None),
        (0, 0, None),
        (0, 1, "1 mini-batches failed; mini_batch_error_threshold is 0"),
        (2, 2, None),
        (2, 3, "3 mini-batches failed; mini_batch_error_threshold is 2"),
    ],
)
def test_failed_mini_batches(threshold: int | None, failed: int, words: str | None) -> None:
    assert exceeded(a_tally(mini_batches_failed=failed), Thresholds(failed_mini_batches=threshold)) == words


@pytest.mark.parametrize(
    ("percent", "failed", "words"),
    [
        (None, 10, None),
        (-1.0, 10, None),
        (0.0, 0, None),
        (0.0, 1, "10.0 % of the mini-batches failed; allowed_failed_percent is 0"),
        (20.0, 2, None),
        (20.0, 3, "30.0 % of the mini-batches failed; allowed_failed_percent is 20"),
        (29.5, 3, "30.0 % of the mini-batches failed; allowed_failed_percent is 29.5"),
        (100.0, 10, None),
    ],
)
def test_failed_percent(percent: float | None, failed: int, words: str | None) -> None:
    thresholds = Thresholds(failed_percent=percent)
    assert percent_exceeded(a_tally(mini_batches_failed=failed), thresholds) == words


def test_percent_of_nothing() -> None:
    assert percent_exceeded(a_tally(mini_batches=0), Thresholds(failed_percent=0)) is None


def test_verdicts() -> None:
    assert final_verdict(a_tally(items_failed=3), Thresholds()) == ("complete", "")
    too_many = final_verdict(a_tally(items_failed=3), Thresholds(failed_items=2))
    assert too_many == ("too_many_errors", "3 items failed; error_threshold is 2")
    by_percent = final_verdict(a_tally(mini_batches_failed=3), Thresholds(failed_percent=2))
    assert by_percent[0] == "too_many_errors"


def test_not_one_success_is_a_failure_whatever_the_thresholds() -> None:
    nothing = a_tally(items_failed=100, items_succeeded=0)
    assert final_verdict(nothing, Thresholds()) == ("failed", "there is not one item that succeeded")
    assert final_verdict(nothing, Thresholds(needs_success=False)) == ("complete", "")
    empty = Tally(items_total=0, mini_batches_total=0)
    assert final_verdict(empty, Thresholds()) == ("complete", "")
