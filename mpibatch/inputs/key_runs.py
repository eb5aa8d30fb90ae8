"""The questions about partition keys of tables: in which ranges of rows do equal values stand together?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mpibatch.core.tables import CsvOptions, JsonlOptions
from mpibatch.inputs.csv_cells import packed
from mpibatch.inputs.key_reading import KeySpec, read_keys
from mpibatch.inputs.key_starts import bytes_of, record_starts
from mpibatch.inputs.key_values import KeyedRows, first_appearances
from mpibatch.inputs.survey import Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class KeyRuns(msgspec.Struct, frozen=True, array_like=True, tag="key-runs"):
    """Which runs of equal values do these parts have?"""

    spec: KeySpec
    parts: list[Slice]


class PartRuns(msgspec.Struct, frozen=True, array_like=True):
    """The runs of one part. Numbers are int64, least byte first."""

    keys: list[bytes] = []
    """The different values, in the order of their first appearance (`key_batches.pack`)."""
    which: bytes = b""
    """Of each run, the number of its values. Where values come again, only the first run of each stands here."""
    rows: bytes = b""
    """Where each run begins: rows from the part's first one."""
    starts: bytes = b""
    """Where each run begins in the file: bytes, or rows as in `work.Slice`. Empty for a file that is not cut."""
    leading: int = 0
    """Malformed rows in front of the first run. Others belong to the run that they stand in or behind."""
    again: bytes = b""
    """The numbers of the values of which there is more than one run in this part."""
    again_rows: bytes = b""
    """The row, from the part's first one, where each of these begins again."""
    last: int = -1
    """The number of the values of the last run; -1: all rows are malformed."""
    found: list[bool] = []
    """Of each key: whether there is such a column."""
    columns: list[str] = []
    """Those that are there; only told if a key is none of them."""
    error: str | None = None
    """The file cannot be read, and why."""


class FoundRuns(msgspec.Struct, frozen=True, array_like=True, tag="key-runs-found"):
    """In the order of the question's parts."""

    parts: list[PartRuns]


Question = KeyRuns
Answer = FoundRuns


def answer(question: KeyRuns) -> FoundRuns:
    """A file that cannot be read is told of in the answer, and raises nothing."""
    return FoundRuns([_runs(question.spec, part) for part in question.parts])


def _runs(spec: KeySpec, part: Slice) -> PartRuns:
    try:
        keyed = read_keys(spec, part)
        if not all(keyed.found) and not isinstance(spec.options, JsonlOptions):
            return PartRuns(found=keyed.found, columns=keyed.columns)
        return _told(spec, part, keyed)
    except Unreadable as error:
        return PartRuns(error=str(error))


def _told(spec: KeySpec, part: Slice, keyed: KeyedRows) -> PartRuns:
    import numpy as np

    which, leading = filled(keyed.which)
    begins = np.flatnonzero(np.diff(which[leading:], prepend=-1)) + leading
    values = which[begins]
    kept = first_appearances(values)
    again = np.ones(len(values), np.bool_)
    again[kept] = False
    repeated, at = np.unique(values[again], return_index=True)
    starts = begins[kept] + part.start
    if isinstance(spec.options, CsvOptions | JsonlOptions) and not part.whole:
        found = keyed.starts
        starts = (record_starts(spec.options, part, bytes_of(part)) if found is None else found)[begins[kept]]
    return PartRuns(
        keys=keyed.keys,
        which=packed(values[kept]),
        rows=packed(begins[kept]),
        starts=b"" if part.whole else packed(starts),
        leading=leading,
        again=packed(repeated),
        again_rows=packed(begins[again][at]),
        last=int(values[-1]) if len(values) else -1,
        found=keyed.found,
        columns=[] if all(keyed.found) else keyed.columns,
    )


def filled(which: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Malformed rows have the values of the row before them; and how many have no such row."""
    import numpy as np

    if not (which < 0).any():
        return which, 0
    at = np.maximum.accumulate(np.where(which >= 0, np.arange(len(which)), -1))
    leading = int((at < 0).sum())
    return np.where(at >= 0, which[at], -1), leading
