"""What becomes of a question that has no answer: it is asked again file by file, and a file whose question has
none again is one that cannot be read.

A library that dies of one damaged file would else cost all files of the question, or the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, assert_never

import msgspec

from mpibatch.errors import MpibatchError
from mpibatch.inputs.archives import ArchiveListed, ListArchive
from mpibatch.inputs.csv_questions import Begins, Block, Look, Looked, Rows, Scanned, Seen, Unpack, Unpacked
from mpibatch.inputs.hdf5_contents import Contents, ContentsAnswer, Datasets
from mpibatch.inputs.key_runs import FoundRuns, KeyRuns, PartRuns
from mpibatch.inputs.parquet_footers import Footer, Footers, FootersAnswer
from mpibatch.inputs.shuffle import Sort, SortedSegment
from mpibatch.runtime.surveying.questions import Answer, Question, answer

log = logging.getLogger(__name__)


def parts(question: Question) -> list[Question]:
    """Questions that together ask the same, each about one file or one range of it; at least one."""
    match question:
        case Footers(paths=paths, columns=columns):
            return [Footers([path], columns) for path in paths]
        case Datasets(paths=paths, group=group, datasets=datasets):
            return [Datasets([path], group, datasets) for path in paths]
        case Look(files=files):
            return [msgspec.structs.replace(question, files=[file]) for file in files]
        case KeyRuns(spec=spec, parts=slices):
            return [KeyRuns(spec, [part]) for part in slices]
        case Block() | Rows() | Unpack() | ListArchive() | Sort():
            return [question]
        case _:
            assert_never(question)


def joined(question: Question, answers: Sequence[Any]) -> Answer:
    """The answer to the question, from those to its parts."""
    match question:
        case Footers():
            return _joined_footers(answers)
        case Datasets():
            return ContentsAnswer([one for found in answers for one in found.contents])
        case Look():
            return Looked([one for found in answers for one in found.files])
        case KeyRuns():
            return FoundRuns([one for found in answers for one in found.parts])
        case Block() | Rows() | Unpack() | ListArchive() | Sort():
            (only,) = answers
            return only  # type: ignore[no-any-return]
        case _:
            assert_never(question)


def _joined_footers(answers: Sequence[FootersAnswer]) -> FootersAnswer:
    """Each answer numbers the schemas from 0."""
    numbers: dict[bytes, int] = {}
    footers = []
    for one in answers:
        places = [numbers.setdefault(schema, len(numbers)) for schema in one.schemas]
        for footer in one.footers:
            place = places[footer.schema] if footer.error is None else 0
            footers.append(msgspec.structs.replace(footer, schema=place))
    return FootersAnswer(footers, list(numbers))


def blamed(question: Question, why: str) -> Answer:
    """The answer that says of all that the question is about that it cannot be read."""
    match question:
        case Footers(paths=paths):
            return FootersAnswer([Footer(error=why) for _ in paths], [])
        case Datasets(paths=paths):
            return ContentsAnswer([Contents(error=why) for _ in paths])
        case Look(files=files):
            return Looked([Seen(error=why) for _ in files])
        case KeyRuns(parts=slices):
            return FoundRuns([PartRuns(error=why) for _ in slices])
        case Block():
            return Scanned(error=why)
        case Rows():
            return Begins(error=why)
        case Unpack():
            return Unpacked(error=why)
        case ListArchive():
            return ArchiveListed(error=why)
        case Sort():
            return SortedSegment(error=why)
        case _:
            assert_never(question)


def one_by_one(question: Any, ask: Callable[[Any], Any], why: str) -> Any:
    """The answer to a question that could not be answered as a whole, from what `ask` answers to each of its
    parts. `why`: what is said of its file if it has only one."""
    singles = parts(question)
    if len(singles) == 1:
        return blamed(question, why)
    return joined(question, [ask(one) for one in singles])


def answer_surely(question: Any) -> Any:
    """The answer, whatever the library of the format raises: that is the file's error.

    What a process dies of is for who has started it. Raises MpibatchError where the program is to stop.
    """
    try:
        return answer(question)
    except MpibatchError:  # A signal that asks to stop.
        raise
    except Exception as error:
        log.warning("a question of the survey has failed: %s", question, exc_info=True)
        return one_by_one(question, answer_surely, f"{type(error).__name__}: {' '.join(str(error).split())}")
