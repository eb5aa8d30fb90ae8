"""Fragments to the output file: in plan order, in part already during the run, or in order of arrival.

The file grows aside and appears whole, by rename, when the last fragment is in it. Every fragment's
checksum is looked at on the way. What the file looks like inside is its sink's business.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Set
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

from mpibatch.core.forms import Unmergeable
from mpibatch.core.parts import IN_PARTS
from mpibatch.outputs.delivery import Delivery
from mpibatch.outputs.segments import Place, Segments
from mpibatch.outputs.sinks import Sink, TextSink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpibatch.core.history import Facts

BLOCK = 16384
"""Mini-batches looked at together."""
READ_BYTES = 32 << 20
"""Bytes of fragments held in memory at a time, unless a single one is larger."""
_MOST_RESTARTS = 4
"""Of the output, as its form changes; after them it is written at the end only."""


class DamagedFragments(Exception):
    """Fragments are not what their records say: `mini_batches` have to be made again. `segment`: the file in which
    that of the first one is."""

    def __init__(self, mini_batches: list[int], segment: Path) -> None:
        super().__init__(f"the stored rows of {len(mini_batches)} mini-batches are damaged")
        self.mini_batches = mini_batches
        self.segment = segment


class Assembly:
    """The output file while it grows. One thread's own.

    `facts`: what is finished, grows between calls; `segment`: path of a session's row segment;
    `in_order`: plan order, else order of arrival, which is written at the end only; `sink`: writes to
    `partial`, as text if not given. Formats with a form need `set_form` before rows that change it.
    `copy_to`: where the file is put a second time.
    """

    def __init__(
        self,
        *,
        partial: Path,
        final: Path,
        copy_to: Path | None = None,
        facts: Facts,
        segment: Callable[[int], Path],
        in_order: bool,
        sink: Sink | None = None,
    ) -> None:
        self.partial = partial
        self._sink: Sink = TextSink(partial) if sink is None else sink
        self.delivery = Delivery(final, copy_to)
        self._facts = facts
        self._in_order = in_order
        self._cursor = 0
        self._passed: NDArray[np.bool_] | None = None
        self._held: NDArray[np.bool_] | None = None
        self._form: bytes | None = None
        self._started = False
        self._assembled = False
        self._restarts = 0
        self._segments = Segments(segment)
        self._damaged: list[Place] = []

    def skip(self, mini_batches: NDArray[np.int64]) -> None:
        """These have failed for good in this session, whole or in pieces: nothing waits for more rows of them."""
        import numpy as np

        if self._passed is None:
            self._passed = np.zeros(len(self._facts.done), bool)
        self._passed[mini_batches] = True

    def hold(self, mini_batches: Set[int]) -> None:
        """Wait for these although they are done, as other rows may take the place of theirs, until `release`."""
        import numpy as np

        self._held = np.zeros(len(self._facts.done), bool)
        self._held[list(mini_batches)] = True

    def release(self, mini_batches: Set[int]) -> None:
        """The rows of these stay as they are."""
        assert self._held is not None
        self._held[list(mini_batches)] = False

    def set_form(self, form: bytes) -> None:
        """The form of all rows so far: what is in the output with another one is written again."""
        if form == self._form:
            return
        self._form = form
        if self._started:
            self._started = False
            self._restarts += 1
            self._cursor = 0
            self._damaged.clear()  # They are met again.

    def advance(self) -> None:
        """Append what is complete from the front. OSError where it cannot be written or read."""
        if self._restarts <= _MOST_RESTARTS:
            self._advance()

    def _advance(self) -> None:
        facts = self._facts
        while self._in_order and self._cursor < len(facts.done):
            block = slice(self._cursor, self._cursor + BLOCK)
            ended = self._ended(block)
            ready = len(ended) if ended.all() else int(ended.argmin())
            if ready == 0:
                return
            block = slice(self._cursor, self._cursor + ready)
            have = (
                facts.done[block] | (facts.session[block] == IN_PARTS) if facts.parts else facts.done[block]
            )
            self._append(self._places(have.nonzero()[0] + self._cursor))
            self._cursor += ready

    def _ended(self, block: slice) -> NDArray[np.bool_]:
        """Of which mini-batches of a block nothing more will come."""
        ended: NDArray[np.bool_] = self._facts.done[block]
        if self._passed is not None:
            ended = ended | self._passed[block]
        return ended if self._held is None else ended & ~self._held[block]

    def complete(self) -> None:
        """Append the rest, make it durable and visible. DamagedFragments, and no output, if any is damaged."""
        self.assemble()
        self.place()

    def assemble(self) -> None:
        """Append the rest and make it durable, but leave it aside. DamagedFragments if any is damaged."""
        if self._in_order:
            self._advance()
            assert self._cursor == len(self._facts.done), "the run is not complete"
        else:
            self._append_by_arrival()
        if self._damaged:
            numbers = list(dict.fromkeys(place.mini_batch for place in self._damaged))
            raise DamagedFragments(numbers, self._segments.path(self._damaged[0].session))
        self._start()
        self._sink.finish()
        self.close()
        self._assembled = True

    def place(self) -> None:
        """What was assembled becomes the output."""
        self.delivery.deliver(self.partial)

    def again(self) -> None:
        """What was assembled has been moved away, and is to be assembled once more; the first time, nothing."""
        if self._assembled:
            self._assembled = self._started = False
            self._cursor = 0

    def discard(self) -> None:
        """Make room: the next session begins its output anew."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self.partial)

    def close(self) -> None:
        """Let go of all files; what is unfinished stays aside."""
        self._segments.close()
        self._sink.close()

    def _start(self) -> None:
        if not self._started:
            self._sink.start(self._form)
            self._started = True

    def _append_by_arrival(self) -> None:
        import numpy as np

        facts = self._facts
        order = np.lexsort((facts.offset, facts.session))
        order = order[facts.done[order]]
        if facts.parts:
            order = order[facts.session[order] != IN_PARTS]
        blocks = (order[start : start + BLOCK] for start in range(0, len(order), BLOCK))
        whole = (place for block in blocks for place in self._places(block))
        if facts.parts:
            parts = (place for number in facts.parts for place in self._places_of_parts(number))
            self._append(merge(whole, sorted(parts, key=_arrival), key=_arrival))
        else:
            self._append(whole)

    def _places(self, numbers: NDArray[np.int64]) -> Iterator[Place]:
        """Where the fragments of these mini-batches lie, in this order."""
        facts = self._facts
        columns = (facts.session, facts.offset, facts.length, facts.header, facts.crc)
        rows = zip(numbers.tolist(), *(column[numbers].tolist() for column in columns), strict=True)
        for place in map(Place._make, rows):
            if place.session == IN_PARTS:
                yield from self._places_of_parts(place.mini_batch)
            else:
                yield place

    def _places_of_parts(self, number: int) -> Iterator[Place]:
        """In the order of the items."""
        for part in self._facts.parts[number]:
            yield Place(number, part.session, part.offset, part.length, part.header, part.crc)

    def _append(self, places: Iterable[Place]) -> None:
        """Append the fragments that lie there, in this order."""
        group: list[Place] = []
        pending = 0
        for place in places:
            group.append(place)
            pending += place.length
            if pending >= READ_BYTES or len(group) >= BLOCK:
                self._copy(group)
                group, pending = [], 0
        self._copy(group)

    def _copy(self, group: list[Place]) -> None:
        fragments: list[tuple[memoryview, int]] = []
        numbers: list[int] = []
        for place, fragment in self._segments.read(group):
            if zlib.crc32(fragment) != place.crc:
                self._damaged.append(place)
            else:
                fragments.append((fragment, place.header))
                numbers.append(place.mini_batch)
        self._start()
        try:
            self._sink.append(fragments)
        except Unmergeable as error:
            if error.fragment is None:
                raise
            raise Unmergeable(f"mini-batch {numbers[error.fragment]}: {error}") from error


def _arrival(place: Place) -> tuple[int, int]:
    return place.session, place.offset


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; a call may write less, as at a limit."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
