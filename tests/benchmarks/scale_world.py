"""Rank 0 as it is, and a thousand workers that are only pretended, in virtual time; for `scale.py`.

The coordinator with its dispatcher, grants, journal and output is the real one. What its steps cost is measured, in
CPU time of its thread and of the writer's, and that long virtual time goes on: who speaks meanwhile has to wait.
Both threads count as one core, as Python lets one run at a time. Workers and the network cost virtual time only.
Not in it: what the session does around the steps (a look at the stop file and at progress, twice a second).
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.dispatch import Dispatcher
from mpibatch.core.framing import decoder, encode
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import (
    Grant,
    Heartbeat,
    Outcomes,
    Ping,
    Ready,
    Recall,
    Returned,
    ToCoordinator,
    ToWorker,
)
from mpibatch.outputs.assemble import Assembly
from mpibatch.runtime.causes import Causes
from mpibatch.runtime.coordinator import Coordinator
from mpibatch.runtime.journal import Journal, write_about
from mpibatch.runtime.mpi_port import MOST_AT_A_TIME
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import MOST_HEARTBEAT_S
from mpibatch.runtime.waiting import BURST, FIRST_SLEEP_S, LONGEST_SLEEP_S
from mpibatch.runtime.watch import Watch
from mpibatch.runtime.worker import LONGEST_PATIENCE_S, SHORTEST_PATIENCE_S
from mpibatch.runtime.writer import Writer
from mpibatch.work import Assignment, Outcome, Paths, Piece, Succeeded
from mpibatch.worker_rank import WORKER_SLEEP_S

ITEMS = 5
"""Files of a mini-batch, with a row each."""
ROW = b"image_00000000.png: 7\n"
SPREAD = 0.5
"""Sigma of log-normal run times: the longest of 20 takes about twice the mean."""
LATENCY_S = 5e-6
"""One way between nodes. Between two ranks of a node a whole round trip takes 2.5 to 4 us."""
TOGETHER_S = 0.001
"""A processor gathers what ends within this time into one message."""

_decode = decoder(ToWorker)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One simulation. All times in seconds."""

    workers: int
    mean_s: float
    """Of a mini-batch."""
    spread: float
    """Sigma of its log-normal distribution; 0: all take the mean."""
    mini_batches: int
    message_s: float
    """What sending one message and receiving one cost in MPI, together."""
    look_s: float
    """What a look costs in MPI that finds no message."""


class Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it, in virtual time."""

    makespan_s: float
    """First grant until the output is in its place."""
    busy_s: float
    """CPU time of rank 0 within it."""
    run_s: float
    """Sum of the mini-batches' times."""
    messages: int
    """Received and sent by rank 0."""
    peak_bytes: int = 0
    """Most memory of the process, filled in by who measures it."""


class PretendedPlan:
    """Mini-batches of files, of which nothing is stored."""

    def position(self, piece: Piece) -> int:
        return ITEMS * piece.mini_batch + piece.first

    def input_of(self, mini_batch: int) -> int:
        return 0

    def source(self, piece: Piece) -> Paths:
        number = ITEMS * piece.mini_batch
        return Paths(b"\0".join(b"/data/images/image_%08d.png" % (number + n) for n in range(piece.count)))

    def keys(self, mini_batch: int) -> None:
        return None


class PretendedWorker:
    """A worker with its processor: does what it is granted, one after the other."""

    def __init__(self, number: int, world: World) -> None:
        self.number = number
        self._world = world
        self._todo: deque[Assignment] = deque()
        self._current: tuple[Assignment, float] | None = None
        self._inbox: deque[tuple[float, bytes]] = deque()
        self._unsent: list[Outcome] = []
        self._gathering_since = 0.0
        self._spoke_at = 0.0

    def arrives(self, at: float, body: bytes) -> None:
        """A message has reached its rank; a look at it comes with the next outcome, or after a while."""
        self._inbox.append((at, body))
        if self._current is None:
            patience = WORKER_SLEEP_S * self._world.chance.random()
        else:
            patience = min(LONGEST_PATIENCE_S, max(SHORTEST_PATIENCE_S, 1.25 * self._world.cell.mean_s))
        self._world.later(at + patience, self.look)

    def look(self, now: float) -> None:
        while self._inbox and self._inbox[0][0] <= now:
            self._take(_decode(self._inbox.popleft()[1]), now)
        self._begin(now)

    def beat(self, now: float) -> None:
        """Say that it lives, where nothing else has said so."""
        if now - self._spoke_at >= MOST_HEARTBEAT_S:
            self.say(now, Heartbeat())
        self._world.later(now + MOST_HEARTBEAT_S, self.beat)

    def say(self, now: float, message: ToCoordinator) -> None:
        self._spoke_at = now
        self._world.to_rank_0(now + LATENCY_S, self.number, encode(message))

    def _take(self, message: ToWorker, now: float) -> None:
        match message:
            case Grant(assignments):
                self._todo += assignments
            case Recall(attempts):
                back = [one.attempt for one in self._todo if one.attempt in attempts]
                self._todo = deque(one for one in self._todo if one.attempt not in attempts)
                self.say(now, Returned(back))
            case _:  # Pings, and what begins and ends a session.
                pass

    def _begin(self, now: float) -> None:
        if self._current is None and self._todo:
            seconds = self._world.run_time()
            self._current = self._todo.popleft(), seconds
            self._world.later(now + seconds, self._end)

    def _end(self, now: float) -> None:
        assert self._current is not None
        one, seconds = self._current
        self._current = None
        if not self._unsent:
            self._gathering_since = now
        self._unsent.append(Succeeded(one.attempt, one.count, one.count, seconds, seconds, ROW * one.count))
        self.look(now)
        if self._current is None or now - self._gathering_since + self._current[1] > TOGETHER_S:
            self.say(now, Outcomes(self._unsent))
            self._unsent = []


class World:
    """Rank 0 and its workers; also the coordinator's `Port`, clock and watch."""

    def __init__(self, cell: Cell, folder: RunFolder) -> None:
        self.cell = cell
        self.chance = random.Random(4)
        self.now = 0.0
        self.run_s = 0.0
        self.messages = 0
        self._turn = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._arriving: list[tuple[float, int, int, bytes]] = []
        self._leaving: list[tuple[int, bytes]] = []
        self._crew = [PretendedWorker(number, self) for number in range(cell.workers)]
        self.writer = make_writer(cell.mini_batches, folder, self.clock)
        self.coordinator = self._make_coordinator()

    def clock(self) -> float:
        return self.now

    # What workers call

    def later(self, at: float, event: Callable[[float], None]) -> None:
        self._turn += 1
        heapq.heappush(self._events, (at, self._turn, event))

    def to_rank_0(self, at: float, worker: int, body: bytes) -> None:
        self._turn += 1
        heapq.heappush(self._arriving, (at, self._turn, worker + 1, body))

    def run_time(self) -> float:
        mean, spread = self.cell.mean_s, self.cell.spread
        seconds = self.chance.lognormvariate(math.log(mean) - spread**2 / 2, spread) if spread else mean
        self.run_s += seconds
        return seconds

    # What the coordinator calls

    def send(self, rank: int, body: bytes) -> None:
        self._leaving.append((rank, body))

    def receive(self) -> list[tuple[int, bytes]]:
        arrived: list[tuple[int, bytes]] = []
        while self._arriving and self._arriving[0][0] <= self.now and len(arrived) < MOST_AT_A_TIME:
            arrived.append(heapq.heappop(self._arriving)[2:])
        self.messages += len(arrived)
        return arrived

    def idle(self) -> bool:
        return True

    def pressing(self) -> bool:
        return False

    def failed(self) -> list[int]:
        return []

    # The run

    def run(self) -> Simulated:
        # Pretended workers need no setup: another message takes its place.
        self.coordinator.begin(dict.fromkeys(range(self.cell.workers), cast(Any, Ping())))
        for worker in self._crew:
            worker.say(0.0, Ready(0.1))
            self.later(MOST_HEARTBEAT_S * self.chance.random(), worker.beat)
        self.writer.start()
        writers_clock = time.pthread_getcpuclockid(self.writer.thread_id)
        written = busy = 0.0
        fruitless, sleep_s = 0, FIRST_SLEEP_S
        while not self.coordinator.concluded:
            self._let_work()
            before, began = self.messages, time.thread_time()
            found = self.coordinator.step()
            cost = time.thread_time() - began + self.cell.look_s
            of_writer = time.clock_gettime(writers_clock)
            self.messages += len(self._leaving)
            cost += of_writer - written + (self.messages - before) * self.cell.message_s / 2
            written = of_writer
            busy += cost
            self.now += cost
            self._deliver()
            fruitless, sleep_s = (0, FIRST_SLEEP_S) if found else (fruitless + 1, sleep_s)
            if fruitless > BURST:
                self.now += sleep_s
                sleep_s = min(LONGEST_SLEEP_S, 2 * sleep_s)
        assert self.coordinator.verdict == "complete", self.coordinator.reason
        began = time.process_time()
        self._finish()
        rest = time.process_time() - began
        assert self.coordinator.first_grant_at is not None
        return Simulated(
            makespan_s=self.now + rest - self.coordinator.first_grant_at, busy_s=busy + rest, run_s=self.run_s,
            messages=self.messages,
        )  # fmt: skip

    def _let_work(self) -> None:
        """Workers do what they do until now."""
        events = self._events
        while events and events[0][0] <= self.now:
            at, _, event = heapq.heappop(events)
            event(at)

    def _deliver(self) -> None:
        """What the last step has sent leaves at its end."""
        for rank, body in self._leaving:
            self._crew[rank - 1].arrives(self.now + LATENCY_S, body)
        self._leaving.clear()

    def _finish(self) -> None:
        self.writer.finish(complete=True)
        self.writer.join()
        if self.writer.error is not None:
            raise self.writer.error

    def _make_coordinator(self) -> Coordinator:
        count, workers = self.cell.mini_batches, self.cell.workers
        places = {number: WorkerPlace(number, number + 1, 0, number, "node") for number in range(workers)}
        dispatcher = Dispatcher(
            workers=workers, todo=[(0, count)], item_count=lambda number: ITEMS, run_max_try=3,
            thresholds=Thresholds(), tally=Tally(items_total=count * ITEMS, mini_batches_total=count), isolate=True,
        )  # fmt: skip
        return Coordinator(
            port=self,
            plan=cast(Any, PretendedPlan()),
            dispatcher=dispatcher,
            writer=self.writer,
            causes=Causes(lambda piece: "", lambda worker, error: "", lambda text: None),
            forms=None,
            workers=places,
            watch=Watch(places, silence_s=60.0, failed=self.failed, notices=None),
            heartbeat_timeout_s=60.0,
            progress_timeout_s=None,
            shutdown_timeout_s=10.0,
            remark=lambda text: None,
            clock=self.clock,
        )


class TimedWriter(Writer):
    """A writer whose thread's CPU time can be read."""

    @property
    def thread_id(self) -> int:
        ident = self._thread.ident
        assert ident is not None, "it has been started"
        return ident


def make_writer(count: int, folder: RunFolder, clock: Callable[[], float]) -> TimedWriter:
    import numpy as np

    facts = history.no_facts(count, lambda numbers: np.full(len(numbers), ITEMS))
    folder.private.mkdir()
    write_about(folder, 1, [])
    assembly = Assembly(
        partial=folder.partial_output(1), final=folder.root / "rows.txt", facts=facts, segment=folder.rows,
        in_order=True,
    )  # fmt: skip
    return TimedWriter(Journal(folder, 1, "ab" * 32), facts, 1, assembly, clock, lambda: None)


def simulate(cell: Cell, folder: Path) -> Simulated:
    """Run one cell; `folder` is empty, and holds a run afterwards."""
    return World(cell, RunFolder(folder)).run()
