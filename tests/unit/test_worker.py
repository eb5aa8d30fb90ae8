"""The worker: what it is told, what its processor does, what it says. Its processor, its guardian and the clock
are fakes; messages are encoded and decoded, and at the end of each test nothing may be left over."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpibatch.core.framing import FrameError, decoder, encode
from mpibatch.messages import (
    Announced,
    Dismissed,
    Finish,
    FromProcessor,
    GaveUp,
    Goodbye,
    Grant,
    Heartbeat,
    InitFailed,
    Outcomes,
    PassedOver,
    Ping,
    ProcessorSpec,
    Pull,
    Ready,
    Recall,
    Release,
    Returned,
    StopAsked,
    ToCoordinator,
    ToProcessor,
    ToWorker,
    WorkerSetup,
)
from mpibatch.runtime import quarters as module
from mpibatch.runtime.announcing import ANNOUNCE_BYTES
from mpibatch.runtime.clock import (
    ATTEMPT,
    CLOCK_BYTES,
    HEARTBEATS,
    LATEST,
    MOVES,
    REVOKED_FIRST,
    REVOKED_LAST,
    SLOT_ATTEMPT,
    SLOT_CANCELLED,
    SLOTS,
    STARTED,
    STEP,
    TICKS,
    Clock,
    place_of,
)
from mpibatch.runtime.deaths import Death
from mpibatch.runtime.holdings import handed_target
from mpibatch.runtime.memory import MemoryWatch
from mpibatch.runtime.watched import EOF_GRACE_S
from mpibatch.runtime.worker import LONGEST_PATIENCE_S, OVER_PATIENCE_S, SHORTEST_PATIENCE_S, Worker
from mpibatch.work import Assignment, BadItem, ErrorReport, Failed, Paths, Succeeded

RUN_S, INIT_S, SHUTDOWN_S, HEARTBEAT_S, SILENCE_S = 60.0, 600.0, 30.0, 5.0, 60.0
ERROR = ErrorReport("OSError", "no model")


class FakePort:
    """The coordinator's end."""

    def __init__(self) -> None:
        self.to_worker: deque[bytes] = deque()
        self.said: deque[ToCoordinator] = deque()
        self.is_pressing = False

    def send(self, rank: int, body: bytes) -> None:
        assert rank == 0
        self.said.append(decoder(ToCoordinator)(body))

    def receive(self) -> list[tuple[int, bytes]]:
        arrived = [(0, body) for body in self.to_worker]
        self.to_worker.clear()
        return arrived

    def idle(self) -> bool:
        return True

    def failed(self) -> list[int]:
        return []

    def pressing(self) -> bool:
        return self.is_pressing


class FakeChild:
    """A processor that does what the test says."""

    started: list[FakeChild]
    fails_to_start: bool

    def __init__(self, command: list[str], **options: Any) -> None:
        if FakeChild.fails_to_start:
            raise OSError("no more processes")
        assert "runtime.processor" in command[-1]
        self.options = options
        self.pid = 100 + len(FakeChild.started)
        self.told: deque[ToProcessor] = deque()
        self._memory = bytearray(CLOCK_BYTES)
        self.clock = Clock(memoryview(self._memory))
        self.eof = False
        self.received = 0
        self.returncode = 1
        self.killed = self.dead = self.buried = self.closed = False
        self._said: deque[FromProcessor | None] = deque()
        FakeChild.started.append(self)

    # As its worker sees it

    def let_go(self) -> None:
        assert not self.told, "nothing is said to it before it may begin"

    def send(self, message: ToProcessor) -> None:
        assert not self.closed
        self.told.append(decoder(ToProcessor)(encode(message)))

    def flush(self) -> None:
        assert not self.closed

    def receive(self) -> Iterator[FromProcessor]:
        while self._said:
            message = self._said.popleft()
            self.received += 1
            if message is None:
                raise FrameError("nonsense")
            yield message

    def ended(self) -> bool:
        return self.dead

    def kill(self) -> None:
        assert not self.buried
        if not self.dead:
            self.killed = self.dead = True
            self.returncode = -9

    def ends_within(self, seconds: float) -> bool:
        return self.dead

    def bury(self) -> Death:
        assert self.dead and not self.buried, "buried alive, or twice"
        self.buried = True
        return Death(self.pid, self.returncode, "its last words", 3 << 30)

    def close(self) -> None:
        assert self.buried and not self.closed
        self.closed = True
        self.clock.close()

    def fds(self) -> list[tuple[int, bool]]:
        return []

    # As the test sees it

    def says(self, message: FromProcessor | None) -> None:
        """None: what is no message."""
        self._said.append(message if message is None else decoder(FromProcessor)(encode(message)))

    def beats(self) -> None:
        """The script says that it gets on."""
        memoryview(self._memory).cast("Q")[HEARTBEATS] += 1

    def begins(self, attempt: int, started_ns: int = 0) -> bool:
        """Whether it goes on with it: it may have been taken back."""
        page = memoryview(self._memory).cast("Q")
        page[STARTED], page[LATEST], page[ATTEMPT] = started_ns, attempt, attempt
        taken_back = page[REVOKED_FIRST] <= attempt <= page[REVOKED_LAST]
        if taken_back:
            page[ATTEMPT] = 0
        return not taken_back

    def runs(self, *attempts: int, cancelled: int = 0, step: int = 0) -> None:
        """As one that has an event loop, with these at a time. Each call is a move of the loop, and a round of it."""
        page = memoryview(self._memory).cast("Q")
        page[SLOTS], page[STEP], page[LATEST] = 8, step, max(attempts, default=page[LATEST])
        page[MOVES], page[TICKS] = page[MOVES] + 1, page[TICKS] + 1
        for slot in range(8):
            attempt = attempts[slot] if slot < len(attempts) else 0
            page[place_of(slot) + SLOT_ATTEMPT] = attempt
            page[place_of(slot) + SLOT_CANCELLED] = cancelled if attempt == cancelled else 0

    def ends(self, attempt: int) -> None:
        memoryview(self._memory).cast("Q")[ATTEMPT] = 0
        self.says(Outcomes([success(attempt)]))


class FakeGuardian:
    made: list[FakeGuardian]

    def __init__(self, scratch: str, lost_file: bytes) -> None:
        assert os.path.isdir(scratch)
        self.scratch = scratch
        self.lost_file = lost_file
        self.group = 0
        self.dismissed = False
        FakeGuardian.made.append(self)

    def watch(self, group: int) -> None:
        assert not self.dismissed
        self.group = group

    def dismiss(self) -> None:
        assert not self.dismissed
        self.dismissed = True


class Stage:
    """A worker with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = FakePort()
        self.now = 0.0
        self.kernel = folder / "kernel"
        self.kernel.mkdir()
        memory = MemoryWatch(str(self.kernel), str(self.kernel))
        self.worker = Worker(self.port, rank=5, host="node1", clock=lambda: self.now, memory=memory)

    def kernel_kills(self, count: int) -> None:
        """So many processes have been killed for memory so far."""
        (self.kernel / "vmstat").write_text(f"oom_kill {count}\n")
        (self.kernel / "memory.max").write_text(f"{4 << 30}\n")
        (self.kernel / "meminfo").write_text(f"MemAvailable: {1 << 20} kB\n")

    def tell(self, *messages: ToWorker) -> None:
        for message in messages:
            self.port.to_worker.append(encode(message))
        self.worker.step()

    def setup(self, concurrency: int = 1) -> FakeChild:
        logs = self.folder / "logs"
        spec = ProcessorSpec(
            name="process001", script=b"/script.py", is_module=False, source_directory=None, argv=[],
            output_action="append_row", append_row={}, datasets=[], error_file=os.fsencode(logs / "errors"),
            version="0", concurrency=concurrency,
        )  # fmt: skip
        self.tell(
            WorkerSetup(
                worker=1, processor=spec, python=None, environment={"A": b"1"}, environment_keep=[],
                stdout_file=os.fsencode(logs / "out"), stderr_file=os.fsencode(logs / "err"),
                log_file=os.fsencode(logs / "log"), logging_level="DEBUG", run_invocation_timeout_s=RUN_S,
                init_timeout_s=INIT_S, kill_grace_s=SHUTDOWN_S, heartbeat_s=HEARTBEAT_S, silence_s=SILENCE_S,
                lost_file=b"/lost/1", processors_here=8,
            )
        )  # fmt: skip
        *_, child = FakeChild.started
        assert isinstance(child.told.popleft(), ProcessorSpec)
        return child

    def ready(self, concurrency: int = 1) -> FakeChild:
        """Set up, with a processor that is ready."""
        child = self.setup(concurrency)
        self.from_child(child, Ready(0.5))
        assert self.said() == [Ready(0.5)]
        return child

    def from_child(self, child: FakeChild, *messages: FromProcessor | None) -> None:
        for message in messages:
            child.says(message)
        self.worker.step()

    def successor(self) -> FakeChild:
        """The processor that replaced another one; it has been told what it is."""
        child = FakeChild.started[-1]
        assert isinstance(child.told.popleft(), ProcessorSpec)
        assert FakeGuardian.made[0].group == child.pid
        return child

    def step(self, after_s: float = 0.0) -> None:
        self.now += after_s
        self.worker.step()

    def said(self) -> list[ToCoordinator]:
        said = list(self.port.said)
        self.port.said.clear()
        return said

    def over(self) -> None:
        """All has been said, and nothing is left."""
        assert self.worker.over
        assert not self.port.said and not self.port.to_worker
        for child in FakeChild.started:
            assert child.closed and not child.told
        for guardian in FakeGuardian.made:
            assert guardian.dismissed and not guardian.group and not os.path.exists(guardian.scratch)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    FakeChild.started, FakeChild.fails_to_start, FakeGuardian.made = [], False, []
    stage = Stage(tmp_path)
    monkeypatch.setattr(module, "Child", FakeChild)
    monkeypatch.setattr(module, "Guardian", FakeGuardian)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("time.monotonic_ns", lambda: round(stage.now * 1e9))
    yield stage
    stage.worker.abandon()


def assignment(attempt: int) -> Assignment:
    return Assignment(attempt, attempt + 10, 0, 1, 0, 0, 0, Paths(b"/item"))


def grant(*attempts: int) -> Grant:
    return Grant([assignment(attempt) for attempt in attempts])


def success(attempt: int, *, seconds: float = 1.0, fragment: bytes = b"row\n") -> Succeeded:
    return Succeeded(attempt, 1, 1, seconds, seconds, fragment)


def granted(child: FakeChild) -> list[int]:
    """What a processor was granted since."""
    attempts = []
    while child.told:
        message = child.told.popleft()
        assert isinstance(message, Grant)
        attempts += [assignment.attempt for assignment in message.assignments]
    return attempts


def end(stage: Stage) -> None:
    """Release it when it is idle."""
    stage.tell(Release(False))
    child = FakeChild.started[-1]
    assert list(child.told) == [Finish()]
    child.told.clear()
    child.dead = True
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def retire(stage: Stage) -> None:
    """Release it at once, whatever it is at."""
    stage.said()
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    for child in FakeChild.started:
        child.told.clear()
    stage.over()


# What is done


def test_one_after_the_other(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2, 3, 4))

    assert granted(child) == [1, 2], "it has one in hand besides the one that it is at"
    for attempt, following in ((1, [3]), (2, [4]), (3, []), (4, [])):
        stage.from_child(child, Outcomes([success(attempt)]))
        assert stage.said() == [Outcomes([success(attempt)])]
        assert granted(child) == following
    end(stage)


def test_work_waits_for_init(stage: Stage) -> None:
    child = stage.setup()
    stage.tell(grant(1))
    assert granted(child) == []

    stage.from_child(child, Ready(0.5))
    assert stage.said() == [Ready(0.5)] and granted(child) == [1]
    stage.from_child(child, Outcomes([success(1)]))
    stage.said()
    end(stage)


@pytest.mark.parametrize(
    ("mean_s", "target"), [(None, 2), (1.0, 2), (0.01, 2), (0.004, 3), (0.001, 10), (1e-6, 512), (0.0, 512)]
)
def test_short_ones_are_handed_over_by_the_dozen(mean_s: float | None, target: int) -> None:
    assert handed_target(mean_s) == target


def test_refilled_when_half_is_done(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(*range(1, 41)))
    assert granted(child) == [1, 2]
    stage.from_child(child, Outcomes([success(1, seconds=0.001)]))
    assert granted(child) == list(range(3, 12))

    stage.from_child(child, Outcomes([success(attempt, seconds=0.001) for attempt in range(2, 6)]))
    assert granted(child) == []
    stage.from_child(child, Outcomes([success(6, seconds=0.001)]))
    assert granted(child) == list(range(12, 17))
    stage.said()
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def test_large_fragments_are_announced_and_pulled(stage: Stage) -> None:
    child = stage.ready()
    large, bare = success(1, fragment=b"x" * (ANNOUNCE_BYTES + 1)), success(1, fragment=b"")
    just = success(2, fragment=b"x" * ANNOUNCE_BYTES)
    stage.tell(grant(1, 2))
    stage.from_child(child, Outcomes([large]))
    assert stage.said() == [Outcomes([], [Announced(bare, ANNOUNCE_BYTES + 1)])]
    stage.from_child(child, Outcomes([just]))
    assert stage.said() == [Outcomes([just])]

    stage.tell(Pull(1), Pull(1), Pull(7))
    assert stage.said() == [Outcomes([large])]
    granted(child)
    end(stage)


def test_many_bad_items_are_announced_and_pulled_too(stage: Stage) -> None:
    child = stage.ready()
    bad = [BadItem(n, ErrorReport("BadRecord", "x" * 100)) for n in range(ANNOUNCE_BYTES // 100)]
    large = Succeeded(1, 1, 1, 1.0, 1.0, b"row\n", bad=bad)
    stage.tell(grant(1))
    stage.from_child(child, Outcomes([large]))
    [announced] = [one for said in stage.said() if isinstance(said, Outcomes) for one in said.announced]
    assert isinstance(announced.outcome, Succeeded) and not announced.outcome.bad
    assert announced.length == large.length > ANNOUNCE_BYTES
    stage.tell(Pull(1))
    assert stage.said() == [Outcomes([large])]
    granted(child)
    end(stage)


def test_what_was_not_granted_is_dropped(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    stage.from_child(child, Outcomes([success(2), success(1), success(1)]))

    assert stage.said() == [Outcomes([success(1)])]
    assert "attempt 2, which was not granted" in (stage.folder / "logs" / "log").read_text()
    granted(child)
    end(stage)


def test_only_what_was_not_begun_is_given_back(stage: Stage) -> None:
    """From what waits here, and from the end of what the processor holds."""
    child = stage.ready()
    stage.tell(grant(1, 2, 3, 4))
    assert granted(child) == [1, 2]
    assert child.begins(1)
    stage.tell(Recall([1, 2, 4, 9]))
    assert stage.said() == [Returned([4, 2])]
    stage.tell(Recall([2, 4]))
    assert stage.said() == [Returned([])], "an answer also where there is nothing"

    stage.from_child(child, Outcomes([success(1)]))
    assert granted(child) == [3]
    assert not child.begins(2), "it knows, without a message"
    assert child.begins(3)
    stage.from_child(child, Outcomes([success(3)]))
    assert stage.said() == [Outcomes([success(1)]), Outcomes([success(3)])]
    end(stage)


def test_what_seems_to_have_begun_and_was_passed_over(stage: Stage) -> None:
    """It has noted the beginning and has not looked yet whether the attempt is taken back."""
    child = stage.ready()
    stage.tell(grant(1, 2, 3))
    granted(child)
    stage.from_child(child, Outcomes([success(1)]))
    assert granted(child) == [3]
    child.begins(2)
    stage.said()
    stage.tell(Recall([2, 3]))
    assert stage.said() == [Returned([3])]
    stage.from_child(child, PassedOver(2))

    assert stage.said() == [Returned([2])], "it comes back after all"
    stage.from_child(child, PassedOver(2), PassedOver(3))
    assert stage.said() == []
    end(stage)


def test_what_it_begins_and_passes_over_all_the_same_is_given_back(stage: Stage) -> None:
    """Both sides look at the same moment: we see it begun, it sees itself taken back."""
    child = stage.ready()
    stage.tell(grant(1, 2, 3))
    assert granted(child) == [1, 2]
    assert child.begins(1)
    stage.from_child(child, Outcomes([success(1)]))
    assert granted(child) == [3]
    assert child.begins(2)
    stage.said()
    stage.tell(Recall([2, 3]))
    assert stage.said() == [Returned([3])]

    stage.from_child(child, PassedOver(2))
    assert stage.said() == [Returned([2])]
    stage.from_child(child, PassedOver(3))
    assert stage.said() == [], "that one was given back before"
    end(stage)


def test_what_it_begins_while_it_is_taken_back_stays(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    granted(child)
    assert child.begins(1)
    stage.from_child(child, Outcomes([success(1)]))
    assert child.begins(2)
    stage.said()
    stage.tell(Recall([2]))

    assert stage.said() == [Returned([])]
    stage.from_child(child, Outcomes([success(2)]))
    assert stage.said() == [Outcomes([success(2)])]
    end(stage)


def test_only_from_the_end_on(stage: Stage) -> None:
    """What is behind one that is not asked for stays, and what is asked for later too, until it is seen."""
    child = stage.ready()
    stage.tell(grant(*range(1, 8)))
    stage.from_child(child, Outcomes([success(1, seconds=0.002)]))
    assert granted(child) == [1, 2, 3, 4, 5, 6]
    assert child.begins(2)
    stage.said()
    stage.tell(Recall([3, 5, 6]))
    assert stage.said() == [Returned([5, 6])]
    stage.tell(Recall([4]))
    assert stage.said() == [Returned([])], "a second range cannot be told before the first was seen"

    done = [attempt for attempt in (3, 4, 5, 6) if child.begins(attempt)]
    assert done == [3, 4]
    stage.from_child(child, Outcomes([success(attempt) for attempt in (2, 3, 4)]))
    assert granted(child) == [7] and child.begins(7)
    stage.from_child(child, Outcomes([success(7)]))
    stage.said()
    end(stage)


# Deaths


def failed(stage: Stage) -> Failed:
    ((outcome,),) = [message.outcomes for message in stage.said() if isinstance(message, Outcomes)]
    assert isinstance(outcome, Failed)
    return outcome


def test_a_death_costs_what_was_running(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2, 3))
    stage.from_child(child, Outcomes([success(1, seconds=0.001)]))
    stage.said()
    assert granted(child) == [1, 2, 3]
    child.begins(2)
    child.dead = True
    stage.step(1.5)

    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.run_s) == (2, "died", 1.5)
    assert "exit code 1 (pid 100 of rank 5 on node1, in mini-batch 12, attempt 2)" in outcome.error.message
    assert outcome.error.details == "its last words"
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert stage.said() == [], "rank 0 knows already that it is ready"
    assert granted(other) == [3]
    assert other.options["cwd"] != child.options["cwd"] and child.closed
    stage.from_child(other, Outcomes([success(3)]))
    stage.said()
    end(stage)


def test_what_it_sent_before_its_death_counts(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.says(Outcomes([success(1)]))
    child.dead = True
    stage.step()

    assert stage.said() == [Outcomes([success(1)])]
    granted(child)
    stage.from_child(stage.successor(), Ready(0.5))
    end(stage)


def test_what_was_not_begun_keeps_its_place(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(*range(1, 9)))
    stage.from_child(child, Outcomes([success(1, seconds=0.004)]))
    stage.said()
    assert granted(child) == [1, 2, 3, 4]
    child.dead = True
    stage.step()
    other = stage.successor()
    stage.from_child(other, Ready(0.5))

    assert granted(other) == [2, 3, 4]
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def test_deaths_between_mini_batches_are_nobodys_fault_but_not_for_ever(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    for _ in range(2):
        child.dead = True
        stage.step()
        granted(child)
        assert stage.said() == []
        child = stage.successor()
        stage.from_child(child, Ready(0.5))
        stage.said()
    child.dead = True
    stage.step()

    (gave_up,) = stage.said()
    assert isinstance(gave_up, GaveUp) and gave_up.attempts == [1, 2] and not gave_up.unusable
    assert "between two mini-batches" in gave_up.error.message
    granted(child)
    stage.tell(grant(3))  # Sent before rank 0 knew.
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


def test_an_outcome_forgives_earlier_deaths(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(*range(1, 10)))
    for attempt in range(1, 9):
        stage.from_child(child, Outcomes([success(attempt)]))
        granted(child)
        child.dead = True
        stage.step()
        child = stage.successor()
        stage.from_child(child, Ready(0.5))
    assert not [message for message in stage.said() if isinstance(message, GaveUp)]
    stage.from_child(child, Outcomes([success(9)]))
    stage.said()
    granted(child)
    end(stage)


def test_over_time(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    child.begins(1)
    stage.step(RUN_S)
    assert not child.killed
    stage.step(0.1)
    stage.step()
    assert child.killed
    stage.step()

    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.error.type) == (1, "timed_out", "TimedOut")
    assert "over run_invocation_timeout: 60 s" in outcome.error.message
    granted(child)
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert granted(other) == [2]
    stage.from_child(other, Outcomes([success(2)]))
    stage.said()
    end(stage)


def test_each_attempt_has_its_own_time(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    child.begins(1)
    stage.step(RUN_S + 0.1)
    child.begins(2, round(stage.now * 1e9))
    for _ in range(3):
        stage.step()

    assert not child.killed
    stage.from_child(child, Outcomes([success(1), success(2)]))
    stage.said()
    granted(child)
    stage.tell(Release(True))
    stage.step()
    stage.said()


def test_a_closed_connection(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    child.eof = True
    stage.step()
    stage.step(EOF_GRACE_S / 2)
    assert not child.killed, "it may be dying"
    stage.step(EOF_GRACE_S)
    stage.step()

    assert child.killed
    assert "it closed its connection to mpibatch, so it was killed" in failed(stage).error.message
    stage.successor()
    granted(child)
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def test_nonsense_in_its_stream(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    stage.from_child(child, None)

    assert child.killed
    assert "the script wrote into the connection" in failed(stage).error.message
    stage.successor()
    granted(child)
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


# Memory


def test_killed_by_the_kernel_for_memory(stage: Stage) -> None:
    stage.kernel_kills(7)
    child = stage.ready()
    stage.tell(grant(1, 2))
    child.begins(1)
    stage.kernel_kills(8)
    child.dead, child.returncode = True, -9
    stage.step()

    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.error.type) == (1, "out_of_memory", "OutOfMemory")
    assert outcome.error.message == (
        "the kernel killed the processor because memory ran out; its peak resident memory was 3.00 GiB;"
        " the limit of its cgroup is 4.00 GiB; the node has 1.00 GiB to give now; processors on this node: 8"
        " (pid 100 of rank 5 on node1, in mini-batch 11, attempt 1). Run fewer processes on a node"
        " (process_count_per_node), or take a smaller mini_batch_size."
    )
    assert outcome.error.details == "its last words"
    granted(child)
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert granted(other) == [2]
    other.begins(2)
    other.dead, other.returncode = True, -9
    stage.step()
    outcome = failed(stage)
    assert outcome.cause == "died", "that one the kernel has not counted"
    assert "most likely the kernel, because memory ran out; its peak resident memory was 3.00 GiB)" in (
        outcome.error.message
    )
    retire(stage)


@pytest.mark.parametrize(("code", "cause"), [(-11, "died"), (1, "died"), (-9, "out_of_memory")])
def test_only_a_sigkill_is_the_kernels(code: int, cause: str, stage: Stage) -> None:
    stage.kernel_kills(0)
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    stage.kernel_kills(1)
    child.dead, child.returncode = True, code
    stage.step()
    assert failed(stage).cause == cause
    granted(child)
    retire(stage)


def test_what_we_have_killed_was_not_the_kernel(stage: Stage) -> None:
    stage.kernel_kills(0)
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    stage.kernel_kills(1)
    stage.step(RUN_S + 0.1)
    stage.step()
    assert child.killed
    stage.step()
    assert failed(stage).cause == "timed_out"
    granted(child)
    retire(stage)


def test_too_little_memory_for_init(stage: Stage) -> None:
    stage.kernel_kills(0)
    for number in range(3):
        child = stage.setup() if number == 0 else stage.successor()
        stage.kernel_kills(number + 1)
        child.dead, child.returncode = True, -9
        stage.step()
    (gave_up,) = stage.said()
    assert isinstance(gave_up, GaveUp)
    assert gave_up.error.type == "OutOfMemory" and "in init()" in gave_up.error.message
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


# Standing still


def test_frozen_between_two_mini_batches(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    child.begins(1)
    child.ends(1)
    stage.step()
    assert stage.said() == [Outcomes([success(1)])]
    for _ in range(59):
        stage.step(1.0)
    assert not child.killed
    for _ in range(2):
        stage.step(1.0)
    assert child.killed
    stage.step()

    assert not [said for said in stage.said() if not isinstance(said, Heartbeat)], "it costs nothing"
    assert "it stood still between two mini-batches for 60 s" in (stage.folder / "logs" / "log").read_text()
    granted(child)
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert granted(other) == [2]
    stage.from_child(other, Outcomes([success(2)]))
    stage.said()
    end(stage)


def test_without_work_it_may_stand_still(stage: Stage) -> None:
    child = stage.ready()
    for _ in range(1000):
        stage.step(1.0)
    assert not child.killed
    stage.tell(grant(1))
    for _ in range(60):
        stage.step(1.0)
    assert not child.killed, "counted from when it was given work"
    granted(child)
    retire(stage)


@pytest.mark.parametrize("sign", ["says something", "begins attempts"])
def test_signs_of_life(sign: str, stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(*range(1, 1000)))
    for attempt in range(1, 400):
        if sign == "says something":  # A part of a large answer.
            child.received += 1
        else:
            child.begins(attempt, round(stage.now * 1e9))
            memoryview(child._memory).cast("Q")[ATTEMPT] = 0
        stage.step(1.0)
        assert not child.killed
    granted(child)
    retire(stage)


def test_a_worker_that_stood_still_does_not_blame_its_processor(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    stage.step(1000.0)
    stage.step(0.1)
    assert not child.killed
    granted(child)
    retire(stage)


# Where it cannot begin


def test_init_fails_three_times(stage: Stage) -> None:
    child = stage.setup()
    stage.tell(grant(1))
    for _ in range(2):
        stage.from_child(child, InitFailed(ERROR, False))
        assert stage.said() == [] and child.closed
        child = stage.successor()
    stage.from_child(child, InitFailed(ERROR, False))

    assert stage.said() == [GaveUp(ERROR, False, [1])]
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


def test_an_init_that_succeeds_forgives(stage: Stage) -> None:
    child = stage.setup()
    stage.tell(grant(1))
    for _ in range(2):
        for _ in range(2):
            stage.from_child(child, InitFailed(ERROR, False))
            child = stage.successor()
        stage.from_child(child, Ready(0.5))
        child.begins(1)
        child.dead = True
        stage.step()
        granted(child)
        child = stage.successor()

    assert not [message for message in stage.said() if isinstance(message, GaveUp)]
    stage.tell(Release(True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def test_a_script_that_no_processor_can_use(stage: Stage) -> None:
    child = stage.setup()
    stage.from_child(child, InitFailed(ERROR, True))

    assert stage.said() == [GaveUp(ERROR, True, [])]
    assert len(FakeChild.started) == 1
    stage.tell(Release(True))
    assert stage.said() == [Goodbye()]
    stage.over()


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_processor_that_does_not_come_to_be_ready(how: str, stage: Stage) -> None:
    child = stage.setup()
    for _ in range(3):
        if how == "dies":
            child.dead = True
            stage.step()
        else:
            stage.step(INIT_S)
            assert not child.killed
            stage.step(0.1)
            stage.step()
        assert child.closed
        if len(FakeChild.started) < 3:
            child = stage.successor()
        else:
            child.told.clear()
            child = FakeChild.started[-1]

    (gave_up,) = [message for message in stage.said() if not isinstance(message, Heartbeat)]
    assert isinstance(gave_up, GaveUp)
    assert ("exit code 1" if how == "dies" else "over init_timeout") in gave_up.error.message
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


def test_a_processor_that_cannot_be_started(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1, 2))
    granted(child)
    child.begins(1)
    child.dead = True
    FakeChild.fails_to_start = True
    stage.step()

    outcomes, gave_up = stage.said()
    assert isinstance(outcomes, Outcomes) and isinstance(gave_up, GaveUp)
    assert gave_up.attempts == [2] and "no more processes" in gave_up.error.message
    assert "node1 (rank 5)" in gave_up.error.message
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


def test_no_room_for_scratch(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(prefix: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(ValueError, match="not enough values"):
        stage.setup()  # There is no processor to be found.

    (gave_up,) = stage.said()
    assert isinstance(gave_up, GaveUp)
    assert (
        "worker 1 on node1 cannot begin" in gave_up.error.message and "No space left" in gave_up.error.message
    )
    stage.tell(Release(False))
    assert stage.said() == [Goodbye()]
    stage.over()


# The end


@pytest.mark.parametrize("at_once", [False, True])
def test_released_before_it_was_set_up(at_once: bool, stage: Stage) -> None:
    stage.tell(Release(at_once), Release(True))
    assert stage.said() == [Goodbye()]
    stage.over()


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("phase", ["starting", "running"])
def test_released_while_it_is_at_something(phase: str, at_once: bool, stage: Stage) -> None:
    child = stage.setup() if phase == "starting" else stage.ready()
    stage.tell(grant(1, 2))
    stage.tell(Release(at_once))
    stage.step()

    assert child.killed
    assert stage.said() == [Goodbye()], "no outcome, no successor"
    granted(child)
    stage.over()


def test_released_at_once_when_idle(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(Release(True))
    stage.step()

    assert child.killed and stage.said() == [Goodbye()]
    stage.over()


def test_shutdown_has_its_time(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(Release(False))
    stage.step(SHUTDOWN_S)
    assert not child.killed
    stage.step(0.1)
    assert child.killed
    stage.step()

    assert [message for message in stage.said() if not isinstance(message, Heartbeat)] == [Goodbye()]
    child.told.clear()
    stage.over()


def test_a_second_release_is_urgent(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(Release(False))
    assert not child.killed
    stage.tell(Release(True))
    stage.step()

    assert child.killed and stage.said() == [Goodbye()]
    child.told.clear()
    stage.over()


@pytest.mark.parametrize("orderly", [False, True])
def test_dismissed(orderly: bool, stage: Stage) -> None:
    stage.ready()
    end(stage)
    stage.tell(Dismissed(orderly))

    assert stage.worker.dismissed == Dismissed(orderly)
    stage.over()


@pytest.mark.parametrize("phase", ["waiting", "starting", "running", "given_up"])
def test_abandoned(phase: str, stage: Stage) -> None:
    if phase != "waiting":
        child = stage.ready() if phase == "running" else stage.setup()
        stage.tell(grant(1))
        if phase == "given_up":
            stage.from_child(child, InitFailed(ERROR, True))
        stage.said()
        granted(child)
    stage.worker.abandon()

    assert stage.said() == [], "nobody is there to be told"
    assert all(child.closed for child in FakeChild.started)
    for guardian in FakeGuardian.made:
        assert guardian.dismissed and not os.path.exists(guardian.scratch)


@pytest.mark.parametrize("phase", ["starting", "idle", "running", "finishing", "replaced", "given_up"])
def test_retired_at_any_time(phase: str, stage: Stage) -> None:
    """The rank stays, until it is dismissed; another session may come first."""
    child = stage.setup() if phase in ("starting", "given_up") else stage.ready()
    if phase in ("running", "replaced"):
        stage.tell(grant(1, 2))
        child.begins(1)
    if phase == "replaced":
        child.dead = True
        stage.step()
        stage.successor()
    if phase == "finishing":
        stage.tell(Release(False))
    if phase == "given_up":
        stage.from_child(child, InitFailed(ERROR, True))
    stage.said()
    stage.tell(Release(True))
    stage.step()

    assert all(child.closed for child in FakeChild.started)
    assert stage.said() == [Goodbye()]
    stage.tell(Release(True), Release(False), grant(3), Pull(1), Recall([3]))
    assert stage.said() == [Returned([3])], "what has crossed our last word; no second Goodbye"
    for child in FakeChild.started:
        child.told.clear()
    stage.over()
    stage.tell(Dismissed(True))
    assert stage.worker.dismissed


def test_what_was_announced_and_not_asked_for_is_let_go_at_the_release(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    stage.from_child(child, Outcomes([success(1, fragment=b"x" * (ANNOUNCE_BYTES + 1))]))
    granted(child)
    stage.said()
    stage.tell(Release(False), Pull(1))
    assert stage.said() == []
    child.told.clear()
    retire(stage)


def test_a_retired_worker_serves_another_session(stage: Stage) -> None:
    stage.ready()
    retire(stage)
    child = stage.ready()
    stage.tell(grant(1))
    assert granted(child) == [1]
    stage.from_child(child, Outcomes([success(1)]))
    stage.said()
    end(stage)


def test_init_that_fails_after_the_release_is_of_no_interest(stage: Stage) -> None:
    child = stage.setup()
    stage.tell(Release(False))
    child.says(InitFailed(ERROR, True))
    stage.step()
    assert stage.said() == [Goodbye()]
    stage.over()


def test_its_guardian_knows_whom_to_tell(stage: Stage) -> None:
    stage.ready()
    assert [guardian.lost_file for guardian in FakeGuardian.made] == [b"/lost/1"]
    end(stage)


# Signs of life


def test_heartbeats_while_there_is_nothing_to_say(stage: Stage) -> None:
    stage.ready()
    for _ in range(10):
        stage.step(HEARTBEAT_S / 5)
    assert stage.said() == [Heartbeat()]
    end(stage)
    stage.step(2 * HEARTBEAT_S)
    assert stage.said() == [], "nothing after the last word"


def test_the_script_says_that_it_gets_on(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    stage.step()
    assert stage.said() == []
    child.beats()
    stage.step()
    assert stage.said() == [Heartbeat(True)]
    for _ in range(15):
        child.beats()
        stage.step(0.1)
    assert stage.said() == [Heartbeat(True)], "once a second is enough"
    stage.step(0.6)
    assert stage.said() == [Heartbeat(True)], "and the last ones are not forgotten"
    stage.step(1.0)
    stage.step(1.0)
    assert stage.said() == [], "none since"
    for _ in range(100):
        stage.step(0.1)
    assert set(stage.said()) == {Heartbeat(False)}
    granted(child)
    retire(stage)


def test_heartbeats_of_a_processor_that_died_are_not_those_of_its_successor(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    child.beats()
    stage.step()
    child.dead = True
    stage.step()
    granted(child)
    stage.from_child(stage.successor(), Ready(0.5))
    stage.said()
    stage.step(2.0)
    assert stage.said() == []
    retire(stage)


def test_to_get_on_gives_no_more_time(stage: Stage) -> None:
    child = stage.ready()
    stage.tell(grant(1))
    child.begins(1)
    for _ in range(round(RUN_S) + 2):
        child.beats()
        stage.step(1.0)
    stage.step()
    assert child.killed
    assert [said for said in stage.said() if isinstance(said, Outcomes)]
    granted(child)
    retire(stage)


def test_silence(stage: Stage) -> None:
    stage.ready()
    for _ in range(round(SILENCE_S)):
        stage.step(1.0)
    assert not stage.worker.coordinator_silent()
    stage.tell(Ping())
    for _ in range(round(SILENCE_S)):
        stage.step(1.0)
    assert not stage.worker.coordinator_silent()
    stage.step(1.0)
    assert stage.worker.coordinator_silent()
    stage.said()


def test_who_stood_still_does_not_blame_rank_0(stage: Stage) -> None:
    stage.ready()
    stage.step(10 * SILENCE_S)
    assert not stage.worker.coordinator_silent()
    stage.said()


def test_once_over_it_is_patient(stage: Stage) -> None:
    """Rank 0 has much to do at the end."""
    stage.ready()
    end(stage)
    for _ in range(round(OVER_PATIENCE_S)):
        stage.step(1.0)
    assert not stage.worker.coordinator_silent()
    stage.step(1.0)
    assert stage.worker.coordinator_silent()


def test_before_it_is_set_up_it_waits(stage: Stage) -> None:
    for _ in range(1000):
        stage.step(1.0)
    assert not stage.worker.coordinator_silent()
    assert stage.said() == []


def test_a_request_to_stop_is_handed_on(stage: Stage) -> None:
    stage.worker.ask_to_stop("SIGTERM")
    assert stage.said() == [StopAsked("SIGTERM")]


def test_rank_0_can_wait_while_the_processor_is_at_work(stage: Stage) -> None:
    assert stage.worker.patience_s is None
    child = stage.ready()
    assert stage.worker.patience_s is None
    stage.tell(grant(1, 2, 3))
    assert stage.worker.patience_s == SHORTEST_PATIENCE_S
    stage.from_child(child, Outcomes([success(1, seconds=0.03)]))
    assert stage.worker.patience_s == 0.0375
    stage.port.is_pressing = True
    assert stage.worker.patience_s is None, "something large moves on only while it is looked after"
    stage.port.is_pressing = False
    stage.from_child(child, Outcomes([success(2, seconds=100)]))
    assert stage.worker.patience_s == LONGEST_PATIENCE_S
    stage.from_child(child, Outcomes([success(3)]))
    assert stage.worker.patience_s is None
    stage.said()
    granted(child)
    end(stage)


def test_another_session_begins_with_the_same_worker(stage: Stage) -> None:
    """A survey comes before the work itself: nothing of it is left, neither failures nor numbers."""
    for number, fragment in enumerate((b"answer\n", b"row\n")):
        child = stage.ready()
        assert child is FakeChild.started[number]
        stage.tell(grant(1))
        assert granted(child) == [1]
        stage.from_child(child, Outcomes([success(1, fragment=fragment)]))
        assert stage.said() == [Outcomes([success(1, fragment=fragment)])]
        end(stage)


# Several at a time


def alone(child: FakeChild) -> dict[int, bool]:
    """What a processor was granted since: by attempt, whether it has to run alone."""
    found: dict[int, bool] = {}
    while child.told:
        message = child.told.popleft()
        assert isinstance(message, Grant)
        found |= {assignment.attempt: assignment.alone for assignment in message.assignments}
    return found


def pass_time(stage: Stage, seconds: float) -> None:
    """In steps so short that nobody thinks that the worker itself stood still."""
    for _ in range(round(2 * seconds)):
        stage.step(0.5)


def test_it_has_as_many_as_run_and_one_more(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(*range(1, 11)))
    assert granted(child) == [1, 2, 3, 4, 5]
    for attempt, following in ((3, [6]), (1, [7]), (2, [8])):
        stage.from_child(child, Outcomes([success(attempt)]))
        assert granted(child) == following, "an end makes room at once, whichever it is"
    retire(stage)


def test_short_ones_by_how_many_end_in_a_time(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(*range(1, 41)))
    granted(child)
    stage.from_child(child, Outcomes([success(1, seconds=0.008)]))
    assert stage.worker.patience_s == SHORTEST_PATIENCE_S
    assert granted(child) == list(range(6, 10)), "2 ms from one to the next: five besides the three others"
    retire(stage)


def test_of_several_nobody_is_blamed_and_each_is_tried_alone(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(*range(1, 7)))
    granted(child)
    stage.from_child(child, Outcomes([success(2)]))
    assert granted(child) == [6]
    stage.said()
    child.runs(1, 3, 4, 5)
    child.dead = True
    stage.step()
    assert stage.said() == [], "no try is lost"
    log = (stage.folder / "logs" / "log").read_text()
    assert "exit code 1 (pid 100 of rank 5 on node1, in mini-batches 11, 13, 14, 15 at a time)" in log
    assert "each of them is tried again alone" in log

    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert alone(other) == {1: True, 3: True, 4: True, 5: True, 6: False}
    other.runs(1)
    stage.from_child(other, Outcomes([success(1)]))
    other.runs(3)
    other.dead = True
    stage.step()
    assert stage.said()[0] == Outcomes([success(1)])
    third = stage.successor()
    stage.from_child(third, Ready(0.5))
    assert alone(third) == {4: True, 5: True, 6: False}
    retire(stage)


def test_who_dies_alone_is_to_blame(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(1))
    child.runs(1)
    child.dead = True
    stage.step()
    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.deadly) == (1, "died", True)
    assert "in mini-batch 11, attempt 1)" in outcome.error.message
    stage.successor()
    retire(stage)


def test_who_holds_the_loop_is_to_blame(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(1, 2, 3))
    child.runs(1, 2, 3, step=2)
    pass_time(stage, RUN_S)
    assert not child.killed
    pass_time(stage, 3.0)
    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.error.type) == (2, "timed_out", "TimedOut")
    assert "over run_invocation_timeout: 60 s, and the event loop stood still" in outcome.error.message
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert alone(other) == {1: False, 3: False}, "the others have not done anything"
    retire(stage)


def test_who_does_not_end_when_it_is_cancelled_is_to_blame(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(1, 2, 3))
    for _ in range(12):
        child.runs(1, 2, 3, cancelled=3)
        stage.step(0.25)
    outcome = failed(stage)
    assert (outcome.attempt, outcome.cause, outcome.deadly) == (3, "timed_out", True)
    assert "60 s, and it went on when it was cancelled (pid 100" in outcome.error.message
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert alone(other) == {1: False, 2: False}
    retire(stage)


@pytest.mark.parametrize("others", [(3,), (1, 3)])
def test_who_has_ended_meanwhile_leaves_the_blame_to_nobody(others: tuple[int, ...], stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(1, 2, 3))
    child.runs(1, 2, step=2)
    while not child.killed:
        stage.step(0.5)
    child.runs(*others)
    child.dead = True
    stage.step()
    assert not any(isinstance(one, Outcomes) for one in stage.said())
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert alone(other) == {1: False, 2: False, 3: False}
    retire(stage)


def test_its_loop_keeps_the_time_itself(stage: Stage) -> None:
    child = stage.ready(4)
    stage.tell(grant(1, 2))
    for _ in range(10):
        child.runs(1, 2)
        pass_time(stage, RUN_S / 2)
    assert not child.killed, "as long as it comes round"
    pass_time(stage, RUN_S + 3.0)
    assert child.killed
    assert not any(isinstance(one, Outcomes) for one in stage.said()), (
        "whose code holds the loop is not known"
    )
    other = stage.successor()
    stage.from_child(other, Ready(0.5))
    assert alone(other) == {1: True, 2: True}
    retire(stage)
