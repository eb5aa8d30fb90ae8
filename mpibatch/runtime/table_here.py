"""A table as a run reads it, all of it in this process."""

from __future__ import annotations

from collections.abc import Iterator

from mpibatch.core.tables import BySize, TableInput
from mpibatch.inputs.origin import Origin, shown
from mpibatch.inputs.survey import Batch, TableFile, Unreadable
from mpibatch.runtime.reading import open_table
from mpibatch.runtime.surveying.questions import answer
from mpibatch.runtime.table_planner import Found, survey_table
from mpibatch.work import Slice

_WHOLE_FILES = BySize(1 << 60)


def table_files(one: TableInput, origin: Origin) -> list[TableFile]:
    """Its files, in the order of a run. Raises InputError."""
    return Found(one, origin, None).files


def read_table(one: TableInput, origin: Origin) -> Iterator[Batch]:
    """The rows of each file. Raises InputError, and Unreadable where a file cannot be read."""
    files = table_files(one, origin)
    surveyed = survey_table(
        one.options, files, _WHOLE_FILES, lambda questions: list(map(answer, questions)), origin, None
    )
    reader = open_table(one.options, surveyed.setup)
    try:
        for file, cut in zip(files, surveyed.cuts, strict=True):
            if cut.error is not None:
                raise Unreadable(f"{shown(file.name)}: {cut.error}")
            row = 0
            for start, stop, rows in zip(cut.starts.tolist(), cut.starts.tolist()[1:], cut.rows.tolist()):
                yield reader.read(Slice(file.path, start, stop, row, rows, 0, cut.whole, file.name), rows)
                row += rows
    finally:
        reader.close()
