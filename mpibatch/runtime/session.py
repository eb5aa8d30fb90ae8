"""One session on rank 0: everything wired together, run to its end, and accounted for.

Its loop only steps the coordinator (and the worker, where rank 0 works too), looks whether somebody asks
it to stop, shows progress, and waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import Tally
from mpibatch.core.config import Job
from mpibatch.core.ranks import WorkerPlace
from mpibatch.errors import StoppedError
from mpibatch.results import CauseGroup, JobResult
from mpibatch.runtime import failed_items
from mpibatch.runtime.conclusion import write_results
from mpibatch.runtime.coordinator import ALL_LOST, Coordinator
from mpibatch.runtime.ending import make_result, with_advice
from mpibatch.runtime.finalizing import Finalizing
from mpibatch.runtime.past import read_past
from mpibatch.runtime.record import Begun
from mpibatch.runtime.script_check import may_finalize
from mpibatch.runtime.session_parts import (
    claim,
    make_assembly,
    make_causes,
    make_dispatcher,
    make_notices,
    meet_siblings,
)
from mpibatch.runtime.setups import input_specs, log_files, worker_setups
from mpibatch.runtime.showing import Observer, Showing
from mpibatch.runtime.stops import Stops
from mpibatch.runtime.transport import Port
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.watch import Watch
from mpibatch.runtime.worker import Worker
from mpibatch.runtime.writer import Writer


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a session ended."""

    result: JobResult
    causes: list[CauseGroup]
    orderly: bool
    """All workers have ended by themselves, so that MPI can be ended."""
    lost: frozenset[int]
    """Workers that are lost: another session of this world need not wait for them."""
    all_lost: bool
    """It ended as no worker was left: on other machines, or later, it goes on."""


class Session:
    """`run` it once. `port` leads to all workers; `local` is the worker on rank 0, if there is one; `gone`: those
    that an earlier session of this world has lost."""

    def __init__(
        self,
        job: Job,
        begun: Begun,
        *,
        workers: list[WorkerPlace],
        port: Port,
        local: Worker | None,
        stops: Stops,
        observer: Observer,
        started_at: float,
        gone: Collection[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._begun = begun
        self._folder = begun.folder
        self._plan = begun.plan
        self._local = local
        self._stops = stops
        self._observer = observer
        self._clock = clock
        self._started_at = started_at
        self._places = {place.worker: place for place in workers}
        self._logs = [log_files(self._folder, place) for place in workers]
        self._number = (self._folder.sessions() or [0])[-1] + 1
        self._siblings, self._elsewhere = meet_siblings(job, begun, clock())
        self._past = read_past(job, begun, observer.say)
        self._facts = self._past.facts
        self._causes = make_causes(begun, self._past, self._logs, observer.say)
        self._dispatcher = make_dispatcher(job, begun, self._past, workers, self._elsewhere)
        self._ended_before = self._dispatcher.tally.mini_batches_ended
        self._writer = Writer(
            claim(begun, self._number, self._logs),
            self._facts,
            self._number,
            make_assembly(job, begun, self._number, self._past),
            clock,
            begun.lease.check,
            self._past.again,
        )
        self._notices = make_notices(self._folder, self._number)
        self._coordinator = Coordinator(
            port=port, plan=self._plan, dispatcher=self._dispatcher, writer=self._writer, causes=self._causes,
            forms=self._past.forms, workers=self._places,
            watch=Watch(
                self._places, silence_s=job.heartbeat_timeout, failed=port.failed, notices=self._notices,
            ),
            heartbeat_timeout_s=job.heartbeat_timeout, progress_timeout_s=job.progress_update_timeout,
            shutdown_timeout_s=job.shutdown_timeout, remark=self._observer.say, clock=clock, gone=gone,
        )  # fmt: skip
        self._asked: str | None = None
        self._finalizing: Finalizing | None = None
        self._showing = Showing(
            job, begun, self._number, workers=len(workers), coordinator=self._coordinator,
            dispatcher=self._dispatcher, writer=self._writer, observer=observer, started_at=started_at,
            finalizing=lambda: self._finalizing is not None and self._finalizing.running,
        )  # fmt: skip

    # Running

    def run(self) -> Ended:
        """To the end: all committed, the output in its place if complete, results written."""
        setups = worker_setups(
            self._job, self._folder, self._places, inputs=input_specs(self._plan), notices=self._notices
        )
        self._writer.start()
        self._coordinator.begin(setups)
        self._loop()
        self._writer.join()
        return self._end()

    def _loop(self) -> None:
        coordinator, local, backoff = self._coordinator, self._local, Backoff()
        finishing = False
        while not (coordinator.over and self._finalized and not self._writer.alive):
            found = coordinator.step()
            if local is not None:  # Also one that is over: it may be told to begin again.
                found |= local.step()
            now = self._clock()
            self._look_around(now)
            if coordinator.concluded and not finishing:
                finishing = True
                # While processors are in `shutdown()`, the output gets ready.
                self._finish(complete=coordinator.verdict == "complete")
            finalizing = self._finalizing
            if finalizing is not None:
                found |= finalizing.step(workers_gone=coordinator.over)
            fds = local.fds() if local is not None else []
            backoff.rest(found, fds + finalizing.fds() if finalizing is not None else fds)

    def _finish(self, *, complete: bool) -> None:
        """All rows are there: have the writer make the output of them, at last perhaps by way of `finalize()`."""
        there = self._coordinator.finalizes
        if complete and self._begun.share is None and (may_finalize(self._job) if there is None else there):
            self._finalizing = Finalizing(
                self._job, self._writer, self._folder, self._number, self._places.values(), self._observer.say
            )
            self._writer.finish(complete=True, held=self._finalizing.held)
        else:
            self._writer.finish(complete=complete)

    @property
    def _finalized(self) -> bool:
        return self._finalizing is None or self._finalizing.over

    def _look_around(self, now: float) -> None:
        if self._writer.error is not None and not self._coordinator.concluded:
            self._coordinator.stop(str(self._writer.error), at_once=True)
        if not self._coordinator.concluded:
            ask = self._stops.poll()
            if ask is not None:
                self._stop(ask.reason, ask.at_once)
            self._look_at_siblings(now)
        elif self._finalizing is not None and not self._finalizing.over:
            ask = self._stops.poll()
            if ask is not None:  # It may take long, and nothing is lost that is not made again.
                self._finalizing.stop(ask.reason)
        self._showing.look(now)

    def _look_at_siblings(self, now: float) -> None:
        siblings = self._siblings
        if siblings is None:
            return
        if siblings.due(now) and self._writer.alive:
            self._writer.post(siblings.look)  # A slow disk keeps nobody waiting there.
        if siblings.failed != self._elsewhere:
            self._elsewhere = siblings.failed
            self._coordinator.failed_elsewhere(self._elsewhere)

    def _stop(self, reason: str, at_once: bool) -> None:
        if self._asked is None:
            self._asked = reason
            self._writer.commit_soon()
            self._coordinator.stop(reason, at_once=at_once)
            if self._local is not None:
                self._local.step()  # So that nothing new begins here after the next line is read.
            running = "is given up" if at_once else "may finish; ask again to give it up"
            self._observer.say(f"stopping ({reason}): what is running {running}")
        elif at_once:
            self._coordinator.stop(reason, at_once=True)

    # The end

    def _end(self) -> Ended:
        now = self._clock()
        self._showing.show(now)
        coordinator = self._coordinator
        first, durable = coordinator.first_grant_at, self._writer.durable_at
        tally = self._durable_tally()
        result = make_result(
            job=self._job,
            coordinator=coordinator,
            tally=tally,
            groups=self._causes.groups(),
            error=self._writer.error,
            interrupted=self._stops.interrupted,
            sessions=self._number,
            ended_now=tally.mini_batches_ended - self._ended_before,
            elapsed_s=now - self._started_at,
            processing_s=(durable or now) - first if first is not None else 0.0,
            log_of=lambda worker, error: failed_items.log_for(error, self._logs[worker]),
            finalizing=self._finalizing,
        )
        if self._stops.time_was_up and tally.mini_batches_ended == self._ended_before:
            result = with_advice(result)
        if self._begun.share is not None:
            result = msgspec.structs.replace(result, output=None, share=self._begun.share.number)
        if not isinstance(self._writer.error, StoppedError):  # Else the run is another session's now.
            result = write_results(self._job, self._begun, self._facts, self._number, result)
        return Ended(
            result=result,
            causes=self._causes.groups(),
            orderly=coordinator.orderly,
            lost=coordinator.lost,
            all_lost=coordinator.reason == ALL_LOST,
        )

    def _durable_tally(self) -> Tally:
        """What counts for a later session; without a storage error that is what the dispatcher counted, but for
        mini-batches of which the rows of an earlier session stay."""
        if self._writer.error is None and not self._past.again:
            return self._dispatcher.tally
        tally = history.tally_from(self._facts, self._begun.items, self._begun.mini_batches)
        tally.mini_batches_failed += self._writer.failed_mini_batches
        tally.items_failed += self._writer.failed_items
        return tally
