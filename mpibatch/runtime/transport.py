"""How message bodies travel: between ranks over MPI, within rank 0 through a queue.

Nothing here blocks. Every send is started and left to complete, as two ranks that block-send to each
other deadlock above the eager limit. A `Port` is used from one thread only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpi4py import MPI

TAG = 1
AT_ONCE = 64 << 10
"""Bytes up to which a message is received in one call: its body has arrived with its header."""
MOST_AT_A_TIME = 64
"""Messages taken in by one `receive`, so that a flood does not keep a rank from its other duties."""

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


class MpiPort:
    """Between ranks. Small messages are received at once; of large ones the transfer is started and
    later ones of the same rank wait behind it, so that order is kept."""

    def __init__(self, comm: MPI.Comm) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._byte = MPI.BYTE
        self._any_source = MPI.ANY_SOURCE
        self._status = MPI.Status()
        self._leaving: list[tuple[MPI.Request, bytes]] = []
        self._behind: dict[int, deque[tuple[MPI.Request | None, bytearray]]] = {}
        self._parted: set[int] = set()
        """Ranks whose last word has come."""

    def send(self, rank: int, body: bytes) -> None:
        request = self._comm.Isend([body, self._byte], dest=rank, tag=TAG)
        if not request.Test():
            self._leaving.append((request, body))

    def receive(self) -> list[tuple[int, bytes]]:
        if self._leaving:
            self._leaving = [(request, body) for request, body in self._leaving if not request.Test()]
        arrived: list[tuple[int, bytes]] = []
        for _ in range(MOST_AT_A_TIME):
            if not self._comm.Iprobe(source=self._any_source, tag=TAG, status=self._status):
                break
            rank = self._status.Get_source()
            length = self._status.Get_count(self._byte)
            buffer = bytearray(length)
            if length <= AT_ONCE:
                self._comm.Recv([buffer, self._byte], source=rank, tag=TAG)
                if length == 0:
                    self._parted.add(rank)
                elif rank in self._behind:
                    self._behind[rank].append((None, buffer))
                else:
                    arrived.append((rank, bytes(buffer)))
            else:
                request = self._comm.Irecv([buffer, self._byte], source=rank, tag=TAG)
                self._behind.setdefault(rank, deque()).append((request, buffer))
        if self._behind:
            arrived += self._take_whole()
        return arrived

    def _take_whole(self) -> list[tuple[int, bytes]]:
        """Of each rank, the messages that are whole and have none under way before them."""
        whole: list[tuple[int, bytes]] = []
        for rank, queue in list(self._behind.items()):
            while queue and (queue[0][0] is None or queue[0][0].Test()):
                whole.append((rank, bytes(queue.popleft()[1])))
            if not queue:
                del self._behind[rank]
        return whole

    def idle(self) -> bool:
        self._leaving = [(request, body) for request, body in self._leaving if not request.Test()]
        return not self._leaving

    def pressing(self) -> bool:
        return any(len(body) > AT_ONCE for _, body in self._leaving) or bool(self._behind)

    def part(self, ranks: Collection[int], patience_s: float) -> bool:
        """Say a last word to `ranks` and take in all that comes before theirs, as MPI must not be ended with a
        message on its way. Whether it can be ended."""
        for rank in ranks:
            self.send(rank, b"")
        end = time.monotonic() + patience_s
        while self._behind or not (self._parted.issuperset(ranks) and self.idle()):
            if time.monotonic() > end:
                return False
            self.receive()
            time.sleep(0.001)
        return True


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
