"""Workers and nodes on which attempts fail that succeed elsewhere: a broken GPU, a full disk. Pure.

Such a worker fails fast, and so would swallow mini-batch after mini-batch. But bad input fails too, and
everywhere. What tells them apart is what becomes of the same piece elsewhere.

*Streak*: failures since the last success. *Suspicious*: a streak of `LONG`, while elsewhere at most a
quarter of the recent attempts failed. *Absolved*: failed in the streak here, succeeded elsewhere.
*Guilty*: suspicious, `LONG` pieces absolved, and a streak that chance does not explain where attempts
fail as often as they do elsewhere (else flaky input would cost one innocent worker after another).
"""

from __future__ import annotations

import msgspec

from mpibatch.core.backlog import Work
from mpibatch.core.crew import Crew

LONG = 3
ENOUGH = 3
"""Attempts elsewhere that one needs to compare."""
RECENT = 64
"""Attempts of a worker after which older ones count half."""
MOST_SPARED = 3
"""Failures of one piece that are the workers' fault and cost it nothing."""
MOST_UNDECIDED = 8
"""Pieces that a held worker may have failed before it has to wait for what others make of them."""
BY_CHANCE = 1e-6


class Conduct:
    """What attempts came to on one worker or node, lately."""

    __slots__ = ("absolved", "charged", "failed", "node", "recent", "streak", "undecided")

    def __init__(self, node: Conduct | None = None) -> None:
        self.node = node
        self.recent = 0
        self.failed = 0
        """Of the `recent` ones."""
        self.streak = 0
        self.absolved = 0
        self.charged: dict[Work, int] = {}
        """Open pieces that failed in the streak, and how many tries that cost them."""
        self.undecided: set[Work] = set()
        """Besides those, halves of pieces that failed in the streak."""

    def begin_anew(self) -> None:
        self.streak = self.absolved = 0
        self.charged.clear()
        self.undecided.clear()


class Found(msgspec.Struct, frozen=True):
    """A worker or a node that is to be quarantined."""

    workers: list[int]
    whole_node: bool
    failures: int


class BadNodes:
    """Tell it of each answer that counts; it says what follows. `crew` is looked at only."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._node_of = {number: worker.node for number, worker in crew.workers.items()}
        self._members: dict[int, list[int]] = {}
        for number, node in self._node_of.items():
            self._members.setdefault(node, []).append(number)
        # A node is judged as a whole only where there is another one, and if it is more than one worker.
        judged = [node for node, members in self._members.items() if len(members) > 1]
        self._nodes = {node: Conduct() for node in judged if len(self._members) > 1}
        self._workers = {number: Conduct(self._nodes.get(node)) for number, node in self._node_of.items()}
        self._all = Conduct()
        self._any_success = False
        self.failing: set[int] = set()
        """Workers whose last attempt failed."""

    # What happens

    def succeeded(self, number: int) -> None:
        one = self._workers[number]
        one.recent += 1
        self._all.recent += 1
        self._any_success = True
        if one.streak:
            one.begin_anew()
            self.failing.discard(number)
        node = one.node
        if node is not None:
            node.recent += 1
            if node.streak:
                node.begin_anew()
        if one.recent > RECENT:
            self._forget_half(one)

    def failed(self, number: int, work: Work) -> bool:
        """Returns whether it costs the piece a try."""
        one = self._workers[number]
        self.failing.add(number)
        for conduct in (self._all, one, *self._node(one)):
            conduct.recent += 1
            conduct.failed += 1
        if one.recent > RECENT:
            self._forget_half(one)
        for conduct in (one, *self._node(one)):
            conduct.streak += 1
            conduct.undecided.add(work)
            conduct.charged.setdefault(work, 0)
        if work.failed_on is None:
            work.failed_on = set()
        work.failed_on.add(number)
        worker = self._crew.workers.get(number)
        if worker is not None and worker.barred:
            return False
        if work.spared < MOST_SPARED and self.suspicious(number):
            work.spared += 1
            return False
        one.charged[work] += 1
        return True

    def absolved(self, number: int, work: Work) -> list[int]:
        """A piece that had failed has succeeded on this worker; returns on whom it failed: judge them now.

        Tell of the success first, which clears the worker and its node.
        """
        others = [other for other in sorted(work.failed_on or ()) if other != number]
        conducts = [self._workers[other] for other in others]
        nodes = {id(one.node): one.node for one in conducts if one.node is not None}
        for conduct in (*conducts, *nodes.values()):
            if work in conduct.charged:
                conduct.absolved += 1
        self.ended(work)
        return others

    def split(self, work: Work, halves: tuple[Work, Work]) -> None:
        """What became of the halves elsewhere is waited for too, but says nothing of who failed the whole."""
        for number in work.failed_on or ():
            one = self._workers[number]
            if work in one.undecided:
                one.undecided.update(halves)
        self.ended(work)
        for half in halves:
            half.failed_on = set(work.failed_on) if work.failed_on else None

    def ended(self, work: Work) -> None:
        for number in work.failed_on or ():
            one = self._workers[number]
            for conduct in (one, *self._node(one)):
                conduct.charged.pop(work, None)
                conduct.undecided.discard(work)

    def refund(self, number: int) -> None:
        """What the worker's streak cost the pieces that are open still."""
        charged = self._workers[number].charged
        for work in charged:
            work.tries -= charged[work]
            charged[work] = 0

    def begin_anew(self, number: int) -> None:
        """It gets another chance: what it did is forgotten."""
        one = self._workers[number]
        self._scale(one, 0)
        one.begin_anew()
        self.failing.discard(number)
        for node in self._node(one):
            node.begin_anew()

    # What follows

    def suspicious(self, number: int) -> bool:
        one = self._workers[number]
        return any(self._is_suspicious(conduct) for conduct in (one, *self._node(one)))

    def judge(self, number: int) -> Found | None:
        """Whether this worker, or its node as a whole, is to be quarantined. There must be others to go on with."""
        one, home = self._workers[number], self._node_of[number]
        node = one.node
        if node is not None and self._crew.at_hand.keys() - {home} and self._is_guilty(node):
            members = [other for other in self._members[home] if self._can_be_barred(other)]
            return Found(members, True, node.streak) if members else None
        if self._can_be_barred(number) and self._crew.others_at_hand({number}) and self._is_guilty(one):
            return Found([number], False, one.streak)
        return None

    def _can_be_barred(self, number: int) -> bool:
        worker = self._crew.workers.get(number)
        return worker is not None and not worker.barred

    def avoids(self, number: int, work: Work) -> bool:
        """Whether the worker should leave this piece to others, who have not failed it and are there."""
        failed_on = work.failed_on
        if not failed_on:
            return False
        if number in failed_on and (self._crew.others_at_hand(failed_on) or self._awaits_others(number)):
            return True
        nodes = {self._node_of[other] for other in failed_on}
        return self._node_of[number] in nodes and not self._crew.at_hand.keys() <= nodes

    def held(self, number: int) -> bool:
        """It does nothing but fail, and somebody else is at hand who does not: he is to have what it failed."""
        one = self._workers[number]
        if one.streak < LONG and (one.node is None or one.node.streak < LONG):
            return False
        if self._awaits_others(number):
            return True
        return any(
            (self._nodes[node].streak < LONG if node in self._nodes else True)
            and any(self._workers[other].streak < LONG for other in members if other != number)
            for node, members in self._crew.at_hand.items()
        )

    def _awaits_others(self, number: int) -> bool:
        """Nothing has succeeded yet, and somebody else is still to get ready: he may do better, so that no piece
        uses up its tries here before."""
        return not self._any_success and self._crew.others_to_come(number)

    def has_to_wait(self, number: int) -> bool:
        """Of one that is held: others are to say first what is wrong with what it has failed."""
        return len(self._workers[number].undecided) >= MOST_UNDECIDED

    # Figures

    @staticmethod
    def _node(one: Conduct) -> tuple[Conduct, ...]:
        return () if one.node is None else (one.node,)

    def _elsewhere(self, conduct: Conduct) -> tuple[int, int]:
        """Recent attempts and failures of all others."""
        return self._all.recent - conduct.recent, self._all.failed - conduct.failed

    def _is_suspicious(self, conduct: Conduct) -> bool:
        recent, failed = self._elsewhere(conduct)
        return conduct.streak >= LONG and recent >= ENOUGH and 4 * failed <= recent

    def _is_guilty(self, conduct: Conduct) -> bool:
        if conduct.absolved < LONG or not self._is_suspicious(conduct):
            return False
        recent, failed = self._elsewhere(conduct)
        rate = (failed + 0.5) / (recent + 1)
        return rate ** min(conduct.streak, 1000) <= BY_CHANCE

    def _forget_half(self, one: Conduct) -> None:
        self._scale(one, 2)

    def _scale(self, one: Conduct, part: int) -> None:
        """Keep one of `part` of its recent attempts, none if 0."""
        recent = one.recent // part if part else 0
        failed = one.failed // part if part else 0
        for conduct in (self._all, *self._node(one)):
            conduct.recent -= one.recent - recent
            conduct.failed -= one.failed - failed
        one.recent, one.failed = recent, failed
