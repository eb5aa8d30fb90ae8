"""The workers as the dispatcher sees them: who is there, who has what, who could give back. Pure."""

from __future__ import annotations

from mpibatch.core.backlog import Work
from mpibatch.core.events import Recall
from mpibatch.core.grants import LEAST_IN_FLIGHT


class Worker:
    """A worker that may be given work, or whose late answers may still count (`lost`)."""

    __slots__ = ("attempts", "blamed", "lost", "ready", "recalled")

    def __init__(self) -> None:
        self.attempts: dict[int, Work] = {}
        """Unanswered, in the order in which it does them: the first is the one that it is at."""
        self.recalled: set[int] = set()
        """Those that it was asked to give back; each is asked for once."""
        self.blamed = 0
        """The attempt that it was at when it was lost last."""
        self.ready = False
        self.lost = False

    def suspect(self) -> Work | None:
        """What it was at when it was lost, and may have died of; None if that was counted before."""
        attempt, work = next(iter(self.attempts.items()), (0, None))
        if work is None or work.ended or attempt == self.blamed:
            return None
        self.blamed = attempt
        return work


class Crew:
    """`count` workers, numbered from 0. Whoever is gone is not in `workers` any more."""

    __slots__ = ("alive", "hungry", "workers")

    def __init__(self, count: int) -> None:
        self.workers = {number: Worker() for number in range(count)}
        self.alive = count
        """Workers that are neither lost nor gone, ready or not."""
        self.hungry: set[int] = set()
        """Ready workers that have less than `LEAST_IN_FLIGHT` because nothing waited."""

    @property
    def in_flight(self) -> int:
        """Attempts that are granted and not answered, those of lost workers left out."""
        return sum(len(worker.attempts) for worker in self.workers.values() if not worker.lost)

    @property
    def has_idle(self) -> bool:
        """Whether a worker that could work has nothing at all."""
        return any(not self.workers[number].attempts for number in self.hungry)

    def hungriest_first(self) -> list[int]:
        return sorted(self.hungry, key=lambda number: len(self.workers[number].attempts))

    def take_away(self, number: int, worker: Worker) -> None:
        """Count on it no more."""
        self.alive -= 1
        self.hungry.discard(number)
        for work in worker.attempts.values():
            work.live -= 1

    def take_back(self, worker: Worker) -> None:
        """It was taken for lost, but is at its attempts still."""
        worker.lost = False
        self.alive += 1
        for work in worker.attempts.values():
            work.live += 1

    def recall_half(self) -> list[Recall]:
        """Ask the worker with most in flight for half of what it has not begun."""
        best, most = None, 1
        for number, worker in self.workers.items():
            free = len(worker.attempts) - len(worker.recalled)
            if worker.ready and free > most:
                best, most = number, free
        if best is None:
            return []
        worker = self.workers[best]
        # The first is most likely running; of the others the later half goes.
        candidates = [attempt for attempt in worker.attempts if attempt not in worker.recalled][1:]
        asked = candidates[len(candidates) // 2 :]
        worker.recalled.update(asked)
        return [Recall(best, asked)]

    def recall_all(self, number: int) -> list[Recall]:
        """Ask this worker for whatever it has not begun."""
        worker = self.workers[number]
        asked = [attempt for attempt in worker.attempts if attempt not in worker.recalled]
        if worker.lost or not asked:
            return []
        worker.recalled.update(asked)
        return [Recall(number, asked)]

    def check(self) -> list[Work]:
        """Assert that the counts are right; returns the works that have open attempts. For tests."""
        present = [worker for worker in self.workers.values() if not worker.lost]
        assert self.alive == len(present), f"{self.alive} workers noted, {len(present)} there"
        live: dict[int, int] = {}
        works: dict[int, Work] = {}
        numbers: set[int] = set()
        for worker in self.workers.values():
            assert worker.recalled <= worker.attempts.keys(), "a recalled attempt is not there"
            assert not (worker.ready and worker.lost), "a lost worker is taken for ready"
            assert not numbers & worker.attempts.keys(), "two workers have one attempt"
            numbers |= worker.attempts.keys()
            for work in worker.attempts.values():
                works[id(work)] = work
                live[id(work)] = live.get(id(work), 0) + (not worker.lost)
        for key, work in works.items():
            assert work.live == live[key], f"{work.piece}: {work.live} live attempts noted, {live[key]} there"
        return list(works.values())

    def check_fed(self, waiting: int) -> None:
        """Assert that no worker starves while `waiting` pieces can be had. For tests."""
        for number, worker in self.workers.items():
            starved = worker.ready and len(worker.attempts) < LEAST_IN_FLIGHT
            assert starved == (number in self.hungry), f"worker {number}: hungry?"
            assert not (starved and waiting), f"worker {number} starves"

    def check_recalled(self) -> None:
        """Assert that whatever has not been begun is asked for. For tests."""
        for number, worker in self.workers.items():
            assert worker.lost or worker.attempts.keys() <= worker.recalled, f"worker {number} is not asked"
