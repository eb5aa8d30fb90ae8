"""How far a session is, shown to who watches it, and in a file to who asks from elsewhere (`mpibatch status`)."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.dispatch import Dispatcher
from mpibatch.results import ItemCounts, MiniBatchCounts, Snapshot
from mpibatch.runtime.coordinator import Coordinator
from mpibatch.runtime.files import write_whole
from mpibatch.runtime.rates import Rates
from mpibatch.runtime.record import Begun
from mpibatch.runtime.writer import Writer

log = logging.getLogger(__name__)

SHOW_S = 0.2
PROGRESS_FILE_S = 2.0


class Observer(Protocol):
    """Who watches a session: a progress bar, plain lines."""

    def update(self, snapshot: Snapshot) -> None: ...

    def say(self, text: str) -> None: ...


class Showing:
    """`look` often; `show` at the end. `finalizing` tells whether `finalize()` of the script runs."""

    def __init__(
        self,
        job: Job,
        begun: Begun,
        number: int,
        *,
        workers: int,
        coordinator: Coordinator,
        dispatcher: Dispatcher,
        writer: Writer,
        observer: Observer,
        started_at: float,
        finalizing: Callable[[], bool],
    ) -> None:
        self._job = job
        self._begun = begun
        self._number = number
        self._workers = workers
        self._coordinator = coordinator
        self._dispatcher = dispatcher
        self._writer = writer
        self._observer = observer
        self._started_at = started_at
        self._finalizing = finalizing
        self._rates = Rates()
        self._shown_at = self._filed_at = 0.0
        self._told_of_start = False

    def look(self, now: float) -> None:
        """Show it, if the last time is long enough ago."""
        if now - self._shown_at <= SHOW_S:
            return
        self._shown_at = now
        first = self._coordinator.first_grant_at
        if first is not None:
            self._tell_of_start(first)
            # What is earlier says nothing of how fast it goes.
            self._rates.add(now, self._dispatcher.tally)
        snapshot = self.show(now)
        if now - self._filed_at > PROGRESS_FILE_S and self._writer.alive:
            self._filed_at = now
            data = msgspec.json.encode(snapshot)
            self._writer.post(lambda: _show_to_others(self._begun.folder.progress, data))

    def show(self, now: float) -> Snapshot:
        """To who watches; what was shown."""
        snapshot = self._snapshot(now)
        self._observer.update(snapshot)
        return snapshot

    def _tell_of_start(self, first: float) -> None:
        if not self._told_of_start:
            self._told_of_start = True
            self._observer.say(
                f"{self._begun.items:,} items in {self._begun.mini_batches:,} mini-batches, the first handed out"
                f" {first - self._started_at:.2f} s after the start"
            )

    def _snapshot(self, now: float) -> Snapshot:
        tally = self._dispatcher.tally
        return Snapshot(
            name=self._job.name,
            session=self._number,
            host=socket.gethostname(),
            pid=os.getpid(),
            written_at=time.time(),
            elapsed_s=now - self._started_at,
            workers=self._workers,
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
            finalizing=self._finalizing(),
        )  # fmt: skip


def _show_to_others(file: Path, data: bytes) -> None:
    """For `mpibatch status`, which then shows what is older: no reason to end a run."""
    try:
        write_whole(file, data, durable=False)
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error)
