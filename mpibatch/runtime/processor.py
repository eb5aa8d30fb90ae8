"""The processor: the child process in which the entry script runs.

Its worker starts it with one end of a stream socketpair, over which frames go both ways, and with
a memory both see, the clock, that says at any time which attempt is running and since when.
"""

from __future__ import annotations

import mmap
import os
import sys
from time import monotonic_ns, perf_counter
from typing import TYPE_CHECKING, Any, assert_never

import mpibatch
from mpibatch.core.framing import FrameError
from mpibatch.core.grants import RunTimes
from mpibatch.entry import MINI_BATCH, EntryScript
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.messages import (
    Finish,
    Grant,
    InitFailed,
    Outcomes,
    PassedOver,
    ProcessorSpec,
    Ready,
)
from mpibatch.outputs.encoders import make_encoder
from mpibatch.outputs.encoding import BadReturn, BadRows, NotEncodable, Rows
from mpibatch.outputs.input_key import name_rows
from mpibatch.runtime.clock import (
    ATTEMPT,
    CLOCK_BYTES,
    HEARTBEATS,
    LATEST,
    REVOKED_FIRST,
    REVOKED_LAST,
    STARTED,
)
from mpibatch.runtime.entry_script import Context, Hooks
from mpibatch.runtime.finalize_call import finalize
from mpibatch.runtime.forking import end_copy, prepare
from mpibatch.runtime.leaving import leave
from mpibatch.runtime.link import Link
from mpibatch.runtime.reading import Readers, described, item_keys, paths
from mpibatch.runtime.script_errors import log_error, report
from mpibatch.runtime.script_life import own_folders, shut_down, start_script
from mpibatch.work import Assignment, Cause, ErrorReport, Failed, Outcome, Succeeded

if TYPE_CHECKING:
    from mpibatch.runtime.staging import Staging

SEND_AFTER_S = 0.001
_SEND_AFTER_BYTES = 1 << 16
_OUTCOME_BYTES = 64
"""About what an outcome takes besides its fragment and its bad items."""


def main(fd: int, clock_fd: int) -> int:
    """Serve the worker at the other end of `fd` until it says `Finish`; the exit code.

    `fd`: a blocking stream socket; `clock_fd`: memory as `runtime.clock` tells.
    """
    prepare()
    os.set_inheritable(clock_fd, False)
    clock = memoryview(mmap.mmap(clock_fd, CLOCK_BYTES)).cast("Q")
    os.close(clock_fd)

    def beat() -> None:
        clock[HEARTBEATS] += 1

    EntryScript._listen(beat)
    link = Link(fd)
    try:
        first = link.first()
    except FrameError as error:
        link.send(InitFailed(_other_version(f"its first message is not understood ({error})"), True))
        return 1
    if first.version != mpibatch.__version__:
        link.send(InitFailed(_other_version(f"the run is one of mpibatch {first.version}"), True))
        return 1
    scratch = os.getcwd()  # Before the script may go elsewhere.
    # Before the script is loaded, of which nothing may be in the copy of this process that becomes the stager.
    staging = _start_staging(first, link, clock, scratch) if first.downloads else None
    started = perf_counter()
    script = start_script(first, link)
    if script is None:
        return 1
    link.send(Ready(perf_counter() - started, script.finalize is not None))
    if first.finalize is not None:
        if script.finalize is not None:
            finalize(first, first.finalize, script, link)
            shut_down(first, script)
        return leave(0, own_folders(first))
    processor = _kind_of(script)(first, script, link, clock, scratch, staging)
    processor.serve()
    shut_down(first, script)
    processor.close()
    return leave(0, own_folders(first))


class Processor:
    """Works off what is granted, in order, and sends the outcomes, some at a time. `scratch`: a folder of its own."""

    def __init__(
        self,
        spec: ProcessorSpec,
        script: Hooks,
        link: Link,
        clock: memoryview,
        scratch: str,
        staging: Staging | None = None,
    ) -> None:
        self._spec = spec
        self._datasets = [os.fsdecode(dataset) for dataset in spec.datasets]
        self._run = script.run
        self._takes_context = script.takes_context
        self._readers = Readers(spec.inputs, scratch)
        self._staging = staging
        self._encoder = make_encoder(
            spec.output_action, spec.append_row_format, spec.append_row, spec.add_input_key
        )
        self._link = link
        self._clock = clock
        self._times = RunTimes()
        self._unsent: list[Outcome] = []
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        self._has_succeeded = False

    def serve(self) -> None:
        """Return at `Finish`."""
        while True:
            for message in self._link.messages():
                match message:
                    case Grant():
                        for work in message.assignments:
                            self._work_off(work)
                    case Finish():
                        self._flush()
                        return
                    case ProcessorSpec():
                        raise FrameError("ProcessorSpec came twice")
                    case _:
                        assert_never(message)
            self._flush()

    def close(self) -> None:
        """Once the script has ended too, which may still use what was unpacked for it."""
        self._readers.close()
        if self._staging is not None:
            self._staging.close()

    def _work_off(self, work: Assignment) -> None:
        # What comes may kill this process: long work that is finished must not be lost with it.
        # And it may have to wait for its copies.
        if self._unsent and (self._staging is not None or (self._times.mean_s or 0.0) > SEND_AFTER_S):
            self._flush()
        outcome = self._attempt(work)
        if self._staging is not None:
            self._staging.used(work)
        if outcome is None:
            self._link.send(PassedOver(work.attempt))
            return
        now = perf_counter()
        self._times.add(outcome.process_s if isinstance(outcome, Succeeded) else outcome.run_s)
        if not self._unsent:
            self._unsent_since = now
        self._unsent.append(outcome)
        self._unsent_bytes += _OUTCOME_BYTES + (
            outcome.length if isinstance(outcome, Succeeded) else len(outcome.error.details)
        )
        if self._unsent_bytes >= _SEND_AFTER_BYTES or now - self._unsent_since >= SEND_AFTER_S:
            self._flush()
        if isinstance(outcome, Succeeded):
            self._has_succeeded = True
        elif self._has_succeeded and outcome.error.type == "MemoryError":
            # What has filled the memory would fail all that comes: its worker starts another one, see `workplace`.
            self._flush()
            os._exit(1)

    def _flush(self) -> None:
        if self._unsent:
            self._link.send(Outcomes(self._unsent))
            self._unsent = []
            self._unsent_bytes = 0

    def _attempt(self, work: Assignment) -> Outcome | None:
        """None: it was taken back before it began."""
        clock = self._clock
        started = called = perf_counter()
        run_s = 0.0
        read = False
        clock[STARTED] = monotonic_ns()
        clock[LATEST] = work.attempt
        clock[ATTEMPT] = work.attempt  # After its start, so that its worker never sees it with an older one.
        # After that, so that at most one side is wrong: its worker may still think that this begins, and
        # is told that it does not.
        if clock[REVOKED_FIRST] <= work.attempt <= clock[REVOKED_LAST]:
            self._stop_clock()
            return None
        try:
            batch = self._readers.read(work) if self._staging is None else self._staged(work, self._staging)
            read = True
            given = work.count - len(batch.bad)
            if self._spec.add_input_key:
                name_rows(batch.data)
            called = perf_counter()
            collected = self._encoder.collect(self._call(work, batch) if given else [])
            run_s = perf_counter() - called
            rows = self._encoder.encode(collected, given, lambda: item_keys(work, batch))
        except BaseException as error:
            return self._failed(work, error, run_s or perf_counter() - called, read=read)
        self._stop_clock()
        return self._succeeded(work, batch, rows, run_s, perf_counter() - started)

    def _succeeded(
        self, work: Assignment, batch: Batch, rows: Rows, run_s: float, process_s: float
    ) -> Succeeded:
        return Succeeded(
            work.attempt,
            min(rows.returned, work.count - len(batch.bad)),
            rows.rows,
            run_s,
            process_s,
            rows.fragment,
            rows.header,
            rows.warnings if self._staging is None else rows.warnings | self._staging.warnings,
            batch.bad,
        )

    def _staged(self, work: Assignment, staging: Staging) -> Batch:
        copies = staging.copies_of(work)
        return self._readers.read(work) if copies is None else Batch(paths(work, copies), [])

    def _call(self, work: Assignment, batch: Batch) -> Any:
        MINI_BATCH.set(work.mini_batch)
        if self._takes_context:
            return self._run(batch.data, Context(work, self._datasets))
        return self._run(batch.data)

    def _failed(self, work: Assignment, error: BaseException, run_s: float, *, read: bool) -> Failed:
        cause: Cause = "raised"
        where = "in run()" if read else "while its items were read"
        if isinstance(error, BadReturn):
            cause = "bad_return"
        elif isinstance(error, BadRows):
            cause = "bad_rows"
        elif isinstance(error, NotEncodable):
            cause = "not_encodable"
        elif isinstance(error, Unreadable) and not read:
            cause = "unreadable"
        words, text = report(error, where)  # Still timed: it calls code of the script (__str__).
        self._stop_clock()
        place = f"mini-batch {work.mini_batch}, attempt {work.attempt} (retry {work.retry})"
        log_error(
            self._spec.error_file,
            f"{self._spec.name}: {place}, items {work.first} to {work.first + work.count - 1} of it",
            described(work),  # Not what `run()` was given, as the script may have changed its list.
            text,
        )
        return Failed(work.attempt, cause, words, run_s)

    def _stop_clock(self) -> None:
        if self._link.forked:
            end_copy()
        self._clock[ATTEMPT] = 0


# Start and end


def _kind_of(script: Hooks) -> type[Processor]:
    if not script.asynchronous:
        return Processor
    from mpibatch.runtime.async_processor import AsyncProcessor

    return AsyncProcessor


def _start_staging(spec: ProcessorSpec, link: Link, clock: memoryview, scratch: str) -> Staging:
    from mpibatch.runtime.staging import start_staging  # Sockets and threads, for those only who need them.

    return start_staging(link, clock, scratch, spec.downloads)


def _other_version(why: str) -> ErrorReport:
    ours = f"{mpibatch.__version__} (in {os.path.dirname(mpibatch.__file__)})"
    return ErrorReport(
        "VersionMismatch",
        f"{sys.executable} has mpibatch {ours}, but {why}; install the same version of mpibatch there, "
        "or change `python:` in the job file",
    )
