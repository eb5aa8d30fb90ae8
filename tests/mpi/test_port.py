"""`MpiPort` between real ranks, each executing the script of its test."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import support

from mpibatch.local_world import find_mpiexec, launcher_command

pytestmark = pytest.mark.mpi

HEAD = """
import sys, time, zlib
import mpi4py
mpi4py.rc.recv_mprobe = False
mpi4py.rc.threads = False
from mpi4py import MPI
from mpibatch.runtime.mpi_port import AT_ONCE, MpiPort

comm = MPI.COMM_WORLD
rank, size = comm.Get_rank(), comm.Get_size()
port = MpiPort(comm)
others = [other for other in range(size) if other != rank]
SIZES = [1, 100, 5_000_000, 10, AT_ONCE, AT_ONCE + 1, 3, 200_000, 1]

def body(sender, number):
    return bytes([sender, number]) * (SIZES[number % len(SIZES)] // 2 + 1)

def expect(rank, expected):
    assert got[rank] == expected, f"rank {rank}: {[part[:2] for part in got[rank]]}"

got = {other: [] for other in others}
def receive():
    for sender, data in port.receive():
        got[sender].append(data)

def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, {other: len(all) for other, all in got.items()}
        receive()
"""


def run(script: str, ranks: int) -> None:
    launcher, variables = launcher_command(find_mpiexec(), ranks)
    ended = subprocess.run(
        [*launcher, sys.executable, "-c", HEAD + textwrap.dedent(script)], capture_output=True, text=True,
        check=False, timeout=support.TIMEOUT_S, env=support.environment(**variables),
    )  # fmt: skip
    assert ended.returncode == 0, support.words(ended)
    assert ended.stdout.count("done") == ranks, support.words(ended)


def test_all_send_to_all_at_once_and_order_is_kept() -> None:
    """Large ones in both directions, behind and before small ones."""
    run(
        """
        for number in range(3 * len(SIZES)):
            for other in others:
                port.send(other, body(rank, number))
        until(lambda: all(len(got[other]) == 3 * len(SIZES) for other in others) and port.idle())
        for other in others:
            expect(other, [body(other, number) for number in range(3 * len(SIZES))])
        assert port.receive() == []
        assert port.part(others, 60)
        MPI.Finalize()
        print("done")
        """,
        3,
    )


def test_mpi_can_be_ended_with_messages_on_their_way() -> None:
    """Nobody has received them when the ranks part; what is still said is taken in and dropped."""
    run(
        """
        if rank > 0:
            for number in range(2 * len(SIZES)):
                port.send(0, body(rank, number))
        assert port.part(others, 60)
        MPI.Finalize()
        print("done")
        """,
        3,
    )


def test_who_does_not_part_is_not_waited_for_for_ever() -> None:
    run(
        """
        if rank == 0:
            assert not port.part(others, 0.2)
        else:
            until(lambda: 0 in port._parted)
        comm.Barrier()
        MPI.Finalize()
        print("done")
        """,
        2,
    )


def test_a_flood_leaves_time_for_other_duties() -> None:
    """One call of `receive` takes in a bounded number."""
    run(
        """
        from mpibatch.runtime.mpi_port import MOST_AT_A_TIME
        if rank == 1:
            for number in range(5 * MOST_AT_A_TIME):
                port.send(0, b"x")
            until(port.idle)
        comm.Barrier()
        if rank == 0:
            taken = []
            until_all = time.monotonic() + 60
            while sum(taken) < 5 * MOST_AT_A_TIME:
                assert time.monotonic() < until_all
                taken.append(len(port.receive()))
            assert max(taken) <= MOST_AT_A_TIME, taken
        assert port.part(others, 60)
        MPI.Finalize()
        print("done")
        """,
        2,
    )
