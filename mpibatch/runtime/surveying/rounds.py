"""Has questions of a survey answered: few of them in place, many in a session of its own on the workers.

Such a session is an ordinary run in a folder below the run folder: a question is an item, an answer is a row. So
a lost worker, a stop and a new start mean what they mean for all work: what is answered is not asked again.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpibatch.core.config import Job, ListInput
from mpibatch.errors import InputError, InterruptedByUser, StoppedError, StorageError
from mpibatch.results import JobResult
from mpibatch.runtime.plan_file import PlanWriter
from mpibatch.runtime.planner import PLAN_NAME, Plan, open_plan
from mpibatch.runtime.record import Begun, Hold, finished, make_record, save_record
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.questions import answer, read_answer, write

IN_PLACE_S = 0.5
"""So long rank 0 answers by itself: what takes no longer is not worth a session."""
IN_PLACE = "MPIBATCH_SURVEY_IN_PLACE_S"
"""Variable that sets it, in seconds."""
_TIMEOUT_S = 24 * 3600.0
"""For one question: it may be about a whole file."""


class Round(NamedTuple):
    """How a session of a survey ended."""

    result: JobResult
    orderly: bool


RunRound = Callable[[Job, Begun], Round]
"""Runs a job in its folder, on the workers of this world."""


class Rounds:
    """The `Ask` of one start. `folder`: the run's own; `run`: None where there are no workers (a dry run).

    `state` says which files there are, of what size and time: an answer counts as long as that stays. It is only
    called once workers are asked.
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
        self._lease = lease
        self._run = run
        self._say = say
        self._in_place_s = float(os.environ.get(IN_PLACE, IN_PLACE_S))
        self._state = functools.cache(state)
        self._clock = clock
        self._rounds = 0

    def ask(self, questions: Sequence[Any]) -> list[Any]:
        """The answers, in the order of the questions. Raises what stops the run."""
        self._rounds += 1
        end = self._clock() + self._in_place_s
        answers: list[Any] = []
        for question in questions:
            if self._run is not None and self._lease is not None and self._clock() > end:
                return self._on_workers(questions, self._run, self._lease)
            answers.append(answer(question))
        return answers

    def _on_workers(self, questions: Sequence[Any], run: RunRound, lease: Hold) -> list[Any]:
        job = survey_job(self._job, self._folder / f"survey-{self._rounds}")
        folder = RunFolder(job.output)
        plan = _plan(folder, questions, self._state())
        result = finished(folder)
        if result is None:
            self._say(f"surveying the inputs on the workers: {len(questions):,} parts")
            record = make_record(job, plan, inputs=False)
            save_record(folder, record)
            ended = run(job, Begun(folder=folder, lease=_Within(lease), plan=plan, record=record))
            _check(ended)
            result = ended.result
        plan.close()
        assert result.output is not None
        with open(result.output, encoding="utf-8") as file:
            return [read_answer(line) for line in file]


class _Within:
    """The run's own lease, as a session of the survey has it: the number of that session is none of the run."""

    def __init__(self, lease: Hold) -> None:
        self.check = lease.check

    def set_session(self, number: int) -> None:
        pass

    def release(self) -> None:
        pass


def survey_job(job: Job, folder: Path) -> Job:
    """The job that answers questions, in `folder`."""
    return Job(
        job_file=job.job_file,
        job_dir=job.job_dir,
        name="survey",
        entry_script="mpibatch.runtime.surveying.entry",
        entry_is_module=True,
        inputs=[ListInput(list="", check=False, text="questions of a survey")],
        mini_batch_size=1,
        output=str(folder),
        append_row_file_name="answers.txt",
        error_threshold=0,
        run_invocation_timeout=_TIMEOUT_S,
        process_count_per_node=job.process_count_per_node,
        node_count=job.node_count,
        logging_level=job.logging_level,
        term_grace_s=job.term_grace_s,
    )


def _plan(folder: RunFolder, questions: Sequence[Any], state: str) -> Plan:
    """The plan of a round. What an earlier start has answered stays, if it was asked the same of the same files."""
    aside = folder.root.with_name(f"{folder.root.name}.plan")
    aside.mkdir(parents=True, exist_ok=True)
    with PlanWriter(aside / PLAN_NAME, 1) as writer:
        writer.add(b"/", [os.fsencode(write(question)) for question in questions])
        items = writer.end_input()
        header = {
            "mini_batch_size": 1,
            "inputs": [{"kind": "list", "text": "", "items": items}],
            "remarks": [],
        }
        writer.finish(header, ["survey", items, state])
    plan = open_plan(aside)
    if _fingerprint(folder) != plan.fingerprint:
        shutil.rmtree(folder.root, ignore_errors=True)
        folder.private.mkdir(parents=True, exist_ok=True)
    os.replace(aside / PLAN_NAME, folder.private / PLAN_NAME)
    aside.rmdir()
    return plan


def _fingerprint(folder: RunFolder) -> str | None:
    if not (folder.private / PLAN_NAME).exists():
        return None
    with open_plan(folder.private) as plan:
        return plan.fingerprint


def _check(ended: Round) -> None:
    result = ended.result
    if result.verdict == "complete":
        if not ended.orderly:
            raise StoppedError("a worker was lost while the inputs were surveyed. Start again to go on.")
        return
    if result.verdict == "stopped":
        interrupted = result.exit_code == InterruptedByUser.exit_code
        stopped = InterruptedByUser if interrupted else StoppedError
        raise stopped(f"stopped while the inputs were surveyed ({result.reason}). Start again to go on.")
    cause = result.first_cause.error if result.first_cause is not None else result.reason
    kind = StorageError if result.exit_code == StorageError.exit_code else InputError
    raise kind(f"the inputs could not be surveyed: {cause}")
