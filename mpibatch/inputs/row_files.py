"""What Parquet and HDF5 have in common: files whose rows are numbered, so that they are cut without reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpibatch.core.settings import did_you_mean, printable
from mpibatch.errors import InputError
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Cut, TableFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_FILES = 200
"""Files in a question, at most: so that 100,000 files do not make 100,000 messages."""
_QUESTIONS = 64
"""Few files are spread over so many questions, so that all workers have something to look at."""
_SHOWN_NAMES = 30
_SHOWN_FILES = 3


def portions(files: Sequence[TableFile]) -> list[list[bytes]]:
    """The files' paths, in order, as many together as one question is about."""
    together = min(_MOST_FILES, max(1, -(-len(files) // _QUESTIONS)))
    return [
        [file.path for file in files[first : first + together]] for first in range(0, len(files), together)
    ]


def every(rows: int, step: int) -> NDArray[np.int64]:
    """Where mini-batches of `step` rows begin in `rows`, and last where the last one ends."""
    import numpy as np

    return np.append(np.arange(0, rows, step, dtype=np.int64), np.int64(rows))


def cut_at(starts: NDArray[np.int64]) -> Cut:
    """A file that is cut at these rows; one without rows has no mini-batch."""
    import numpy as np

    if len(starts) < 2:
        return Cut(starts=starts[:0], rows=starts[:0])
    return Cut(starts=starts, rows=np.diff(starts))


def unreadable(words: str) -> Cut:
    """A file that cannot be read: one item, which fails with these words."""
    import numpy as np

    return Cut(
        starts=np.array([0, 1], dtype=np.int64), rows=np.array([1], dtype=np.int64), whole=True, error=words
    )


def unreadable_files(files: Sequence[TableFile], errors: Sequence[str | None], origin: str) -> list[str]:
    """A warning about the files that cannot be read, if any; InputError where none can be."""
    wrong = [(file, error) for file, error in zip(files, errors) if error is not None]
    if not wrong:
        return []
    some = "; ".join(f"{shown(file.name)}: {error.rstrip('.')}" for file, error in wrong[:_SHOWN_FILES])
    if len(wrong) > _SHOWN_FILES:
        some += f"; and {len(wrong) - _SHOWN_FILES:,} more"
    if len(wrong) == len(files):
        one = "The only file" if len(files) == 1 else f"None of the {len(files):,} files"
        raise InputError(f"{origin}: {one} can{'not' if len(files) == 1 else ''} be read: {some}.")
    return [
        f"{origin}: {len(wrong):,} of {len(files):,} files cannot be read and count as a failed item each: {some}."
    ]


def names_text(names: Sequence[str]) -> str:
    """Names for a message, on one line; of many, the first ones."""
    if not names:
        return "none"
    some = ", ".join(printable(name) for name in names[:_SHOWN_NAMES])
    return some if len(names) <= _SHOWN_NAMES else f"{some}, ... ({len(names):,} in all)"


def no_such(what: str, name: str, there: Sequence[str], file: TableFile, origin: str) -> InputError:
    """`what` (a column, a dataset) that the job names and the file does not have."""
    return InputError(
        f"{origin}: there is no {what} {printable(name)} in {shown(file.name)}{did_you_mean(name, there)}"
        f"\n  {what}s there: {names_text(there)}"
    )
