"""The folder of one round of a survey: its job, its questions as a plan, and its answers as rows."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import mpibatch
from mpibatch.core.config import Job, ListInput
from mpibatch.errors import StorageError
from mpibatch.results import JobResult
from mpibatch.runtime.files import storing
from mpibatch.runtime.plan_file import PlanWriter
from mpibatch.runtime.planner import PLAN_NAME, Plan, open_plan
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.surveying.questions import read_answer, write

_ANSWERS = "answers.txt"
_TIMEOUT_S = 24 * 3600.0
"""For one question: it may be about a whole file."""
_TRIES = 2
"""Of a question whose processor dies: it may have been another one on the node that took the memory."""
_PLACE = re.compile(r" \(pid [^()]*\)")


class Unanswered(msgspec.Struct, frozen=True):
    """In place of an answer: `why` the processors that were asked have not given one."""

    why: str


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
        append_row_file_name=_ANSWERS,
        error_threshold=-1,
        run_invocation_timeout=_TIMEOUT_S,
        run_max_try=_TRIES,
        isolate_failures=False,
        heartbeat_timeout=job.heartbeat_timeout,
        max_restarts=job.max_restarts,
        time_limit=job.time_limit,
        drain_margin=job.drain_margin,
        process_count_per_node=job.process_count_per_node,
        node_count=job.node_count,
        logging_level=job.logging_level,
        term_grace_s=job.term_grace_s,
    )


def write_questions(folder: RunFolder, questions: Sequence[Any], state: str) -> Plan:
    """The plan of a round. What an earlier start has answered stays, if it was asked the same of the same files."""
    aside = folder.root.with_name(f"{folder.root.name}.plan")
    with storing(str(aside)):
        aside.mkdir(parents=True, exist_ok=True)
    with PlanWriter(aside / PLAN_NAME, 1) as writer:
        lines = (f"{number} {write(question)}" for number, question in enumerate(questions))
        writer.add(b"/", [os.fsencode(line) for line in lines])
        items = writer.end_input()
        header = {
            "mini_batch_size": 1,
            "inputs": [{"kind": "list", "text": "", "items": items}],
            "remarks": [],
        }
        # Another version may ask and answer in another form.
        writer.finish(header, ["survey", mpibatch.__version__, items, state])
    plan = open_plan(aside)
    with storing(str(folder.private)):
        if _fingerprint(folder) != plan.fingerprint:
            shutil.rmtree(folder.root, ignore_errors=True)
            folder.private.mkdir(parents=True, exist_ok=True)
        os.replace(aside / PLAN_NAME, folder.private / PLAN_NAME)
        aside.rmdir()
    return plan


def _fingerprint(folder: RunFolder) -> str | None:
    """Of what was asked there; None if that cannot be told: then it is asked anew, as no words could help."""
    try:
        with open_plan(folder.private) as plan:
            return plan.fingerprint
    except StorageError:
        return None


def read_answers(folder: RunFolder, result: JobResult, count: int) -> list[Any]:
    """In the order of the questions: an answer, or an Unanswered."""
    answers: dict[int, Any] = {}
    if result.output is not None:
        with open(folder.root / _ANSWERS, encoding="utf-8") as file:
            for line in file:
                number, _, answer = line.partition(" ")
                answers[int(number)] = read_answer(answer)
    if len(answers) < count:
        answers = {**_failed(folder), **answers}
    nothing = Unanswered("its reader has said nothing of it")
    return [answers.get(number, nothing) for number in range(count)]


def _failed(folder: RunFolder) -> dict[int, Unanswered]:
    """By number: the questions that no processor has answered."""
    found = {}
    with open(folder.failed_items, encoding="utf-8") as file:
        for line in file:
            failure = json.loads(line)
            number = failure["item"][1:].partition(" ")[0]
            found[int(number)] = Unanswered(_why(**failure["error"]))
    return found


def _why(type: str, message: str) -> str:
    """As words about a file, without where it was: another start would find the same."""
    words = " ".join(_PLACE.sub("", message).split())
    return f"its reader{words.removeprefix('it')}" if words.startswith("it ") else f"{type}: {words}"
