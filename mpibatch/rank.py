"""What one rank does, from its first word to its last: rank 0 coordinates, the others work or stay idle."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpibatch.core.framing import encode
from mpibatch.core.ranks import Place, Roles, assign
from mpibatch.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_STOPPED, MpibatchError, tell
from mpibatch.launch import quiet_exit
from mpibatch.messages import Dismissed
from mpibatch.runtime.files import storing
from mpibatch.runtime.stops import BEGUN_FILE, EXIT_CODE_FILE, Signals, Stops, tell_parent
from mpibatch.runtime.transport import HubPort, LocalPort, MpiPort, Port
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.worker import Worker

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job
    from mpibatch.monitor.progress import Progress
    from mpibatch.runtime.record import Begun

LOOK_S = 1.0
DISMISS_S = 5.0
PART_S = 60.0
"""How long ranks wait for each other's last word: one may have much scratch to remove."""
WORKER_SLEEP_S = 0.02
"""Longest sleep of a worker: its processor wakes it, and what rank 0 says can wait so long."""


def gather_places(comm: MPI.Comm | None) -> list[Place]:
    """Where all ranks are, on every rank. Ranks that share memory are on one node."""
    host = socket.gethostname()
    if comm is None:
        return [Place(0, 0, host)]
    from mpi4py import MPI

    rank = comm.Get_rank()
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED, key=rank)
    node = node_comm.bcast(rank, root=0)
    node_comm.Free()
    return [Place(number, node, host) for number, (node, host) in enumerate(comm.allgather((node, host)))]


def be_worker(comm: MPI.Comm, places: list[Place]) -> int:
    """Any rank but 0: until it is dismissed."""
    rank = comm.Get_rank()
    port = MpiPort(comm)
    worker = Worker(port, rank=rank, host=places[rank].host)
    try:
        _stand_back()
        signals = Signals()
        signals.install()
        orderly = _serve(worker, signals)
    except BaseException:
        # Not ours to decide what becomes of the run: rank 0 sees that this rank is gone.
        traceback.print_exc()
        worker.abandon()
        quiet_exit(EXIT_BUG)
    if not worker.over:
        worker.abandon()
    if not orderly:
        time.sleep(DISMISS_S)  # Rank 0 has the launcher end us, with its own exit code. This is if it cannot.
        quiet_exit(0)
    if not port.part([0], PART_S):
        quiet_exit(0)
    _end_mpi()
    return 0


def _stand_back() -> None:
    """A supervisor that wakes must not push a processor aside that computes: it waits for the next free moment.

    What is with the processors covers that wait. They get the usual scheduling back.
    """
    with contextlib.suppress(OSError):  # Not allowed here: it only costs some microseconds a mini-batch.
        os.sched_setscheduler(0, os.SCHED_BATCH | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _serve(worker: Worker, signals: Signals) -> bool:
    """Step the worker to its dismissal; whether MPI can be ended."""
    backoff = Backoff(WORKER_SLEEP_S)
    parent = os.getppid()
    told = False
    next_look = 0.0
    while worker.dismissed is None:
        found = worker.step()
        if signals.got and not told:
            told = True
            worker.ask_to_stop(signals.got[0].name)
        now = time.monotonic()
        if now > next_look:
            next_look = now + LOOK_S
            if os.getppid() != parent or worker.coordinator_silent():
                worker.abandon()
                quiet_exit(EXIT_STOPPED)
        backoff.rest(found, worker.fds(), patience_s=worker.patience_s)
    return worker.dismissed.orderly


def be_coordinator(
    comm: MPI.Comm | None, places: list[Place], coordinate: Callable[[Port | None], tuple[int, bool]]
) -> int:
    """Rank 0: `coordinate` is given the port to the other ranks and returns (exit code, whether the end was
    orderly). Whatever happens, the other ranks are dismissed and the exit code is told."""
    port = MpiPort(comm) if comm is not None else None
    code, orderly = EXIT_BUG, False
    tell_parent(BEGUN_FILE)
    try:
        code, orderly = coordinate(port)
    except MpibatchError as error:
        code, orderly = error.exit_code, True
        tell(error)
    except KeyboardInterrupt:  # Before anything was done: afterwards signals ask for a stop.
        code, orderly = EXIT_INTERRUPTED, True
    except BaseException:
        orderly = True  # As far as we know: else the others will not part.
        traceback.print_exc()
    finally:
        local = tell_parent(EXIT_CODE_FILE, str(code))
        if comm is not None and port is not None:
            for place in places[1:]:
                port.send(place.rank, encode(Dismissed(orderly)))
            if not (orderly and port.part(range(1, len(places)), PART_S)):
                _let_leave(port)
                comm.Abort(code)  # MPI_Finalize could not return, and to go without it hides the exit code.
            _end_mpi()
    return 0 if local else code  # Else the launcher would add words of its own.


def _let_leave(port: Port) -> None:
    end = time.monotonic() + DISMISS_S
    while not port.idle() and time.monotonic() < end:
        port.receive()
        time.sleep(0.001)


def _end_mpi() -> None:
    from mpi4py import MPI

    MPI.Finalize()


def coordinate(
    job: Job, *, places: list[Place], port: Port | None, fresh: bool, progress: Progress, started_at: float
) -> tuple[int, bool]:
    """Run the job from rank 0: (exit code, whether the end was orderly)."""
    from mpibatch.core.config import job_warnings
    from mpibatch.monitor.progress import SurveyProgress
    from mpibatch.monitor.summary import summary
    from mpibatch.runtime.begin import Reused, begin
    from mpibatch.runtime.run_folder import RunFolder
    from mpibatch.runtime.session import Session
    from mpibatch.runtime.surveying.rounds import Round

    signals = Signals()
    signals.install()
    try:
        roles = assign(places, job.process_count_per_node, job.node_count)
        for warning in [*job_warnings(job), *roles.warnings]:
            progress.say(f"warning: {warning}")
        hub, local = _ports(port, roles, places[0].host)

        def run_round(survey: Job, round_begun: Begun) -> Round:
            stops = Stops(signals, RunFolder(job.output).stop, term_grace_s=job.term_grace_s)
            with signals.noted():
                ended = Session(
                    survey, round_begun, workers=roles.workers, port=hub, local=local, stops=stops,
                    observer=SurveyProgress(progress.say), started_at=time.monotonic(),
                ).run()  # fmt: skip
            return Round(ended.result, ended.orderly)

        with signals.breaking_off():
            begun = begin(
                job, fresh=fresh, say=progress.say, no_return=signals.no_return, run_round=run_round
            )
        if isinstance(begun, Reused):
            progress.close()
            _print(summary(begun.result, [], continue_command=""))
            _print(f"This run was complete already, and is reused: {begun.folder.root}")
            return 0, True
        _log_to(begun, job.logging_level)
        stops = Stops(signals, begun.folder.stop, term_grace_s=job.term_grace_s)
        session = Session(
            job, begun, workers=roles.workers, port=hub, local=local, stops=stops, observer=progress,
            started_at=started_at,
        )  # fmt: skip
        ended = session.run()
        begun.lease.release()
    finally:
        progress.close()
    # Again, but without what would throw away what is kept.
    again = shlex.join(["mpibatch", *(word for word in sys.argv[1:] if word != "--fresh")])
    _print(summary(ended.result, ended.causes, continue_command=again))
    return ended.result.exit_code, ended.orderly


def _print(words: str) -> None:
    """On stdout, if anybody still reads it: the run does not depend on that."""
    try:
        print(words, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ports(port: Port | None, roles: Roles, host: str) -> tuple[Port, Worker | None]:
    """The coordinator's port to all workers, and the worker on rank 0, if rank 0 works."""
    if roles.coordinator_only:
        assert port is not None
        return port, None
    ours, workers = LocalPort.pair()
    local = Worker(workers, rank=0, host=host)
    return (HubPort(ours, port) if port is not None else ours), local


class _Log(logging.FileHandler):
    """What cannot be logged is no reason for anything: a full disk shows where rows are written."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.setLevel(logging.CRITICAL + 1)


def _log_to(begun: Begun, level: str) -> None:
    """The coordinator's own log: each thing that it decided."""
    path = begun.folder.logs / "sys" / "coordinator.txt"
    with storing(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _Log(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("mpibatch")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False
