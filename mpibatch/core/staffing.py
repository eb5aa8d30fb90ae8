"""Who is used and who no more: the gone, the retired, those in quarantine. Pure."""

from __future__ import annotations

from mpibatch.core.bad_nodes import BadNodes
from mpibatch.core.crew import Crew, Worker
from mpibatch.core.events import Command, Quarantine, Remark, Retire
from mpibatch.core.fates import Fates
from mpibatch.core.out_of_memory import KILLS, MemoryKills


class Staffing:
    """Changes `crew`, and has others do what those had whom it loses."""

    def __init__(self, crew: Crew, bad_nodes: BadNodes, fates: Fates) -> None:
        self._crew = crew
        self._bad_nodes = bad_nodes
        self._fates = fates
        self._memory = MemoryKills(crew)

    def gone(self, number: int, worker: Worker) -> list[Command]:
        """It will not say anything any more."""
        del self._crew.workers[number]
        if not worker.lost:
            self._crew.take_away(number, worker)
        return self.without(worker)

    def without(self, worker: Worker) -> list[Command]:
        """Have others do what it had and nobody else is at. If it is only lost, its answers still count."""
        for work in worker.attempts.values():
            self._fates.put_back(work)
        if self._crew.usable or not self._crew.alive:
            return []
        # Those in quarantine are better than nobody.
        back = self._crew.unbar_all()
        for number in back:
            self._bad_nodes.begin_anew(number)
        return [Remark("no other worker is left: those in quarantine are used again", back)]

    def out_of_memory(self, number: int) -> list[Command]:
        """The kernel killed its processor: if that is not the first time on its node, one less is used there."""
        if not self._memory.killed(number):
            return []
        left = self.gone(number, self._crew.workers[number])
        text = (
            f"the kernel killed {KILLS} processors for memory on one node: one worker there is not used any more,"
            " so that the others have its share"
        )
        return [Retire(number), Remark(text, [number]), *left]

    def judge(self, number: int) -> list[Command]:
        """Quarantine this worker, or its node, if it has come to that."""
        found = self._bad_nodes.judge(number)
        if found is None:
            return []
        for one in found.workers:
            self._crew.bar(one)
            self._bad_nodes.refund(one)
        recalls = self._crew.recall_all(found.workers)
        return [Quarantine(found.workers, found.whole_node, found.failures), *recalls]
