"""After the last row of a run: `finalize()` of the script is called, on whole rows, as often as it may be tried.

It is called at least once for each output: what dies with it, or before its work was put into its place, costs no
row, and the next start calls it again.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable

from mpibatch.core.config import Job
from mpibatch.core.ranks import WorkerPlace
from mpibatch.core.row_keys import RESERVED_NAMES
from mpibatch.outputs.held import HeldOutput, UnfitOutput
from mpibatch.runtime.finalizer import FinalizeFailed, Finalizer, finalize_setup
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import worker_setups
from mpibatch.runtime.writer import Writer

log = logging.getLogger(__name__)

COORDINATORS_NODE = 0
"""Nodes are numbered by their first rank."""


class Finalizing:
    """Step it until it is `over`; then `failure` or `stopped` say how it ended, if it did not go well. `held`: what
    the writer is to hold meanwhile."""

    def __init__(
        self,
        job: Job,
        writer: Writer,
        folder: RunFolder,
        session: int,
        workers: Iterable[WorkerPlace],
        say: Callable[[str], None],
    ) -> None:
        self._job = job
        self._writer = writer
        self._folder = folder
        self._place = _place(workers)
        self._say = say
        # A folder of its own, as an earlier session may not be dead.
        self.held = HeldOutput(folder.finalize / f"{session:04d}", job.append_row_file_name, RESERVED_NAMES)
        with_rows = job.output_action == "append_row"
        here = {self._place.worker: self._place}
        (setup,) = worker_setups(job, folder, here, inputs=[], notices=folder.lost).values()
        self._setup = finalize_setup(setup, str(self.held.file.absolute()) if with_rows else None)
        self._tries = 0
        self._try: Finalizer | None = None
        self.over = False
        self.failure: FinalizeFailed | None = None
        self.stopped: str | None = None
        """Why it was not to be called, or to go on."""

    @property
    def running(self) -> bool:
        return self._try is not None

    @property
    def removed(self) -> bool:
        """The script has removed the rows, so that there is no output."""
        return self.held.removed

    def fds(self) -> list[tuple[int, bool]]:
        return self._try.fds() if self._try is not None else []

    def stop(self, reason: str) -> None:
        """Kill what runs; nothing becomes the output."""
        if not self.over and self.stopped is None:
            self.stopped = reason
            self._tell(f"finalize() is given up: {reason}")

    def step(self, *, workers_gone: bool) -> bool:
        """Do what can be done now; True if anything was. `workers_gone`: their processors have ended."""
        if self.over:
            return False
        unwanted = self.stopped is not None or not self._writer.alive
        if self._try is None:
            if unwanted:
                self._end()
            elif workers_gone and self._writer.whole:
                self._begin()
            return False
        if unwanted:
            self._try.kill()
        acted = self._try.step()
        if self._try.over:
            ended, self._try = self._try, None
            if unwanted:
                self._end()
            else:
                self._judge(ended)
        return acted

    def _begin(self) -> None:
        self._tries += 1
        try:
            self._try = Finalizer(
                self._setup,
                timeout_s=self._job.finalize_timeout,
                host=self._place.host,
                say=self._tell,
            )
        except OSError as error:
            why = f"a processor for finalize() cannot be started on {self._place.host}: {error}"
            self._failed(FinalizeFailed(why, str(self._folder.logs)))

    def _judge(self, ended: Finalizer) -> None:
        failed = ended.failed
        called = ended.called
        if failed is None and self._job.output_action == "append_row":
            try:
                self.held.check(self._folder.root)
            except UnfitOutput as error:
                failed = FinalizeFailed(str(error), ended.log_file)
        if failed is not None:
            self._failed(failed)
            return
        if called is not None and called.there:
            self._tell(f"finalize() has ended after {called.seconds:.2f} s")
        self._writer.deliver()
        self.over = True

    def _failed(self, failed: FinalizeFailed) -> None:
        most = self._job.run_max_try
        self._tell(f"warning: {failed.words} (try {self._tries} of {most}, log {failed.log})")
        if self._tries < most:
            self._writer.take_again()
        else:
            self.failure = failed
            self._end()

    def _end(self) -> None:
        self._writer.drop()
        self.over = True

    def _tell(self, text: str) -> None:
        log.info("%s", text)
        self._say(text)


def _place(workers: Iterable[WorkerPlace]) -> WorkerPlace:
    """Where it is called: on rank 0's node, with what the first worker there had, which has ended."""
    here = [place for place in workers if place.node == COORDINATORS_NODE]
    first = min(here, key=lambda place: place.local_index, default=None)
    return first or WorkerPlace(
        worker=0, rank=0, node=COORDINATORS_NODE, local_index=0, host=socket.gethostname()
    )
