"""The end of a path in a job file, and what it says of paths."""

from __future__ import annotations

import pytest

from mpibatch.core.path_columns import path_columns, path_columns_text
from mpibatch.core.settings import Wrong

JANUARY = "2020-01-05T00:00:00"

FIT = [
    ("{shop}/{day:yyyy/MM/dd}/*.csv", b"/d/ann/2020/01/05/x.csv", {"shop": "ann", "day": JANUARY}),
    ("/{Department}/{day:yyyy/MM/dd}/data.jsonl", b"/HR/2020/01/05/data.jsonl",
     {"Department": "HR", "day": JANUARY}),
    # A time has its own digits only, so that what stands before it may be long.
    ("{user}-{day:yyyy-MM-dd}.csv", b"/ann-marie-2020-01-05.csv", {"user": "ann-marie", "day": JANUARY}),
    ("{day:yyyyMMdd}_{x}.csv", b"/a/20200105_b_c.csv", {"day": JANUARY, "x": "b_c"}),
    ("{at:yyyy-MM-dd HH.mm.ss}.csv", b"/2020-01-05 13.14.15.csv", {"at": "2020-01-05T13:14:15"}),
    ("{at:yyyy/MM/dd/HH/mm/ss}/a.csv", b"/2020/01/05/13/14/15/a.csv", {"at": "2020-01-05T13:14:15"}),
    ("{month:yyyy-MM}/a.csv", b"/x/2020-07/a.csv", {"month": "2020-07-01T00:00:00"}),
    ("year={year}/month={month}/*.parquet", b"/t/year=2020/month=01/p.parquet", {"year": "2020", "month": "01"}),
    ("{a}/{a}.csv", b"/x/y/y.csv", {"a": "y"}),
    ("**/{shop}/*.csv", b"/d/x/ann/a.csv", {"shop": "ann"}),
    ("{shop}{day:yyyyMMdd}.csv", b"/d/ann20200105.csv", {"shop": "ann", "day": JANUARY}),
    ("{day:yyyy/yyyy-MM}.csv", b"/d/2020/2020-07.csv", {"day": "2020-07-01T00:00:00"}),
    ("{name}.csv", b"/x/\xff.csv", {"name": "\\xff"}),
    ("{{{name}}}.csv", b"/x/{n}.csv", {"name": "n"}),
    ("{time 0}/{day:yyyy}.csv", b"/x/2020.csv", {"time 0": "x", "day": "2020-01-01T00:00:00"}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "path", "want"), FIT, ids=[said for said, _, _ in FIT])
def test_what_paths_say(said: str, path: bytes, want: dict[str, object]) -> None:
    found = path_columns(path_columns_text(said))
    assert found.values(path) == want
    assert found.names == tuple(want)


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("{shop}/a.csv", b"/d/ann/b.csv"),
        ("{shop}/a.csv", b"/a.csv"),  # There is no folder to be a shop.
        ("{a}/{a}.csv", b"/x/y.csv"),
        ("{day:yyyy-MM-dd}.csv", b"/d/2020-1-5.csv"),
        ("{day:yyyy/MM}/a.csv", b"/d/2020/January/a.csv"),
        ("{shop}/A.csv", b"/d/ann/a.csv"),
        ("{day:yyyy/yyyy-MM}.csv", b"/d/2020/2021-07.csv"),
    ],
)
def test_paths_that_end_otherwise_say_nothing(said: str, path: bytes) -> None:
    assert path_columns(said).values(path) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("a.csv", "no column in it"),
        ("{shop}/", "ends with a slash"),
        ("", "must not be empty"),
        (3, "must be text"),
        ("{day:MM}/x.csv", "has a year"),
        ("{day:date}/x.csv", "yyyy, MM, dd"),
        ("{day:yyyy//MM}/x.csv", "yyyy, MM, dd"),
        ("{day:}/x.csv", "yyyy, MM, dd"),
        ("{:yyyy}/x.csv", "a name is of letters"),
        ("{day:yyyy}/{day:MM}.csv", "once"),
        ("{day}/{day:yyyy}.csv", "a time and a text"),
        ("{a}{b}.csv", "something must stand between"),
        ("{shop}/**/*.csv", r"\*\* behind a column"),
        ("{1a}/x.csv", "is no field"),
        ("{a/x.csv", "has no closing"),
    ],
)
def test_what_is_not_legal(said: object, why: str) -> None:
    with pytest.raises(Wrong, match=why):
        path_columns_text(said)
