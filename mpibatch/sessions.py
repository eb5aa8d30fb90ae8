"""What the sessions of one world have in common, on rank 0: its ranks' roles, its ports, and who asks it to stop."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mpibatch.core.first_words import ONLY_AT_FIRST
from mpibatch.core.ranks import Place, Roles, assign, bound
from mpibatch.runtime.local_folder import END_FILE
from mpibatch.runtime.stops import Signals, Stops
from mpibatch.runtime.transport import COORDINATOR, AwakePort, HubPort, LocalPort, Port
from mpibatch.runtime.wall_time import WallTime
from mpibatch.runtime.worker import Worker

if TYPE_CHECKING:
    from mpibatch.core.config import Job
    from mpibatch.runtime.record import Begun
    from mpibatch.runtime.session import Ended
    from mpibatch.runtime.showing import Observer
    from mpibatch.runtime.surveying.rounds import RunRound


def roles_of(job: Job, places: list[Place], say: Callable[[str], None]) -> Roles:
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


def continue_command() -> str:
    """This command again, but without what would throw away what is kept."""
    words = [word for word in sys.argv[1:] if word not in ONLY_AT_FIRST]
    if words[:1] == ["run"] and END_FILE in os.environ:  # In a batch script.
        words[0] = "submit"
    return shlex.join(["mpibatch", *words])


class Sessions:
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
        *,
        gone: Collection[int] = (),
        above: Path | None = None,
    ) -> None:
        """`gone`: ranks that earlier sessions of this world have lost; `above`: a second stop file."""
        self._signals = signals
        self._stop_file = stop_file
        self._wall_time = wall_time
        self._roles = roles
        self._port = port
        self._local = local
        self._above = above
        self._gone = frozenset(place.worker for place in roles.workers if place.rank in gone)
        self._wall_time_ended = False

    @property
    def asked_by(self) -> str:
        """Who wanted the end, for a batch script: `batch`, the batch system, so that the job goes on later."""
        return "batch" if self._signals.got or self._wall_time_ended else "other"

    @property
    def lost_ranks(self) -> frozenset[int]:
        """Ranks that will not come back."""
        return frozenset(place.rank for place in self._roles.workers if place.worker in self._gone)

    def run(self, job: Job, begun: Begun, observer: Observer, started_at: float) -> Ended:
        from mpibatch.runtime.session import Session

        stops = Stops(
            self._signals,
            self._stop_file,
            term_grace_s=job.term_grace_s,
            wall_time=self._wall_time,
            above=self._above,
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


def print_words(words: str) -> None:
    """On stdout, if anybody still reads it: the run does not depend on that."""
    try:
        print(words, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def ports_of(port: Port | None, roles: Roles, host: str) -> tuple[Port, Worker | None]:
    """The coordinator's port to all workers, and the worker on rank 0, if rank 0 works."""
    if port is not None and roles.idle:
        port = AwakePort(port, roles.idle)
    if roles.coordinator_only:
        assert port is not None
        return port, None
    ours, workers = LocalPort.pair()
    local = Worker(workers, rank=COORDINATOR, host=host)
    return (HubPort(ours, port) if port is not None else ours), local
