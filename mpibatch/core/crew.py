"""The workers as the dispatcher sees them: who is there, who has what, who could give back. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpibatch.core.backlog import Work
from mpibatch.core.events import Recall
from mpibatch.core.grants import LEAST_IN_FLIGHT, beyond


class Worker:
    """A worker that may be given work, or whose late answers may still count (`lost`)."""

    __slots__ = ("asked", "attempts", "barred", "blamed", "lost", "node", "ready", "recalled")

    def __init__(self, node: int) -> None:
        self.node = node
        self.attempts: dict[int, Work] = {}
        """Unanswered, in the order in which it begins them."""
        self.recalled: set[int] = set()
        """Those that it was asked to give back; each is asked for once."""
        self.asked = 0
        """Recalls that it has not answered."""
        self.blamed: set[int] = set()
        """Attempts that it was at when it was lost."""
        self.ready = False
        self.lost = False
        self.barred = False
        """It is in quarantine: it gets nothing more, but what it has may still succeed."""

    def begun(self, concurrency: int) -> list[tuple[int, Work]]:
        """The attempts that it may be at, of which so many run at a time: the first ones. One that has to be alone
        begins when all before it have been answered."""
        found: list[tuple[int, Work]] = []
        for attempt, work in self.attempts.items():
            if found and (len(found) == concurrency or work.alone or found[0][1].alone):
                break
            found.append((attempt, work))
        return found

    def suspects(self, concurrency: int) -> list[Work]:
        """What it was at when it was lost, and may have died of, without what was counted before."""
        found = [
            (attempt, work)
            for attempt, work in self.begun(concurrency)
            if not work.ended and attempt not in self.blamed
        ]
        self.blamed.update(attempt for attempt, _ in found)
        return [work for _, work in found]


class Crew:
    """`count` workers, numbered from 0. Whoever is gone is not in `workers` any more.

    `nodes`: the number of each one's node; without it all are on one. `concurrency`: how many attempts run on each
    at a time.
    """

    __slots__ = ("alive", "at_hand", "concurrency", "hungry", "least", "usable", "workers")

    def __init__(self, count: int, nodes: Sequence[int] | None = None, concurrency: int = 1) -> None:
        self.concurrency = concurrency
        self.least = LEAST_IN_FLIGHT + beyond(concurrency)
        """Attempts that each should have at least, while there is work."""
        self.workers = {number: Worker(nodes[number] if nodes else 0) for number in range(count)}
        self.alive = count
        """Workers that are neither lost nor gone, ready or not."""
        self.usable = count
        """Those alive that are not barred."""
        self.hungry: set[int] = set()
        """Workers at hand that have less than `least` because nothing waited that they may have."""
        self.at_hand: dict[int, set[int]] = {}
        """By node, those who may be given work: ready, not lost, not barred."""

    @property
    def in_flight(self) -> int:
        """Attempts that are granted and not answered, those of lost workers left out."""
        return sum(len(worker.attempts) for worker in self.workers.values() if not worker.lost)

    @property
    def busy(self) -> bool:
        """Whether there are any such. Cheap while there are."""
        return any(worker.attempts and not worker.lost for worker in self.workers.values())

    @property
    def has_live(self) -> bool:
        """Whether an answer may come, of a worker that is not lost, that counts."""
        return any(
            not work.ended
            for worker in self.workers.values()
            if not worker.lost
            for work in worker.attempts.values()
        )

    def usable_on(self, node: int) -> int:
        workers = self.workers.values()
        return sum(worker.node == node and not worker.lost and not worker.barred for worker in workers)

    def others_at_hand(self, without: set[int]) -> bool:
        """Whether someone is at hand besides these."""
        return not all(members <= without for members in self.at_hand.values())

    def others_to_come(self, number: int) -> bool:
        """Whether someone else may still get ready."""
        return any(
            other != number and not (worker.ready or worker.lost or worker.barred)
            for other, worker in self.workers.items()
        )

    def idle(self) -> list[int]:
        """Workers at hand that have nothing at all."""
        return sorted(number for number in self.hungry if not self.workers[number].attempts)

    def hungriest_first(self) -> list[int]:
        return sorted(self.hungry, key=lambda number: len(self.workers[number].attempts))

    # Who is there

    def enter(self, number: int, worker: Worker) -> None:
        """It can work. If it was taken for lost, it is at its attempts still."""
        worker.ready = True
        if worker.lost:
            worker.lost = False
            self.alive += 1
            self.usable += not worker.barred
            for work in worker.attempts.values():
                work.live += 1
        if not worker.barred:
            self.at_hand.setdefault(worker.node, set()).add(number)

    def take_away(self, number: int, worker: Worker) -> None:
        """Count on it no more. The caller makes it `lost`, or takes it out of `workers`."""
        worker.ready = False
        self.alive -= 1
        self.usable -= not worker.barred
        self._not_at_hand(number, worker)
        for work in worker.attempts.values():
            work.live -= 1

    def bar(self, number: int) -> None:
        worker = self.workers[number]
        worker.barred = True
        self.usable -= not worker.lost
        self._not_at_hand(number, worker)

    def unbar_all(self) -> list[int]:
        """Returns who was barred, those that are lost left out."""
        barred = [number for number, one in self.workers.items() if one.barred and not one.lost]
        for number in barred:
            worker = self.workers[number]
            worker.barred = False
            if worker.ready:
                self.at_hand.setdefault(worker.node, set()).add(number)
                if len(worker.attempts) < self.least:
                    self.hungry.add(number)
        self.usable += len(barred)
        return barred

    def _not_at_hand(self, number: int, worker: Worker) -> None:
        self.hungry.discard(number)
        members = self.at_hand.get(worker.node)
        if members is not None:
            members.discard(number)
            if not members:
                del self.at_hand[worker.node]

    # Recalls

    def recall_half(self) -> list[Recall]:
        """Ask the worker with most in flight for half of what it has not begun."""
        best, most = None, self.concurrency
        for number, worker in self.workers.items():
            free = len(worker.attempts) - len(worker.recalled)
            if worker.ready and free > most:
                best, most = number, free
        if best is None:
            return []
        worker = self.workers[best]
        # The first ones are most likely running; of the others the later half goes.
        candidates = [attempt for attempt in worker.attempts if attempt not in worker.recalled]
        candidates = candidates[self.concurrency :]
        asked = candidates[len(candidates) // 2 :]
        return [self._recall(best, asked)]

    def recall_all(self, numbers: Iterable[int]) -> list[Recall]:
        """Ask these workers for whatever they have not begun."""
        recalls = []
        for number in numbers:
            worker = self.workers[number]
            asked = [attempt for attempt in worker.attempts if attempt not in worker.recalled]
            if asked and not worker.lost:
                recalls.append(self._recall(number, asked))
        return recalls

    def _recall(self, number: int, attempts: list[int]) -> Recall:
        worker = self.workers[number]
        worker.recalled.update(attempts)
        worker.asked += 1
        return Recall(number, attempts)

    def recall_answered(self, number: int) -> None:
        worker = self.workers.get(number)
        if worker is not None and worker.asked:
            worker.asked -= 1

    # For tests

    def check(self) -> list[Work]:
        """Assert that the counts are right; returns the works that have open attempts. For tests."""
        present = [worker for worker in self.workers.values() if not worker.lost]
        assert self.alive == len(present), f"{self.alive} workers noted, {len(present)} there"
        assert self.usable == sum(not worker.barred for worker in present), "the usable are miscounted"
        at_hand = {number for members in self.at_hand.values() for number in members}
        assert at_hand == {n for n, one in self.workers.items() if one.ready and not one.barred}, (
            "who is at hand?"
        )
        assert all(self.at_hand.values()), "a node is at hand without a worker"
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

    def check_hungry(self) -> None:
        """Assert that it is known who has less than he should have. For tests."""
        for number, worker in self.workers.items():
            starved = worker.ready and not worker.barred and len(worker.attempts) < self.least
            assert starved == (number in self.hungry), f"worker {number}: hungry?"

    def check_recalled(self) -> None:
        """Assert that whatever has not been begun is asked for. For tests."""
        for number, worker in self.workers.items():
            assert worker.lost or worker.attempts.keys() <= worker.recalled, f"worker {number} is not asked"
