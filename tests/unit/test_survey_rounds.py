"""Rounds of a survey: in place or on the workers, and what an earlier start has answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

from mpibatch.core.config import Job
from mpibatch.errors import InputError, InterruptedByUser, StoppedError, StorageError
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.record import Begun
from mpibatch.runtime.surveying import rounds as module
from mpibatch.runtime.surveying.entry import run as entry_run
from mpibatch.runtime.surveying.rounds import IN_PLACE, Round, Rounds
from mpibatch.work import Piece


class Hold:
    def __init__(self) -> None:
        self.checked = 0

    def set_session(self, number: int) -> None:
        raise AssertionError("the session of a survey is none of the run")

    def check(self) -> None:
        self.checked += 1

    def release(self) -> None:
        raise AssertionError("the lease is the run's own")


def result(folder: Path, verdict: Any = "complete", **fields: Any) -> JobResult:
    defaults: dict[str, Any] = {
        "exit_code": 0, "reason": "", "items": ItemCounts(total=0, succeeded=0, failed=0),
        "mini_batches": MiniBatchCounts(total=0, succeeded=0, failed=0, attempts=0), "rows": 0,
        "elapsed_s": 0.0, "processing_s": 0.0, "mini_batches_per_s": 0.0, "sessions": 1,
        "output": str(folder / "answers.txt"), "first_cause": None,
    }  # fmt: skip
    return JobResult(verdict=verdict, **{**defaults, **fields})


class Stage:
    """Questions are numbers, and an answer is twice the question."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        job_file = support.make_job(folder, "def run(b): return b", items=1)
        self.job: Job = load_job(job_file)
        self.folder = folder / "private" / "survey"
        self.hold = Hold()
        self.said: list[str] = []
        self.asked: list[list[str]] = []
        self.end: Callable[[Path], Round] = lambda root: Round(result(root), True)
        monkeypatch.setenv(IN_PLACE, "0")
        monkeypatch.setattr(module, "answer", lambda question: 2 * question)
        monkeypatch.setattr(module, "read_answer", int)

    def rounds(
        self, *, workers: bool = True, now: Callable[[], float] | None = None, state: str = "as before"
    ) -> Rounds:
        return Rounds(
            self.job, self.folder, self.hold, self.run if workers else None, self.said.append,
            state=lambda: state, clock=now or iter(range(10**6)).__next__,
        )  # fmt: skip

    def run(self, job: Job, begun: Begun) -> Round:
        begun.lease.check()
        begun.lease.set_session(1)
        begun.lease.release()
        plan = begun.plan
        items = [plan.item_names(Piece(number, 0, 1))[0][0] for number in range(plan.mini_batches)]
        self.asked.append(items)
        root = begun.folder.root
        ended = self.end(root)
        if ended.result.verdict == "complete":
            (root / "answers.txt").write_text("".join(f"{2 * int(item[1:])}\n" for item in items))
            begun.folder.result.write_bytes(msgspec.json.encode(ended.result))
        return ended


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_little_is_answered_in_place(stage: Stage) -> None:
    assert stage.rounds(now=lambda: 0.0).ask([3, 1, 2]) == [6, 2, 4]
    assert stage.asked == [] and stage.said == [] and not stage.folder.parent.exists()


def test_much_is_answered_by_the_workers_in_the_order_of_the_questions(stage: Stage) -> None:
    assert stage.rounds().ask([3, 1, 2]) == [6, 2, 4]
    assert stage.asked == [["/3", "/1", "/2"]]
    assert "3 parts" in stage.said[0] and stage.hold.checked


def test_without_workers_all_is_answered_in_place(stage: Stage) -> None:
    assert stage.rounds(workers=False).ask(list(range(50))) == list(range(0, 100, 2))


def test_what_was_answered_by_an_earlier_start_is_not_asked_again(stage: Stage) -> None:
    rounds = stage.rounds()
    assert rounds.ask([1, 2]) == [2, 4]
    assert rounds.ask([5]) == [10]
    later = stage.rounds()
    assert later.ask([1, 2]) == [2, 4]
    assert later.ask([6]) == [12], "another question is not that of before"
    assert stage.asked == [["/1", "/2"], ["/5"], ["/6"]]


def test_what_was_answered_about_files_that_have_changed_since_is_asked_again(stage: Stage) -> None:
    assert stage.rounds().ask([1]) == [2]
    assert stage.rounds(state="changed").ask([1]) == [2]
    assert stage.asked == [["/1"], ["/1"]]


@pytest.mark.parametrize(
    ("fields", "orderly", "kind", "words"),
    [
        ({"verdict": "stopped", "exit_code": 75, "reason": "got SIGTERM"}, True, StoppedError, "got SIGTERM"),
        ({"verdict": "stopped", "exit_code": 130}, True, InterruptedByUser, "Start again"),
        ({}, False, StoppedError, "a worker was lost"),
        (
            {"verdict": "failed", "exit_code": 74, "reason": "no space left"},
            True,
            StorageError,
            "no space left",
        ),
        ({"verdict": "no_workers", "reason": "no worker is left"}, True, InputError, "no worker is left"),
        (
            {
                "verdict": "too_many_errors",
                "first_cause": CauseGroup(error="OSError: gone", item=None, count=1, log=None),
            },
            True,
            InputError,
            "OSError: gone",
        ),
    ],
)
def test_what_stops_a_survey_stops_the_run(
    stage: Stage, fields: dict[str, Any], orderly: bool, kind: type[Exception], words: str
) -> None:
    stage.end = lambda root: Round(result(root, **{"verdict": "complete", **fields}), orderly)
    with pytest.raises(kind, match=words) as raised:
        stage.rounds().ask([1])
    assert type(raised.value) is kind


def test_the_entry_script_answers_what_stands_behind_the_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    from mpibatch.runtime.surveying import entry

    monkeypatch.setattr(entry, "answer", lambda question: [question, "ä\n"])
    monkeypatch.setattr(entry, "read_question", int)
    assert entry_run(["/7", "/8"]) == ['[7,"ä\\n"]', '[8,"ä\\n"]']
