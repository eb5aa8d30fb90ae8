"""The survey of files of JSON lines: each newline ends a line, and each line but a blank one is a row."""

from __future__ import annotations

from collections.abc import Sequence

from mpibatch.core.tables import JsonlOptions, MiniBatchSize
from mpibatch.inputs.csv_answers import answer
from mpibatch.inputs.csv_cuts import NORMAL, Limits, cut_files, way_of
from mpibatch.inputs.csv_questions import Answer, One, Question
from mpibatch.inputs.csv_scan import NEWLINE, Dialect
from mpibatch.inputs.csv_unpack import UNPACK_ABOVE, UnpackTo, ready_files
from mpibatch.inputs.jsonl_names import unknown_names
from mpibatch.inputs.row_files import unreadable, unreadable_files
from mpibatch.inputs.survey import Ask, Surveyed, TableFile

__all__ = ["Answer", "Question", "answer", "survey"]

_LINES = Dialect(sep=NEWLINE, quote=None, returns=False, blanks=b" \t\r")


def survey(
    files: Sequence[TableFile],
    options: JsonlOptions,
    size: MiniBatchSize,
    ask: Ask,
    *,
    origin: str,
    unpack_to: UnpackTo | None,
    unpack_above: int = UNPACK_ABOVE,
    limits: Limits = NORMAL,
) -> Surveyed:
    """Where the files are cut. Their setup is empty.

    `origin`: job file and key, for messages. Raises InputError where no file can be read.
    """
    ready = ready_files(
        files,
        ask,
        unpack=options.unpack,
        unpack_to=unpack_to,
        origin=origin,
        above=unpack_above,
    )
    way = way_of(_LINES, size, mark=True, encoding=None, limits=limits)
    good = [one for one in ready if one.error is None]
    ones = [One(one.file.path, one.file.size, header=False, whole=one.whole) for one in good]
    found = iter(cut_files(ones, way, ask, limits))
    cuts = [next(found).cut if one.error is None else unreadable(one.error) for one in ready]
    warnings = unreadable_files(files, [cut.error for cut in cuts], origin)
    warnings += unknown_names([one.file for one in good], options)
    paths = [one.file.path for one in ready]
    return Surveyed(cuts=cuts, setup=b"", warnings=warnings, paths=paths)
