"""Puts the runs of equal partition keys together over the borders of parts and files. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from mpibatch.inputs.csv_cells import unpacked
from mpibatch.inputs.key_batches import KeyBatches, Part, pack
from mpibatch.inputs.key_runs import PartRuns
from mpibatch.work import Slice


class Again(NamedTuple):
    """Where a key comes again after other ones."""

    key: bytes
    file: int
    row: int


class Joiner:
    """Is given files in order, and of each its parts in order; then `finish`.

    A malformed row belongs to the run before it in its file, or else to the file's first run.
    """

    def __init__(self, keys: int) -> None:
        """`keys`: how many there are."""
        self.batches = KeyBatches()
        self.scattered: set[bytes] = set()
        """Keys whose rows do not stand together."""
        self.again: Again | None = None
        """The first such place."""
        self._nothing = pack([None] * keys)
        self._numbers: dict[bytes, int] = {}
        self._current: tuple[bytes, int] | None = None
        """Key and mini-batch of the last run."""
        self._waiting: list[Part] = []
        """Malformed rows in front of their file's first run."""
        self._begun = False
        """The file has had a run."""

    def add_failed(self, file: int) -> None:
        """A file that cannot be read: one item of no keys."""
        self.batches.add(self.batches.begin(self._nothing), Part(0, 1, 0, 1, 0, 1, file))

    def add_file(self, file: int, parts: list[tuple[Slice, PartRuns]]) -> None:
        self._begun = False
        for part, runs in parts:
            self._add_part(file, part, runs)
        if self._waiting and self._current is not None:
            self._hand_over(self._current[1])

    def finish(self) -> KeyBatches:
        if self._waiting:
            self._hand_over(self.batches.begin(self._nothing))
        return self.batches

    def _hand_over(self, number: int) -> None:
        for part in self._waiting:
            self.batches.add(number, part)
        self._waiting = []

    def _add_part(self, file: int, part: Slice, runs: PartRuns) -> None:
        begins = unpacked(runs.rows).tolist()
        starts = [] if part.whole else unpacked(runs.starts).tolist()
        which = unpacked(runs.which).tolist()
        self._note_again(file, part, runs)
        if runs.leading:
            leading = _piece(
                file, part, (0, begins[0] if begins else part.rows), starts[0] if starts else part.stop
            )
            if self._begun and self._current is not None:
                self.batches.add(self._current[1], leading)
            else:
                self._waiting.append(leading)
        for place, (number, begin) in enumerate(zip(which, begins)):
            last = place == len(begins) - 1
            end = part.rows if last else begins[place + 1]
            stop = part.stop if last or part.whole else starts[place + 1]
            piece = _piece(file, part, (begin, end), stop, None if part.whole else starts[place])
            self._add_run(runs.keys[number], piece)

    def _add_run(self, key: bytes, piece: Part) -> None:
        if self._current is None or self._current[0] != key:
            number = self._numbers.get(key)
            if number is None:
                number = self._numbers[key] = self.batches.begin(key)
            else:
                self._scattered(Again(key, piece.file, piece.row + piece.skip))
            self._current = key, number
        self._begun = True
        if self._waiting:
            self._hand_over(self._current[1])
        self.batches.add(self._current[1], piece)

    def _note_again(self, file: int, part: Slice, runs: PartRuns) -> None:
        """What comes again within one part."""
        rows = unpacked(runs.again_rows).tolist()
        for row, number in sorted(zip(rows, unpacked(runs.again).tolist())):
            self._scattered(Again(runs.keys[number], file, part.row + row))

    def _scattered(self, again: Again) -> None:
        self.scattered.add(again.key)
        if self.again is None or (again.file, again.row) < self.again[1:]:
            self.again = again


def _piece(file: int, part: Slice, rows: tuple[int, int], stop: int, start: int | None = None) -> Part:
    """Rows [begin, end) of a part, which lie from `start` (None: the part's) to `stop`."""
    begin, end = rows
    if part.whole:
        return Part(part.start, part.stop, part.row, part.rows, begin, end - begin, file)
    count = end - begin
    return Part(part.start if start is None else start, stop, part.row + begin, count, 0, count, file)


def keys_before(parts: list[PartRuns], nothing: bytes) -> list[bytes]:
    """Of each part of a file: the key that malformed rows have which stand in front of its first run."""
    firsts = [runs.keys[int(unpacked(runs.which)[0])] if runs.which else None for runs in parts]
    before = next((key for key in firsts if key is not None), nothing)
    found: list[bytes] = []
    for runs in parts:
        found.append(before)
        if runs.last >= 0:
            before = runs.keys[runs.last]
    return found


def shown_keys(names: list[str], key: bytes) -> str:
    """A key for people: `user='ann', season=1`."""
    values = msgspec.msgpack.decode(key)
    return ", ".join(f"{name}={value!r}" for name, value in zip(names, values))
