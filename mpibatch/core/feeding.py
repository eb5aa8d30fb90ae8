"""Who is given what, and who is asked to give back. Pure.

No worker starves: while something waits that it may have, each that is at hand has `LEAST_IN_FLIGHT`
attempts, or two more than it runs at a time. What it may have: anything, but what has failed on it, or on
its node, goes to others if there are some and it finds something else; and while it does nothing but fail,
and others do not, it gets none of that back, and nothing at all once too much of it is undecided.
"""

from __future__ import annotations

from functools import partial

from mpibatch.core.backlog import Backlog
from mpibatch.core.bad_nodes import BadNodes
from mpibatch.core.copies import candidates, may_be_given_back, take_for
from mpibatch.core.crew import Crew, Worker
from mpibatch.core.events import Command, Grant, Granted, Recall
from mpibatch.core.grants import LEAST_IN_FLIGHT, RunTimes, in_flight_target


class Feeding:
    """Hands out what waits in `backlog` to who is at hand in `crew`."""

    def __init__(self, crew: Crew, backlog: Backlog, bad_nodes: BadNodes, *, copies: bool) -> None:
        self._crew = crew
        self._backlog = backlog
        self._bad_nodes = bad_nodes
        self._copies = copies
        self._next_attempt = 1
        self._beyond = crew.least - LEAST_IN_FLIGHT
        self.times = RunTimes()

    def go_on(self, number: int | None) -> list[Command]:
        """Work for whom there is some. `number` has just spoken."""
        commands: list[Command] = []
        if self._crew.hungry and self._backlog.waiting:
            commands = self._feed()
        worker = self._crew.workers.get(number) if number is not None else None
        if number is not None and worker is not None and worker.ready and not worker.barred:
            in_flight = len(worker.attempts) - self._beyond
            # Only when half is done, so that short mini-batches do not travel singly.
            if in_flight < LEAST_IN_FLIGHT or 2 * in_flight <= self._target():
                commands += self._refill(number, worker, self._backlog.waiting)
                if not worker.attempts and not self._bad_nodes.held(number):
                    commands += self._recall()
        if self._copies and self._crew.hungry and not self._backlog.waiting:
            commands += self._copy()
        return commands

    def recall_for_idle(self) -> list[Recall]:
        """If somebody is idle whom an answer to a recall has brought nothing: ask another one."""
        if not self._crew.hungry:
            return []
        idle = any(not self._bad_nodes.held(number) for number in self._crew.idle())
        return self._recall() if idle else []

    def _target(self) -> int:
        """Attempts that a worker should have, those left out that are `beyond`."""
        mean_s = self.times.mean_s
        if mean_s is not None:
            mean_s /= self._crew.concurrency
        return in_flight_target(mean_s, self._backlog.waiting, max(1, self._crew.usable))

    def _refill(self, number: int, worker: Worker, most: int) -> list[Command]:
        """Grant what the worker has room for, at most `most`."""
        granted: list[Granted] = []
        backlog, bad_nodes = self._backlog, self._bad_nodes
        held = bool(bad_nodes.failing) and bad_nodes.held(number)
        target = self._beyond + (LEAST_IN_FLIGHT if held else self._target())
        if held and bad_nodes.has_to_wait(number):
            target = 0
        avoided = partial(bad_nodes.avoids, number) if backlog.waiting != backlog.untouched else None
        for _ in range(min(most, target - len(worker.attempts))):
            work = backlog.take(avoided, not held)
            if work is None:
                break
            work.live += 1
            worker.attempts[self._next_attempt] = work
            granted.append(Granted(self._next_attempt, work.piece, work.tries, work.alone))
            self._next_attempt += 1
        if len(worker.attempts) < self._crew.least:
            self._crew.hungry.add(number)
        else:
            self._crew.hungry.discard(number)
        return [Grant(number, granted)] if granted else []

    def _feed(self) -> list[Command]:
        """Share what waits among those who found nothing before, the idle ones first.

        Else a recalled piece could go back to where it waited behind a running one, and so on for ever.
        """
        commands: list[Command] = []
        while self._backlog.waiting:
            shared = self._share()
            commands += shared
            if not shared:  # What waits still is not for those who are hungry still.
                break
        return commands

    def _share(self) -> list[Command]:
        commands: list[Command] = []
        hungry = self._crew.hungriest_first()
        for place, number in enumerate(hungry):
            share = -(-self._backlog.waiting // (len(hungry) - place))
            if share == 0:
                break
            commands += self._refill(number, self._crew.workers[number], share)
        return commands

    def _recall(self) -> list[Recall]:
        """Somebody is idle: if nothing waits, it gets what another one has not begun."""
        return [] if self._backlog.waiting else self._crew.recall_half()

    def _copy(self) -> list[Command]:
        """Whoever is idle though nothing waits and nobody can give back anything gets a copy of something."""
        commands: list[Command] = []
        # Looked for once, as of a thousand workers almost all are idle in the end.
        works = [] if may_be_given_back(self._crew) else candidates(self._crew)
        for number in self._crew.idle() if works else []:
            if self._bad_nodes.held(number):
                continue
            work = take_for(number, works)
            if work is not None:
                work.copied = True
                work.live += 1
                self._crew.workers[number].attempts[self._next_attempt] = work
                commands.append(
                    Grant(number, [Granted(self._next_attempt, work.piece, work.tries, work.alone)])
                )
                self._next_attempt += 1
        return commands

    def check(self) -> None:
        """Assert that nobody starves. For tests."""
        self._crew.check_hungry()
        for number in self._crew.hungry:
            if not self._backlog.waiting:
                break
            held = self._bad_nodes.held(number)
            assert held, f"worker {number} starves"
            if not self._bad_nodes.has_to_wait(number):
                avoided = partial(self._bad_nodes.avoids, number)
                assert not self._backlog.offers(avoided), f"worker {number} starves"
