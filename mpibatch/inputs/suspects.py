"""Which of many values do not pass a test that takes many at once and only says whether all of them pass."""

from __future__ import annotations

from collections.abc import Callable

_MOST_TESTS = 20_000


class TooManyFail(Exception):
    """So many values fail that looking for all of them takes too long: it is not the values that are wrong."""


def failing(count: int, passes: Callable[[int, int], bool], most_tests: int = _MOST_TESTS) -> list[int]:
    """Numbers, in order, of the values that fail by themselves, of `count` that do not all pass together.

    `passes(start, stop)` tests a range of them. A few bad ones among n take some 2 log2(n) tests each, and
    if all are bad it is 2 n tests over all. Raises TooManyFail after `most_tests`.
    """
    tests = 0

    def passed(start: int, stop: int) -> bool:
        nonlocal tests
        tests += 1
        if tests > most_tests:
            raise TooManyFail
        return passes(start, stop)

    found: list[int] = []
    ranges = [(0, count, True)]
    while ranges:
        start, stop, known_to_fail = ranges.pop()
        if not known_to_fail and passed(start, stop):
            continue
        if stop - start == 1:
            found.append(start)
            continue
        middle = (start + stop) // 2
        left_passes = passed(start, middle)
        # Where the left half passes the right one is to blame; but not a single value, which may be one
        # that only fails in company.
        ranges.append((middle, stop, left_passes and stop - middle > 1))
        if not left_passes:
            ranges.append((start, middle, True))
    return found
