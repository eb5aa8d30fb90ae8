"""What any rank but 0 does, from its first word to its last: it supervises a processor, or stays idle."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from mpibatch.core.ranks import Place
from mpibatch.errors import EXIT_BUG, EXIT_STOPPED
from mpibatch.launch import quiet_exit
from mpibatch.runtime.mpi_port import MpiPort
from mpibatch.runtime.stops import Signals
from mpibatch.runtime.transport import COORDINATOR
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.worker import Worker

if TYPE_CHECKING:
    from mpi4py import MPI

LOOK_S = 1.0
UNUSED_LOOKS = 6 * 3600
"""So many looks long a rank with nothing to do waits for a word of rank 0. It is told something now and then, but
not while rank 0 plans, which may take long."""
NOTHING_HEARD = -sys.maxsize
"""Looks of a rank that has not heard of rank 0 at all: a plan may take as long as it takes."""
DISMISS_S = 5.0
PART_S = 60.0
"""How long ranks wait for each other's last word: one may have much scratch to remove."""
WORKER_SLEEP_S = 0.02
"""Longest sleep of a worker: its processor wakes it, and what rank 0 says can wait so long."""


def be_worker(comm: MPI.Comm, places: list[Place]) -> int:
    """Any rank but 0: until it is dismissed."""
    rank = comm.Get_rank()
    port = MpiPort(comm)
    worker = Worker(port, rank=rank, host=places[rank].host)
    try:
        _stand_back()
        signals = Signals()
        signals.install()
        orderly = _serve(worker, port, signals)
    except BaseException:
        # Not ours to decide what becomes of the run: rank 0 sees that this rank is gone.
        traceback.print_exc()
        worker.abandon()
        quiet_exit(EXIT_BUG)
    if not worker.over:
        worker.abandon()
    if not orderly and not port.failed():
        time.sleep(DISMISS_S)  # Rank 0 has the launcher end us, with its own exit code. This is if it cannot.
    if not orderly or not port.part([COORDINATOR], PART_S):
        quiet_exit(0)
    end_mpi()
    return 0


def _stand_back() -> None:
    """A supervisor that wakes must not push a processor aside that computes: it waits for the next free moment.

    What is with the processors covers that wait. They get the usual scheduling back.
    """
    with contextlib.suppress(OSError):  # Not allowed here: it only costs some microseconds a mini-batch.
        os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _serve(worker: Worker, port: MpiPort, signals: Signals) -> bool:
    """Step the worker to its dismissal; whether MPI can be ended."""
    backoff = Backoff(WORKER_SLEEP_S)
    parent = os.getppid()
    told = False
    next_look = 0.0
    silent_looks = NOTHING_HEARD
    while worker.dismissed is None:
        found = worker.step()
        if signals.got and not told:
            told = True
            worker.ask_to_stop(signals.got[0].name)
        if found:
            silent_looks = 0
        now = time.monotonic()
        if now > next_look:
            next_look = now + LOOK_S
            silent_looks += 1
            left_alone = os.getppid() != parent or COORDINATOR in port.failed() or silent_looks > UNUSED_LOOKS
            if left_alone or worker.coordinator_silent():
                worker.abandon()
                quiet_exit(EXIT_STOPPED)
        backoff.rest(found, worker.fds(), patience_s=worker.patience_s)
    return worker.dismissed.orderly


def end_mpi() -> None:
    """`MPI_Finalize`, but not for ever."""
    from mpi4py import MPI

    # Should a rank be lost just now, it would wait for ever.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(round(PART_S))
    MPI.Finalize()
    signal.alarm(0)
