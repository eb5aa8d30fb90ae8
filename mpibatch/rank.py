"""What rank 0 does, from its first word to its last: it coordinates. The others: `worker_rank`."""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mpibatch.core.framing import encode
from mpibatch.core.ranks import Place, Sighting, find_places
from mpibatch.errors import EXIT_BUG, EXIT_INTERRUPTED, MpibatchError, StoppedError, tell
from mpibatch.launch import quiet_exit
from mpibatch.messages import Dismissed
from mpibatch.runtime.coordinator_log import log_bindings, log_to
from mpibatch.runtime.devices import view
from mpibatch.runtime.local_folder import (
    BEGUN_FILE,
    EXIT_CODE_FILE,
    SESSION_FILE,
    beat,
    tell_batch,
    tell_batch_code,
    tell_parent,
)
from mpibatch.runtime.mpi_port import MpiPort
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.stops import Signals
from mpibatch.runtime.transport import Port
from mpibatch.runtime.wall_time import WallTime
from mpibatch.sessions import Sessions, continue_command, ports_of, print_words, roles_of
from mpibatch.worker_rank import DISMISS_S, PART_S, end_mpi

if TYPE_CHECKING:
    from mpi4py import MPI

    from mpibatch.core.config import Job
    from mpibatch.core.shares import Element
    from mpibatch.monitor.progress import Progress
    from mpibatch.runtime.begin import Reused
    from mpibatch.runtime.record import Begun
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
    from mpibatch.runtime.begin import Reused
    from mpibatch.runtime.model_links import link_models
    from mpibatch.runtime.side_outputs import make_side_outputs

    signals = Signals()
    signals.install()
    try:
        roles = roles_of(job, places, progress.say)
        wall_time = WallTime(margin_s=job.drain_margin, started_at=first_started_at, limit_s=job.time_limit)
        stop_file = run_folder_of(job, element).stop
        sessions = Sessions(signals, stop_file, wall_time, roles, *ports_of(port, roles, places[0].host))
        with signals.breaking_off():
            begun = _begin(
                job, element, fresh=fresh, only_failed=only_failed, say=progress.say,
                no_return=signals.no_return, run_round=sessions.round_of(progress.say),
            )  # fmt: skip
        if isinstance(begun, Reused):
            progress.close()
            print_words(summary(begun.result, [], continue_command=""))
            print_words(f"This run was complete already, and is reused: {begun.folder.root}")
            return (0 if element is None else _merge(job, signals, progress.say, port, places)), True
        tell_parent(SESSION_FILE)
        tell_batch("session")
        make_side_outputs(job)
        link_models(job, begun.folder)
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
    print_words(summary(ended.result, ended.causes, continue_command=continue_command()))
    if element is not None and ended.result.verdict == "complete":
        return _merge(job, signals, progress.say, port, places), ended.orderly
    return ended.result.exit_code, ended.orderly


def _begin(
    job: Job,
    element: Element | None,
    *,
    fresh: bool,
    only_failed: bool,
    say: Callable[[str], None],
    no_return: Callable[[], None],
    run_round: RunRound,
) -> Begun | Reused:
    """The run, or the share of it that is `element`'s."""
    from mpibatch.runtime.begin import begin
    from mpibatch.runtime.shares import begin_share

    if element is not None:
        return begin_share(job, element, fresh=fresh, only_failed=only_failed, say=say, run_round=run_round)
    return begin(job, fresh=fresh, only_failed=only_failed, say=say, no_return=no_return, run_round=run_round)


def _merge(
    job: Job, signals: Signals, say: Callable[[str], None], port: Port | None, places: list[Place]
) -> int:
    """What there is to do for the array now that this share is complete; the exit code."""
    from mpibatch.company import Company
    from mpibatch.merge import merge_if_last
    from mpibatch.monitor.figures import shown

    def asked() -> None:
        signals.raise_asked(
            "while the shares were merged. All of them are complete: start any of them again, or type"
            f" mpibatch merge {shown(job.output)}"
        )

    work = Company(lambda: merge_if_last(RunFolder(job.output), job.array, say, asked))
    words, code = work.keep(port, range(1, len(places)))
    print_words(words)
    return code
