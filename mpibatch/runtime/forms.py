"""The forms of all rows accepted so far: what a new success must agree with, and what the output gets.

Rank 0 looks at the form of each fragment when it arrives, so that what does not fit fails its attempt
while others can still be told; the fragment itself is not looked into.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from mpibatch.core import history
from mpibatch.core.forms import Form, Unmergeable, decode_form, encode_form, merge
from mpibatch.runtime.journal import read_bytes, read_journal
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.work import ErrorReport, Failed, Outcome, Succeeded

FORMATS_WITH_FORMS = ("csv", "parquet", "hdf5")
_KEPT = ". Rows of an earlier session are kept: if it is these that are wrong, begin anew with --fresh"


class Forms:
    """`known`: the forms that earlier sessions recorded."""

    def __init__(self, known: list[bytes]) -> None:
        self._known: set[bytes] = set()
        self._merged: Form | None = None
        for own in known:
            self.add(own)
        self._hint = _KEPT if known else ""

    @property
    def merged(self) -> bytes | None:
        """The form that all of them together have; None while there is none."""
        return None if self._merged is None else encode_form(self._merged)

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome, or a failure in its place where its rows do not go together with those before."""
        if not isinstance(outcome, Succeeded) or not outcome.header:
            return outcome
        own = _own(outcome)
        if own in self._known:
            return outcome
        try:
            self._with(own)
        except Unmergeable as error:
            return Failed(
                outcome.attempt,
                "bad_rows",
                ErrorReport("NotEncodable", f"{error}{self._hint}"),
                outcome.run_s,
            )
        return outcome

    def first(self, outcome: Succeeded) -> bytes | None:
        """The form of an accepted outcome if it is a new one: to be recorded before it, then told to `add`."""
        own = _own(outcome)
        return own if own and own not in self._known else None

    def add(self, own: bytes) -> bytes:
        """Take in a form; what all of them together have now. Raises Unmergeable."""
        self._merged = self._with(own)
        self._known.add(own)
        return encode_form(self._merged)

    def _with(self, own: bytes) -> Form:
        form = decode_form(own)
        return form if self._merged is None else merge(self._merged, form)


def _own(outcome: Succeeded) -> bytes:
    return bytes(outcome.fragment[: outcome.header])


def recorded_forms(folder: RunFolder, plan_fingerprint: str) -> Iterator[bytes]:
    """The forms of all rows that the sessions of a run have recorded, some perhaps several times.

    Where a record or the stored bytes of a form may be damaged, the fragments tell theirs: each begins with it.
    Of a fragment that is damaged itself it is left out: its rows are not kept either.
    """
    damaged = False
    for session in folder.sessions():
        records, lost = read_journal(folder, session, plan_fingerprint)
        damaged |= lost > 0
        for record in records[records["kind"] == history.FORM]:
            data = _stored(folder, session, record)
            if data is None:
                damaged = True
            else:
                yield data
    if damaged:
        for session in folder.sessions():
            yield from _forms_of_fragments(folder, session, plan_fingerprint)


def _forms_of_fragments(folder: RunFolder, session: int, plan_fingerprint: str) -> Iterator[bytes]:
    records, _ = read_journal(folder, session, plan_fingerprint)
    known: set[bytes] = set()
    for record in records[(records["kind"] == history.SUCCEEDED) & (records["header"] > 0)]:
        header = int(record["header"])
        own = read_bytes(folder, session, int(record["offset"]), header)
        if own in known:
            continue
        # Only the whole fragment shows whether this is what once was written.
        fragment = _stored(folder, session, record)
        if fragment is not None:
            known.add(own)
            yield own


def _stored(folder: RunFolder, session: int, record: Any) -> bytes | None:
    """What a record names; None if it is damaged."""
    data = read_bytes(folder, session, int(record["offset"]), int(record["length"]))
    return data if zlib.crc32(data) == int(record["crc"]) else None
