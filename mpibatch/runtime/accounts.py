"""What the dispatcher has decided of outcomes: it goes to the journal, to the causes of failures, and to the log."""

from __future__ import annotations

import logging

from mpibatch.runtime.causes import Causes
from mpibatch.runtime.forms import Forms
from mpibatch.runtime.writer import Writer
from mpibatch.work import ErrorReport, Failed, Outcome, Piece, Succeeded

log = logging.getLogger(__name__)


class Accounts:
    """`forms`: of the rows, for formats that have some."""

    def __init__(self, writer: Writer, causes: Causes, forms: Forms | None) -> None:
        self._writer = writer
        self._causes = causes
        self._forms = forms

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome, or a failure in its place where its rows do not go together with those before."""
        return outcome if self._forms is None else self._forms.judged(outcome)

    def success(self, piece: Piece, worker: int, outcome: Succeeded) -> None:
        # First its form, so that no session finds rows whose form it does not know.
        own = self._forms.first(outcome) if self._forms is not None else None
        if own is not None and self._forms is not None:
            self._writer.form(own, self._forms.add(own))
        self._writer.success(piece, worker, outcome)
        self._causes.success(piece, outcome, worker)

    def failure(self, piece: Piece, worker: int, outcome: Failed, *, tries: int, final: bool) -> None:
        self._writer.failure(piece, worker, outcome, tries=tries, final=final)
        if final:
            self._causes.failure(piece, worker, outcome.error)
        log.info(
            "mini-batch %d%s, try %d on worker %d %s: %s: %s",
            piece.mini_batch, _part(piece), tries, worker, "failed for good" if final else "failed",
            outcome.error.type, outcome.error.message,
        )  # fmt: skip

    def loss(self, piece: Piece, losses: int) -> None:
        error = ErrorReport("WorkerLost", f"{losses} workers were lost while they had it")
        self._writer.loss(piece, error)
        self._causes.failure(piece, None, error)

    def split(self, piece: Piece, at: int) -> None:
        last = piece.first + piece.count - 1
        log.info(
            "mini-batch %d: items %d to %d of it are tried in two halves, the second from %d on",
            piece.mini_batch, piece.first, last, at,
        )  # fmt: skip
        self._writer.split(piece, at)


def _part(piece: Piece) -> str:
    return f", its items from {piece.first} on," if piece.first else ""
