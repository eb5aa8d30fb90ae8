"""Outcomes on their way to rank 0: the large ones are announced, and wait here until they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mpibatch.messages import Announced, Outcomes
from mpibatch.work import Failed, Outcome

ANNOUNCE_BYTES = 256 << 10
"""A longer fragment, with the bad items, is announced, and sent when it is asked for."""


class Announcing:
    def __init__(self) -> None:
        self._held: dict[int, Outcome] = {}

    def sort(self, outcomes: Iterable[Outcome]) -> Outcomes:
        """What to say of these; large ones are kept."""
        at_once: list[Outcome] = []
        announced: list[Announced] = []
        for outcome in outcomes:
            if isinstance(outcome, Failed) or outcome.length <= ANNOUNCE_BYTES:
                at_once.append(outcome)
                continue
            self._held[outcome.attempt] = outcome
            bare = msgspec.structs.replace(outcome, fragment=b"", bad=[])
            announced.append(Announced(bare, outcome.length))
        return Outcomes(at_once, announced)

    def take(self, attempt: int) -> Outcome | None:
        """What was announced and is asked for; it is kept no more."""
        return self._held.pop(attempt, None)

    def clear(self) -> None:
        self._held.clear()
