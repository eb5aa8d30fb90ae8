"""Asks about all files of an input what has to be known to cut them, and puts the answers together.

Small files are asked about many at a time. Of a large one the header comes first, then ranges of it are
scanned in parallel; in their order, the state at the end of each is that at the begin of the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from mpibatch.core.tables import ByRows, CsvOptions, MiniBatchSize
from mpibatch.inputs.csv_cells import BySizeCells, Cells, packed, row_counts, unpacked
from mpibatch.inputs.csv_questions import Begins, Block, Look, One, Rows, Scanned, Seen, Way
from mpibatch.inputs.csv_scan import Dialect
from mpibatch.inputs.row_files import unreadable
from mpibatch.inputs.survey import Ask, Cut


class Limits(msgspec.Struct, frozen=True):
    """How much is looked at together; tests take less."""

    block: int = 32 << 20
    """Bytes of a range; files up to this size are not parted."""
    piece: int = 1 << 20
    """Bytes that are read at a time: what fits into a core's cache."""
    files: int = 1000
    """Files in one question, at most."""
    questions: int = 64
    """Few files are spread over so many questions, so that all workers have something to look at."""


NORMAL = Limits()


class FoundFile(msgspec.Struct):
    """What the survey knows of a file now."""

    file: One
    seen: Seen
    cut: Cut


def way_of(dialect: Dialect, size: MiniBatchSize, *, mark: bool, encoding: str | None, limits: Limits) -> Way:
    by_rows = isinstance(size, ByRows)
    step = size.rows if isinstance(size, ByRows) else size.bytes
    return Way(dialect, step, by_rows, mark, encoding, limits.piece)


def cut_files(
    files: Sequence[One], way: Way, ask: Ask, limits: Limits, records: CsvOptions | None = None
) -> list[FoundFile]:
    """Where each file is cut, and its header. A file that cannot be read has an error instead.

    `records`: how records are parted, if the first ones of each file are to be looked at too.
    """
    seen = _look(files, way, ask, limits, records)
    found = [FoundFile(file, one, _cut(file, one)) for file, one in zip(files, seen)]
    large = [one for one in found if _is_large(one.file, limits) and one.seen.error is None]
    _cut_large(large, way, ask, limits)
    return found


def _is_large(file: One, limits: Limits) -> bool:
    return file.size > limits.block and not file.whole


def _look(files: Sequence[One], way: Way, ask: Ask, limits: Limits, records: CsvOptions | None) -> list[Seen]:
    """The first question about each file, answered: in their order."""
    seen: dict[int, Seen] = {}
    numbers: list[list[int]] = []
    questions: list[Look] = []
    for large in (False, True):
        some = [number for number, file in enumerate(files) if _is_large(file, limits) == large]
        for group in _groups(some, files, large, limits):
            numbers.append(group)
            ones = [files[number] for number in group]
            questions.append(Look(ones, way, rows=not large, records=records))
    for group, looked in zip(numbers, ask(questions)):
        seen |= dict(zip(group, looked.files))
    return [seen[number] for number in range(len(files))]


def _groups(numbers: list[int], files: Sequence[One], large: bool, limits: Limits) -> Iterator[list[int]]:
    most = min(limits.files, max(1, -(-len(numbers) // limits.questions)))
    group: list[int] = []
    size = 0
    for number in numbers:
        if group and (len(group) >= most or (size + files[number].size > limits.block and not large)):
            yield group
            group, size = [], 0
        group.append(number)
        size += files[number].size
    if group:
        yield group


def _cut(file: One, seen: Seen) -> Cut:
    import numpy as np

    if seen.error is not None:
        return unreadable(seen.error)
    starts, rows = unpacked(seen.cells.starts), unpacked(seen.cells.rows)
    if not len(starts):
        return Cut(starts=starts, rows=rows, whole=file.whole)
    if file.whole:
        return Cut(starts=np.array([0, file.size], np.int64), rows=rows, whole=True)
    return Cut(starts=np.append(starts, np.int64(file.size)), rows=rows)


# Large files


class _Joined(msgspec.Struct):
    """What the ranges of a file give together."""

    cells: BySizeCells
    rows: int = 0
    questions: list[Rows] = []
    """Where mini-batches of a number of rows begin is asked for now that each range's first row is known."""
    error: str | None = None

    def seen(self, before: Seen, way: Way, begins: Iterator[Begins]) -> Seen:
        answers = [next(begins) for _ in self.questions]
        error = self.error or next((one.error for one in answers if one.error is not None), None)
        cells = self.cells.found()
        if way.by_rows:
            starts = b"".join(one.starts for one in answers)
            cells = Cells(starts, packed(row_counts(self.rows, way.step)))
        return msgspec.structs.replace(before, cells=cells, error=error)


def _cut_large(found: Sequence[FoundFile], way: Way, ask: Ask, limits: Limits) -> None:
    exact = found if way.dialect.escape is not None else _cut_by_parity(found, way, ask, limits)
    for one, looked in zip(exact, _asked(ask, [Look([one.file], way, exact=True) for one in exact])):
        one.seen = msgspec.structs.replace(looked.files[0], first=one.seen.first)
    for one in found:
        one.cut = _cut(one.file, one.seen)


def _cut_by_parity(found: Sequence[FoundFile], way: Way, ask: Ask, limits: Limits) -> list[FoundFile]:
    """Cuts the files in which the parity of quotes can be relied on; returns the others."""
    blocks = [list(_blocks(one, way, limits)) for one in found]
    scans = iter(_asked(ask, [block for of_file in blocks for block in of_file]))
    joined = [(one, _join(of_file, scans)) for one, of_file in zip(found, blocks)]
    questions = [question for _, result in joined if result is not None for question in result.questions]
    begins = iter(_asked(ask, questions))
    for one, result in joined:
        if result is not None:
            one.seen = result.seen(one.seen, way, begins)
    return [one for one, result in joined if result is None]


def _asked(ask: Ask, questions: Sequence[Any]) -> list[Any]:
    return ask(questions) if questions else []


def _blocks(one: FoundFile, way: Way, limits: Limits) -> Iterator[Block]:
    for start in range(one.seen.data, one.file.size, limits.block):
        stop = min(start + limits.block, one.file.size)
        yield Block(one.file, way, one.seen.data, start, stop)


def _join(blocks: Sequence[Block], answers: Iterator[Scanned]) -> _Joined | None:
    """The first range begins outside of quotes. None where the parity of quotes cannot be relied on."""
    scans = [next(answers) for _ in blocks]
    joined = _Joined(BySizeCells(blocks[0].origin, blocks[0].way.step) if blocks else BySizeCells(0, 0))
    joined.error = next((scan.error for scan in scans if scan.error is not None), None)
    if joined.error is not None:
        return joined
    inside = False
    for block, scan in zip(blocks, scans):
        if not scan.trusted[inside]:
            return None
        cells = scan.inside if inside else scan.outside
        joined.cells.add_cells(cells)
        rows = int(unpacked(cells.rows).sum())
        if block.way.by_rows and -joined.rows % block.way.step < rows:
            joined.questions.append(Rows(block, inside, joined.rows))
        joined.rows += rows
        inside ^= scan.odd
    return joined
