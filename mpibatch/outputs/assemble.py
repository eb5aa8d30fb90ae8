"""Fragments to the output file: in plan order, in part already during the run, or in order of arrival.

The file grows aside and appears whole, by rename, when the last fragment is in it. Every fragment's
checksum is looked at on the way. What the file looks like inside is its sink's business.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mpibatch.outputs.sinks import Sink, TextSink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpibatch.core.history import Facts

BLOCK = 16384
"""Mini-batches looked at together."""
READ_BYTES = 32 << 20
"""Bytes of fragments held in memory at a time, unless a single one is larger."""
_GAP_BYTES = 1 << 20
_MOST_RESTARTS = 4
"""Of the output, as its form changes; after them it is written at the end only."""


class DamagedFragments(Exception):
    """Fragments are not what their records say: `mini_batches` have to be made again."""

    def __init__(self, mini_batches: list[int]) -> None:
        super().__init__(f"the stored rows of {len(mini_batches)} mini-batches are damaged")
        self.mini_batches = mini_batches


class _Place(NamedTuple):
    """Where a fragment lies."""

    mini_batch: int
    session: int
    offset: int
    length: int
    header: int
    crc: int


class Assembly:
    """The output file while it grows. One thread's own.

    `facts`: what is finished, grows between calls; `segment`: path of a session's row segment;
    `in_order`: plan order, else order of arrival, which is written at the end only; `sink`: writes to
    `partial`, as text if not given. Formats with a form need `set_form` before rows that change it.
    """

    def __init__(
        self,
        *,
        partial: Path,
        final: Path,
        facts: Facts,
        segment: Callable[[int], Path],
        in_order: bool,
        sink: Sink | None = None,
    ) -> None:
        self._partial = partial
        self._sink: Sink = TextSink(partial) if sink is None else sink
        self._final = final
        self._facts = facts
        self._segment = segment
        self._in_order = in_order
        self._cursor = 0
        self._passed: NDArray[np.bool_] | None = None
        self._form: bytes | None = None
        self._started = False
        self._restarts = 0
        self._segments: dict[int, int] = {}
        self._damaged: list[int] = []

    def skip(self, mini_batches: NDArray[np.int64]) -> None:
        """These have failed for good in this session: they have no rows, and nothing waits for them."""
        import numpy as np

        if self._passed is None:
            self._passed = np.zeros(len(self._facts.done), bool)
        self._passed[mini_batches] = True

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
        done = self._facts.done
        while self._in_order and self._cursor < len(done):
            block = slice(self._cursor, self._cursor + BLOCK)
            ended = done[block] if self._passed is None else done[block] | self._passed[block]
            ready = len(ended) if ended.all() else int(ended.argmin())
            if ready == 0:
                return
            numbers = done[self._cursor : self._cursor + ready].nonzero()[0] + self._cursor
            self._append(numbers)
            self._cursor += ready

    def complete(self) -> None:
        """Append the rest, make it durable and visible. DamagedFragments, and no output, if any is damaged."""
        if self._in_order:
            self._advance()
            assert self._cursor == len(self._facts.done), "the run is not complete"
        else:
            self._append_by_arrival()
        if self._damaged:
            raise DamagedFragments(self._damaged)
        self._start()
        self._sink.finish()
        os.replace(self._partial, self._final)
        self.close()
        folder = os.open(self._final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # Its name too.
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Make room: the next session begins its output anew."""
        self.close()
        with contextlib.suppress(OSError):
            os.unlink(self._partial)

    def close(self) -> None:
        """Let go of all files; what is unfinished stays aside."""
        for fd in self._segments.values():
            os.close(fd)
        self._segments.clear()
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
        for start in range(0, len(order), BLOCK):
            self._append(order[start : start + BLOCK])

    def _append(self, numbers: NDArray[np.int64]) -> None:
        """Append the fragments of these mini-batches, in this order."""
        facts = self._facts
        columns = (facts.session, facts.offset, facts.length, facts.header, facts.crc)
        rows = zip(numbers.tolist(), *(column[numbers].tolist() for column in columns), strict=True)
        group: list[_Place] = []
        pending = 0
        for row in rows:
            place = _Place(*row)
            group.append(place)
            pending += place.length
            if pending >= READ_BYTES:
                self._copy(group)
                group, pending = [], 0
        self._copy(group)

    def _copy(self, group: list[_Place]) -> None:
        fragments: list[tuple[memoryview, int]] = []
        for place, fragment in self._read(group):
            if zlib.crc32(fragment) != place.crc:
                self._damaged.append(place.mini_batch)
            else:
                fragments.append((fragment, place.header))
        self._start()
        self._sink.append(fragments)

    def _read(self, group: list[_Place]) -> Iterator[tuple[_Place, memoryview]]:
        """The fragments of a group in its order. Neighbours in a segment are read in one go."""
        regions: dict[int, tuple[int, memoryview]] = {}
        for session in {place.session for place in group}:
            places = [place for place in group if place.session == session]
            start = min(place.offset for place in places)
            stop = max(place.offset + place.length for place in places)
            if stop - start <= 2 * sum(place.length for place in places) + _GAP_BYTES:
                regions[session] = (start, self._read_bytes(session, start, stop - start))
        for place in group:
            if place.session in regions:
                start, region = regions[place.session]
                yield place, region[place.offset - start : place.offset - start + place.length]
            else:
                yield place, self._read_bytes(place.session, place.offset, place.length)

    def _read_bytes(self, session: int, offset: int, length: int) -> memoryview:
        if session not in self._segments:
            try:
                self._segments[session] = os.open(self._segment(session), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return memoryview(b"")  # All of it is lost: the checksums will tell.
        fd = self._segments[session]
        data = os.pread(fd, length, offset)
        if len(data) == length:
            return memoryview(data)
        whole = bytearray(data)  # Linux reads at most 2 GiB in one call.
        while len(whole) < length:
            data = os.pread(fd, length - len(whole), offset + len(whole))
            if not data:
                break  # Shorter than recorded: the checksum will tell.
            whole += data
        return memoryview(whole)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; a call may write less, as at a limit."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
