"""How message bodies travel: between ranks over MPI, within rank 0 through a queue.

Nothing here blocks. Every send is started and left to complete, as two ranks that block-send to each
other deadlock above the eager limit. A `Port` is used from one thread only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Protocol

from mpibatch.core.framing import encode
from mpibatch.messages import Ping

WORD_S = 30.0
"""Between two words to a rank that has nothing to do."""

COORDINATOR = 0


class Port(Protocol):
    """One rank's door to the others."""

    def send(self, rank: int, body: bytes) -> None:
        """Start sending; `body` must not change. Messages to one rank arrive in the order of sending."""

    def receive(self) -> list[tuple[int, bytes]]:
        """What has arrived: (rank, body). Also moves on what is under way: call it often."""

    def idle(self) -> bool:
        """Whether everything that was sent has left."""

    def pressing(self) -> bool:
        """Whether something large is on its way, which moves on only while it is looked after."""

    def failed(self) -> list[int]:
        """Ranks that certainly are dead, as far as that is known. Cheap."""


class LocalPort:
    """Rank 0 to itself: its worker and its coordinator each hold one end."""

    def __init__(self) -> None:
        self._arrived: deque[bytes] = deque()
        self._other: LocalPort = self

    @classmethod
    def pair(cls) -> tuple[LocalPort, LocalPort]:
        """Two ends: what is sent into one comes out of the other."""
        one, other = cls(), cls()
        one._other, other._other = other, one
        return one, other

    def send(self, rank: int, body: bytes) -> None:
        self._other._arrived.append(body)

    def receive(self) -> list[tuple[int, bytes]]:
        if not self._arrived:
            return []
        arrived = [(COORDINATOR, body) for body in self._arrived]
        self._arrived.clear()
        return arrived

    def idle(self) -> bool:
        return True

    def pressing(self) -> bool:
        return False

    def failed(self) -> list[int]:
        return []


class HubPort:
    """The coordinator's door in a world in which rank 0 works too: itself by a queue, others by MPI."""

    def __init__(self, local: LocalPort, others: Port) -> None:
        self._local = local
        self._others = others

    def send(self, rank: int, body: bytes) -> None:
        (self._local if rank == COORDINATOR else self._others).send(rank, body)

    def receive(self) -> list[tuple[int, bytes]]:
        return self._local.receive() + self._others.receive()

    def idle(self) -> bool:
        return self._others.idle()

    def pressing(self) -> bool:
        return self._others.pressing()

    def failed(self) -> list[int]:
        return self._others.failed()


class AwakePort:
    """Rank 0's door, by which ranks that have nothing to do hear of it as well: now and then, while it is used.
    Else they could not tell whether it lives."""

    def __init__(
        self, port: Port, idle: Collection[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._port = port
        self._unused = idle
        self._clock = clock
        self._next_word = 0.0

    def send(self, rank: int, body: bytes) -> None:
        self._port.send(rank, body)

    def receive(self) -> list[tuple[int, bytes]]:
        now = self._clock()
        if now > self._next_word:
            self._next_word = now + WORD_S
            for rank in self._unused:
                self._port.send(rank, encode(Ping()))
        return self._port.receive()

    def idle(self) -> bool:
        return self._port.idle()

    def pressing(self) -> bool:
        return self._port.pressing()

    def failed(self) -> list[int]:
        return self._port.failed()
