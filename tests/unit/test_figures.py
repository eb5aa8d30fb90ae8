"""Numbers and names as people read them."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.monitor.figures import counted, duration, mini_batches, one_line, percent, rate, shown


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 items"), (1, "1 item"), (2, "2 items"), (1234567, "1,234,567 items")]
)
def test_counted(number: int, words: str) -> None:
    assert counted(number, "item") == words


def test_the_plural_of_a_mini_batch() -> None:
    assert (mini_batches(1), mini_batches(1234)) == ("1 mini-batch", "1,234 mini-batches")


@pytest.mark.parametrize(
    ("per_s", "words"),
    [
        (0, "0"), (-1, "0"), (math.nan, "0"), (math.inf, "0"),
        (1e-9, "0.001"), (0.0166, "0.017"), (0.1, "0.1"),
        (9.94, "9.9"), (9.96, "10"), (999.4, "999"), (999.6, "1.0k"), (12_345, "12.3k"), (999_949, "999.9k"),
        (999_951, "1.0M"), (12_345_678, "12.3M"), (999_951_000, "1.0G"), (5e12, "5,000.0G"),
    ],
)  # fmt: skip
def test_rate(per_s: float, words: str) -> None:
    assert rate(per_s, "rows") == f"{words} rows/s"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0.0 s"), (0, "0.0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (125, "2 min 05 s"), (3599.6, "1 h 00 min"), (11_220, "3 h 07 min"), (86_399, "1 d 00 h"),
        (86_400 * 2 + 3600 * 3, "2 d 03 h"), (math.nan, "unknown"), (math.inf, "unknown"),
    ],
)  # fmt: skip
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("part", "whole", "words"), [(0, 7, "0 %"), (999, 1000, "99 %"), (7, 7, "100 %"), (0, 0, "100 %")]
)
def test_percent_says_100_of_all_only(part: int, whole: int, words: str) -> None:
    assert percent(part, whole) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b/ä.png", "a b/ä.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        ("two\nlines\t\r", "two\\nlines\\t\\r"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("gpj\u202eexe", "gpj\\u202eexe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_shown(text: str, words: str) -> None:
    assert shown(text) == words


@settings(deadline=None)
@given(st.text(st.characters(min_codepoint=0, max_codepoint=0xFFFF)))
def test_what_is_shown_fits_in_one_printable_line(text: str) -> None:
    line = shown(text)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    assert not any(ord(character) < 0x20 for character in line)


def test_one_line_joins_and_cuts() -> None:
    assert one_line("a\n   b\tc ") == "a b c"
    assert one_line("x" * 300) == "x" * 300
    assert one_line("x" * 301) == "x" * 297 + "..."
