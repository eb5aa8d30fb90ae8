"""One try of `finalize()`: a processor of its own, watched as those of workers are, from its start to its death."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import assert_never

import msgspec

from mpibatch.core.framing import FrameError
from mpibatch.messages import (
    Finalize,
    Finalized,
    Finish,
    FromProcessor,
    InitFailed,
    Outcomes,
    PassedOver,
    Ready,
    WorkerSetup,
)
from mpibatch.runtime.deaths import Death, Deaths
from mpibatch.runtime.failed_items import log_for
from mpibatch.runtime.memory import MemoryWatch
from mpibatch.runtime.quarters import Quarters
from mpibatch.runtime.waiting import Backoff
from mpibatch.runtime.worker_log import WorkerLog
from mpibatch.work import Cause, ErrorReport

NAME = "finalize"
"""Of the process, and so of its log files."""
CHECK_S = 0.2


class FinalizeFailed(msgspec.Struct, frozen=True):
    """`words`: what has happened; `log`: the file that tells most of it."""

    words: str
    log: str


class Called(msgspec.Struct, frozen=True):
    """`finalize()` has returned, after `seconds`. `there`: the script has one, else nothing was called."""

    there: bool
    seconds: float


class Finalizer:
    """`step` it until it is `over`, or `kill` it and step on. `failed` or `called` tell how it ended; neither, if it
    was killed. OSError of the constructor: no processor can be started."""

    def __init__(
        self,
        setup: WorkerSetup,
        *,
        timeout_s: float,
        host: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`timeout_s`: what `finalize()` may take. `say` is told when it begins."""
        self._setup = setup
        self._timeout_s = timeout_s
        self._say = say
        self._clock = clock
        self._memory = MemoryWatch()
        self._deaths = Deaths(f"rank 0 on {host}", self._memory)
        self._quarters = Quarters(setup)
        self._log = WorkerLog(os.fsdecode(setup.log_file), setup.logging_level)
        if self._quarters.unwritable:
            self._log.warning(f"what finalize() prints is lost: {self._quarters.unwritable}")
        try:
            self._child = self._quarters.start()
        except OSError:
            self._leave()
            raise
        now = clock()
        self._memory.begin(self._child.pid, now)
        self._log.info(f"{setup.processor.name} started, pid {self._child.pid}")
        self._doing = "while it loaded the script or in init(), before finalize()"
        self._deadline = now + setup.init_timeout_s
        self._limit = "init_timeout"
        self._killed_for: tuple[Cause, str] | None = None
        self._unwanted = False
        self._began_at = now
        self.over = False
        self.called: Called | None = None
        self.failed: FinalizeFailed | None = None

    @property
    def log_file(self) -> str:
        """Of what the script has printed."""
        return self._logs["stdout"]

    def fds(self) -> list[tuple[int, bool]]:
        """What may wake us: (file descriptor, whether also to be writable)."""
        return [] if self.over else self._child.fds()

    def step(self) -> bool:
        """Hear and look after it; True if there was anything."""
        if self.over:
            return False
        now = self._clock()
        self._child.flush()
        heard = self._listen()
        self._memory.look(now)
        if self._child.ended():
            self._listen()  # What it said before its death counts.
            self._end(self._quarters.bury(self._child))
            return True
        if now > self._deadline and self._killed_for is None:
            self._kill("timed_out", f"over {self._limit}")
        return heard

    def kill(self) -> None:
        """It is not wanted any more; step on until it is over."""
        if not self.over and not self._unwanted:
            self._unwanted = True
            self._kill("died", "the run stops")

    def run(self, check: Callable[[], None]) -> None:
        """Step it to its end, and to that of its processor, whatever breaks in. `check` is called now and then: what
        it raises ends it, and comes out here."""
        backoff, checked_at = Backoff(), self._clock()
        try:
            while not self.over:
                backoff.rest(self.step(), self.fds())
                if self._clock() - checked_at > CHECK_S:
                    check()
                    checked_at = self._clock()
        except BaseException:
            self.kill()
            while not self.over:
                backoff.rest(self.step(), self.fds())
            raise

    def _kill(self, cause: Cause, why: str) -> None:
        self._killed_for = (cause, why)
        self._log.info(f"killing pid {self._child.pid}: {why}")
        self._child.kill()

    def _listen(self) -> bool:
        heard = False
        try:
            for message in self._child.receive():
                heard = True
                self._take(message)
        except FrameError as error:
            if self._killed_for is None:
                self._kill("died", f"the script wrote into the connection to mpibatch: {error}")
        return heard

    def _take(self, message: FromProcessor) -> None:
        now = self._clock()
        match message:
            case Ready(init_s, finalizes):
                self._begin(init_s, now, there=finalizes)
            case Finalized(error):
                if error is not None:
                    self._fail(error, f"finalize() raised {error.type}: {error.message}")
                elif self.failed is None:
                    self.called = Called(True, now - self._began_at)
                self._doing, self._limit = "in shutdown(), after finalize()", "shutdown_timeout"
                self._deadline = now + self._setup.kill_grace_s
                self._child.send(Finish())
            case InitFailed(error):
                self._fail(error, f"{error.type}: {error.message} ({self._doing})")
            case Outcomes() | PassedOver():
                self._kill("died", "the script wrote into the connection to mpibatch")
            case _:
                assert_never(message)

    def _begin(self, init_s: float, now: float, *, there: bool) -> None:
        self._began_at = now
        if not there:
            self.called = Called(False, 0.0)
            return
        self._log.info(f"ready after {init_s:.3f} s")
        file = self._setup.processor.finalize
        of = (
            ""
            if file is None or file.output_file is None
            else f", with the rows in {os.fsdecode(file.output_file)}"
        )
        self._say(f"finalize() of the script begins (pid {self._child.pid}{of})")
        self._doing, self._limit = "in finalize()", f"finalize_timeout: {self._timeout_s:g} s"
        self._deadline = now + self._timeout_s

    def _fail(self, error: ErrorReport, words: str) -> None:
        if self.failed is None:
            self.failed = FinalizeFailed(words, log_for(error, self._logs))
            self._log.warning(f"{words}\n{error.details}")

    @property
    def _logs(self) -> dict[str, str]:
        setup = self._setup
        return {
            "errors": os.fsdecode(setup.processor.error_file),
            "stdout": os.fsdecode(setup.stdout_file),
            "stderr": os.fsdecode(setup.stderr_file),
        }

    def _end(self, death: Death) -> None:
        self._leave()
        self.over = True
        if self.called is None and self.failed is None and not self._unwanted:
            _, error = self._deaths.judge(death, self._killed_for, self._doing)
            self._fail(error, f"finalize() failed: {error.type}: {error.message}")

    def _leave(self) -> None:
        self._quarters.leave()
        self._log.info("ends")
        self._log.close()


def finalize_setup(of_worker: WorkerSetup, output_file: str | None) -> WorkerSetup:
    """What a processor for `finalize()` is told, made of what a worker in its place would be told."""
    spec = of_worker.processor

    def renamed(file: bytes) -> bytes:
        folder, name = os.path.split(file)
        return os.path.join(folder, name.replace(os.fsencode(spec.name), NAME.encode()))

    around = spec.surroundings
    if around is not None:
        around = msgspec.structs.replace(
            around,
            process=NAME,
            log_file=renamed(around.log_file),
            metrics_file=renamed(around.metrics_file),
        )
    return msgspec.structs.replace(
        of_worker,
        processor=msgspec.structs.replace(
            spec,
            name=NAME,
            finalize=Finalize(output_file=None if output_file is None else os.fsencode(output_file)),
            downloads=[],
            inputs=[],
            surroundings=around,
            error_file=renamed(spec.error_file),
        ),
        stdout_file=renamed(of_worker.stdout_file),
        stderr_file=renamed(of_worker.stderr_file),
        log_file=os.path.join(os.path.dirname(of_worker.log_file), NAME.encode() + b".txt"),
        lost_file=b"",
    )
