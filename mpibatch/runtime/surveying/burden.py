"""What a question asks of who answers it: a library that a damaged file can crash, or much time."""

from __future__ import annotations

import contextlib
import os
from typing import assert_never

from mpibatch.core.tables import CsvOptions, Hdf5Options, JsonlOptions, ParquetOptions
from mpibatch.inputs.archives import ListArchive
from mpibatch.inputs.csv_questions import Block, Look, Rows, Unpack
from mpibatch.inputs.hdf5_contents import Datasets
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.key_runs import KeyRuns
from mpibatch.inputs.parquet_footers import Footers
from mpibatch.inputs.shuffle import Sort
from mpibatch.runtime.surveying.questions import Question
from mpibatch.work import Slice

_LONG_BYTES = 64 << 20
"""That many are scanned in some tenths of a second."""
_COSTLY = 10
"""So many times as long as to scan a byte it takes to unpack, decode, parse one by one, or sort it."""
_ROW_BYTES = 64
"""What a row is taken for whose bytes are not known."""


def may_crash(question: Question) -> bool:
    """Whether a library reads the file that is known to die of some damaged ones: the readers of Parquet, HDF5
    and (for keys) CSV. All else is read by Python itself, numpy, and the usual decompressors."""
    match question:
        case Footers() | Datasets() | Sort():
            return True
        case KeyRuns(spec=spec):
            return not isinstance(spec.options, JsonlOptions)
        case Look() | Block() | Rows() | Unpack() | ListArchive():
            return False
        case _:
            assert_never(question)


def is_long(question: Question) -> bool:
    """Whether it is known beforehand to take longer than rank 0 should be busy while workers wait."""
    return _bytes(question) > _LONG_BYTES


def _bytes(question: Question) -> int:
    match question:
        case Look(files=files, rows=rows, exact=exact):
            each = _COSTLY if exact else 1
            return sum(one.size * (_COSTLY if one.whole else each) for one in files if rows)
        case Block() as block:
            return block.stop - block.start
        case Rows(block=block):
            return block.stop - block.start
        case Unpack(path=path):
            with contextlib.suppress(OSError):  # That is for the answer to tell.
                return os.stat(path).st_size * _COSTLY
            return 0
        case KeyRuns(spec=spec, parts=parts):
            return sum(_of_part(spec, part) for part in parts)
        case Sort(spec=spec, parts=parts):
            return sum(_of_part(spec, part) for part in parts) * _COSTLY
        case Footers() | Datasets() | ListArchive():
            return 0  # They read little of each file; what takes long all the same is broken off.
        case _:
            assert_never(question)


def _of_part(spec: KeySpec, part: Slice) -> int:
    match spec.options:
        case CsvOptions() | JsonlOptions():
            return part.stop - part.start
        case ParquetOptions() | Hdf5Options():
            return part.rows * _ROW_BYTES
        case _:
            assert_never(spec.options)
