"""One session on rank 0: everything wired together, run to its end, and accounted for.

Its loop only steps the coordinator (and the worker, where rank 0 works too), looks whether somebody asks
it to stop, shows progress, and waits.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from mpibatch.core import history
from mpibatch.core.accounting import Tally, Thresholds
from mpibatch.core.config import Job
from mpibatch.core.dispatch import Dispatcher
from mpibatch.core.ranks import WorkerPlace
from mpibatch.errors import RunFolderError, StoppedError, StorageError
from mpibatch.outputs.assemble import Assembly
from mpibatch.outputs.sinks import make_sink
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts, Snapshot
from mpibatch.runtime import failed_items
from mpibatch.runtime.causes import Causes
from mpibatch.runtime.coordinator import SILENCE_S, Coordinator
from mpibatch.runtime.ending import make_result, storage_result
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.forms import FORMATS_WITH_FORMS, Forms, recorded_forms
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.journal import Journal, read_journal, write_about
from mpibatch.runtime.rates import Rates
from mpibatch.runtime.record import Begun, RunRecord, make_record, save_record
from mpibatch.runtime.setups import input_specs, log_files, worker_setups
from mpibatch.runtime.stops import Stops
from mpibatch.runtime.transport import Port
from mpibatch.runtime.waiting import Backoff
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


class Session:
    """`run` it once. `port` leads to all workers; `local` is the worker on rank 0, if there is one."""

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._folder = begun.folder
        self._plan = begun.plan
        self._record = begun.record
        self._lease = begun.lease
        self._local = local
        self._stops = stops
        self._observer = observer
        self._clock = clock
        self._started_at = started_at
        self._places = {place.worker: place for place in workers}
        self._logs = [log_files(self._folder, place) for place in workers]
        self._number = (self._folder.sessions() or [0])[-1] + 1
        self._facts = self._load_history()
        self._causes = self._make_causes()
        self._dispatcher = self._make_dispatcher(len(workers))
        self._forms = self._load_forms()
        self._ended_before = self._dispatcher.tally.mini_batches_ended
        assembly = self._assembly()
        if assembly is not None and self._forms is not None and self._forms.merged is not None:
            assembly.set_form(self._forms.merged)
        self._writer = Writer(self._claim(), self._facts, self._number, assembly, clock, self._lease.check)
        self._coordinator = Coordinator(
            port=port, plan=self._plan, dispatcher=self._dispatcher, writer=self._writer, causes=self._causes,
            forms=self._forms, workers=self._places, shutdown_timeout_s=job.shutdown_timeout, clock=clock,
        )  # fmt: skip
        self._rates = Rates()
        self._shown_at = self._filed_at = 0.0
        self._asked: str | None = None
        self._told_of_start = False

    # Setting up

    def _load_history(self) -> history.Facts:
        facts = history.no_facts(self._plan.mini_batches, self._plan.item_counts)
        for session in self._folder.sessions():
            records, damaged = read_journal(self._folder, session, self._plan.fingerprint)
            damaged += history.add_records(facts, records, session)
            if damaged:
                self._observer.say(
                    f"{self._folder.journal(session)}: {damaged} records are damaged (their checksums differ);"
                    " what they told of is done again"
                )
        return facts

    def _load_forms(self) -> Forms | None:
        if self._job.output_action != "append_row" or self._job.append_row_format not in FORMATS_WITH_FORMS:
            return None
        return Forms(list(recorded_forms(self._folder, self._plan.fingerprint)))

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

    def _assembly(self) -> Assembly | None:
        if self._job.output_action != "append_row":
            return None
        partial = self._folder.partial_output(self._number)
        with storing(str(self._folder.private)):
            for session in self._folder.sessions():
                if session < self._number:
                    self._folder.partial_output(session).unlink(missing_ok=True)
        return Assembly(
            partial=partial,
            final=self._folder.root / self._job.append_row_file_name,
            facts=self._facts,
            segment=self._folder.rows,
            in_order=self._job.order == "input",
            sink=make_sink(self._job.append_row_format, partial, row_settings(self._job)),
        )

    def _make_causes(self) -> Causes:
        causes = Causes(
            lambda piece: failed_items.describe(self._plan, piece),
            lambda worker, error: failed_items.log_for(error, self._logs[worker]),
            self._observer.say,
        )
        for piece, items, error in failed_items.shorts(self._folder, self._plan, self._facts):
            causes.earlier_shorts(piece, items, error)
        return causes

    def _make_dispatcher(self, workers: int) -> Dispatcher:
        job = self._job
        return Dispatcher(
            workers=workers,
            todo=history.remaining(self._facts.done),
            item_count=self._plan.item_count,
            run_max_try=job.run_max_try,
            thresholds=Thresholds(
                failed_items=job.error_threshold,
                failed_mini_batches=job.mini_batch_error_threshold,
                failed_percent=job.allowed_failed_percent,
                needs_success=job.output_action == "append_row",
            ),
            tally=history.tally_from(self._facts, self._plan.items, self._plan.mini_batches),
        )

    # Running

    def run(self) -> Ended:
        """To the end: all committed, the output in its place if complete, results written."""
        setups = worker_setups(
            self._job, self._folder, self._places, inputs=input_specs(self._plan), silence_s=SILENCE_S
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
        if now - self._shown_at > SHOW_S:
            self._shown_at = now
            self._show(now)

    def _stop(self, reason: str, at_once: bool) -> None:
        if self._asked is None:
            self._asked = reason
            self._writer.commit_soon()
            self._coordinator.stop(reason, at_once=at_once)
            if self._local is not None:
                self._local.step()  # So that nothing new begins here after the next line is read.
            self._observer.say(f"stopping ({reason}): what is running may finish; ask again to give it up")
        elif at_once:
            self._coordinator.stop(reason, at_once=True)

    def _show(self, now: float) -> None:
        first = self._coordinator.first_grant_at
        if first is not None and not self._told_of_start:
            self._told_of_start = True
            self._observer.say(
                f"{self._plan.items:,} items in {self._plan.mini_batches:,} mini-batches, the first handed out"
                f" {first - self._started_at:.2f} s after the start"
            )
        if first is not None:  # What is earlier says nothing of how fast it goes.
            self._rates.add(now, self._dispatcher.tally)
        snapshot = self._snapshot(now)
        self._observer.update(snapshot)
        if now - self._filed_at > PROGRESS_FILE_S and self._writer.alive:
            self._filed_at = now
            data = msgspec.json.encode(snapshot)
            self._writer.post(lambda: write_whole(self._folder.progress, data, durable=False))

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
        result = self._write_results(result)
        return Ended(result=result, causes=self._causes.groups(), orderly=coordinator.orderly)

    def _durable_tally(self) -> Tally:
        """What counts for a later session; without a storage error that is what the dispatcher counted."""
        if self._writer.error is None:
            return self._dispatcher.tally
        tally = history.tally_from(self._facts, self._plan.items, self._plan.mini_batches)
        tally.mini_batches_failed += self._writer.failed_mini_batches
        tally.items_failed += self._writer.failed_items
        return tally

    def _write_results(self, result: JobResult) -> JobResult:
        """The result that counts now: `complete` is only what could be written down."""
        if isinstance(self._writer.error, StoppedError):
            return result  # The run is another session's now.
        try:
            with storing(str(self._folder.failed_items)):
                failed_items.write_failed_items(self._folder, self._plan, self._facts, self._number)
            if result.verdict == "complete":
                save_record(self._folder, self._completed_record())
        except StorageError as error:
            result = storage_result(result, error)
        try:
            with storing(str(self._folder.result)):
                data = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
                write_whole(self._folder.result, data)
        except StorageError as error:
            # What matters is in the journal.
            result = storage_result(result, error)
        if result.verdict == "complete":  # Else a later session may have to read again what is in them.
            shutil.rmtree(self._folder.unpacked, ignore_errors=True)
        return result

    def _completed_record(self) -> RunRecord:
        """Whose run this is, with what it has read. The script as it was when the session began: it may have
        been edited since. Inputs are looked at now, so that no first mini-batch waits for it, and arguments
        too, as the script may have written to a file that they name."""
        now = make_record(self._job, self._plan, inputs=True)
        late = {part: now.fingerprint[part] for part in ("inputs", "arguments") if part in now.fingerprint}
        return msgspec.structs.replace(now, fingerprint={**self._record.fingerprint, **late})
