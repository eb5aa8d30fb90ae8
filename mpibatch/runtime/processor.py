"""The processor: the child process in which the entry script runs.

Its worker starts it with one end of a stream socketpair, over which frames go both ways, and with
a memory both see, the clock, that says at any time which attempt is running and since when.
"""

from __future__ import annotations

import faulthandler
import io
import mmap
import os
import signal
import sys
from _thread import get_ident  # That of `threading`, which costs start-up time.
from collections.abc import Iterator
from time import monotonic_ns, perf_counter
from types import FrameType
from typing import Any, NoReturn, assert_never

import mpibatch
from mpibatch.core.framing import FrameError, FrameReader, frame
from mpibatch.core.grants import RunTimes
from mpibatch.errors import ScriptError
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.messages import (
    Finish,
    FromProcessor,
    Grant,
    InitFailed,
    Outcomes,
    PassedOver,
    ProcessorSpec,
    Ready,
    ToProcessor,
)
from mpibatch.outputs.encoders import make_encoder
from mpibatch.outputs.encoding import BadReturn, NotEncodable
from mpibatch.outputs.input_key import name_rows
from mpibatch.runtime.clock import ATTEMPT, CLOCK_BYTES, LATEST, REVOKED_FIRST, REVOKED_LAST, STARTED
from mpibatch.runtime.entry_script import Context, EntryScript, load, log_error, report
from mpibatch.runtime.leaving import leave
from mpibatch.runtime.reading import Readers, described, item_keys
from mpibatch.work import Assignment, Cause, ErrorReport, Failed, Outcome, Succeeded

_RECEIVE_BYTES = 64 << 10
_SEND_AFTER_S = 0.001
_SEND_AFTER_BYTES = 1 << 16
_OUTCOME_BYTES = 64
"""About what an outcome takes besides its fragment and its bad items."""
_IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def main(fd: int, clock_fd: int) -> int:
    """Serve the worker at the other end of `fd` until it says `Finish`; the exit code.

    `fd`: a blocking stream socket; `clock_fd`: memory as `runtime.clock` tells.
    """
    _prepare_process()
    os.set_inheritable(clock_fd, False)
    clock = memoryview(mmap.mmap(clock_fd, CLOCK_BYTES)).cast("Q")
    os.close(clock_fd)
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
    started = perf_counter()
    script = _start_script(first, link)
    if script is None:
        return 1
    link.send(Ready(perf_counter() - started))
    Processor(first, script, link, clock, scratch).serve()
    _shut_down(first, script)
    return leave(0, _own_folders(first))


def _own_folders(spec: ProcessorSpec) -> list[str]:
    """Where the script's own modules lie."""
    folders = [] if spec.is_module else [os.path.dirname(os.fsdecode(spec.script))]
    return folders if spec.source_directory is None else [*folders, os.fsdecode(spec.source_directory)]


class Link:
    """Frames to and from the worker. `forked`: this is a copy of the process, and must not speak for it."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._fd = fd
        self._reader: FrameReader[ToProcessor] = FrameReader(ToProcessor)
        self._rest: Iterator[ToProcessor] = iter(())
        self._incoming = bytearray(_RECEIVE_BYTES)
        self.forked = False
        os.register_at_fork(after_in_child=self._let_go)

    def first(self) -> ProcessorSpec:
        """Wait for the first message. Raises `FrameError` if it is not a `ProcessorSpec`."""
        message = next(self.messages())
        if not isinstance(message, ProcessorSpec):
            raise FrameError(f"{type(message).__name__} came before ProcessorSpec")
        return message

    def messages(self) -> Iterator[ToProcessor]:
        """The messages that are there; blocks until there is one. Ends the process if the worker has died."""
        while True:
            some = False
            for message in self._rest:
                some = True
                yield message
            if some:
                return
            try:
                length = os.readv(self._fd, [self._incoming])
            except ConnectionError:
                length = 0
            if not length:
                self._worker_died()
            self._rest = self._reader.feed(memoryview(self._incoming)[:length])

    def send(self, message: FromProcessor) -> None:
        """Send all of it; blocks meanwhile, as the worker always reads."""
        if self.forked:
            end_copy()
        view = memoryview(frame(message))
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except ConnectionError:
            self._worker_died()

    def _let_go(self) -> None:
        """In a child that the script forks."""
        if not self.forked:  # Where such a child forks again, the number may be that of a file of its own.
            os.close(self._fd)
        self.forked = True

    @staticmethod
    def _worker_died() -> NoReturn:
        os._exit(1)


class Processor:
    """Works off what is granted, in order, and sends the outcomes, some at a time. `scratch`: a folder of its own."""

    def __init__(
        self, spec: ProcessorSpec, script: EntryScript, link: Link, clock: memoryview, scratch: str
    ) -> None:
        self._spec = spec
        self._datasets = [os.fsdecode(dataset) for dataset in spec.datasets]
        self._run = script.run
        self._takes_context = script.takes_context
        self._readers = Readers(spec.inputs, scratch)
        self._encoder = make_encoder(
            spec.output_action, spec.append_row_format, spec.append_row, spec.add_input_key
        )
        self._link = link
        self._clock = clock
        self._times = RunTimes()
        self._unsent: list[Outcome] = []
        self._unsent_bytes = 0
        self._unsent_since = 0.0

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

    def _work_off(self, work: Assignment) -> None:
        # What comes may kill this process: long work that is finished must not be lost with it.
        if self._unsent and (self._times.mean_s or 0.0) > _SEND_AFTER_S:
            self._flush()
        outcome = self._attempt(work)
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
        if self._unsent_bytes >= _SEND_AFTER_BYTES or now - self._unsent_since >= _SEND_AFTER_S:
            self._flush()

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
            batch = self._readers.read(work)
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
        return Succeeded(
            work.attempt,
            min(rows.returned, given),
            rows.rows,
            run_s,
            perf_counter() - started,
            rows.fragment,
            rows.header,
            rows.warnings,
            batch.bad,
        )

    def _call(self, work: Assignment, batch: Batch) -> Any:
        if self._takes_context:
            return self._run(batch.data, Context(work, self._datasets))
        return self._run(batch.data)

    def _failed(self, work: Assignment, error: BaseException, run_s: float, *, read: bool) -> Failed:
        cause: Cause = "raised"
        where = "in run()" if read else "while its items were read"
        if isinstance(error, BadReturn):
            cause = "bad_return"
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


def _prepare_process() -> None:
    faulthandler.enable()
    for number in _IGNORED_SIGNALS:
        signal.signal(number, _ignore)
    guard = _ForkGuard()
    os.register_at_fork(
        before=guard.before, after_in_parent=guard.after_in_parent, after_in_child=guard.after_in_child
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # By lines, so that what was printed is in the log also if this process is killed; and a
            # name that is not UTF-8 must not make a print() fail.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


_pid = os.getpid()


def _ignore(number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which the script's subprocesses would inherit. A forked child dies of it as usual."""
    if os.getpid() != _pid:  # One that was forked by C code, past the guard.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


class _ForkGuard:
    """Gives forked children the usual signals back, so that `Pool.terminate()` works in the script.

    Python forgets signals that reach a child before it has begun, and what terminates it waits for
    ever; so they are blocked while it forks, and reach it once they do what they usually do.
    """

    def __init__(self) -> None:
        self._masks: dict[int, set[int]] = {}  # By thread, as several may fork.

    def before(self) -> None:
        self._masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED_SIGNALS)

    def after_in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(get_ident()))

    def after_in_child(self) -> None:
        for number in _IGNORED_SIGNALS:
            if signal.getsignal(number) is _ignore:
                signal.signal(number, signal.SIG_DFL)
        self.after_in_parent()


def end_copy() -> NoReturn:
    """A child that the script forked came out of `run()`, into our code."""
    os.write(2, b"mpibatch: a process that the script forked returned from run(); it is ended here\n")
    os._exit(1)


def _start_script(spec: ProcessorSpec, link: Link) -> EntryScript | None:
    """Import the script and call its `init()`; None, and `InitFailed` is sent, if that fails."""
    where = "while it was imported"
    imported = False
    try:
        script = load(spec)
        imported = True
        where = "in init()"
        if script.init is not None:
            script.init()
    except BaseException as error:
        words, text = report(error, where)
        unusable = not imported and isinstance(error, ScriptError | SyntaxError)
        log_error(spec.error_file, f"{spec.name}: {os.fsdecode(spec.script)}, {where}", [], text)
        link.send(InitFailed(words, unusable))
        return None
    return script


def _shut_down(spec: ProcessorSpec, script: EntryScript) -> None:
    """Call `shutdown()`. What it raises changes no outcome: it is told of in the logs."""
    if script.shutdown is None:
        return
    try:
        script.shutdown()
    except BaseException as error:
        words, text = report(error, "in shutdown()")
        log_error(spec.error_file, f"{spec.name}: {os.fsdecode(spec.script)}, in shutdown()", [], text)
        line = f"mpibatch: shutdown() raised {words.type}: {words.message}\n"
        try:
            os.write(2, line.encode())
        except OSError:
            pass


def _other_version(why: str) -> ErrorReport:
    ours = f"{mpibatch.__version__} (in {os.path.dirname(mpibatch.__file__)})"
    return ErrorReport(
        "VersionMismatch",
        f"{sys.executable} has mpibatch {ours}, but {why}; install the same version of mpibatch there, "
        "or change `python:` in the job file",
    )
