"""What rank 0 does, from its first word to its last: it coordinates. The others: `worker_rank`."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpibatch.core.first_words import ONLY_AT_FIRST
from mpibatch.core.framing import encode
from mpibatch.core.ranks import Place, Roles, Sighting, assign, bound, find_places
from mpibatch.errors import EXIT_BUG, EXIT_INTERRUPTED, MpibatchError, StoppedError, tell
from mpibatch.launch import quiet_exit
from mpibatch.messages import Dismissed
from mpibatch.runtime.coordinator_log import log_bindings, log_to
from mpibatch.runtime.devices import view
from mpibatch.runtime.local_folder import (
    BEGUN_FILE,
    END_FILE,
    EXIT_CODE_FILE,
    SESSION_FILE,
    beat,
    tell_batch,
    tell_batch_code,
    tell_parent,
)
from mpibatch.runtime.mpi_port import MpiPort
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.stops import Signals, Stops
from mpibatch.runtime.transport import COORDINATOR, AwakePort, HubPort, LocalPort, Port
from mpibatch.runtime.wall_time import WallTime
from mpibatch.runtime.worker import Worker
from mpibatch.worker_rank import DISMISS_S, PART_S, end_mpi

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job
    from mpibatch.core.shares import Element
    from mpibatch.monitor.progress import Progress
    from mpibatch.runtime.record import Begun
    from mpibatch.runtime.session import Ended, Observer
    from mpibatch.runtime.surveying.rounds import RunRound


def gather_places(comm: MPI.Comm | None) -> list[Place]:
    """Where all ranks are, on every rank."""
    host = socket.gethostname()
    if comm is None:
        return [Place(0, 0, host, view())]
    from mpi4py import MPI

    rank = comm.Get_rank()
    node_comm = comm.Split_type(MPI.COMM_TYPE_SHARED, key=rank)
    node = node_comm.bcast(rank, root=0)
    node_comm.Free()
    seen = Sighting(
        node,
        host,
        slurm_task=os.environ.get("SLURM_PROCID", ""),
        slurm_tasks=os.environ.get("SLURM_STEP_NUM_TASKS", ""),
        slurm_node=os.environ.get("SLURM_NODEID", ""),
        slurm_name=os.environ.get("SLURMD_NODENAME", ""),
        view=view(),
    )
    return find_places(comm.allgather(seen))


def be_coordinator(
    comm: MPI.Comm | None, places: list[Place], coordinate: Callable[[Port | None], tuple[int, bool]]
) -> int:
    """Rank 0: `coordinate` is given the port to the other ranks and returns (exit code, whether the end was
    orderly). Whatever happens, the other ranks are dismissed and the exit code is told."""
    port = MpiPort(comm) if comm is not None else None
    code, orderly = EXIT_BUG, False
    tell_parent(BEGUN_FILE)
    tell_batch("begun")
    beat()
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
        tell_batch_code(code)
        if comm is not None and port is not None:
            _dismiss(comm, port, range(1, len(places)), orderly, code)
    return 0 if local else code  # Else the launcher would add words of its own.


def _dismiss(comm: MPI.Comm, port: MpiPort, others: Sequence[int], orderly: bool, code: int) -> None:
    """Have all ranks end. Returns only if this one can end in the usual way."""
    for rank in others:
        port.send(rank, encode(Dismissed(orderly)))
    if orderly and port.part(others, PART_S):
        end_mpi()
        return
    # MPI_Finalize could not return.
    _let_leave(port)
    if port.failed() and _all_end(port, others):
        quiet_exit(code)  # Such a launcher takes the exit code from here, without words of its own.
    comm.Abort(code)  # To go without it hides the exit code, and leaves who does not listen.


def _let_leave(port: Port) -> None:
    end = time.monotonic() + DISMISS_S
    while not port.idle() and time.monotonic() < end:
        port.receive()
        time.sleep(0.001)


def _all_end(port: MpiPort, others: Sequence[int]) -> bool:
    """Whether all other ranks are dead within some seconds, where MPI tells of that."""
    end = time.monotonic() + DISMISS_S
    while not set(others).issubset(port.failed()):
        if time.monotonic() > end:
            return False
        port.receive()
        time.sleep(0.01)
    return True


def coordinate(
    job: Job,
    *,
    places: list[Place],
    port: Port | None,
    fresh: bool,
    only_failed: bool,
    element: Element | None,
    progress: Progress,
    started_at: float,
    first_started_at: float,
) -> tuple[int, bool]:
    """Run the job, or the share of it that is `element`'s, from rank 0: (exit code, whether the end was orderly).
    `started_at`: when this world was, and `first_started_at` the command, from which the wall time counts."""
    from mpibatch.monitor.summary import summary
    from mpibatch.runtime.array_folder import run_folder_of
    from mpibatch.runtime.begin import Reused, begin
    from mpibatch.runtime.shares import begin_share

    signals = Signals()
    signals.install()
    try:
        roles = _roles(job, places, progress.say)
        wall_time = WallTime(margin_s=job.drain_margin, started_at=first_started_at, limit_s=job.time_limit)
        stop_file = run_folder_of(job, element).stop
        sessions = _Sessions(signals, stop_file, wall_time, roles, *_ports(port, roles, places[0].host))
        with signals.breaking_off():
            run_round = sessions.round_of(progress.say)
            if element is None:
                begun = begin(
                    job, fresh=fresh, only_failed=only_failed, say=progress.say,
                    no_return=signals.no_return, run_round=run_round,
                )  # fmt: skip
            else:
                begun = begin_share(
                    job, element, fresh=fresh, only_failed=only_failed, say=progress.say, run_round=run_round
                )
        if isinstance(begun, Reused):
            progress.close()
            _print(summary(begun.result, [], continue_command=""))
            _print(f"This run was complete already, and is reused: {begun.folder.root}")
            return (0 if element is None else _merge(job, progress.say, port, places)), True
        tell_parent(SESSION_FILE)
        tell_batch("session")
        log_to(begun, job.logging_level, progress.say)
        log_bindings(roles)
        ended = sessions.run(job, begun, progress, started_at)
        begun.lease.release()
        tell_batch(f"{ended.result.exit_code} {'lost' if ended.all_lost else sessions.asked_by}")
    except StoppedError as error:
        tell_batch(f"{error.exit_code} {sessions.asked_by}")
        raise
    finally:
        progress.close()
    _print(summary(ended.result, ended.causes, continue_command=_continue_command()))
    if element is not None and ended.result.verdict == "complete":
        return _merge(job, progress.say, port, places), ended.orderly
    return ended.result.exit_code, ended.orderly


def _roles(job: Job, places: list[Place], say: Callable[[str], None]) -> Roles:
    """Which ranks work, and what each is bound to. Says what looks like a mistake, in that or in the job."""
    from mpibatch.core.config import job_warnings

    roles = bound(
        assign(places, job.process_count_per_node, job.node_count),
        places,
        gpus=job.gpus,
        cpus=job.cpus == "bind",
        variables=job.environment_variables,
    )
    for warning in [*job_warnings(job), *roles.warnings]:
        say(f"warning: {warning}")
    return roles


def _continue_command() -> str:
    """This command again, but without what would throw away what is kept."""
    words = [word for word in sys.argv[1:] if word not in ONLY_AT_FIRST]
    if words[:1] == ["run"] and END_FILE in os.environ:  # In a batch script.
        words[0] = "submit"
    return shlex.join(["mpibatch", *words])


def _merge(job: Job, say: Callable[[str], None], port: Port | None, places: list[Place]) -> int:
    """What there is to do for the array now that this share is complete; the exit code."""
    from mpibatch.company import Company
    from mpibatch.merge import merge_if_last

    work = Company(lambda: merge_if_last(RunFolder(job.output), job.array, say))
    words, code = work.keep(port, range(1, len(places)))
    _print(words)
    return code


class _Sessions:
    """What all sessions of this world have in common: that of the run, and before it those of a survey, which have
    folders of their own, but are asked to stop in that of the run."""

    def __init__(
        self,
        signals: Signals,
        stop_file: Path,
        wall_time: WallTime,
        roles: Roles,
        port: Port,
        local: Worker | None,
    ) -> None:
        self._signals = signals
        self._stop_file = stop_file
        self._wall_time = wall_time
        self._roles = roles
        self._port = port
        self._local = local
        self._gone: frozenset[int] = frozenset()
        self._wall_time_ended = False

    @property
    def asked_by(self) -> str:
        """Who wanted the end, for a batch script: `batch`, the batch system, so that the job goes on later."""
        return "batch" if self._signals.got or self._wall_time_ended else "other"

    def run(self, job: Job, begun: Begun, observer: Observer, started_at: float) -> Ended:
        from mpibatch.runtime.session import Session

        stops = Stops(
            self._signals,
            self._stop_file,
            term_grace_s=job.term_grace_s,
            wall_time=self._wall_time,
        )
        ended = Session(
            job, begun, workers=self._roles.workers, port=self._port, local=self._local, stops=stops,
            observer=observer, started_at=started_at, gone=self._gone,
        ).run()  # fmt: skip
        self._gone = ended.lost
        self._wall_time_ended = stops.asker == "wall_time"
        return ended

    def round_of(self, say: Callable[[str], None]) -> RunRound:
        """Runs a session of a survey; meanwhile signals do not break off, as the session looks for them."""
        from mpibatch.monitor.progress import SurveyProgress
        from mpibatch.runtime.surveying.rounds import Round

        def run_round(survey: Job, begun: Begun) -> Round:
            with self._signals.noted():
                ended = self.run(survey, begun, SurveyProgress(say), time.monotonic())
            return Round(ended.result, ended.orderly)

        return run_round


def _print(words: str) -> None:
    """On stdout, if anybody still reads it: the run does not depend on that."""
    try:
        print(words, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ports(port: Port | None, roles: Roles, host: str) -> tuple[Port, Worker | None]:
    """The coordinator's port to all workers, and the worker on rank 0, if rank 0 works."""
    if port is not None and roles.idle:
        port = AwakePort(port, roles.idle)
    if roles.coordinator_only:
        assert port is not None
        return port, None
    ours, workers = LocalPort.pair()
    local = Worker(workers, rank=COORDINATOR, host=host)
    return (HubPort(ours, port) if port is not None else ours), local
