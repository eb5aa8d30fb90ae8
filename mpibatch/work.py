"""The words for work: what a mini-batch is made of, and how an attempt at it may end.

Frozen structs, encoded as arrays, because tens of thousands of them cross MPI in a second. No
behaviour beyond what their own fields tell.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Piece(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The unit of record: `count` items of `mini_batch`, from its item number `first` on (0-based)."""

    mini_batch: int
    first: int
    count: int


class Paths(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="paths"):
    """Where the items of a piece are, for inputs of files: their paths.

    `blob` holds the paths as the file system spells them (`os.fsencode`), joined by NUL, which no
    path can contain; so names that are not UTF-8 travel as they are.
    """

    blob: bytes


class Slice(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="slice"):
    """Where the items of a piece are, for tables: a range of one file, which the processor reads itself."""

    path: bytes
    start: int
    """Where the *mini-batch* begins in the file: a byte (csv, jsonl) or a row (parquet, hdf5)."""
    stop: int
    """Where it ends, exclusive."""
    row: int
    """Number in its file of the mini-batch's first row, from 0; a header is no row."""
    rows: int
    """Rows of the whole mini-batch."""
    skip: int = 0
    """Items of the mini-batch that lie before the piece."""
    whole: bool = False
    """The mini-batch is the whole file, header included, which is not cut (compressed, utf-16)."""
    name: bytes = b""
    """What people know the file by, if that is not its path: it was unpacked, or sorted."""
    sorted: bool = False
    """Its rows have been sorted: which rows of the file called `name` they are stands beside it (see
    `inputs.sorted_rows`), where `row` is the place of the mini-batch's first row."""
    error: str | None = None
    """Why the file cannot be read, as the survey has found: it is one item, and nobody looks into it again."""


class Slices(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="slices"):
    """Where the items of a piece are, for tables, if they do not stand together: ranges, in order."""

    parts: list[Slice]
    """Each as if it was a mini-batch of its own."""
    counts: list[int]
    """Of each: how many rows from its `skip` on belong to the piece. At least 1."""


class Members(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="members"):
    """Where the items of a piece are, for files in archives: members of one archive."""

    archive: bytes
    names: bytes
    """Joined by NUL."""
    offsets: list[int]
    """Where each one's bytes begin in a tar; of a zip, its local header."""
    sizes: list[int]
    """Bytes of each, uncompressed."""


class Numbers(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="numbers"):
    """What the items of a piece are, for inputs without data: this number and those that follow it."""

    first: int


Source = Paths | Slice | Slices | Members | Numbers


class Assignment(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One attempt as a worker and its processor are told of it."""

    attempt: int
    """Number of the attempt in this session, from 1."""
    mini_batch: int
    first: int
    count: int
    retry: int
    """Tries that the piece has used up before this one: `context.retry_count`."""
    position: int
    """Position in its input of the piece's first item: `context.global_row_index_lower_bound`."""
    input: int
    """Number of the input in the job file, from 0."""
    source: Source
    keys: dict[str, Any] | None = None
    """Values of the partition keys: `context.partition_key_value`."""
    alone: bool = False
    """Nothing may run beside it in its processor."""


class ErrorReport(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An error as it is shown to people; `type` and `message` also group equal errors."""

    type: str
    """Class name of an exception, or what happened in our words: `TimedOut`, `Died`."""
    message: str
    details: str = ""
    """Traceback, or the last lines of stderr."""


class BadItem(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An item that could not be read, while its neighbours could: a malformed record of a table."""

    position: int
    """Its place in the piece, from 0."""
    error: ErrorReport


Cause = Literal[
    "raised", "bad_return", "not_encodable", "bad_rows", "timed_out", "died", "unreadable", "out_of_memory"
]
"""Why an attempt failed. All of them cost a try; losses of workers are no failures of an attempt. `bad_rows`: what
was returned is no output of these items, or does not go together with other rows: no single item's fault."""

_BAD_ITEM_BYTES = 32
"""About what a bad item takes besides its texts."""

WARN_NEWLINE = 1
"""A row had a newline inside."""
WARN_MORE_ROWS = 2
"""More elements were returned than the mini-batch has items."""
WARN_IN_PLACE = 4
"""Files that were to be copied to scratch (`mode: download`) were read in place, as it did not take them."""


class Succeeded(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="succeeded"):
    """`run()` returned something usable. `succeeded` may be below the piece's item count."""

    attempt: int
    succeeded: int
    """Items that count as succeeded: elements returned, capped at the piece's item count."""
    rows: int
    """Rows in the fragment."""
    run_s: float
    """Seconds inside `run()`."""
    process_s: float
    """Seconds for all of the attempt: reading items, `run()`, encoding."""
    fragment: bytes
    header: int = 0
    """Length in bytes of what stands before the rows at the start of the fragment: a header (text), or the
    form of the rows (csv, parquet, hdf5; `core.forms`)."""
    warnings: int = 0
    """Bits `WARN_*`."""
    bad: list[BadItem] = []
    """Items that were left out of what `run()` got; none of them counts as succeeded."""

    @property
    def length(self) -> int:
        """Bytes of the fragment and, about, of the bad items: what it takes to carry it."""
        if not self.bad:
            return len(self.fragment)
        texts = sum(len(bad.error.message) + len(bad.error.details) for bad in self.bad)
        return len(self.fragment) + texts + _BAD_ITEM_BYTES * len(self.bad)


class Failed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="failed"):
    """The attempt failed for a reason of the user's code: it costs a try."""

    attempt: int
    cause: Cause
    error: ErrorReport
    run_s: float = 0.0
    deadly: bool = False
    """Its processor has not survived it."""


Outcome = Succeeded | Failed
