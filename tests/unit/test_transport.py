"""Ports: nothing is lost, torn, doubled or overtaken, however slowly MPI moves, and whoever dies.

`FakeComm` keeps MPI's promises and no other: messages of one sender match in the order of sending, and
everything else (when a send is done, when a message can be seen, when its bytes are there, when a death is known)
is drawn by lot. Of dead ranks it does what Open MPI does with ULFM: what they sent and nobody received stays to be
seen for ever, and whatever waits for them raises an error.
"""

from __future__ import annotations

import random
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from mpibatch.core.framing import encode
from mpibatch.messages import Ping
from mpibatch.runtime.mpi_port import AT_ONCE, MOST_AT_A_TIME, MpiPort
from mpibatch.runtime.transport import COORDINATOR, WORD_S, AwakePort, HubPort, LocalPort

ANY, BYTE = -1, object()
EAGER = 1000
"""Up to so many bytes a send may be done although nobody has received it."""


class MpiError(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number

    def Get_error_class(self) -> int:
        return self._number


PROC_FAILED, PENDING, OTHER = 75, 76, 15


class Message:
    def __init__(self, source: int, body: bytes) -> None:
        self.source = source
        self.body = body
        self.received = False


class Request:
    def __init__(self, net: Net, message: Message, into: bytearray | None, with_rank: int) -> None:
        self._net = net
        self._with = with_rank
        self._message = message
        self._into = into
        self._done = False

    def Test(self) -> bool:
        assert not self._done, "a request that is done has been given back to MPI"
        message = self._message
        if self._net.is_known_dead(self._with):
            self._done = True
            self._net.open_requests -= 1
            raise MpiError(PROC_FAILED)
        ready = message.received or (self._into is None and len(message.body) <= EAGER)
        if not ready or self._net.lot.random() < self._net.sloth:
            return False
        if self._into is not None:
            self._into[:] = message.body
        self._done = True
        self._net.open_requests -= 1
        return True


class Status:
    def __init__(self) -> None:
        self.message: Message | None = None

    def Get_source(self) -> int:
        assert self.message is not None
        return self.message.source

    def Get_count(self, unit: object) -> int:
        assert self.message is not None and unit is BYTE
        return len(self.message.body)


class Net:
    """All ranks' mailboxes. `sloth`: how probably a thing is not done yet when it is asked about."""

    def __init__(self, size: int, seed: int, sloth: float) -> None:
        self.lot = random.Random(seed)
        self.sloth = sloth
        self.open_requests = 0
        self.size = size
        self.dead: list[int] = []
        self.waiting: list[dict[int, deque[Message]]] = [
            {source: deque() for source in range(size)} for _ in range(size)
        ]

    def is_known_dead(self, rank: int) -> bool:
        return rank in self.dead and self.lot.random() >= self.sloth

    def over(self) -> None:
        """Nothing is left over: MPI could be ended."""
        assert self.open_requests == 0
        assert not any(queue for box in self.waiting for queue in box.values())


class Group:
    def __init__(self, ranks: list[int]) -> None:
        self._ranks = ranks

    def Get_size(self) -> int:
        return len(self._ranks)

    def Translate_ranks(self, ranks: Iterable[int], other: Group) -> list[int]:
        return [other._ranks.index(self._ranks[rank]) for rank in ranks]

    def Free(self) -> None:
        pass


class FakeComm:
    def __init__(self, net: Net, rank: int, *, ulfm: bool = True) -> None:
        self._net = net
        self._rank = rank
        self._ulfm = ulfm
        self._told = 0
        """How many deaths this rank has been told of."""

    def Get_size(self) -> int:
        return self._net.size

    def Get_group(self) -> Group:
        return Group(list(range(self._net.size)))

    def Get_failed(self) -> Group:
        if not self._ulfm:
            raise NotImplementedError
        known = 0 if self._net.lot.random() < self._net.sloth else len(self._net.dead)
        self._told = max(known, self._told)
        return Group(self._net.dead[: self._told])

    def Isend(self, what: list[Any], dest: int, tag: int) -> Request:
        body, unit = what
        assert unit is BYTE and isinstance(body, bytes) and tag == 1
        message = Message(self._rank, body)
        self._net.waiting[dest][self._rank].append(message)
        self._net.open_requests += 1
        return Request(self._net, message, None, dest)

    def Iprobe(self, source: int, tag: int, status: Status) -> bool:
        if source == ANY and self._net.dead:
            raise MpiError(PENDING)
        assert source not in self._net.dead[: self._told], "of a dead rank nothing is to be had"
        if self._net.is_known_dead(source):
            raise MpiError(PROC_FAILED)
        box = self._net.waiting[self._rank]
        senders = box if source == ANY else [source]
        left_behind = [box[rank][0] for rank in self._net.dead if rank in senders and box[rank]]
        seen = left_behind or [
            box[rank][0] for rank in senders if box[rank] and self._net.lot.random() >= self._net.sloth
        ]
        if not seen:
            return False
        status.message = self._net.lot.choice(seen)
        return True

    def _match(self, source: int, buffer: bytearray) -> Message:
        if self._net.is_known_dead(source):
            raise MpiError(PROC_FAILED)
        message = self._net.waiting[self._rank][source].popleft()
        assert len(buffer) == len(message.body), "the buffer is of another message"
        message.received = True
        return message

    def Recv(self, what: list[Any], source: int, tag: int) -> None:
        buffer, unit = what
        message = self._match(source, buffer)
        assert unit is BYTE and len(message.body) <= AT_ONCE, (
            "a large message is received in one go: it blocks"
        )
        buffer[:] = message.body

    def Irecv(self, what: list[Any], source: int, tag: int) -> Request:
        buffer, unit = what
        assert unit is BYTE
        message = self._match(source, buffer)
        self._net.open_requests += 1
        return Request(self._net, message, buffer, source)


@pytest.fixture(autouse=True)
def no_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    mpi = types.SimpleNamespace(
        BYTE=BYTE, ANY_SOURCE=ANY, Status=Status, Exception=MpiError, ERR_PROC_FAILED=PROC_FAILED,
        ERR_PROC_FAILED_PENDING=PENDING,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "mpi4py", types.SimpleNamespace(MPI=mpi))


def ports(net: Net, size: int) -> list[MpiPort]:
    return [MpiPort(FakeComm(net, rank)) for rank in range(size)]  # type: ignore[arg-type]


def body(lot: random.Random, sender: int, number: int) -> bytes:
    length = lot.choice([1, 10, EAGER, EAGER + 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE])
    return f"{sender}:{number}:".encode().ljust(length, b".")


@pytest.mark.parametrize("seed", range(40))
def test_all_arrives_whole_and_in_order(seed: int) -> None:
    lot = random.Random(seed)
    size = lot.randint(2, 4)
    net = Net(size, seed, sloth=lot.choice([0.0, 0.3, 0.9]))
    all_ports = ports(net, size)
    sent: dict[tuple[int, int], list[bytes]] = {}
    got: dict[tuple[int, int], list[bytes]] = {}

    def take(rank: int) -> None:
        for source, data in all_ports[rank].receive():
            assert isinstance(data, bytes)
            got.setdefault((source, rank), []).append(data)

    for number in range(60):
        sender, receiver = lot.sample(range(size), 2)
        data = body(lot, sender, number)
        all_ports[sender].send(receiver, data)
        sent.setdefault((sender, receiver), []).append(data)
        take(lot.randrange(size))
    for _ in range(10_000):
        if got == sent and all(port.idle() for port in all_ports):
            break
        take(lot.randrange(size))

    assert got == sent
    assert all(port.receive() == [] for port in all_ports)
    net.over()


def test_later_ones_wait_behind_a_large_one_and_others_do_not() -> None:
    net = Net(3, 0, sloth=0.0)
    first, second, receiver = ports(net, 3)
    large = b"x" * (AT_ONCE + 1)
    first.send(2, large)
    first.send(2, b"after")
    second.send(2, b"aside")
    net.lot = random.Random(1)

    seen = never_whole(net, receiver)
    assert seen == [(1, b"aside")]
    net.sloth = 0.0
    assert receiver.receive() == [(0, large), (0, b"after")]
    assert first.idle() and second.idle()
    net.over()


def never_whole(net: Net, receiver: MpiPort) -> list[tuple[int, bytes]]:
    """What arrives while the bytes of large messages do not."""
    original = Request.Test
    try:
        Request.Test = lambda self: False if self._into is not None else original(self)  # type: ignore[method-assign]
        return [message for _ in range(5) for message in receiver.receive()]
    finally:
        Request.Test = original  # type: ignore[method-assign]


def test_one_call_takes_in_a_bounded_number() -> None:
    net = Net(2, 0, sloth=0.0)
    sender, receiver = ports(net, 2)
    for _ in range(2 * MOST_AT_A_TIME + 1):
        sender.send(1, b"x")

    assert [len(receiver.receive()) for _ in range(4)] == [MOST_AT_A_TIME, MOST_AT_A_TIME, 1, 0]
    assert sender.idle()
    net.over()


@pytest.mark.parametrize("length", [EAGER + 1, AT_ONCE + 1])
def test_a_send_is_under_way_until_it_has_left(length: int) -> None:
    net = Net(2, 0, sloth=0.0)
    sender, receiver = ports(net, 2)
    sender.send(1, b"x" * length)

    assert not sender.idle()
    assert sender.pressing() == (length > AT_ONCE), "only what is large has to be looked after"
    received = receiver.receive() or receiver.receive()
    assert received == [(0, b"x" * length)]
    assert sender.idle()
    net.over()


@pytest.mark.parametrize("seed", range(10))
def test_parting_takes_in_what_is_still_said(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks part at once, each with messages of the other on their way, large ones among them."""
    net = Net(2, seed, sloth=0.5)
    one, other = ports(net, 2)
    for number in range(20):
        one.send(1, body(net.lot, 0, number))
        other.send(0, body(net.lot, 1, number))
    parting = iter_part(other, 0)

    def meanwhile(seconds: float) -> None:
        next(parting, None)

    monkeypatch.setattr("time.sleep", meanwhile)
    assert one.part([1], patience_s=60)
    for _ in parting:
        pass
    net.over()


def iter_part(port: MpiPort, rank: int) -> Iterator[None]:
    """What `part` does, a step at a time."""
    port.send(rank, b"")
    while port._behind or rank not in port._parted or not port.idle():
        port.receive()
        yield


def test_who_does_not_part_is_not_waited_for_for_ever() -> None:
    one, _ = ports(Net(2, 0, sloth=0.0), 2)

    assert not one.part([1], patience_s=0.01)


# Ranks that die


@pytest.mark.parametrize("seed", range(60))
def test_whoever_dies_the_others_go_on(seed: int) -> None:
    """What a dead rank sent arrives up to some message; between the living nothing changes."""
    lot = random.Random(seed)
    size = lot.randint(3, 5)
    net = Net(size, seed, sloth=lot.choice([0.0, 0.3, 0.9]))
    all_ports = ports(net, size)
    deaths = {lot.randrange(20, 100): rank for rank in lot.sample(range(size), lot.randint(1, 2))}
    sent: dict[tuple[int, int], list[bytes]] = {}
    got: dict[tuple[int, int], list[bytes]] = {}

    def take(rank: int) -> None:
        for source, data in all_ports[rank].receive():
            got.setdefault((source, rank), []).append(data)

    for number in range(120):
        if number in deaths:
            net.dead.append(deaths[number])
        living = [rank for rank in range(size) if rank not in net.dead]
        sender = lot.choice(living)
        receiver = lot.choice([rank for rank in range(size) if rank != sender])
        data = body(lot, sender, number)
        all_ports[sender].send(receiver, data)
        sent.setdefault((sender, receiver), []).append(data)
        take(lot.choice(living))
    between_living = {way: all_sent for way, all_sent in sent.items() if not set(way) & set(net.dead)}
    for _ in range(10_000):
        if all(got.get(way) == all_sent for way, all_sent in between_living.items()):
            break
        take(lot.choice(living))

    for way, all_sent in sent.items():
        arrived = got.get(way, [])
        assert arrived == (all_sent if way in between_living else all_sent[: len(arrived)]), way
    for rank in living:
        for _ in range(1000):
            if len(all_ports[rank].failed()) == len(net.dead) and all_ports[rank].idle():
                break
            all_ports[rank].receive()
        assert sorted(all_ports[rank].failed()) == sorted(net.dead)
        assert all_ports[rank].idle() and not all_ports[rank].pressing()
        assert not all_ports[rank].part([other for other in living if other != rank], 60), "MPI would hang"


def test_other_errors_are_none_of_a_death() -> None:
    one, _ = ports(Net(2, 0, sloth=0.0), 2)

    with pytest.raises(MpiError):
        one._lose(1, MpiError(OTHER))  # type: ignore[arg-type]
    assert one.failed() == []


def test_an_mpi_that_tells_of_no_deaths() -> None:
    net = Net(2, 0, sloth=0.0)
    net.dead = [1]

    assert MpiPort(FakeComm(net, 0, ulfm=False)).failed() == []  # type: ignore[arg-type]


# Within rank 0


def test_two_ends_of_a_local_port() -> None:
    one, other = LocalPort.pair()
    one.send(0, b"a")
    one.send(0, b"b")
    other.send(0, b"c")

    assert other.receive() == [(COORDINATOR, b"a"), (COORDINATOR, b"b")]
    assert one.receive() == [(COORDINATOR, b"c")]
    assert one.receive() == other.receive() == []
    assert one.idle() and other.idle()


def test_the_hub_leads_to_oneself_and_to_others() -> None:
    net = Net(2, 0, sloth=0.0)
    mpi, outside = ports(net, 2)
    mine, workers = LocalPort.pair()
    hub = HubPort(mine, mpi)

    hub.send(COORDINATOR, b"to me")
    hub.send(1, b"y" * (EAGER + 1))
    assert not hub.idle()
    assert workers.receive() == [(COORDINATOR, b"to me")]
    assert outside.receive() == [(0, b"y" * (EAGER + 1))]
    assert hub.idle()
    workers.send(COORDINATOR, b"from me")
    outside.send(0, b"from 1")
    assert hub.receive() == [(COORDINATOR, b"from me"), (1, b"from 1")]
    assert hub.receive() == []
    assert outside.idle()
    net.over()


def test_ranks_without_work_hear_of_rank_0_now_and_then() -> None:
    net = Net(3, 0, sloth=0.0)
    mpi, worker, unused = ports(net, 3)
    now = 1000.0
    port = AwakePort(mpi, [2], clock=lambda: now)
    for _ in range(100):
        port.receive()
        now += 2 * WORD_S / 100

    assert unused.receive() == [(0, encode(Ping()))] * 2
    port.send(1, b"work")
    assert worker.receive() == [(0, b"work")]
    worker.send(0, b"done")
    assert port.receive() == [(1, b"done")]
    net.dead.append(1)
    assert port.failed() == [1] and port.idle() and not port.pressing()
    net.over()


def test_the_hub_knows_of_the_dead() -> None:
    net = Net(2, 0, sloth=0.0)
    hub = HubPort(LocalPort(), ports(net, 2)[0])
    net.dead.append(1)

    assert hub.failed() == [1]
