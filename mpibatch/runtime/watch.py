"""Who is lost, as rank 0 can tell: who has been silent, whom MPI reports dead, whose guardian says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from mpibatch.core.liveness import Liveness
from mpibatch.core.ranks import WorkerPlace

LOOK_S = 0.5
"""Between two looks for workers that have died; silence is judged with each as well."""


class Watch:
    """Tell it of every word that was `heard`, and ask often who is `lost`.

    `failed`: ranks that MPI knows to be dead; `notices`: the folder in which the guardians of workers that have
    died leave a file each, named by the worker's number. Of a folder that cannot be read nothing is known: then
    silence tells.
    """

    def __init__(
        self,
        workers: Mapping[int, WorkerPlace],
        *,
        silence_s: float,
        failed: Callable[[], Collection[int]],
        notices: Path | None,
    ) -> None:
        self._number_of = {place.rank: number for number, place in workers.items()}
        self._silence_s = silence_s
        self._failed = failed
        self._notices = notices
        self._liveness = Liveness(silence_s)
        self._next_look = 0.0
        self.dead: set[int] = set()
        """Those that certainly are no more, whom nothing need be sent."""

    def heard(self, worker: int, now: float) -> None:
        """`worker` spoke; from now on it is watched."""
        self._liveness.heard(worker, now)

    def forget(self, worker: int) -> None:
        """`worker` has left in order."""
        self._liveness.forget(worker)

    def extend(self, stall_s: float) -> None:
        """We ourselves stood still, and so have not read what came meanwhile."""
        self._liveness.extend(stall_s)

    def lost(self, now: float) -> dict[int, str]:
        """Those that are lost since the last call, and why."""
        if now < self._next_look:
            return {}
        self._next_look = now + LOOK_S
        found = dict.fromkeys(self._liveness.silent(now), f"has been silent for {self._silence_s:g} s")
        for number in self._died():
            self.dead.add(number)
            found[number] = "has died"
        for number in found:
            self._liveness.forget(number)
        return found

    def _died(self) -> list[int]:
        numbers = {self._number_of[rank] for rank in self._failed() if rank in self._number_of}
        if self._notices is not None:
            try:
                numbers.update(int(name) for name in os.listdir(self._notices) if name.isdigit())
            except OSError:  # Nobody has had anything to say, or the disk has not.
                pass
        return sorted(number for number in numbers - self.dead if number in self._number_of.values())
