"""The coordinator between workers, the dispatcher and the writer. The dispatcher is the real one; the rest are fakes:
messages are encoded and decoded, and at the end of each test nothing may be left over."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.dispatch import Dispatcher
from mpibatch.core.forms import Column, Form, encode_form
from mpibatch.core.framing import decoder, encode
from mpibatch.core.ranks import WorkerPlace
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.messages import (
    Announced,
    GaveUp,
    Goodbye,
    Grant,
    Heartbeat,
    Outcomes,
    Ping,
    ProcessorSpec,
    Pull,
    Ready,
    Recall,
    Release,
    Returned,
    StopAsked,
    ToCoordinator,
    ToWorker,
    WorkerSetup,
)
from mpibatch.runtime.coordinator import Coordinator
from mpibatch.runtime.farewell import GOODBYE_S, OUTPUT_FIRST_S
from mpibatch.runtime.forms import Forms
from mpibatch.runtime.pulls import MOST_PULLED_BYTES
from mpibatch.runtime.watch import LOOK_S, Watch
from mpibatch.runtime.writer import MOST_BACKLOG_BYTES
from mpibatch.work import Assignment, ErrorReport, Failed, Outcome, Paths, Piece, Succeeded

SHUTDOWN_S = 30.0
SILENCE_S, PING_S = 60.0, 10.0
ERROR = ErrorReport("ValueError", "no good")


class FakePort:
    def __init__(self) -> None:
        self.arrived: deque[tuple[int, bytes]] = deque()
        self.sent: dict[int, list[ToWorker]] = {}

    def send(self, rank: int, body: bytes) -> None:
        self.sent.setdefault(rank, []).append(decoder(ToWorker)(body))

    def receive(self) -> list[tuple[int, bytes]]:
        arrived = list(self.arrived)
        self.arrived.clear()
        return arrived

    def idle(self) -> bool:
        return True

    def failed(self) -> list[int]:
        return []

    def pressing(self) -> bool:
        return False


class FakePlan:
    """Mini-batches of two items each, in two inputs."""

    def position(self, piece: Piece) -> int:
        return 2 * piece.mini_batch + piece.first

    def input_of(self, mini_batch: int) -> int:
        return mini_batch % 2

    def source(self, piece: Piece) -> Paths:
        return Paths(b"%d" % piece.mini_batch)

    def keys(self, mini_batch: int) -> None:
        return None


class FakeWriter:
    def __init__(self) -> None:
        self.backlog_bytes = 0
        self.durable_at: float | None = 0.0
        self.successes: list[tuple[int, int, bytes]] = []
        self.failures: list[tuple[int, int, int, bool]] = []
        self.losses: list[int] = []
        self.splits: list[tuple[Piece, int]] = []
        self.forms: list[tuple[int, bytes]] = []
        self.pumped = 0

    def form(self, own: bytes, merged: bytes) -> None:
        self.forms.append((len(self.successes), own))

    def success(self, piece: Piece, worker: int, outcome: Succeeded) -> None:
        self.successes.append((piece.mini_batch, worker, outcome.fragment))

    def failure(self, piece: Piece, worker: int, outcome: Failed, *, tries: int, final: bool) -> None:
        self.failures.append((piece.mini_batch, worker, tries, final))

    def loss(self, piece: Piece, error: ErrorReport) -> None:
        self.losses.append(piece.mini_batch)

    def split(self, piece: Piece, at: int) -> None:
        self.splits.append((piece, at))

    def pump(self, now: float) -> None:
        self.pumped += 1


class FakeCauses:
    def __init__(self) -> None:
        self.successes: list[int] = []
        self.failures: list[tuple[int, int | None, ErrorReport]] = []

    def success(self, piece: Piece, outcome: Outcome, worker: int) -> None:
        self.successes.append(piece.mini_batch)

    def failure(self, piece: Piece, worker: int | None, error: ErrorReport) -> None:
        self.failures.append((piece.mini_batch, worker, error))


class Stage:
    """A coordinator of `workers` workers, number n on rank n + 1, with everything around it."""

    def __init__(
        self,
        workers: int,
        mini_batches: int,
        run_max_try: int = 2,
        forms: Forms | None = None,
        *,
        notices: Path | None = None,
        progress_timeout_s: float | None = None,
        gone: Sequence[int] = (),
        **settings: Any,
    ) -> None:
        """`settings`: of the dispatcher."""
        self.forms = forms
        self.failed: list[int] = []
        """Ranks that MPI reports dead."""
        self.remarks: list[str] = []
        places = {n: WorkerPlace(n, n + 1, 0, n, f"node{n}") for n in range(workers)}
        self.port, self.writer, self.causes = FakePort(), FakeWriter(), FakeCauses()
        self.now = 0.0
        self.dispatcher = Dispatcher(
            workers=workers,
            todo=[(0, mini_batches)] if mini_batches else [],
            item_count=lambda mini_batch: 2,
            run_max_try=run_max_try,
            thresholds=Thresholds(),
            tally=Tally(items_total=2 * mini_batches, mini_batches_total=mini_batches),
            **settings,
        )
        self.coordinator = Coordinator(
            port=self.port,
            plan=cast(Any, FakePlan()),
            dispatcher=self.dispatcher,
            writer=cast(Any, self.writer),
            causes=cast(Any, self.causes),
            forms=self.forms,
            workers=places,
            watch=Watch(places, silence_s=SILENCE_S, failed=lambda: self.failed, notices=notices),
            heartbeat_timeout_s=SILENCE_S,
            progress_timeout_s=progress_timeout_s,
            shutdown_timeout_s=SHUTDOWN_S,
            remark=self.remarks.append,
            clock=lambda: self.now,
            gone=gone,
        )
        self.coordinator.begin({n: setup(n) for n in range(workers)})
        for n in set(range(workers)) - set(gone):
            (told,) = self.told(n)
            assert isinstance(told, WorkerSetup) and told.worker == n

    def says(self, worker: int, *messages: ToCoordinator) -> None:
        for message in messages:
            self.port.arrived.append((worker + 1, encode(message)))
        self.step()

    def step(self, after_s: float = 0.0) -> bool:
        self.now += after_s
        acted = self.coordinator.step()
        self.dispatcher.check()
        return acted

    def told(self, worker: int) -> list[ToWorker]:
        return self.port.sent.pop(worker + 1, [])

    def granted(self, worker: int) -> list[Assignment]:
        """What it has been granted since, and nothing else was it told."""
        granted = []
        for message in self.told(worker):
            assert isinstance(message, Grant), message
            granted += message.assignments
        return granted

    def ready(self, worker: int) -> list[Assignment]:
        self.says(worker, Ready(0.5))
        return self.granted(worker)

    def goes_by(self, seconds: float, *alive: int) -> None:
        """Time, in which the workers `alive` give signs of life."""
        for _ in range(round(seconds)):
            for worker in alive:
                self.says(worker, Heartbeat())
            self.step(1.0)

    def over(self) -> None:
        """Nothing is left: everybody has been told everything and has been heard."""
        assert self.coordinator.over
        assert not self.port.sent and not self.port.arrived


def setup(worker: int) -> WorkerSetup:
    spec = ProcessorSpec(
        name="process000", script=b"/script.py", is_module=False, source_directory=None, argv=[],
        output_action="append_row", append_row={}, datasets=[], error_file=b"/errors", version="0",
    )  # fmt: skip
    return WorkerSetup(
        worker=worker, processor=spec, python=None, environment={}, environment_keep=[], stdout_file=b"/out",
        stderr_file=b"/err", log_file=b"/log", logging_level="INFO", run_invocation_timeout_s=60,
        init_timeout_s=600, kill_grace_s=30, heartbeat_s=5, silence_s=60,
    )  # fmt: skip


def success(attempt: int, fragment: bytes = b"row\n") -> Succeeded:
    return Succeeded(attempt, 2, 2, 1.0, 1.0, fragment)


def numbers(assignments: list[Assignment]) -> list[int]:
    return [assignment.mini_batch for assignment in assignments]


@pytest.fixture
def pair() -> Iterator[Stage]:
    """Two workers that are ready and have two mini-batches each, of six."""
    stage = Stage(2, 6)
    assert numbers(stage.ready(0)) == [0, 1]
    assert numbers(stage.ready(1)) == [2, 3]
    yield stage


def ends(stage: Stage, *workers: int, at_once: bool) -> None:
    for worker in workers:
        assert stage.told(worker) == [Release(at_once)]
        assert not stage.coordinator.over
        stage.says(worker, Goodbye())
    stage.over()


# Work


def test_from_the_first_to_the_last(pair: Stage) -> None:
    assert pair.coordinator.first_grant_at == 0.0
    assert pair.coordinator.ready_workers == 2
    pair.says(0, Outcomes([success(1, b"0\n")]))
    (assignment,) = pair.granted(0)
    assert assignment == Assignment(5, 4, 0, 2, 0, 8, 0, Paths(b"4"))
    pair.says(1, Outcomes([success(3, b"2\n")]))
    (assignment,) = pair.granted(1)
    assert assignment == Assignment(6, 5, 0, 2, 0, 10, 1, Paths(b"5"))
    assert not pair.coordinator.concluded
    pair.says(0, Outcomes([success(2, b"1\n"), success(5, b"4\n")]))
    pair.says(1, Outcomes([success(4, b"3\n"), success(6, b"5\n")]))

    assert pair.coordinator.verdict == "complete"
    assert pair.writer.successes == [
        (0, 0, b"0\n"), (2, 1, b"2\n"), (1, 0, b"1\n"), (4, 0, b"4\n"), (3, 1, b"3\n"), (5, 1, b"5\n"),
    ]  # fmt: skip
    assert pair.causes.successes == [0, 2, 1, 4, 3, 5]
    # Worker 0 was idle for a moment, so it asked worker 1 for what that had not begun.
    pair.port.sent[2] = [message for message in pair.port.sent[2] if not isinstance(message, Recall)]
    ends(pair, 0, 1, at_once=False)
    assert pair.coordinator.orderly


def test_nothing_to_do() -> None:
    stage = Stage(0, 0)
    assert stage.coordinator.concluded
    stage.step()
    stage.over()


def test_a_failure_is_tried_again_and_told_of_once_it_is_final(pair: Stage) -> None:
    pair.says(0, Outcomes([Failed(1, "raised", ERROR)]))
    assert numbers(pair.granted(0)) == [4], "it is tried elsewhere, as there is other work"
    assert pair.writer.failures == [(0, 0, 1, False)] and pair.causes.failures == []
    pair.says(1, Outcomes([success(3)]))
    (again,) = pair.granted(1)
    assert (again.mini_batch, again.retry) == (0, 1)
    pair.says(1, Outcomes([success(4), Failed(again.attempt, "raised", ERROR)]))

    assert pair.writer.failures == [(0, 0, 1, False), (0, 1, 2, True)]
    assert pair.causes.failures == [(0, 1, ERROR)]
    assert numbers(pair.granted(1)) == [5]


def test_what_was_not_asked_for_changes_nothing(pair: Stage) -> None:
    pair.says(0, Outcomes([success(3), success(99), Failed(4, "raised", ERROR)]))

    assert not pair.writer.successes and not pair.writer.failures and not pair.port.sent
    pair.says(1, Outcomes([success(3)]))
    assert pair.writer.successes == [(2, 1, b"row\n")]
    pair.granted(1)


@pytest.mark.parametrize("body", [b"\xc1", b"x", encode(Ping()), encode(Ready(1.0))[:-1]])
def test_nonsense_is_logged_and_costs_nothing(
    body: bytes, pair: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    pair.port.arrived.append((2, body))
    pair.step()

    assert "rank 2 sent what is no message of ours" in caplog.text
    pair.says(0, Outcomes([success(1)]))
    assert len(pair.writer.successes) == 1
    pair.granted(0)


def test_ranks_that_are_no_workers(pair: Stage, caplog: pytest.LogCaptureFixture) -> None:
    pair.says(7, Outcomes([success(1)]))
    assert "rank 8, which is no worker" in caplog.text and not pair.writer.successes


def test_who_has_left_is_not_heard(pair: Stage, caplog: pytest.LogCaptureFixture) -> None:
    pair.says(0, Goodbye(), Outcomes([success(1)]))

    assert "rank 1, which is no worker any more, sent Outcomes" in caplog.text
    assert not pair.writer.successes
    assert pair.coordinator.ready_workers == 1


# Large fragments


def large(attempt: int, length: int) -> Outcomes:
    return Outcomes([], [Announced(success(attempt, b""), length)])


def test_what_is_announced_is_pulled(pair: Stage) -> None:
    pair.says(0, large(1, 10 << 20))
    assert pair.told(0) == [Pull(1)]
    assert not pair.writer.successes, "the announcement is no outcome yet"
    pair.says(0, Outcomes([success(1, b"long")]))
    assert pair.writer.successes == [(0, 0, b"long")]
    pair.granted(0)


def test_so_much_is_on_its_way_at_one_time(pair: Stage) -> None:
    half = MOST_PULLED_BYTES // 2
    pair.says(0, large(1, half), large(2, half))
    pair.says(1, large(3, half), large(4, half))
    assert pair.told(0) == [Pull(1), Pull(2)] and pair.told(1) == []

    pair.says(0, Outcomes([success(1)]))
    assert pair.told(1) == [Pull(3)]
    assert numbers(pair.granted(0)) == [4]
    pair.says(0, Outcomes([success(2)]))
    assert pair.told(1) == [Pull(4)]
    pair.granted(0)


def test_one_that_is_larger_than_the_limit_goes_alone(pair: Stage) -> None:
    pair.says(0, large(1, 2 * MOST_PULLED_BYTES), large(2, 1))
    assert pair.told(0) == [Pull(1)]
    pair.says(0, Outcomes([success(1)]))
    assert pair.told(0)[-1] == Pull(2)


def test_who_leaves_does_not_block_others(pair: Stage) -> None:
    pair.says(0, large(1, MOST_PULLED_BYTES), large(2, 1))
    pair.says(1, large(3, 1))
    assert pair.told(0) == [Pull(1)] and pair.told(1) == []
    pair.says(0, Goodbye())

    assert pair.told(0) == []
    assert pair.told(1)[-1] == Pull(3)


# The disk is slow


def test_while_rows_wait_for_the_disk_nothing_is_taken_in(pair: Stage) -> None:
    pair.writer.backlog_bytes = MOST_BACKLOG_BYTES
    pair.says(0, Outcomes([success(1)]))
    assert not pair.writer.successes and len(pair.port.arrived) == 1

    pair.goes_by(2 * SILENCE_S)
    pair.writer.backlog_bytes = 0
    pumped = pair.writer.pumped
    pair.step(PING_S + 1)
    assert pair.writer.pumped > pumped
    assert pair.coordinator.ready_workers == 2, "nobody is lost because he was not listened to"
    assert pair.writer.successes == [(0, 0, b"row\n")]
    for worker in (0, 1):
        assert Ping() in pair.told(worker), "the workers know that rank 0 lives"


# Silence


def test_signs_of_life_go_out(pair: Stage) -> None:
    pair.goes_by(3 * PING_S + 3, 0, 1)
    assert pair.told(0) == pair.told(1) == [Ping()] * 3


def test_who_is_silent_is_lost_and_others_do_its_work(pair: Stage) -> None:
    pair.goes_by(SILENCE_S + 2 * PING_S, 0)
    assert pair.coordinator.ready_workers == 1
    pair.told(0)
    done = 0
    for attempt in range(1, 20):
        if not pair.coordinator.concluded:
            pair.says(0, Outcomes([success(attempt)]))
            done += 1
    assert pair.coordinator.verdict == "complete"
    assert sorted(mini_batch for mini_batch, _, _ in pair.writer.successes) == list(range(6))
    assert {worker for _, worker, _ in pair.writer.successes} == {0}
    assert pair.told(0)[-1] == Release(False)
    assert pair.told(1)[-1] == Release(False), "it may hear it"
    pair.says(0, Goodbye())
    pair.over()
    assert not pair.coordinator.orderly, "MPI cannot be ended"


def test_who_comes_back_is_heard(pair: Stage, caplog: pytest.LogCaptureFixture) -> None:
    pair.goes_by(SILENCE_S + 2 * PING_S, 0)
    assert pair.coordinator.ready_workers == 1
    pair.says(1, Outcomes([success(3)]))

    assert "worker 1 (rank 2 on node1) is back" in caplog.text
    assert pair.coordinator.ready_workers == 2
    assert pair.writer.successes == [(2, 1, b"row\n")]


def test_what_a_lost_worker_announced_is_asked_for_once_it_is_back(pair: Stage) -> None:
    pair.says(0, large(1, MOST_PULLED_BYTES))
    pair.says(1, large(3, 1))
    assert pair.told(0) == [Pull(1)] and pair.told(1) == []
    pair.goes_by(SILENCE_S + 2 * PING_S, 0)
    assert pair.coordinator.ready_workers == 1
    pair.says(0, Outcomes([success(1)]))
    assert not [message for message in pair.told(1) if isinstance(message, Pull)]

    pair.says(1, Heartbeat())
    assert Pull(3) in pair.told(1)


def test_whoever_stood_still_himself_blames_nobody(pair: Stage) -> None:
    pair.step(10 * SILENCE_S)
    assert pair.coordinator.ready_workers == 2


def test_all_are_lost(pair: Stage) -> None:
    pair.goes_by(SILENCE_S + 2 * PING_S)
    assert (pair.coordinator.verdict, pair.coordinator.reason) == ("stopped", "all workers were lost")
    assert pair.coordinator.over and not pair.coordinator.orderly


def test_whom_mpi_reports_dead_is_lost_at_once(pair: Stage) -> None:
    pair.failed.append(2)
    pair.step(LOOK_S)
    assert pair.coordinator.ready_workers == 1
    assert pair.remarks == ["rank 2 on node1 has died: what it had is done elsewhere"]
    pair.goes_by(2 * PING_S, 0)
    assert pair.told(1) == [], "nothing is sent to who is dead"
    pair.says(0, *(Outcomes([success(attempt)]) for attempt in range(1, 20)))
    assert pair.coordinator.verdict == "complete"
    assert len(pair.writer.successes) == 6


def test_a_guardian_tells_of_its_worker(tmp_path: Path) -> None:
    stage = Stage(2, 6, notices=tmp_path)
    stage.ready(0)
    stage.ready(1)
    (tmp_path / "7").touch()
    (tmp_path / "nonsense").touch()
    stage.step(LOOK_S)
    assert stage.coordinator.ready_workers == 2 and not stage.remarks
    (tmp_path / "0").touch()
    stage.step(LOOK_S)
    assert stage.coordinator.ready_workers == 1
    stage.goes_by(3, 1)
    assert len(stage.remarks) == 1, "once"


def test_who_was_lost_before_is_not_waited_for() -> None:
    stage = Stage(2, 2, gone=[1])
    assert numbers(stage.ready(0)) == [0, 1]
    stage.says(0, Outcomes([success(1), success(2)]))
    assert stage.coordinator.verdict == "complete"
    ends(stage, 0, at_once=False)
    assert not stage.coordinator.orderly and stage.coordinator.lost == {1}


def test_a_goodbye_to_an_earlier_session_means_nothing() -> None:
    stage = Stage(1, 2)
    stage.says(0, Goodbye())
    assert not stage.coordinator.concluded
    assert numbers(stage.ready(0)) == [0, 1]
    stage.says(0, Goodbye())
    assert stage.coordinator.verdict == "stopped"


def test_who_is_released_before_its_first_word_is_heard() -> None:
    stage = Stage(2, 2)
    stage.ready(0)
    stage.says(0, Outcomes([success(1), success(2)]))
    assert stage.coordinator.verdict == "complete"
    ends(stage, 0, 1, at_once=False)
    assert stage.coordinator.orderly


def test_who_was_only_silent_may_come_back_in_a_later_session(pair: Stage) -> None:
    pair.goes_by(SILENCE_S + 2 * PING_S, 0)
    pair.failed.append(1)
    pair.step(LOOK_S)
    assert pair.coordinator.ready_workers == 0
    assert pair.coordinator.lost == {0}


def test_if_all_were_lost_before_it_ends_at_once() -> None:
    stage = Stage(2, 2, gone=[0, 1])
    stage.step()
    stage.over()
    assert stage.coordinator.verdict == "stopped"


def test_who_dies_while_it_is_waited_for_is_waited_for_no_more(pair: Stage) -> None:
    pair.coordinator.stop("got SIGINT", at_once=True)
    pair.step()
    pair.says(0, Goodbye())
    assert not pair.coordinator.over
    pair.failed.append(2)
    pair.step(LOOK_S)
    assert pair.coordinator.over and not pair.coordinator.orderly


# Progress


def test_without_progress_it_stops() -> None:
    stage = Stage(1, 6, progress_timeout_s=30)
    stage.goes_by(100, 0)
    assert not stage.coordinator.concluded, "init() may take long"
    stage.told(0)
    stage.ready(0)
    stage.goes_by(29, 0)
    stage.says(0, Outcomes([success(1)]))
    stage.goes_by(29, 0)
    stage.says(0, Heartbeat(progress=True))
    stage.goes_by(29, 0)
    assert not stage.coordinator.concluded
    stage.goes_by(3, 0)
    assert stage.coordinator.verdict == "stopped"
    assert stage.coordinator.reason.startswith(
        "no mini-batch has ended for 30 s (progress_update_timeout): raise"
    )
    assert stage.told(0)[-1] == Release(True)


# What waits


def test_a_failed_mini_batch_waits_for_its_next_try() -> None:
    backoff = RetryBackoff(initial=10, factor=1, max=10, jitter=False)
    stage = Stage(1, 1, backoff=backoff)
    (first,) = stage.ready(0)
    stage.says(0, Outcomes([Failed(first.attempt, "raised", ERROR)]))
    stage.goes_by(9, 0)
    assert stage.granted(0) == []
    stage.step(1.0)
    (again,) = [one for message in stage.told(0) if isinstance(message, Grant) for one in message.assignments]
    assert (again.mini_batch, again.retry) == (0, 1)


def test_what_has_used_its_tries_is_tried_in_halves() -> None:
    stage = Stage(1, 1, run_max_try=1, isolate=True)
    (whole,) = stage.ready(0)
    stage.says(0, Outcomes([Failed(whole.attempt, "raised", ERROR)]))
    halves = stage.granted(0)
    assert [(one.first, one.count, one.position) for one in halves] == [(0, 1, 0), (1, 1, 1)]
    assert stage.writer.splits == [(Piece(0, 0, 2), 1)]
    assert stage.writer.failures == [(0, 0, 1, False)] and not stage.causes.failures
    stage.says(0, Outcomes([Failed(halves[0].attempt, "raised", ERROR), success(halves[1].attempt)]))
    assert stage.coordinator.verdict == "complete"
    assert len(stage.causes.failures) == 1 and len(stage.writer.successes) == 1


def test_a_node_without_memory_runs_one_processor_fewer() -> None:
    stage = Stage(2, 8, run_max_try=9, nodes=[0, 0])
    granted = [stage.ready(0), stage.ready(1)]
    for number in (0, 1):
        killed = Failed(granted[number][0].attempt, "out_of_memory", ERROR)
        stage.says(number, Outcomes([killed]))
    assert stage.told(1)[-1] == Release(True)
    assert stage.coordinator.ready_workers == 1
    (remark,) = stage.remarks
    assert remark.endswith("so that the others have its share: rank 2 on node1")
    stage.says(1, Goodbye())
    stage.says(0, *(Outcomes([success(attempt)]) for attempt in range(1, 40)))
    assert stage.coordinator.verdict == "complete"


# Who cannot work


def test_who_gives_up_leaves_its_work_to_others(pair: Stage) -> None:
    pair.says(0, GaveUp(ERROR, False, [1, 2]))
    assert not pair.coordinator.concluded
    assert pair.coordinator.gave_up == (0, ERROR) and pair.coordinator.unusable is None
    assert pair.coordinator.ready_workers == 1
    assert pair.told(0) == [], "it is not granted anything else"
    pair.says(1, Outcomes([success(3)]), Outcomes([success(4)]))
    assert numbers(pair.granted(1)) == [0, 1]


def test_when_all_have_given_up_it_ends(pair: Stage) -> None:
    other = ErrorReport("OSError", "no model")
    pair.says(1, GaveUp(other, False, [3]))  # 4 was on its way to it when it gave up.
    pair.says(0, GaveUp(ERROR, False, [1, 2]))

    assert (pair.coordinator.verdict, pair.coordinator.gave_up) == ("no_workers", (1, other))
    ends(pair, 0, 1, at_once=False)
    assert pair.coordinator.orderly


def test_a_script_that_nobody_can_use_ends_it_at_once(pair: Stage) -> None:
    pair.says(0, GaveUp(ERROR, True, [1, 2]))

    assert (pair.coordinator.verdict, pair.coordinator.unusable) == ("failed", ERROR)
    assert pair.coordinator.reason == "ValueError: no good"
    ends(pair, 0, 1, at_once=False)


# Stops


def test_a_stop_lets_finish_what_runs(pair: Stage) -> None:
    pair.coordinator.stop("got SIGINT", at_once=False)
    assert pair.told(0) == [Recall([1, 2])] and pair.told(1) == [Recall([3, 4])]
    pair.says(0, Returned([2]))
    pair.says(1, Returned([4]))
    assert not pair.coordinator.concluded
    pair.says(0, Outcomes([success(1)]))
    pair.says(1, Outcomes([success(3)]))

    assert (pair.coordinator.verdict, pair.coordinator.reason) == ("stopped", "got SIGINT")
    assert len(pair.writer.successes) == 2
    ends(pair, 0, 1, at_once=False)


def test_a_stop_at_once(pair: Stage) -> None:
    pair.coordinator.stop("got SIGINT", at_once=True)
    pair.says(0, Outcomes([success(1)]))

    assert pair.coordinator.verdict == "stopped"
    assert not pair.writer.successes, "too late"
    ends(pair, 0, 1, at_once=True)


def test_a_worker_asks_for_a_stop(pair: Stage) -> None:
    pair.says(1, StopAsked("SIGTERM"))
    assert pair.told(0) == [Recall([1, 2])] and pair.told(1) == [Recall([3, 4])]
    pair.says(0, Returned([1, 2]))
    pair.says(1, Returned([3, 4]))

    assert pair.coordinator.reason == "rank 2 on node1 got SIGTERM"
    ends(pair, 0, 1, at_once=False)


def test_the_output_comes_first_for_a_moment(pair: Stage) -> None:
    """Of a complete run: processors are told to end when it is durable, or when it takes long."""
    pair.writer.durable_at = None
    done = 0
    while not pair.coordinator.concluded:
        done += 1
        pair.says(0, Outcomes([success(done)]))
        pair.says(1, Outcomes([success(done)]))
    told = [*pair.told(0), *pair.told(1)]
    assert not [message for message in told if isinstance(message, Release)]
    pair.step(OUTPUT_FIRST_S / 2)
    assert pair.told(0) == pair.told(1) == []
    pair.step(OUTPUT_FIRST_S / 2)
    ends(pair, 0, 1, at_once=False)


def test_a_stop_after_the_end_changes_nothing(pair: Stage) -> None:
    pair.coordinator.stop("first", at_once=True)
    pair.coordinator.stop("second", at_once=True)
    assert pair.coordinator.reason == "first"
    pair.step()
    ends(pair, 0, 1, at_once=True)


def test_who_does_not_say_goodbye_is_not_waited_for_for_ever(pair: Stage) -> None:
    pair.coordinator.stop("got SIGINT", at_once=True)
    pair.says(0, Goodbye())
    pair.goes_by(SHUTDOWN_S + GOODBYE_S, 1)
    assert not pair.coordinator.over
    pair.goes_by(1, 1)

    assert pair.coordinator.over and not pair.coordinator.orderly


def test_the_logs_tell_the_place(pair: Stage, caplog: pytest.LogCaptureFixture) -> None:
    pair.says(1, GaveUp(ERROR, False, [3, 4]))
    assert re.search(r"worker 1 \(rank 2 on node1\) gave up: ValueError: no good", caplog.text)


# Forms of rows


def formed(attempt: int, type_: str, columns: str = "a") -> Succeeded:
    form = encode_form(Form("parquet", (Column(columns, type_),)))
    return Succeeded(attempt, 2, 2, 1.0, 1.0, form + b"rows", header=len(form))


def test_rows_that_do_not_go_together_fail_their_attempt_with_both_forms() -> None:
    stage = Stage(1, 3, forms=Forms([]))
    stage.ready(0)
    stage.says(0, Outcomes([formed(1, "int64"), formed(2, "string")]))
    assert stage.writer.successes[0][0] == 0 and stage.writer.failures == [(1, 0, 1, False)]
    retried = [one.attempt for one in stage.granted(0) if one.mini_batch == 1]
    stage.says(0, Outcomes([formed(retried[0], "int64", "b")]))
    ((mini_batch, _, error),) = stage.causes.failures
    assert mini_batch == 1 and error.type == "NotEncodable"
    assert "a" in error.message and "b" in error.message


def test_each_form_is_recorded_once_and_before_its_rows() -> None:
    stage = Stage(1, 4, forms=Forms([]))
    stage.ready(0)
    for mini_batch, type_ in enumerate(["int64", "int64", "double", "int64"]):
        stage.says(0, Outcomes([formed(mini_batch + 1, type_)]))
    assert [successes for successes, _ in stage.writer.forms] == [0, 2]
    assert len(stage.writer.successes) == 4


def test_a_form_of_an_answer_that_comes_too_late_does_not_count() -> None:
    stage = Stage(1, 2, forms=Forms([]))
    stage.ready(0)
    stage.says(0, Outcomes([formed(99, "string")]))
    stage.says(0, Outcomes([formed(1, "int64")]))
    assert len(stage.writer.successes) == len(stage.writer.forms) == 1
