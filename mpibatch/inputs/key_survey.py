"""The survey of a table whose mini-batches are of equal partition keys; it runs after that of its format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from mpibatch.core.path_columns import columns_of_paths
from mpibatch.core.tables import Hdf5Options, ParquetOptions, TableOptions
from mpibatch.errors import InputError
from mpibatch.inputs.key_batches import KeyBatches
from mpibatch.inputs.key_join import Joiner, shown_keys
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.key_runs import KeyRuns, PartRuns
from mpibatch.inputs.key_spec import check_found, key_spec
from mpibatch.inputs.origin import shown
from mpibatch.inputs.row_files import unreadable
from mpibatch.inputs.shuffle_plan import Copies, SortedTo, sort_files, with_cuts
from mpibatch.inputs.survey import Ask, Surveyed, TableFile
from mpibatch.work import Slice

PART_BYTES = 4 << 20
"""Of a part as the format's survey cuts them."""
_QUESTION_BYTES = 32 << 20
_QUESTION_PARTS = 500
_TOGETHER = 16
"""Parts of a file whose rows are numbered that become one: its key columns are small."""


class KeyedFile(NamedTuple):
    """A file that can be read, and what stands where in it."""

    number: int
    """In the input."""
    parts: list[tuple[Slice, PartRuns]]


class KeySurvey(msgspec.Struct):
    """What was found."""

    batches: KeyBatches
    surveyed: Surveyed
    """With what is now known of files, and of how they are to be read."""
    copies: list[Copies] = []
    """Of files, in their order; what `batches` numbers behind the files are all of their segments."""


def survey_keys(
    files: Sequence[TableFile],
    options: TableOptions,
    surveyed: Surveyed,
    keys: list[str],
    ask: Ask,
    *,
    origin: str,
    shuffle: bool,
    sorted_to: SortedTo,
) -> KeySurvey:
    """The mini-batches. `sorted_to`: where sorted copies go, with `shuffle`.

    Raises InputError where a key is no column, and where rows of equal keys do not stand together and
    `shuffle` does not allow to sort them.
    """
    where = f"{origin}: partition_keys"
    if all(not len(cut.rows) or cut.error is not None for cut in surveyed.cuts):
        return KeySurvey(_only_failed(surveyed, len(keys)), surveyed)
    spec = key_spec(files, options, surveyed, keys, ask, where)
    found, surveyed = _ask(files, spec, surveyed, ask, origin)
    check_found(keys, [_columns(files, one, len(keys)) for one in found], where)
    joiner = _joined(found, surveyed, len(keys))
    batches = joiner.finish()
    of_paths = set(keys) <= set(columns_of_paths(options))
    if joiner.again is None or of_paths:
        if shuffle:
            why = "the paths give the keys" if of_paths else "rows of equal keys stand together already"
            surveyed.warnings.append(f"shuffle: nothing was sorted, as {why}")
        return KeySurvey(batches, surveyed)
    if not shuffle:
        raise InputError(f"{where}: {_scattered(files, keys, joiner)}")
    return _sorted(files, spec, surveyed, found, ask, origin, sorted_to)


def _only_failed(surveyed: Surveyed, keys: int) -> KeyBatches:
    return _joined([], surveyed, keys).finish()


def _joined(found: Sequence[KeyedFile], surveyed: Surveyed, keys: int) -> Joiner:
    joiner = Joiner(keys)
    by_number = {one.number: one for one in found}
    for number, cut in enumerate(surveyed.cuts):
        if cut.error is not None:
            joiner.add_failed(number)
        elif number in by_number:
            joiner.add_file(number, by_number[number].parts)
    return joiner


def _columns(
    files: Sequence[TableFile], one: KeyedFile, keys: int
) -> tuple[TableFile, list[bool], list[str]]:
    """Whether the file has the keys, and what columns it has."""
    runs = [runs for _, runs in one.parts]
    has = [any(part.found[number] for part in runs) for number in range(keys)]
    return files[one.number], has, list(dict.fromkeys(name for part in runs for name in part.columns))


# Questions


def _ask(
    files: Sequence[TableFile], spec: KeySpec, surveyed: Surveyed, ask: Ask, origin: str
) -> tuple[list[KeyedFile], Surveyed]:
    """The runs of all files that can be read. Those that cannot are noted, in a copy of what was surveyed."""
    parts = [list(_parts(files, spec.options, surveyed, number)) for number in range(len(files))]
    every = [part for of_file in parts for part in of_file]
    questions = [KeyRuns(spec, some) for some in _portions(every, spec.options)]
    answers = iter([part for found in ask(questions) for part in found.parts])
    cuts = list(surveyed.cuts)
    found: list[KeyedFile] = []
    for number, of_file in enumerate(parts):
        runs = [next(answers) for _ in of_file]
        error = next((one.error for one in runs if one.error is not None), None)
        if error is not None:
            cuts[number] = unreadable(error)
        elif of_file:
            found.append(KeyedFile(number, list(zip(of_file, runs))))
    return found, with_cuts(surveyed, cuts, files, origin)


def _parts(
    files: Sequence[TableFile], options: TableOptions, surveyed: Surveyed, number: int
) -> Iterator[Slice]:
    cut = surveyed.cuts[number]
    if cut.error is not None:
        return
    path = files[number].path if surveyed.paths is None else surveyed.paths[number]
    together = _TOGETHER if isinstance(options, ParquetOptions | Hdf5Options) else 1
    starts, rows = cut.starts.tolist(), cut.rows.tolist()
    row = 0
    for first in range(0, len(rows), together):
        last = min(first + together, len(rows))
        count = sum(rows[first:last])
        yield Slice(path, starts[first], starts[last], row, count, 0, cut.whole, files[number].name)
        row += count


def _portions(parts: Sequence[Slice], options: TableOptions) -> Iterator[list[Slice]]:
    """Some parts for each question."""
    some: list[Slice] = []
    size = 0
    for part in parts:
        counts_rows = isinstance(options, ParquetOptions | Hdf5Options)
        more = _QUESTION_BYTES // _TOGETHER if counts_rows else part.stop - part.start
        if some and (size + more > _QUESTION_BYTES or len(some) >= _QUESTION_PARTS):
            yield some
            some, size = [], 0
        some.append(part)
        size += more
    if some:
        yield some


# Scattered rows


def _scattered(files: Sequence[TableFile], keys: list[str], joiner: Joiner) -> str:
    again = joiner.again
    assert again is not None
    count = len(joiner.scattered)
    how_many = "of 1 key" if count == 1 else f"of {count:,} keys"
    size = sum(file.size for file in files)
    return (
        f"the rows {how_many} do not stand together: {shown_keys(keys, again.key)} comes again in"
        f" row {again.row:,} (the first one is 0) of {shown(files[again.file].name)}, after rows of other keys."
        f"\n  Write `shuffle: true`, which sorts a copy of the input below the run folder (about {size:,} bytes),"
        f" or sort the input by {', '.join(keys)}."
    )


def _sorted(
    files: Sequence[TableFile],
    spec: KeySpec,
    surveyed: Surveyed,
    found: Sequence[KeyedFile],
    ask: Ask,
    origin: str,
    sorted_to: SortedTo,
) -> KeySurvey:
    parts = [(one.number, one.parts) for one in found]
    copies, surveyed = sort_files(files, spec, surveyed, parts, ask, origin, sorted_to)
    joiner = Joiner(len(spec.keys))
    by_number = {one.number: one for one in copies}
    place = len(files)
    for number, cut in enumerate(surveyed.cuts):
        if cut.error is not None:
            joiner.add_failed(number)
        elif number in by_number:
            for segment, runs in by_number[number].segments:
                joiner.add_file(place, [(segment, runs)])
                place += 1
    return KeySurvey(joiner.finish(), surveyed, copies)
