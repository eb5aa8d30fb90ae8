"""Why items failed: equal errors counted together, with the first of each in time as the example."""

from __future__ import annotations

import re
from collections.abc import Callable

from mpibatch.results import CauseGroup, plain
from mpibatch.work import WARN_IN_PLACE, WARN_MORE_ROWS, WARN_NEWLINE, ErrorReport, Piece, Succeeded

MOST_GROUPS = 200
MOST_TOLD = 300
"""Characters of the first error that are told while the run goes on."""
_OTHERS = "other errors"
_PARTICULARS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+(?:,\d{3})*|/\S+")
"""What differs between two equal errors: quoted names, numbers, paths."""
_LISTED = re.compile(r"\*(?:,? \*)+")

_WARNINGS = {
    WARN_NEWLINE: "a row has a newline inside; it is written as it is, so the output has more lines than rows",
    WARN_MORE_ROWS: "run() returned more elements than its mini-batch has items; succeeded items are capped at"
    " the number of items",
    WARN_IN_PLACE: "scratch did not take all copies of files (mode: download), so that some were read in place; why"
    " stands in the stderr logs: set TMPDIR to where there is more room, or make mini_batch_size smaller",
}


def short_return(succeeded: int, count: int) -> ErrorReport:
    """The error of the items that a short return leaves without a row (CONTRACT section 1, cardinality)."""
    return ErrorReport("ShortReturn", f"run() returned {succeeded} elements for {count} items")


def kind_of(error: ErrorReport) -> str:
    """What equal errors have in common: type and message, without what is particular to an item."""
    return _LISTED.sub("*", _PARTICULARS.sub("*", _text(error)))  # A list may be of any length.


def _text(error: ErrorReport) -> str:
    return f"{error.type}: {error.message}" if error.message else error.type


class _Group:
    __slots__ = ("count", "error", "item", "log")

    def __init__(self, error: str, item: str | None, log: str | None) -> None:
        self.error = error
        self.item = item
        self.log = log
        self.count = 0


class Causes:
    """Collects final failures.

    `item_of`: a piece's first item in words; `log_of`: the log file to look into for an error on a worker;
    `warn`: told of the first failure of the session, and once of each kind of thing that is odd and no failure.
    """

    def __init__(
        self,
        item_of: Callable[[Piece], str],
        log_of: Callable[[int, ErrorReport], str],
        warn: Callable[[str], None],
    ) -> None:
        self._item_of = item_of
        self._log_of = log_of
        self._warn = warn
        self._warned = 0
        self._told_first = False
        self._groups: dict[str, _Group] = {}

    def failure(self, piece: Piece, worker: int | None, error: ErrorReport) -> None:
        """A piece has failed for good: all its items have."""
        self._add(piece, piece.count, worker, error)

    def success(self, piece: Piece, outcome: Succeeded, worker: int | None) -> None:
        """A piece has succeeded, perhaps with fewer elements than items, or oddly."""
        for bad in outcome.bad:
            # Without a log: no code of the script has run, and its message says all.
            self._add(Piece(piece.mini_batch, piece.first + bad.position, 1), 1, None, bad.error)
        given = piece.count - len(outcome.bad)
        if outcome.succeeded < given:
            short = short_return(outcome.succeeded, given)
            self._add(piece, given - outcome.succeeded, worker, short)
        if outcome.warnings & ~self._warned:
            for bit, text in _WARNINGS.items():
                if outcome.warnings & ~self._warned & bit:
                    self._warn(f"mini-batch {piece.mini_batch}: {text}")
            self._warned |= outcome.warnings

    def earlier_shorts(self, piece: Piece, items: int, error: ErrorReport) -> None:
        """Items of an earlier session that a short return left without a row."""
        self._add(piece, items, None, error)

    def groups(self) -> list[CauseGroup]:
        """All groups, in the order of their first failure."""
        return [
            CauseGroup(error=group.error, item=group.item, count=group.count, log=group.log)
            for group in self._groups.values()
        ]

    def _add(self, piece: Piece, items: int, worker: int | None, error: ErrorReport) -> None:
        text, key = _text(error), kind_of(error)
        if worker is not None and not self._told_first:
            self._told_first = True
            first = " ".join(text.split())[:MOST_TOLD]
            words = (
                f"the first failure: {first}: {self._words(piece, items)}, log {self._log_of(worker, error)}"
            )
            self._warn(plain(words))
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                key, text = _OTHERS, _OTHERS
            log = plain(self._log_of(worker, error)) if worker is not None else None
            item = self._words(piece, items)
            group = self._groups.setdefault(key, _Group(plain(text), plain(item), log))
        group.count += items

    def _words(self, piece: Piece, items: int) -> str:
        known = items == piece.count  # A short return does not tell which.
        return self._item_of(piece) if known else f"some of mini-batch {piece.mini_batch}"
