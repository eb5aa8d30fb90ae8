"""Where the records of a range of a CSV file, or of JSON lines, begin."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from mpibatch.core.tables import CsvOptions, JsonlOptions
from mpibatch.inputs.csv_exact import ExactScanner
from mpibatch.inputs.csv_scan import NEWLINE, Dialect, Scanner
from mpibatch.inputs.csv_survey import dialect_of
from mpibatch.inputs.origin import shown
from mpibatch.inputs.ranges import KeptFile
from mpibatch.inputs.survey import Unreadable
from mpibatch.work import Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LINES = Dialect(sep=NEWLINE, quote=None, returns=False, blanks=b" \t\r")


def dialect(options: CsvOptions | JsonlOptions) -> Dialect:
    return dialect_of(options, "") if isinstance(options, CsvOptions) else _LINES


def bytes_of(part: Slice) -> bytes:
    """What stands in a range. Raises Unreadable."""
    with closing(KeptFile()) as file:
        return file.read_all(part.path, part.start, part.stop)


def record_starts(options: CsvOptions | JsonlOptions, part: Slice, data: bytes) -> NDArray[np.int64]:
    """The byte in the file of each record of a part that is not a whole file. Raises Unreadable.

    `data`: its bytes. The part begins outside of quotes.
    """
    scanner = Scanner(dialect(options), part.start)
    starts = scanner.feed(data).outside
    if not scanner.trusted[0] or scanner.odd:
        starts = ExactScanner(dialect(options), part.start).feed(data, last=True)
    if len(starts) != part.rows:
        raise Unreadable(
            f"{shown(part.path)} has {len(starts):,} rows where {part.rows:,} were found before: it has changed."
        )
    return starts


def if_fields_at_most(options: CsvOptions, part: Slice, fields: int) -> NDArray[np.int64] | None:
    """Where the records of a part begin; None: one may have more than so many fields, by its separators."""
    import numpy as np

    if part.whole:
        return None
    data = bytes_of(part)
    starts = record_starts(options, part, data)
    separators = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(options.sep))
    before = np.append(np.searchsorted(separators, starts - part.start), len(separators))
    return starts if np.diff(before).max() < fields else None
