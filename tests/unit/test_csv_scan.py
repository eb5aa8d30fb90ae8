"""The kernels over bytes against a state machine that walks byte by byte, and that one against pandas itself."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.inputs import csv_scan
from mpibatch.inputs.csv_exact import ExactScanner, first_record
from mpibatch.inputs.csv_scan import NEWLINE, RETURN, Dialect, Scanner

PLAIN = Dialect(ord(","), ord('"'))
ESCAPED = Dialect(ord(","), ord('"'), ord("\\"))
DIALECTS = [
    PLAIN,
    ESCAPED,
    Dialect(ord(","), None),
    Dialect(ord(","), None, ord("\\")),
    Dialect(ord("\t"), ord('"'), blanks=b" "),
    Dialect(ord(" "), ord("'"), blanks=b"\t"),
    Dialect(NEWLINE, None, returns=False, blanks=b" \t\r"),
]
NASTY = st.lists(
    st.sampled_from(
        [b",", b'"', b'""', b'",', b',"', b"\n", b"\r", b"\r\n", b" ", b"\t", b"a", b"\xc3\xa9", b"\\"]
    ),
    max_size=40,
).map(b"".join)
TIDY = st.lists(
    st.sampled_from([b"a,", b'"b"', b'"c\n""d"', b"\n", b"\r\n", b'\n"', b'",', b" ", b"x" * 70, b"\r"]),
    max_size=60,
).map(b"".join)


def walk(data: bytes, dialect: Dialect) -> list[int]:
    """Where records begin, by the states of the parser of pandas, one byte after the other."""
    starts: list[int] = []
    state, begin, at = "line", 0, 0
    newline_bytes = b"\n\r" if dialect.returns else b"\n"
    while at < len(data):
        byte = data[at]
        if state == "line":
            if byte in dialect.blanks:
                state, begin = "blank", at
            elif byte in newline_bytes:
                at = behind_blank(data, at, dialect)
                continue
            else:
                starts.append(at)
                state = "begin"
                continue
        elif state == "blank":
            if byte in newline_bytes:
                state, at = "line", behind_blank(data, at, dialect)
                continue
            if byte not in dialect.blanks:
                starts.append(begin)
                state = "field"
                continue
        elif state == "escaped":
            state = "field"
        elif state == "escaped in quotes":
            state = "quotes"
        elif state == "quotes":
            if byte == dialect.escape:
                state = "escaped in quotes"
            elif byte == dialect.quote:
                state = "quote in quotes"
        elif byte in newline_bytes:
            state = "line"
        elif byte == dialect.sep:
            state = "begin"
        elif state == "quote in quotes":
            state = "quotes" if byte == dialect.quote else "field"
        elif byte == dialect.escape:
            state = "escaped"
        elif state == "begin" and byte == dialect.quote:
            state = "quotes"
        else:
            state = "field"
        at += 1
    return starts


def behind_blank(data: bytes, at: int, dialect: Dialect) -> int:
    """Where what follows a blank line begins, that ends at `at`. pandas may swallow a separator there."""
    if data[at] != RETURN or data[at + 1 : at + 2] != bytes([dialect.sep]):
        return at + 1
    rest = data[at + 2 :].lstrip(dialect.blanks)
    given_back = len(rest) < len(data) - at - 2 and rest[:1] not in (b"", b"\n", b"\r")
    return at + 1 if given_back else at + 2


def parts_of(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def by_parity(data: bytes, dialect: Dialect, size: int) -> tuple[Scanner, list[int], list[int]]:
    scanner = Scanner(dialect, 0)
    found = [scanner.feed(part) for part in parts_of(data, size)]
    outside = [int(start) for starts in found for start in starts.outside]
    return scanner, outside, [int(start) for starts in found for start in starts.inside]


def exactly(data: bytes, dialect: Dialect, size: int) -> list[int]:
    scanner = ExactScanner(dialect, 0)
    found = [scanner.feed(part) for part in parts_of(data, size)] + [scanner.feed(b"", last=True)]
    return [int(start) for starts in found for start in starts]


def pandas_rows(data: bytes, **settings: Any) -> list[list[str]] | None:
    try:
        frame: pd.DataFrame = pd.read_csv(
            io.BytesIO(data),
            header=None,
            names=[f"c{number}" for number in range(60)],
            dtype=str,
            keep_default_na=False,
            engine="c",
            index_col=False,
            encoding="latin-1",
            **settings,
        )
    except pd.errors.ParserError:
        return None
    except pd.errors.EmptyDataError:
        return []
    rows: list[list[str]] = frame.values.tolist()
    return rows


@settings(max_examples=150, deadline=None)
@given(NASTY | TIDY, st.booleans())
def test_the_walk_takes_for_a_record_what_pandas_does(data: bytes, escaped: bool) -> None:
    rows = pandas_rows(data, **({"escapechar": "\\"} if escaped else {}))
    if rows is not None:
        starts = walk(data, ESCAPED if escaped else PLAIN)
        assert len(starts) == len(rows)
        # Each part alone is the same record again.
        stops = [*starts[1:], len(data)]
        for start, stop, row in zip(starts, stops, rows):
            assert pandas_rows(data[start:stop], **({"escapechar": "\\"} if escaped else {})) == [row]


@settings(max_examples=250, deadline=None)
@given(NASTY | TIDY, st.sampled_from(DIALECTS), st.integers(1, 80))
def test_the_exact_scan_does_as_the_walk(data: bytes, dialect: Dialect, size: int) -> None:
    assert exactly(data, dialect, size) == walk(data, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_exact_scan_does_as_the_walk_for_all_short_texts(dialect: Dialect) -> None:
    marks = sorted({dialect.sep, dialect.quote or 65, dialect.escape or 66, NEWLINE, 13, 32, 97})
    for length in range(5):
        for some in itertools.product(marks, repeat=length):
            data = bytes(some)
            assert exactly(data, dialect, 6) == walk(data, dialect), data


@settings(max_examples=250, deadline=None)
@given(NASTY | TIDY, st.sampled_from(DIALECTS), st.integers(1, 200))
def test_parity_does_as_the_walk_where_it_is_trusted(data: bytes, dialect: Dialect, size: int) -> None:
    scanner, outside, _ = by_parity(data, dialect, size)
    if scanner.trusted[0]:
        assert outside == walk(data, dialect)


@settings(max_examples=250, deadline=None)
@given(TIDY | NASTY, st.integers(0, 500), st.integers(1, 200))
def test_the_second_half_is_known_for_both_states_at_its_begin(data: bytes, cut: int, size: int) -> None:
    cut = min(cut, len(data))
    whole, outside, _ = by_parity(data, PLAIN, size)
    first, in_first, _ = by_parity(data[:cut], PLAIN, size)
    second = Scanner(PLAIN, cut, data[cut - 1] if cut else NEWLINE)
    found = [second.feed(part) for part in parts_of(data[cut:], size)]
    in_second = [int(start) for starts in found for start in starts[first.odd]]
    if first.pending:
        in_first += first.resolve(data[cut:])[0].tolist()
    assert whole.odd == first.odd ^ second.odd
    assert whole.trusted[0] == (first.trusted[0] and second.trusted[first.odd])
    if whole.trusted[0]:
        assert outside == in_first + in_second


def test_the_begin_inside_is_the_begin_outside_behind_a_quote() -> None:
    data = b'a,b\n",c\nd,"e\nf"\n'
    _, outside, inside = by_parity(data, PLAIN, 4)
    assert (outside, inside) == ([0, 4, 13], [8])
    other = Scanner(PLAIN, 0, ord("x"))
    starts = other.feed(data)
    assert (starts.outside.tolist(), starts.inside.tolist()) == ([4, 13], [8])
    assert other.trusted == [False, True]


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("data", "starts"),
    [
        (b'a\\,"b\nc"\n', [0, 6]),
        (b'\\,""b\n"c\nd"\n', [0, 6]),
        (b'a,\\\\,"b\nc"\n', [0]),
        (b'"a\\"\n"\nb', [0, 7]),
        (b'"a"\\,"b\nc"\n', [0]),
        (b"\r,\n\r,a\r,b", [5, 7]),
        (b"\r, a\n\r, \nb", [1, 9]),
    ],
)
def test_what_escapes_and_returns_do(data: bytes, starts: list[int], size: int) -> None:
    assert walk(data, ESCAPED) == starts
    assert exactly(data, ESCAPED, size) == starts


UNTRUSTED = [
    b"\r,\n",
    b"a\r\r,b",
    b'a"b\n',
    b'"a"b\n',
    b'a,"b" \n',
    b'a, "b"\n',
    b' "a"\n',
]


@pytest.mark.parametrize("data", UNTRUSTED)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_lone_quotes_are_not_trusted(data: bytes, size: int) -> None:
    scanner, _, _ = by_parity(data, PLAIN, size)
    assert not scanner.trusted[0]


TRUSTED = [
    b'"a""b\n',
    b'a,"\nb',
    b'"',
    b'"a"\n',
    b'"a""b"\r\n',
    b'"","""",""""""\r"a"',
    b"",
    b'a,"b,\n\r"\n\n"c"',
    b"x\n\n \n\t\r\n" * 50,
]


@pytest.mark.parametrize("data", TRUSTED)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_well_formed_quotes_are_trusted_closed_or_not(data: bytes, size: int) -> None:
    scanner, outside, _ = by_parity(data, PLAIN, size)
    assert scanner.trusted[0]
    assert outside == walk(data, PLAIN)


def test_an_escape_character_is_never_trusted() -> None:
    assert Scanner(ESCAPED, 0).trusted == [False, False]


@pytest.mark.parametrize("spaces", [1, 15, 16, 17, 64, 200])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_white_space_in_front_of_lines(spaces: int, size: int) -> None:
    data = (b" " * spaces + b"a\n" + b"\t" * spaces + b"\r\n") * 3
    _, outside, _ = by_parity(data, PLAIN, size)
    assert outside == walk(data, PLAIN) and len(outside) == 3


@pytest.mark.parametrize("size", [63, 64, 65, 128, 10_000])
def test_positions_are_those_of_the_file(size: int) -> None:
    data = b'a,"b\n",c\n' * 300
    scanner = Scanner(PLAIN, 10**12)
    starts = np.concatenate([scanner.feed(part).outside for part in parts_of(data, size)])
    assert (starts - 10**12).tolist() == list(range(0, len(data), 9))


@settings(max_examples=300, deadline=None)
@given(NASTY, st.sampled_from(DIALECTS), st.integers(0, 60))
def test_the_first_record(data: bytes, dialect: Dialect, known: int) -> None:
    starts = walk(data, dialect)
    whole = first_record(data, dialect, whole=True)
    assert whole is not None
    begin, end = whole
    assert begin == (starts[0] if starts else len(data))
    if starts:
        assert walk(data[begin:end], dialect) == [0]
        assert walk(data[end:], dialect) == [start - end for start in starts[1:]]
    early = first_record(data[:known], dialect, whole=False)
    assert early in (None, whole)


def test_the_first_record_is_found_as_soon_as_its_end_is_sure() -> None:
    assert first_record(b"\n \na,b\n1", PLAIN, whole=False) == (3, 7)
    assert first_record(b"a,b\r", PLAIN, whole=False) is None
    assert first_record(b'"a', PLAIN, whole=True) == (0, 2)


@pytest.mark.parametrize("every", [1, 3, 10, 40, 60, 100, 1000])
def test_positions_in_words_are_those_in_bytes(every: int) -> None:
    """Few in most words and several in some, or more than so, which is another way."""
    chance = np.random.default_rng(every)
    for size in (64, 640, 64_000):
        mask = chance.random(size) < 1 / every
        bits = np.packbits(mask, bitorder="little").view("<u8")
        assert csv_scan._positions(bits, mask).tolist() == np.flatnonzero(mask).tolist()
