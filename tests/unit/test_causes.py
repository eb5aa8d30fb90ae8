"""Why items failed: which errors count as equal, examples, and warnings told once."""

from __future__ import annotations

import pytest

from mpibatch.runtime.causes import MOST_GROUPS, Causes, kind_of, short_return
from mpibatch.work import WARN_MORE_ROWS, WARN_NEWLINE, BadItem, ErrorReport, Piece, Succeeded


class Told:
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.causes = Causes(
            lambda piece: f"item {piece.mini_batch}",
            lambda worker, error: f"log of {worker}",
            self.warnings.append,
        )

    def fail(self, mini_batch: int, message: str, *, kind: str = "ValueError", items: int = 1) -> None:
        self.causes.failure(Piece(mini_batch, 0, items), 7, ErrorReport(kind, message, "details"))

    def succeed(self, mini_batch: int, *, succeeded: int, warnings: int = 0) -> None:
        outcome = Succeeded(1, succeeded, succeeded, 0.0, 0.0, b"", 0, warnings)
        self.causes.success(Piece(mini_batch, 0, 3), outcome, 7)

    def counts(self) -> list[tuple[str, int]]:
        return [(group.error, group.count) for group in self.causes.groups()]


def test_errors_that_differ_in_particulars_only_are_one_cause() -> None:
    told = Told()
    told.fail(3, "cannot read '/data/a.png': row 17 of 20", items=2)
    told.fail(4, "cannot read '/data/b.png': row 3 of 200")
    told.fail(5, 'no key "a"')
    told.fail(6, 'no key "b"', kind="KeyError")
    told.fail(7, "file /data/x is odd")
    told.fail(8, "file /other/y is odd")
    told.fail(9, "", kind="Nothing")
    (first, *_) = told.causes.groups()
    assert (first.error, first.item, first.count, first.log) == (
        "ValueError: cannot read '/data/a.png': row 17 of 20", "item 3", 3, "log of 7",
    )  # fmt: skip
    assert [count for _, count in told.counts()] == [3, 1, 1, 2, 1]
    assert told.counts()[-1] == ("Nothing", 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no model for ['/a/b', '/c']", "no model for ['/x']"),
        ("row 7 of 12", "row 8 of 12"),
        ("sizes (3, 4, 5)", "sizes (1)"),
        ("no 'a', no 'b'", "no 'c', no 'd'"),
    ],
)
def test_what_equal_errors_have_in_common(one: str, other: str) -> None:
    assert kind_of(ErrorReport("ValueError", one)) == kind_of(ErrorReport("ValueError", other))
    assert kind_of(ErrorReport("ValueError", one)) != kind_of(ErrorReport("OSError", one))
    assert kind_of(ErrorReport("ValueError", one)) != kind_of(ErrorReport("ValueError", f"so: {one}"))


def test_there_are_only_so_many_groups() -> None:
    told = Told()
    for number in range(MOST_GROUPS + 50):
        told.fail(number, "x" * number)
    told.fail(0, "")
    groups = told.causes.groups()
    assert len(groups) == MOST_GROUPS + 1
    assert (groups[-1].error, groups[-1].count) == ("other errors", 50)
    assert groups[0].count == 2


def test_short_returns_are_a_cause() -> None:
    told = Told()
    told.succeed(1, succeeded=3)
    assert told.causes.groups() == []
    told.succeed(2, succeeded=1)
    told.succeed(3, succeeded=0)
    told.causes.earlier_shorts(Piece(4, 0, 3), 2, short_return(1, 3))
    (group,) = told.causes.groups()
    assert (group.error, group.item, group.count) == (
        "ShortReturn: run() returned 1 elements for 3 items",
        "some of mini-batch 2",
        7,
    )


def test_what_could_not_be_read_is_a_cause_of_its_own_beside_a_short_return() -> None:
    told = Told()
    bad = [BadItem(1, ErrorReport("BadRecord", f"line {line:,}: 3 fields")) for line in (7, 9_000)]
    told.causes.success(Piece(4, 0, 5), Succeeded(1, 3, 3, 0.0, 0.0, b"", bad=bad), 7)
    assert told.counts() == [("BadRecord: line 7: 3 fields", 2)]
    assert told.causes.groups()[0].log is None, "the script has not run, so that nothing is logged"
    told.causes.success(Piece(5, 0, 5), Succeeded(1, 2, 2, 0.0, 0.0, b"", bad=bad), 7)
    assert told.counts()[0][1] == 4
    assert told.counts()[1] == ("ShortReturn: run() returned 2 elements for 3 items", 1)


def test_of_an_earlier_session_no_log_is_known() -> None:
    told = Told()
    told.causes.earlier_shorts(Piece(4, 0, 3), 2, short_return(1, 3))
    told.causes.failure(Piece(5, 0, 3), None, ErrorReport("WorkerLost", "4 workers"))
    assert [(group.item, group.count, group.log) for group in told.causes.groups()] == [
        ("some of mini-batch 4", 2, None), ("item 5", 3, None),
    ]  # fmt: skip


def test_what_is_odd_is_told_once_of_each_kind() -> None:
    told = Told()
    for mini_batch in range(3):
        told.succeed(mini_batch, succeeded=3, warnings=WARN_NEWLINE)
    for mini_batch in range(3, 6):
        told.succeed(mini_batch, succeeded=3, warnings=WARN_NEWLINE | WARN_MORE_ROWS)
    one, two = told.warnings
    assert one.startswith("mini-batch 0: a row has a newline inside")
    assert two.startswith("mini-batch 3: run() returned more elements")


def test_names_that_are_no_utf_8_can_be_told() -> None:
    told = Told()
    told.fail(1, "of bad \udcff")
    assert told.counts() == [("ValueError: of bad \\xff", 1)]


def test_the_first_failure_is_told_at_once_and_no_other() -> None:
    told = Told()
    told.causes.earlier_shorts(Piece(1, 0, 3), 2, short_return(1, 3))
    assert not told.warnings, "that was another session's"
    told.fail(3, "cannot\nread it")
    told.fail(4, "something else")
    assert told.warnings == ["the first failure: ValueError: cannot read it: item 3, log log of 7"]
