"""Rounds of a survey: in place or on the workers, what fails there, and what an earlier start has answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

from mpibatch.core.config import Job
from mpibatch.errors import ConfigError, InputError, InterruptedByUser, StoppedError, StorageError
from mpibatch.inputs.parquet_footers import Footer, Footers, FootersAnswer
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.record import Begun
from mpibatch.runtime.surveying import rounds as module
from mpibatch.runtime.surveying.here import Late
from mpibatch.runtime.surveying.questions import read_question, write
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


DIED = {"type": "Died", "message": "it died: SIGSEGV (pid 17 of rank 1 on node1, in a mini-batch)"}


def footers(*names: str) -> Footers:
    return Footers([name.encode() for name in names], None)


def told(question: Footers) -> FootersAnswer:
    """What the fakes answer: the size of a footer is the length of its file's name, its schema the first letter."""
    schemas = list(dict.fromkeys(path[:1] for path in question.paths))
    found = [Footer(size=len(path), schema=schemas.index(path[:1])) for path in question.paths]
    return FootersAnswer(found, schemas)


class FakeHere:
    """Rank 0 itself; a question about a file named "slow" is not answered in time."""

    def answer(self, question: Footers, patience_s: float) -> FootersAnswer:
        if b"slow" in question.paths:
            raise Late
        return told(question)

    def ask(self, questions: list[Footers]) -> list[FootersAnswer]:
        return [told(question) for question in questions]


class Stage:
    """Workers that answer as `told`, but for questions about a file whose name begins with "bad": they die."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        job_file = support.make_job(folder, "def run(b): return b", items=1)
        self.job: Job = load_job(job_file)
        self.folder = folder / "private" / "survey"
        self.hold = Hold()
        self.said: list[str] = []
        self.asked: list[list[list[str]]] = []
        """Of each session the files of each of its questions."""
        self.end: Callable[[Path], Round] = lambda root: Round(result(root), True)
        self.before: Callable[[Job], None] = lambda job: None
        monkeypatch.setenv(IN_PLACE, "0")
        monkeypatch.setattr(module, "Here", FakeHere)

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
        self.before(job)
        plan = begun.plan
        items = [plan.item_names(Piece(number, 0, 1))[0][0] for number in range(plan.mini_batches)]
        lines = [item[1:].split(" ", 1) for item in items]
        questions = [read_question(line) for _, line in lines]
        self.asked.append([[path.decode() for path in one.paths] for one in questions])
        ended = self.end(begun.folder.root)
        if ended.result.verdict != "complete":
            return ended
        bad = [any(path.startswith(b"bad") for path in one.paths) for one in questions]
        failures = [{"item": item, "error": DIED} for item, dies in zip(items, bad) if dies]
        rows = [f"{line[0]} {write(told(one))}" for line, one, dies in zip(lines, questions, bad) if not dies]
        return self._left(begun, rows, failures)

    def _left(self, begun: Begun, rows: list[str], failures: list[dict[str, Any]]) -> Round:
        """As a session leaves its folder."""
        root = begun.folder.root
        counts = ItemCounts(total=len(rows) + len(failures), succeeded=len(rows), failed=len(failures))
        none = {"verdict": "failed", "exit_code": 3, "output": None} if not rows else {}
        ended = Round(result(root, **{"items": counts, **none}), self.end(root).orderly)
        if rows:
            (root / "answers.txt").write_text("".join(f"{row}\n" for row in rows))
        begun.folder.failed_items.write_text("".join(f"{json.dumps(one)}\n" for one in failures))
        begun.folder.result.write_bytes(msgspec.json.encode(ended.result))
        return ended


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


A, BB, AC = footers("a"), footers("bb"), footers("a", "cc", "a")


def test_little_is_answered_in_place(stage: Stage) -> None:
    assert stage.rounds(now=lambda: 0.0).ask([A, BB, AC]) == [told(A), told(BB), told(AC)]
    assert stage.asked == [] and stage.said == [] and not stage.folder.parent.exists()


def test_much_is_answered_by_the_workers_in_the_order_of_the_questions(stage: Stage) -> None:
    assert stage.rounds().ask([A, BB, AC]) == [told(A), told(BB), told(AC)]
    assert stage.asked == [[["a"], ["bb"], ["a", "cc", "a"]]]
    assert "3 parts" in stage.said[0] and stage.hold.checked


def test_what_takes_long_in_place_goes_to_the_workers(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = footers("slow")
    rounds = stage.rounds(now=lambda: 0.0)
    assert rounds.ask([A, slow]) == [told(A), told(slow)]
    assert stage.asked == [[["a"], ["slow"]]]
    monkeypatch.setattr(module, "is_long", lambda question: question == BB)
    assert rounds.ask([BB]) == [told(BB)]
    assert stage.asked[1:] == [[["bb"]]], "what is known to be long is not even begun in place"


def test_without_workers_all_is_answered_in_place(stage: Stage) -> None:
    assert stage.rounds(workers=False).ask([A, footers("slow")] * 20) == [told(A), told(footers("slow"))] * 20


def test_what_was_answered_by_an_earlier_start_is_not_asked_again(stage: Stage) -> None:
    rounds = stage.rounds()
    assert rounds.ask([A, BB]) == [told(A), told(BB)]
    assert rounds.ask([AC]) == [told(AC)]
    later = stage.rounds()
    assert later.ask([A, BB]) == [told(A), told(BB)]
    assert later.ask([BB]) == [told(BB)], "another question is not that of before"
    assert stage.asked == [[["a"], ["bb"]], [["a", "cc", "a"]], [["bb"]]]


def test_what_was_answered_about_files_that_have_changed_since_is_asked_again(stage: Stage) -> None:
    assert stage.rounds().ask([A]) == [told(A)]
    assert stage.rounds(state="changed").ask([A]) == [told(A)]
    assert stage.asked == [[["a"]], [["a"]]]


# What fails


WHY = "its reader died: SIGSEGV"


def test_where_it_cannot_be_told_what_was_asked_it_is_asked_again(stage: Stage) -> None:
    """As by another version, or since the plan was damaged: `--fresh` would not remove it."""
    stage.rounds().ask([A, BB])
    plan = stage.folder / "survey-1" / ".mpibatch" / "plan"
    plan.write_bytes(plan.read_bytes()[:-1])
    assert stage.rounds().ask([A, BB]) == [told(A), told(BB)]
    assert len(stage.asked) == 2


def test_a_file_that_kills_its_reader_is_found_among_others_and_has_an_error(stage: Stage) -> None:
    mixed = footers("a", "bad1", "cc", "a", "bad2")
    answers = stage.rounds().ask([A, mixed, AC, footers("bad3")])
    assert stage.asked == [
        [["a"], ["a", "bad1", "cc", "a", "bad2"], ["a", "cc", "a"], ["bad3"]],
        [["a"], ["bad1"], ["cc"], ["a"], ["bad2"]],
    ]
    assert (answers[0], answers[2]) == (told(A), told(AC))
    bad = Footer(error=WHY)
    assert answers[1].footers == [Footer(size=1), bad, Footer(size=2, schema=1), Footer(size=1), bad]
    assert answers[1].schemas == [b"a", b"c"]
    assert answers[3] == FootersAnswer([bad], [])


def test_where_all_files_kill_their_reader_each_has_an_error(stage: Stage) -> None:
    first, second = stage.rounds().ask([footers("bad1"), footers("bad2", "bad3")])
    assert [one.error for one in (*first.footers, *second.footers)] == [WHY] * 3


def test_failures_of_an_earlier_start_are_known_too(stage: Stage) -> None:
    mixed = footers("a", "bad1")
    assert stage.rounds().ask([A, mixed]) == stage.rounds().ask([A, mixed])
    assert len(stage.asked) == 2


def test_a_worker_that_is_lost_does_not_matter_once_all_is_answered(stage: Stage) -> None:
    stage.end = lambda root: Round(result(root), False)
    assert stage.rounds().ask([A]) == [told(A)]


@pytest.mark.parametrize(
    ("fields", "orderly", "kind", "words"),
    [
        ({"verdict": "stopped", "exit_code": 75, "reason": "got SIGTERM"}, True, StoppedError, "got SIGTERM"),
        ({"verdict": "stopped", "exit_code": 130}, True, InterruptedByUser, "Start the same command again"),
        ({"verdict": "stopped", "exit_code": 75}, True, StoppedError, "3 of 9 parts are surveyed, and kept"),
        (
            {"verdict": "failed", "exit_code": 74, "reason": "no space left"},
            True,
            StorageError,
            "no space left",
        ),
        (
            {"verdict": "no_workers", "exit_code": 4, "reason": "none is left"},
            True,
            InputError,
            "none is left",
        ),
        ({"verdict": "no_workers", "exit_code": 4, "reason": "none is left"}, False, StoppedError, "again"),
        (
            {
                "verdict": "failed",
                "exit_code": 2,
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
    items = ItemCounts(total=9, succeeded=3, failed=2)
    stage.end = lambda root: Round(result(root, **{"items": items, **fields}), orderly)
    with pytest.raises(kind, match=words) as raised:
        stage.rounds().ask([A])
    assert type(raised.value) is kind


@pytest.mark.parametrize("kind", [StoppedError, InterruptedByUser])
def test_a_signal_that_is_told_of_after_the_session_says_what_is_kept(
    stage: Stage, kind: type[StoppedError]
) -> None:
    def stopped(job: Job) -> None:
        items = ItemCounts(total=9, succeeded=3, failed=2)
        left = result(Path(job.output), "stopped", items=items, reason="got SIGINT")
        (Path(job.output) / "job_result.json").write_bytes(msgspec.json.encode(left))
        raise kind("stopped before any work was begun (got SIGINT)")

    stage.before = stopped
    with pytest.raises(
        kind, match=r"surveyed \(got SIGINT\); 3 of 9 parts are surveyed, and kept.*Start the same"
    ) as raised:
        stage.rounds().ask([A])
    assert type(raised.value) is kind


def test_what_of_the_job_holds_for_its_survey(stage: Stage) -> None:
    seen: list[Job] = []
    stage.before = seen.append
    stage.job = msgspec.structs.replace(
        stage.job, heartbeat_timeout=7, max_restarts=5, time_limit=50, drain_margin=8, error_threshold=0
    )
    stage.rounds().ask([A])
    (job,) = seen
    assert (job.heartbeat_timeout, job.max_restarts, job.time_limit, job.drain_margin) == (7, 5, 50, 8)
    assert job.error_threshold == -1 and job.isolate_failures is False


@pytest.mark.parametrize("setting", ["soon", "", "-1", "nan"])
def test_a_setting_that_makes_no_sense(stage: Stage, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv(IN_PLACE, setting)
    with pytest.raises(ConfigError, match=f"{IN_PLACE} is {setting!r}: must be a number of seconds"):
        stage.rounds()
