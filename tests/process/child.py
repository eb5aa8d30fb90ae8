"""A real processor at the end of a real socketpair, driven by a test in its worker's place."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

import mpibatch
from mpibatch.core.framing import FrameReader, frame
from mpibatch.messages import Finish, FromProcessor, Grant, InitFailed, Outcomes, ProcessorSpec, Ready
from mpibatch.runtime.clock import CLOCK_BYTES, HEARTBEATS, Clock
from mpibatch.work import Assignment, Failed, Outcome, Paths, Succeeded

_Seen = TypeVar("_Seen")

PATIENCE_S = 30.0
"""Until a test that waits for a child gives up."""
HOME = Path(mpibatch.__file__).resolve().parents[1]
TO_CSV = {"sep": " ", "header": False, "index": False}


def _spelled(name: str, value: Any) -> Any:
    """Names of files and arguments as a `ProcessorSpec` holds them."""
    if name == "argv":
        return [os.fsencode(argument) for argument in value]
    return os.fsencode(value) if name in ("script", "source_directory") and value is not None else value


class Child:
    """One processor with the entry script `text`; use it in a `with`.

    `file`: where the script is written, below `folder`; `changes`: other fields of its ProcessorSpec.
    """

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        file: str = "entry.py",
        environment: dict[str, str] | None = None,
        start: bool = True,
        **changes: Any,
    ) -> None:
        self.folder = folder
        self.script = folder / file
        self.script.parent.mkdir(parents=True, exist_ok=True)
        self.script.write_text(textwrap.dedent(text), encoding="utf-8")
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        self.error_file = folder / "logs" / "error.txt"
        spec = ProcessorSpec(
            name="process007",
            script=os.fsencode(self.script),
            is_module=False,
            source_directory=None,
            argv=[],
            output_action="append_row",
            append_row=TO_CSV,
            datasets=[b"images/"],
            error_file=os.fsencode(self.error_file),
            version=mpibatch.__version__,
        )
        self.spec = msgspec.structs.replace(
            spec, **{name: _spelled(name, value) for name, value in changes.items()}
        )
        self._environment = {**os.environ, **(environment or {})}
        self._reader: FrameReader[FromProcessor] = FrameReader(FromProcessor)
        self._received: Iterator[FromProcessor] = self._receive()
        self._waiting: list[Outcome] = []
        self._attempt = 0
        self.messages = 0
        self._launch()
        if start:
            self.send_raw(frame(self.spec))

    def _launch(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE_S)
        clock = os.memfd_create("clock")
        os.ftruncate(clock, CLOCK_BYTES)
        self._clock = mmap.mmap(clock, CLOCK_BYTES)
        call = (
            f"import sys; sys.path.append({str(HOME)!r}); from mpibatch.runtime.processor import main; "
            f"raise SystemExit(main({theirs.fileno()}, {clock}))"
        )
        with open(self.folder / "stdout", "wb") as stdout, open(self.folder / "stderr", "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", call],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.scratch,
                env=self._environment,
                pass_fds=(theirs.fileno(), clock),
                start_new_session=True,
            )
        theirs.close()
        os.close(clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.socket.close()
        self._clock.close()

    # To it

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def grant(
        self, *mini_batches: Sequence[str | bytes], retry: int = 0, position: int = 0, alone: bool = False
    ) -> list[int]:
        """Grant them in one message; the numbers of their attempts. Mini-batches are numbered from 10."""
        assignments = []
        for items in mini_batches:
            self._attempt += 1
            source = Paths(b"\0".join(os.fsencode(item) for item in items))
            assignments.append(
                Assignment(
                    self._attempt, self._attempt + 9, 0, len(items), retry, position, 0, source, alone=alone
                )
            )  # fmt: skip
        self.send_raw(frame(Grant(assignments)))
        return [assignment.attempt for assignment in assignments]

    # From it

    def _receive(self) -> Iterator[FromProcessor]:
        while data := self.socket.recv(1 << 20):
            for message in self._reader.feed(data):
                self.messages += 1
                yield message

    def first(self) -> FromProcessor:
        return next(self._received)

    def ready(self) -> Self:
        message = self.first()
        assert isinstance(message, Ready), message
        return self

    def init_failed(self) -> InitFailed:
        message = self.first()
        assert isinstance(message, InitFailed), message
        return message

    def outcome(self) -> Outcome:
        """The next one; AssertionError if the child ends instead."""
        if not self._waiting:
            message = next(self._received, None)
            assert isinstance(message, Outcomes), (message, self.stderr)
            self._waiting = list(message.outcomes)
        return self._waiting.pop(0)

    def does(self, *items: str | bytes, retry: int = 0, position: int = 0) -> Outcome:
        """One mini-batch, and its outcome."""
        (attempt,) = self.grant(items, retry=retry, position=position)
        outcome = self.outcome()
        assert outcome.attempt == attempt
        return outcome

    def rows(self, *items: str | bytes, **more: int) -> bytes:
        outcome = self.does(*items, **more)
        assert isinstance(outcome, Succeeded), outcome
        return outcome.fragment

    def fails(self, *items: str | bytes) -> Failed:
        outcome = self.does(*items)
        assert isinstance(outcome, Failed), outcome
        return outcome

    def ends(self) -> bool:
        """Whether the stream ends without another message."""
        return not self._waiting and next(self._received, None) is None

    def finish(self) -> int:
        self.send_raw(frame(Finish()))
        assert self.ends()
        return self.process.wait(PATIENCE_S)

    def revoke(self, first: int, last: int) -> int:
        """As its worker does it."""
        clock = Clock(memoryview(self._clock))
        try:
            return clock.revoke(first, last)
        finally:
            clock.close()

    def latest(self) -> int:
        """The attempt that was begun last."""
        return self._look(lambda clock: clock.latest)

    def running(self) -> list[int]:
        """The attempts that run, of those that it tells of in slots."""
        return sorted(attempt for attempt, _ in self._look(Clock.all_running))

    def _look(self, what: Callable[[Clock], _Seen]) -> _Seen:
        clock = Clock(memoryview(self._clock))
        try:
            return what(clock)
        finally:
            clock.close()

    def heartbeats(self) -> int:
        count: int = struct.unpack_from("<Q", self._clock, 8 * HEARTBEATS)[0]
        return count

    def clock(self) -> tuple[int, int]:
        attempt, started_ns = struct.unpack_from("<QQ", self._clock)
        return attempt, started_ns

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return self.error_file.read_text(encoding="utf-8")
