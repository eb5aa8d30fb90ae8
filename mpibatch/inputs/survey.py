"""The words of the survey: before the work, each file of a table is looked at, to know where it can be cut.

A format's `survey` decides what has to be looked at and asks *questions*: small frozen structs, each about
one file or a range of it. Whoever has called it has them answered: in place, or on the workers in parallel.
A question is answered by a function of the format that only reads; the same question always has the same
answer, so that one which is lost is asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mpibatch.work import BadItem, Slice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TableFile(msgspec.Struct, frozen=True):
    """A file of a table input."""

    path: bytes
    """Where it is read: of an unpacked file, where it was unpacked to."""
    size: int
    name: bytes
    """What people know it by: where the user has put it."""


class Cut(msgspec.Struct):
    """How one file is cut into mini-batches.

    `starts`: where each begins, and last where the last one ends (bytes or rows, as in `work.Slice`);
    one more than mini-batches. `rows`: rows of each, at least 1. A file without rows has neither: both empty.
    """

    starts: NDArray[np.int64]
    rows: NDArray[np.int64]
    whole: bool = False
    """It is one mini-batch that is the whole file, header included, and is not cut."""
    error: str | None = None
    """It cannot be read, and why: it counts as one item, which fails with these words."""


class Surveyed(msgspec.Struct):
    """What a survey has found."""

    cuts: list[Cut]
    """One for each file."""
    setup: bytes
    """What readers need to know beside the options, in a form of the format's own: column names, dtypes."""
    warnings: list[str]
    paths: list[bytes] | None = None
    """Where each file is read, as in `work.Slice`; None: where it is. Others are those that were unpacked."""


Ask = Callable[[Sequence[Any]], list[Any]]
"""Questions to answers, in their order. Raises what stops the run."""


class Batch(msgspec.Struct):
    """What a reader has read for a piece."""

    data: Any
    """What `run()` gets, without the bad items: a DataFrame (its index counts from 0), a list, a dict."""
    bad: list[BadItem]


class Reader(Protocol):
    """Reads the items of one input, in the processor. It may keep files open between calls."""

    def read(self, source: Slice, count: int) -> Batch:
        """The `count` items from `source.skip` on. Raises Unreadable where the mini-batch cannot be read."""

    def close(self) -> None: ...


class Unreadable(Exception):
    """A mini-batch cannot be read as the plan has it; the text names the file and says why."""
