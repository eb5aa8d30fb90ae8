"""Has questions of a survey answered: few of them in place, many in a session of its own on the workers.

Such a session is an ordinary run in a folder below the run folder: a question is an item, an answer is a row. So
a lost worker, a stop and a new start mean what they mean for all work: what is answered is not asked again. A
question whose processor dies is asked again file by file, and a file that does it again cannot be read.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpibatch.core.config import Job
from mpibatch.errors import ConfigError, StoppedError
from mpibatch.results import JobResult
from mpibatch.runtime.record import Begun, Hold, any_result, finished, make_record, save_record
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.blame import blamed, joined, parts
from mpibatch.runtime.surveying.burden import is_long
from mpibatch.runtime.surveying.here import Here, Late
from mpibatch.runtime.surveying.round_end import all_asked, stopped_words, why_not
from mpibatch.runtime.surveying.round_folder import Unanswered, read_answers, survey_job, write_questions

IN_PLACE_S = 0.5
"""So long rank 0 answers by itself: what takes no longer is not worth a session."""
IN_PLACE = "MPIBATCH_SURVEY_IN_PLACE_S"
"""Variable that sets it, in seconds."""
_PATIENCE_S = 5.0
"""So long one question may take a process beside rank 0; it may have to load a large library first."""


class Round(NamedTuple):
    """How a session of a survey ended."""

    result: JobResult
    orderly: bool


RunRound = Callable[[Job, Begun], Round]
"""Runs a job in its folder, on the workers of this world."""


class Rounds:
    """The `Ask` of one start. `folder`: the run's own; `run`: None where there are no workers (a dry run).

    `state` says which files there are, of what size and time: an answer counts as long as that stays. It is only
    called once workers are asked. Raises ConfigError where the environment sets what makes no sense.
    """

    def __init__(
        self,
        job: Job,
        folder: Path,
        lease: Hold | None,
        run: RunRound | None,
        say: Callable[[str], None],
        *,
        state: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._folder = folder
        self._workers = (run, lease) if run is not None and lease is not None else None
        self._say = say
        self._in_place_s = _in_place_s(os.environ.get(IN_PLACE))
        self._state = functools.cache(state)
        self._clock = clock
        self._here = Here()
        self._rounds = 0

    def ask(self, questions: Sequence[Any]) -> list[Any]:
        """The answers, in the order of the questions. Raises what stops the run."""
        self._rounds += 1
        if self._workers is None:
            return self._here.ask(questions)
        answers = self._in_place(questions)
        if answers is None:
            answers = self._on_workers(questions, *self._workers)
        return answers

    def _in_place(self, questions: Sequence[Any]) -> list[Any] | None:
        """None if it takes too long: then it is for the workers."""
        end = self._clock() + self._in_place_s
        answers: list[Any] = []
        try:
            for question in questions:
                if self._clock() > end or is_long(question):
                    return None
                answers.append(self._here.answer(question, _PATIENCE_S))
        except Late:
            return None
        return answers

    def _on_workers(self, questions: Sequence[Any], run: RunRound, lease: Hold) -> list[Any]:
        name = f"survey-{self._rounds}"
        answers = self._round(questions, name, run, lease)
        again = {
            number: singles
            for number, one in enumerate(answers)
            if isinstance(one, Unanswered) and len(singles := parts(questions[number])) > 1
        }
        if again:
            every = [single for singles in again.values() for single in singles]
            found = iter(self._round(every, f"{name}-again", run, lease))
            for number, singles in again.items():
                known = [_answered(single, next(found)) for single in singles]
                answers[number] = joined(questions[number], known)
        return [_answered(question, one) for question, one in zip(questions, answers, strict=True)]

    def _round(self, questions: Sequence[Any], name: str, run: RunRound, lease: Hold) -> list[Any]:
        """Of each question its answer, or that it has none."""
        job = survey_job(self._job, self._folder / name)
        folder = RunFolder(job.output)
        with write_questions(folder, questions, self._state()) as plan:
            result = finished(folder)
            if result is None:
                self._say(f"surveying the inputs on the workers: {len(questions):,} parts")
                record = make_record(job, plan, inputs=False)
                save_record(folder, record)
                begun = Begun(folder=folder, lease=_Within(lease), plan=plan, record=record)
                result = _result(run, job, begun)
        return read_answers(folder, result, len(questions))


class _Within:
    """The run's own lease, as a session of the survey has it: the number of that session is none of the run."""

    def __init__(self, lease: Hold) -> None:
        self.check = lease.check

    def set_session(self, number: int) -> None:
        pass

    def release(self) -> None:
        pass


def _result(run: RunRound, job: Job, begun: Begun) -> JobResult:
    """How it ended, if all questions were asked. Workers that were lost do not matter then: what they had, others
    have answered."""
    try:
        ended = run(job, begun)
    except StoppedError as error:  # A signal is told of as such once the session has ended.
        raise type(error)(stopped_words(any_result(begun.folder)) or str(error)) from error
    if not all_asked(ended.result):
        raise why_not(ended.result, lost=not ended.orderly)
    return ended.result


def _answered(question: Any, answer: Any) -> Any:
    return blamed(question, answer.why) if isinstance(answer, Unanswered) else answer


def _in_place_s(setting: str | None) -> float:
    if setting is None:
        return IN_PLACE_S
    try:
        seconds = float(setting)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise ConfigError(
            f"the environment variable {IN_PLACE} is {setting!r}: must be a number of seconds, 0 or more, for which"
            " rank 0 looks at the inputs itself before workers are asked. Set it so, or unset it."
        )
    return seconds
