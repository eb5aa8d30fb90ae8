"""How message bodies travel between ranks: over MPI, by calls that do not block. Used from one thread only."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

TAG = 1
AT_ONCE = 64 << 10
"""Bytes up to which a message is received in one call: its body has arrived with its header."""
MOST_AT_A_TIME = 64
"""Messages taken in by one `receive`, so that a flood does not keep a rank from its other duties."""


class MpiPort:
    """Between ranks. Small messages are received at once; of large ones the transfer is started and
    later ones of the same rank wait behind it, so that order is kept.

    Where MPI tells of dead ranks and goes on without them (ULFM), what they had under way is dropped, and nothing
    is sent to them any more.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        from mpi4py import MPI

        self._comm = comm
        self._byte = MPI.BYTE
        self._any_source = MPI.ANY_SOURCE
        self._status = MPI.Status()
        self._error = MPI.Exception
        self._of_lost_ranks = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING)
        self._leaving: list[tuple[int, MPI.Request, bytes]] = []
        self._behind: dict[int, deque[tuple[MPI.Request | None, bytearray]]] = {}
        self._parted: set[int] = set()
        """Ranks whose last word has come."""
        self._failed: dict[int, None] = {}
        self._living: deque[int] = deque()
        """Once a rank has failed: those that have not."""

    def send(self, rank: int, body: bytes) -> None:
        if rank in self._failed:
            return
        try:
            request = self._comm.Isend([body, self._byte], dest=rank, tag=TAG)
        except self._error as error:
            self._lose(rank, error)
            return
        if not self._is_done(request, rank):
            self._leaving.append((rank, request, body))

    def receive(self) -> list[tuple[int, bytes]]:
        if self._leaving:
            self._move_on()
        arrived: list[tuple[int, bytes]] = []
        for _ in range(MOST_AT_A_TIME):
            if not self._probe():
                break
            self._take(self._status.Get_source(), self._status.Get_count(self._byte), arrived)
        if self._behind:
            arrived += self._take_whole()
        return arrived

    def _probe(self) -> bool:
        try:
            if not self._failed:
                return bool(self._comm.Iprobe(source=self._any_source, tag=TAG, status=self._status))
            # One by one, as a look for whoever speaks now raises an error; and as what a dead rank has left unread
            # would be seen for ever, before what others say.
            for _ in range(len(self._living)):
                self._living.rotate(-1)
                if self._comm.Iprobe(source=self._living[-1], tag=TAG, status=self._status):
                    return True
        except self._error as error:
            self._lose(None, error)
        return False

    def _take(self, rank: int, length: int, arrived: list[tuple[int, bytes]]) -> None:
        """Receive the message that was probed, or begin to."""
        buffer = bytearray(length)
        try:
            if length > AT_ONCE:
                request = self._comm.Irecv([buffer, self._byte], source=rank, tag=TAG)
                self._behind.setdefault(rank, deque()).append((request, buffer))
                return
            self._comm.Recv([buffer, self._byte], source=rank, tag=TAG)
        except self._error as error:
            self._lose(rank, error)
            return
        if length == 0:
            self._parted.add(rank)
        elif rank in self._behind:
            self._behind[rank].append((None, buffer))
        else:
            arrived.append((rank, bytes(buffer)))

    def _take_whole(self) -> list[tuple[int, bytes]]:
        """Of each rank, the messages that are whole and have none under way before them."""
        whole: list[tuple[int, bytes]] = []
        for rank, queue in list(self._behind.items()):
            while queue and (queue[0][0] is None or self._is_done(queue[0][0], rank)):
                if rank in self._failed:
                    break  # It was being received, and is not whole.
                whole.append((rank, bytes(queue.popleft()[1])))
            if not queue:
                self._behind.pop(rank, None)
        return whole

    def _move_on(self) -> None:
        self._leaving = [
            (rank, request, body)
            for rank, request, body in self._leaving
            if rank not in self._failed and not self._is_done(request, rank)
        ]

    def idle(self) -> bool:
        self._move_on()
        return not self._leaving

    def pressing(self) -> bool:
        return any(len(body) > AT_ONCE for _, _, body in self._leaving) or bool(self._behind)

    def failed(self) -> list[int]:
        """Ranks that MPI itself knows to be dead, in the order in which it was learnt; always none without ULFM."""
        try:
            group = self._comm.Get_failed()
        except (self._error, NotImplementedError):
            return list(self._failed)
        try:
            if group.Get_size() > len(self._failed):
                everybody = self._comm.Get_group()
                for rank in group.Translate_ranks(range(group.Get_size()), everybody):
                    self._forget(rank)
                everybody.Free()
        finally:
            group.Free()
        return list(self._failed)

    def _is_done(self, request: MPI.Request, rank: int) -> bool:
        try:
            return bool(request.Test())
        except self._error as error:
            self._lose(rank, error)
            return True

    def _lose(self, rank: int | None, error: MPI.Exception) -> None:
        """Understand an error that came of dealing with `rank`: raises it, unless somebody has died."""
        if error.Get_error_class() not in self._of_lost_ranks:
            raise error
        self.failed()
        if rank is not None:
            self._forget(rank)

    def _forget(self, rank: int) -> None:
        if not self._failed:
            self._living = deque(range(self._comm.Get_size()))
        if rank not in self._failed:
            self._failed[rank] = None
            self._living.remove(rank)
            self._behind.pop(rank, None)

    def part(self, ranks: Collection[int], patience_s: float) -> bool:
        """Say a last word to `ranks` and take in all that comes before theirs, as MPI must not be ended with a
        message on its way. Whether it can be ended: not if a rank of this world has failed."""
        for rank in ranks:
            self.send(rank, b"")
        end = time.monotonic() + patience_s
        while self._behind or not (self._parted.issuperset(ranks) and self.idle()):
            if time.monotonic() > end or self.failed():
                return False
            self.receive()
            time.sleep(0.001)
        return not self.failed()
