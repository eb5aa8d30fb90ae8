"""One session on rank 0: everything wired together, run to its end, and accounted for.

Its loop only steps the coordinator (and the worker, where rank 0 works too), looks whether somebody asks
it to stop, shows progress, and waits.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import NOWHERE_ELSE, Elsewhere, Tally, Thresholds
from mpibatch.core.config import Job
from mpibatch.core.dispatch import Dispatcher
from mpibatch.core.ranks import WorkerPlace
from mpibatch.errors import RunFolderError, StoppedError
from mpibatch.outputs.assemble import Assembly
from mpibatch.outputs.sinks import make_sink
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts, Snapshot
from mpibatch.runtime import failed_items
from mpibatch.runtime.causes import Causes
from mpibatch.runtime.conclusion import write_results
from mpibatch.runtime.coordinator import ALL_LOST, Coordinator
from mpibatch.runtime.ending import make_result, with_advice
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.journal import Journal, write_about
from mpibatch.runtime.past import read_past
from mpibatch.runtime.rates import Rates
from mpibatch.runtime.record import Begun
from mpibatch.runtime.setups import input_specs, log_files, worker_setups
from mpibatch.runtime.siblings import Siblings
from mpibatch.runtime.stops import Stops
from mpibatch.runtime.transport import Port
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.watch import Watch
from mpibatch.runtime.worker import Worker
from mpibatch.runtime.writer import Writer

log = logging.getLogger(__name__)

SHOW_S = 0.2
PROGRESS_FILE_S = 2.0


class Observer(Protocol):
    """Who watches a session: a progress bar, plain lines."""

    def update(self, snapshot: Snapshot) -> None: ...

    def say(self, text: str) -> None: ...


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
        self._lease = begun.lease
        self._local = local
        self._stops = stops
        self._observer = observer
        self._clock = clock
        self._started_at = started_at
        self._places = {place.worker: place for place in workers}
        self._logs = [log_files(self._folder, place) for place in workers]
        self._number = (self._folder.sessions() or [0])[-1] + 1
        self._siblings, self._elsewhere = self._meet_siblings()
        self._past = read_past(job, begun, observer.say)
        self._facts = self._past.facts
        self._causes = self._make_causes()
        self._dispatcher = self._make_dispatcher(workers)
        self._ended_before = self._dispatcher.tally.mini_batches_ended
        self._writer = Writer(
            self._claim(),
            self._facts,
            self._number,
            self._assembly(),
            clock,
            self._lease.check,
            self._past.again,
        )
        self._notices = self._make_notices()
        self._coordinator = Coordinator(
            port=port, plan=self._plan, dispatcher=self._dispatcher, writer=self._writer, causes=self._causes,
            forms=self._past.forms, workers=self._places,
            watch=Watch(
                self._places, silence_s=job.heartbeat_timeout, failed=port.failed, notices=self._notices,
            ),
            heartbeat_timeout_s=job.heartbeat_timeout, progress_timeout_s=job.progress_update_timeout,
            shutdown_timeout_s=job.shutdown_timeout, remark=self._observer.say, clock=clock, gone=gone,
        )  # fmt: skip
        self._rates = Rates()
        self._shown_at = self._filed_at = 0.0
        self._asked: str | None = None
        self._told_of_start = False

    # Setting up

    def _claim(self) -> Journal:
        """Become the writer of this session's files; another start that came as far fails here."""
        self._lease.set_session(self._number)
        write_about(self._folder, self._number, self._logs)
        with storing(f"the journal in {self._folder.private}"):
            try:
                return Journal(self._folder, self._number, self._plan.fingerprint)
            except FileExistsError as error:
                raise RunFolderError(
                    f"another start of this run has just begun session {self._number} in {self._folder.root}"
                ) from error

    def _make_notices(self) -> Path:
        """Make the folder in which guardians tell of workers that have died in this session."""
        notices = self._folder.lost / f"{self._number:04d}"
        with storing(str(notices)):
            notices.mkdir(parents=True, exist_ok=True)
        return notices

    def _meet_siblings(self) -> tuple[Siblings | None, Elsewhere]:
        """The other shares of the array, where what fails in them matters here, and what has failed by now."""
        begun, job = self._begun, self._job
        limits = (job.error_threshold, job.mini_batch_error_threshold)
        if begun.share is None or begun.whole is None or all(limit in (None, -1) for limit in limits):
            return None, NOWHERE_ELSE
        siblings = Siblings(begun.whole, begun.share)
        siblings.due(self._clock())
        siblings.look()
        return siblings, siblings.failed

    def _assembly(self) -> Assembly | None:
        # The output of an array is made when all of its shares are complete.
        if self._job.output_action != "append_row" or self._begun.share is not None:
            return None
        partial = self._folder.partial_output(self._number)
        with storing(str(self._folder.private)):
            for session in self._folder.sessions():
                if session < self._number:
                    self._folder.partial_output(session).unlink(missing_ok=True)
        assembly = Assembly(
            partial=partial,
            final=self._folder.root / self._job.append_row_file_name,
            facts=self._facts,
            segment=self._folder.rows,
            in_order=self._job.order == "input",
            sink=make_sink(self._job.append_row_format, partial, row_settings(self._job)),
        )
        forms = self._past.forms
        if forms is not None and forms.merged is not None:
            assembly.set_form(forms.merged)
        return assembly

    def _make_causes(self) -> Causes:
        causes = Causes(
            lambda piece: failed_items.describe(self._plan, piece),
            lambda worker, error: failed_items.log_for(error, self._logs[worker]),
            self._observer.say,
        )
        for piece, items, error in self._past.shorts:
            causes.earlier_shorts(piece, items, error)
        return causes

    def _make_dispatcher(self, workers: list[WorkerPlace]) -> Dispatcher:
        job = self._job
        return Dispatcher(
            workers=len(workers),
            nodes=[place.node for place in sorted(workers, key=lambda place: place.worker)],
            todo=self._past.todo,
            pieces=self._past.pieces,
            item_count=self._plan.item_count,
            run_max_try=job.run_max_try,
            thresholds=Thresholds(
                failed_items=job.error_threshold,
                failed_mini_batches=job.mini_batch_error_threshold,
                # Of a share these say nothing: they are judged when all are merged.
                failed_percent=job.allowed_failed_percent if self._begun.share is None else None,
                needs_success=job.output_action == "append_row" and self._begun.share is None,
            ),
            tally=self._past.tally,
            isolate=job.isolate_failures,
            backoff=job.retry_backoff,
            straggler_copies=job.straggler_copies,
            elsewhere=self._elsewhere,
        )

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
        while not (coordinator.over and not self._writer.alive):
            found = coordinator.step()
            if local is not None:  # Also one that is over: it may be told to begin again.
                found |= local.step()
            now = self._clock()
            self._look_around(now)
            if coordinator.concluded and not finishing:
                finishing = True
                # While processors are in `shutdown()`, the output gets ready.
                self._writer.finish(complete=coordinator.verdict == "complete")
            backoff.rest(found, local.fds() if local is not None else [])

    def _look_around(self, now: float) -> None:
        if self._writer.error is not None and not self._coordinator.concluded:
            self._coordinator.stop(str(self._writer.error), at_once=True)
        if not self._coordinator.concluded:
            ask = self._stops.poll()
            if ask is not None:
                self._stop(ask.reason, ask.at_once)
            self._look_at_siblings(now)
        if now - self._shown_at > SHOW_S:
            self._shown_at = now
            self._show(now)

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

    def _show(self, now: float) -> None:
        first = self._coordinator.first_grant_at
        if first is not None and not self._told_of_start:
            self._told_of_start = True
            self._observer.say(
                f"{self._begun.items:,} items in {self._begun.mini_batches:,} mini-batches, the first handed out"
                f" {first - self._started_at:.2f} s after the start"
            )
        if first is not None:  # What is earlier says nothing of how fast it goes.
            self._rates.add(now, self._dispatcher.tally)
        snapshot = self._snapshot(now)
        self._observer.update(snapshot)
        if now - self._filed_at > PROGRESS_FILE_S and self._writer.alive:
            self._filed_at = now
            data = msgspec.json.encode(snapshot)
            self._writer.post(lambda: _show_to_others(self._folder.progress, data))

    def _snapshot(self, now: float) -> Snapshot:
        tally = self._dispatcher.tally
        return Snapshot(
            name=self._job.name,
            session=self._number,
            host=socket.gethostname(),
            pid=os.getpid(),
            written_at=time.time(),
            elapsed_s=now - self._started_at,
            workers=len(self._places),
            workers_ready=self._coordinator.ready_workers,
            in_flight=self._dispatcher.in_flight,
            items=ItemCounts(
                total=tally.items_total, succeeded=tally.items_succeeded, failed=tally.items_failed
            ),
            mini_batches=MiniBatchCounts(
                total=tally.mini_batches_total, succeeded=tally.mini_batches_succeeded,
                failed=tally.mini_batches_failed, attempts=tally.attempts,
            ),
            half_failed=self._dispatcher.half_failed,
            rows=tally.rows,
            rows_per_s=self._rates.rows_per_s,
            mini_batches_per_s=self._rates.mini_batches_per_s,
            remaining_s=self._rates.remaining_s(tally),
        )  # fmt: skip

    # The end

    def _end(self) -> Ended:
        now = self._clock()
        self._observer.update(self._snapshot(now))
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


def _show_to_others(file: Path, data: bytes) -> None:
    """For `mpibatch status`, which then shows what is older: no reason to end a run."""
    try:
        write_whole(file, data, durable=False)
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error)
