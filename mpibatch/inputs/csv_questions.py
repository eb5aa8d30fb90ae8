"""The questions about files of lines that the survey asks, and the form of their answers.

Small files are looked at many in a question, from their first byte to their last. Of a large one first the
header is asked for; then it is scanned in ranges, each without knowing whether it begins within quotes.
"""

from __future__ import annotations

import msgspec

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.csv_cells import Cells
from mpibatch.inputs.csv_scan import Dialect


class One(msgspec.Struct, frozen=True, array_like=True):
    """A file to look at."""

    path: bytes
    size: int
    header: bool
    """Its first record is a header."""
    whole: bool
    """It is read as a stream: unpacked, decoded."""


class Way(msgspec.Struct, frozen=True, array_like=True):
    """How files are looked at."""

    dialect: Dialect
    step: int
    """Bytes of a mini-batch, or its rows if `by_rows`."""
    by_rows: bool
    mark: bool
    """A byte-order mark of UTF-8 at the begin is no data."""
    encoding: str | None
    """Of files that are not scanned as they are."""
    piece: int
    """Bytes that are read at a time."""


class Look(msgspec.Struct, frozen=True, array_like=True, tag="csv-look"):
    """What is in these files?"""

    files: list[One]
    way: Way
    rows: bool = True
    """False: only the header is asked for."""
    exact: bool = False
    records: CsvOptions | None = None
    """How records are parted into fields, to see whether the first ones fit; None: they are not looked at."""


class Block(msgspec.Struct, frozen=True, array_like=True, tag="csv-block"):
    """Which records begin in a range of a file?"""

    file: One
    way: Way
    origin: int
    """The file's first byte behind the header."""
    start: int
    stop: int


class Rows(msgspec.Struct, frozen=True, array_like=True, tag="csv-rows"):
    """Where in a range of a file do mini-batches of a number of rows begin?"""

    block: Block
    inside: bool
    """The range begins within quotes."""
    before: int
    """Records of the file that begin in front of it."""


class Unpack(msgspec.Struct, frozen=True, array_like=True, tag="csv-unpack"):
    """Unpack a file."""

    path: bytes
    target: bytes
    encoding: str | None = None
    """From which it is to become UTF-8; None: it is unpacked only."""


Question = Look | Block | Rows | Unpack


class First(msgspec.Struct, frozen=True, array_like=True):
    """The first records of a file, behind its header."""

    fields: list[int] = []
    """How many each has, not counting an empty one at its end; 0: the record does not decode."""
    sep: str | None = None
    """By the separator of the job each record is one field, and by this one it is several."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What is in a file."""

    header: bytes = b""
    """Its header record, with its newline."""
    data: int = 0
    """Where what follows begins."""
    cells: Cells = Cells()
    error: str | None = None
    """It cannot be read, and why."""
    first: First = First()


class Looked(msgspec.Struct, frozen=True, array_like=True, tag="csv-looked"):
    files: list[Seen]


class Scanned(msgspec.Struct, frozen=True, array_like=True, tag="csv-scanned"):
    """The answer to a Block: for a begin outside of quotes, and inside."""

    outside: Cells = Cells()
    inside: Cells = Cells()
    odd: bool = False
    """The range has quotes of an odd number."""
    trusted: list[bool] = []
    """Whether parity of quotes can be relied on, for a begin outside and inside."""
    error: str | None = None


class Begins(msgspec.Struct, frozen=True, array_like=True, tag="csv-begins"):
    """The answer to Rows: int64, least byte first."""

    starts: bytes = b""
    error: str | None = None


class Unpacked(msgspec.Struct, frozen=True, array_like=True, tag="csv-unpacked"):
    size: int = 0
    error: str | None = None
    """The file cannot be read, and why."""
    no_room: str | None = None
    """It cannot be written, and why."""


Answer = Looked | Scanned | Begins | Unpacked
