"""The books of what has to have happened to a session's pieces, from the dispatcher's events and commands alone.

The oracle of `test_dispatch_fuzz`: it says of each answer what has to be recorded, and finds fault with
grants. It shares no code with `mpibatch.core`, and keeps everything in the plainest form: slow and clear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mpibatch.core.events import (
    AttemptFailed,
    AttemptSucceeded,
    Command,
    Drop,
    Granted,
    Quarantine,
    RecordFailure,
    RecordLoss,
    RecordSplit,
    RecordSuccess,
)
from mpibatch.work import Piece

LOST = "WorkerLost"


class State:
    """An open piece."""

    def __init__(self, piece: Piece, limit: int, *, half: bool = False) -> None:
        self.piece = piece
        self.limit = limit
        self.half = half
        self.tries = self.spared = self.losses = 0
        self.alone = False
        """It has killed what it ran in, or may have."""
        self.rest: int | None = None
        """It rests until `Due` with this number."""
        self.copies = 0
        self.failed_on: set[int] = set()
        """Of it, or of what it is a half of."""


class Outcome:
    """An answer that counted."""

    def __init__(self, worker: int, state: State, *, good: bool, charged: bool = False) -> None:
        self.worker = worker
        self.state = state
        self.good = good
        self.charged = charged


class Books:
    """`counts`: items of the mini-batches; `left`: the pieces of each that are to be done, in order."""

    def __init__(
        self,
        counts: list[int],
        left: list[list[Piece]],
        max_try: int,
        nodes: list[int],
        *,
        isolate: bool,
        concurrency: int = 1,
    ) -> None:
        self.concurrency = concurrency
        self.counts = counts
        self.max_try = max_try
        self.nodes = nodes
        self.isolate = isolate
        self.open: dict[Piece, State] = {piece: State(piece, max_try) for mine in left for piece in mine}
        self.split = {n for n, mine in enumerate(left) if mine and mine != [Piece(n, 0, counts[n])]}
        """Mini-batches that are open in pieces, in this session or since earlier ones."""
        self.untouched = {n for n, mine in enumerate(left) if mine and n not in self.split}
        self.state_of: dict[int, State] = {}
        self.worker_of: dict[int, int] = {}
        self.open_attempts: set[int] = set()
        """An answer to one of these counts, if its piece has not ended."""
        self.asked: set[int] = set()
        """Recalled attempts."""
        self.blamed: set[int] = set()
        """Attempts whose worker was lost while it was at them."""
        self.gone: set[int] = set()
        self.lost: set[int] = set()
        self.ready: set[int] = set()
        self.barred: set[int] = set()
        self.ends = [[0] * count for count in counts]
        """How often each item ended."""
        for number, mine in enumerate(left):
            for item in range(counts[number]):
                within = any(piece.first <= item < piece.first + piece.count for piece in mine)
                self.ends[number][item] = 0 if within else 1
        self.some_good = {n for n in range(len(counts)) if any(self.ends[n])}
        self.failed_mini_batches: set[int] = set()
        self.kinds: dict[int, set[str]] = {}
        self.wholly_failed: Counter[str] = Counter()
        self.off: set[str] = set()
        self.succeeded = self.failed = self.rows = self.attempts = 0
        self.failed_items: set[tuple[int, int]] = set()
        self.outcomes: list[Outcome] = []
        self.node_since: Counter[int] = Counter()
        self.kills: Counter[int] = Counter()

    # What is so

    def of_worker(self, worker: int) -> list[int]:
        return sorted(attempt for attempt in self.open_attempts if self.worker_of[attempt] == worker)

    def live(self, state: State) -> list[int]:
        """Workers, not lost, that are at this piece."""
        at_it = [self.worker_of[one] for one in self.open_attempts if self.state_of[one] is state]
        return [worker for worker in at_it if worker not in self.lost]

    def waiting(self) -> int:
        return sum(not self.live(state) and state.rest is None for state in self.open.values())

    def at_hand(self) -> set[int]:
        return self.ready - self.lost - self.gone - self.barred

    def usable(self) -> set[int]:
        return set(range(len(self.nodes))) - self.lost - self.gone - self.barred

    def mini_batches_succeeded(self) -> int:
        return sum(all(self.ends[n]) and n not in self.failed_mini_batches for n in range(len(self.counts)))

    # Conduct

    def places(self, worker: int) -> list[set[int]]:
        """The worker, and its node as far as that is judged as a whole."""
        node = {other for other, home in enumerate(self.nodes) if home == self.nodes[worker]}
        judged = len(node) > 1 and len(set(self.nodes)) > 1
        return [{worker}, node] if judged else [{worker}]

    def streak(self, place: set[int]) -> list[Outcome]:
        """Its failures since its last success."""
        (since,) = {self.node_since[self.nodes[worker]] for worker in place} if len(place) > 1 else {0}
        found = []
        for outcome in reversed(self.outcomes[since:]):
            if outcome.worker in place:
                if outcome.good:
                    break
                found.append(outcome)
        return found

    def suspicious(self, place: set[int]) -> bool:
        elsewhere = [outcome.good for outcome in self.outcomes if outcome.worker not in place]
        good = sum(elsewhere)
        return (
            len(self.streak(place)) >= 3
            and len(elsewhere) >= 3
            and 4 * (len(elsewhere) - good) <= len(elsewhere)
        )

    def remembers_all(self) -> bool:
        """Whether no outcome is so old that it counts less."""
        return max(Counter(outcome.worker for outcome in self.outcomes).values(), default=0) <= 64

    def held(self, worker: int) -> bool:
        def long(one: int) -> bool:
            return any(len(self.streak(place)) >= 3 for place in self.places(one))

        if long(worker) and self.awaits_others(worker):
            return True
        return long(worker) and any(not long(other) for other in self.at_hand() - {worker})

    def awaits_others(self, worker: int) -> bool:
        """Nothing has succeeded yet, and somebody else is still to get ready."""
        to_come = set(range(len(self.nodes))) - self.ready - self.lost - self.gone - self.barred - {worker}
        return bool(to_come) and not any(one.good for one in self.outcomes)

    def absolved(self, place: set[int]) -> set[Piece]:
        """Pieces that failed in its streak and succeeded elsewhere."""
        mine = {id(outcome.state) for outcome in self.streak(place)}
        good = [
            one for one in self.outcomes if one.good and one.worker not in place and id(one.state) in mine
        ]
        return {outcome.state.piece for outcome in good}

    # Commands

    def grant(self, worker: int, one: Granted) -> None:
        assert one.attempt > max(self.state_of, default=0), "a number is used again"
        state = self.open.get(one.piece)
        assert state is not None, f"{one}: it is not open"
        assert one.retry == state.tries
        assert one.alone == state.alone
        assert state.rest is None, f"{one}: it rests"
        if self.live(state):
            state.copies += 1
            assert state.copies == 1, "a second copy"
            assert not self.of_worker(worker), "a copy for one who has something else"
            assert worker not in state.failed_on, "a copy to where it has failed"
            assert not self.waiting(), "a copy while something waits"
        else:
            assert state.tries < state.limit
        if worker in state.failed_on and self.at_hand() - state.failed_on:
            assert not self.held(worker), f"{one}: worker {worker} has failed on it, and on all else"
            assert not self.untouched or self.waiting() >= 64, f"{one}: others could have had it"
        self.untouched.discard(one.piece.mini_batch)
        self.state_of[one.attempt] = state
        self.worker_of[one.attempt] = worker
        self.open_attempts.add(one.attempt)

    def quarantine(self, command: Quarantine) -> None:
        workers = set(command.workers)
        assert workers and not workers & (self.barred | self.gone)
        place = self.places(command.workers[0])[1] if command.whole_node else workers
        assert workers <= place and (command.whole_node or len(workers) == 1)
        assert not place - workers - self.barred - self.gone, "not all of the node"
        assert self.at_hand() - place, "nobody else is there"
        assert len(self.streak(place)) == command.failures >= 3
        assert len(self.absolved(place)) >= 3, "who says that it is the worker's fault?"
        if self.remembers_all():
            assert self.suspicious(place)
        for worker in workers:
            for outcome in self.streak({worker}):
                if outcome.charged and outcome.state.piece in self.open:
                    outcome.state.tries -= 1
                    outcome.charged = False
        self.barred |= workers

    def take_back(self) -> set[int]:
        """Those in quarantine are used again; returns them."""
        back = self.barred - self.lost - self.gone
        assert back and not self.usable(), "why use them again?"
        self.barred -= back
        self.outcomes = [outcome for outcome in self.outcomes if outcome.worker not in back]
        for worker in back:
            self.node_since[self.nodes[worker]] = len(self.outcomes)
        return back

    # Events

    def close(self, worker: int, attempts: list[int]) -> list[int]:
        """These are answered; returns those that were open."""
        mine = [one for one in attempts if one in self.open_attempts and self.worker_of[one] == worker]
        self.open_attempts -= set(mine)
        return mine

    def give_back(self, worker: int, attempts: list[int]) -> list[int]:
        mine = self.close(worker, attempts)
        self.not_at(mine)
        return mine

    def not_at(self, attempts: list[int]) -> None:
        """A worker is not at these any more, which did not fail."""
        for attempt in attempts:
            self.one_more(self.state_of[attempt])

    def one_more(self, state: State) -> None:
        """The last try has failed beside a copy; if nobody is at it any more, there is one more."""
        if state.tries >= state.limit and not self.live(state):
            state.limit, state.half = state.tries + 1, True

    def enter(self, worker: int) -> None:
        self.lost.discard(worker)
        self.ready.add(worker)
        for attempt in self.of_worker(worker):
            self.state_of[attempt].rest = None

    def leave(self, worker: int) -> None:
        self.gone.add(worker)
        self.give_back(worker, self.of_worker(worker))
        self.lost.discard(worker)

    def running(self, worker: int) -> list[int]:
        """The attempts that the worker may be at: the first ones, but nothing beside one that has to be alone."""
        mine = self.of_worker(worker)[: self.concurrency]
        alone = [place for place, attempt in enumerate(mine) if self.state_of[attempt].alone]
        return mine[: max(1, alone[0])] if alone else mine

    def lose(self, worker: int, too_many: Callable[[], bool]) -> list[Command]:
        """The loss of a worker counts against the pieces that it was at, once an attempt, and against no other."""
        running = self.running(worker)
        self.lost.add(worker)
        self.ready.discard(worker)
        mine = self.of_worker(worker)
        records: list[Command] = []
        suspects = [
            one for one in running if one not in self.blamed and self.state_of[one].piece in self.open
        ]
        for attempt in suspects:
            self.blamed.add(attempt)
            state = self.state_of[attempt]
            state.losses += 1
            state.alone |= self.concurrency > 1
            if state.losses > 3 and not self.live(state):
                records += self.split_or_fail(state, LOST, RecordLoss(state.piece, state.losses))
                if too_many():
                    return records
        self.not_at(mine)
        return records

    def due(self, number: int) -> None:
        for state in self.open.values():
            if state.rest == number:
                state.rest = None

    def success(self, event: AttemptSucceeded) -> list[Command]:
        state = self.counts_for(event)
        if state is None:
            return [Drop(event.worker, event.attempt)]
        piece = state.piece
        self.outcomes.append(Outcome(event.worker, state, good=True))
        self.succeeded += event.succeeded
        self.failed += piece.count - event.succeeded
        self.rows += event.rows
        self.some_good.add(piece.mini_batch)
        self.end(piece)
        return [RecordSuccess(event.attempt, piece)]

    def failure(self, event: AttemptFailed, told: list[Command]) -> list[Command]:
        """`told`: the dispatcher's commands, of which is taken whether it cost a try; and that is judged."""
        state = self.counts_for(event)
        if state is None:
            return [Drop(event.worker, event.attempt)]
        record = told[0]
        assert isinstance(record, RecordFailure)
        charged = record.tries == state.tries + 1
        self.outcomes.append(Outcome(event.worker, state, good=False, charged=charged))
        self.check_spared(event.worker, state, charged=charged)
        state.failed_on.add(event.worker)
        state.tries += charged
        state.alone |= event.deadly
        if not charged and event.worker not in self.barred:
            state.spared += 1
        final = charged and state.tries >= state.limit and not self.live(state)
        if not final:
            self.one_more(state)
            return [RecordFailure(event.attempt, state.piece, state.tries, False)]
        if self.splits(state, event.alike):
            plain: list[Command] = [RecordFailure(event.attempt, state.piece, state.tries, False)]
            return plain + self.split_or_fail(state, event.alike, plain[0])
        return self.split_or_fail(
            state, event.alike, RecordFailure(event.attempt, state.piece, state.tries, True)
        )

    def check_spared(self, worker: int, state: State, *, charged: bool) -> None:
        if worker in self.barred:
            assert not charged, "one in quarantine cost a try"
        elif state.spared == 3:
            assert charged
        elif self.remembers_all():
            assert charged != any(self.suspicious(place) for place in self.places(worker)), "charged or not?"
        elif not charged:
            assert any(len(self.streak(place)) >= 3 for place in self.places(worker))

    def counts_for(self, event: AttemptSucceeded | AttemptFailed) -> State | None:
        if not self.close(event.worker, [event.attempt]):
            return None
        state = self.state_of[event.attempt]
        if self.open.get(state.piece) is not state:
            return None
        self.attempts += 1
        return state

    # Ends

    def splits(self, state: State, alike: str) -> bool:
        return self.isolate and state.piece.count > 1 and alike not in self.off

    def split_or_fail(self, state: State, alike: str, record: Command) -> list[Command]:
        """Returns what has to be recorded: the split, or `record`."""
        piece = state.piece
        if not self.splits(state, alike):
            self.failed += piece.count
            self.failed_items |= {
                (piece.mini_batch, item) for item in range(piece.first, piece.first + piece.count)
            }
            self.failed_mini_batches.add(piece.mini_batch)
            self.kinds.setdefault(piece.mini_batch, set()).add(alike)
            self.end(piece)
            return [record]
        del self.open[piece]
        self.split.add(piece.mini_batch)
        middle = piece.first + piece.count // 2
        for first, stop in ((piece.first, middle), (middle, piece.first + piece.count)):
            half = State(Piece(piece.mini_batch, first, stop - first), state.tries + 1, half=True)
            half.tries, half.losses, half.failed_on = state.tries, state.losses, set(state.failed_on)
            half.alone = state.alone
            self.open[half.piece] = half
        return [RecordSplit(piece, middle)]

    def end(self, piece: Piece) -> None:
        del self.open[piece]
        number = piece.mini_batch
        for item in range(piece.first, piece.first + piece.count):
            self.ends[number][item] += 1
            assert self.ends[number][item] == 1, f"item {item} of {number} has ended twice"
        if number not in self.split or not all(self.ends[number]) or number in self.some_good:
            return
        kinds = self.kinds[number]
        if len(kinds) == 1 and self.isolate:
            (kind,) = kinds
            self.wholly_failed[kind] += 1
            if self.wholly_failed[kind] == 3:
                self.off.add(kind)
