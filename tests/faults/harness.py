"""Runs a scenario: starts the job, does it harm at its moments, starts it again until it is complete, and looks at
what is left each time.
"""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import support
from faults.kinds import BEGAN, CALLED, FOLDER, KINDS
from faults.moments import Moments
from faults.processes import Process, end_all, look, of_role, send
from faults.scenario import HEARTBEAT_TIMEOUT_S, KILL, STOP, Fault, Scenario, is_noticed, survives
from faults.truths import Truth, is_right

from mpibatch.local_world import find_mpiexec, launcher_command
from mpibatch.runtime.run_folder import RunFolder

MOST_STARTS = 6
RUN_TIMEOUT_S = 10
"""For `run()`, where something freezes."""
END_S = float(support.TIMEOUT_S)
"""For one start. None takes as long, unless nobody sees that something stands."""
UNNOTICED_S = 8.0
"""After so long a batch system's time limit ends what stands and nobody sees: then all is killed."""
GONE_S = float(support.TIMEOUT_S)
"""For what is left of a start to end by itself: within it falls the silence of a lost rank 0."""
FINE = frozenset({0, 75, 130})
OURS = frozenset({2, 3, 4, 74})
"""Exit codes that no fault of these may lead to. 1 is no such code, as launchers have it too."""


@dataclass
class Story:
    """What happened to a scenario, for the words of a failure and the table of `make faults`."""

    scenario: Scenario
    starts: int = 0
    done: list[Fault] = field(default_factory=list)
    rescued: bool = False
    """Something stood and nobody saw it, so all was killed."""
    harmed_at: float | None = None
    """When the first fault was done, by `time.monotonic`."""
    recovery_s: float | None = None
    """From then until the output was complete."""
    lines: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.lines.append(f"{time.monotonic():.3f} {text}")


class Failed(AssertionError):
    """The run did not keep its promise, or left something."""


class Trial:
    """One scenario in `folder`. `run` it once."""

    def __init__(self, scenario: Scenario, truth: Truth, folder: Path) -> None:
        self.story = Story(scenario)
        self._scenario = scenario
        self._kind = KINDS[scenario.kind]
        self._truth = truth
        self._folder = folder
        self._output = folder / "output"
        self._marker = f"{FOLDER}={folder}"
        self._said = folder / "said"
        self._left = list(scenario.faults)
        self._harmed_in_this_start: list[Fault] = []
        self._all_killed = False
        """Nobody is left who could remove what this start has in TMPDIR."""
        self._orphans: set[str] = set()
        # Short, as sockets of launchers lie in it.
        self._temporary = Path(tempfile.mkdtemp(prefix="k-"))

    def run(self) -> Story:
        """Until the output is complete; raises Failed with the whole story."""
        try:
            for _ in range(MOST_STARTS):
                if self._start_once():
                    is_right(self._output, self._kind, self._truth)
                    return self.story
            raise Failed(f"not complete after {MOST_STARTS} starts")
        except AssertionError as error:
            raise Failed(self._words(error)) from error

    # A start

    def _start_once(self) -> bool:
        """Whether it has completed the run."""
        self.story.starts += 1
        self._harmed_in_this_start = []
        self._all_killed = False
        for name in (BEGAN, CALLED):
            (self._folder / name).unlink(missing_ok=True)
        with open(self._said, "ab") as said:
            command, variables = self._command()
            self.story.note(f"start {self.story.starts}")
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=variables, cwd=self._folder
            )
        moments = Moments(self._folder, self._output, self._kind.items, self._truth.elapsed_s)
        try:
            self._harm(process, moments)
            code = self._wait(process)
        finally:
            # Whatever the test thinks of it, nothing may run on.
            if process.poll() is None:
                end_all(self._marker, process.pid)
            process.wait()
        return self._ended(process.pid, code)

    def _command(self) -> tuple[list[str], dict[str, str]]:
        arguments = [*support.COMMAND, "run", str(self._truth.job), "--output", str(self._output)]
        arguments += self._limits()
        variables = {**self._kind.variables, FOLDER: str(self._folder), "TMPDIR": str(self._temporary)}
        environment = {**support.from_anywhere(), **variables}
        launcher = self._scenario.launcher
        if launcher == "alone":
            return [*arguments, "--set", "process_count_per_node=1"], environment
        if launcher == "local":
            return arguments, environment
        workers = 2
        command, more = launcher_command(find_mpiexec(), workers + 1)
        options = {"mpiexec": [], "ulfm": ["--with-ft", "ulfm"], "continuous": ["--continuous"]}[launcher]
        return [command[0], *options, *command[1:], *arguments], {**environment, **more}

    def _limits(self) -> list[str]:
        """Where something freezes, it is lost within seconds. Elsewhere the usual limits hold, so that nothing that
        is slow only is taken for frozen."""
        if not any(fault.number == STOP for fault in self._scenario.faults):
            return []
        limits = {"heartbeat_timeout": HEARTBEAT_TIMEOUT_S, "run_invocation_timeout": RUN_TIMEOUT_S}
        return [word for key, value in limits.items() for word in ("--set", f"{key}={value}")]

    # Harm

    def _harm(self, process: subprocess.Popen[bytes], moments: Moments) -> None:
        """Do the next faults while it runs; those whose moment does not come are left for the next start."""
        while self._left and moments.reached(self._left[0].moment, process):
            self._do(self._left.pop(0), process)
            moments.again()

    def _do(self, fault: Fault, process: subprocess.Popen[bytes]) -> None:
        alone = self._scenario.launcher == "alone"
        found = of_role(self._marker, process.pid, fault.target, embedded=alone)
        if not found:
            self.story.note(f"nobody is there for: {fault.words}")
            return
        if fault.target != "everything":
            found = [found[self._scenario.seed % len(found)]]
        self.story.note(f"{fault.words}: {found}")
        if fault.target == "everything" and fault.number == KILL:
            end_all(self._marker, process.pid)
        else:
            for one in found:
                send(one.pid, fault.number)
        self.story.harmed_at = self.story.harmed_at or time.monotonic()
        self.story.done.append(fault)
        self._harmed_in_this_start.append(fault)
        self._all_killed |= fault.number == KILL and fault.target in ("everything", "guardian")
        if fault.thaw_s is not None:
            self._thaw(found, fault.thaw_s, process)

    def _thaw(self, found: list[Process], after_s: float, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + after_s
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.005)
        for one in found:
            # By name again: its number may be another's by now.
            if any(now.pid == one.pid for now in look(self._marker, process.pid)):
                send(one.pid, signal.SIGCONT)

    # Ends

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        stands = any(
            fault.number == STOP and fault.thaw_s is None and not is_noticed(self._scenario.launcher, fault.target)
            for fault in self._harmed_in_this_start
        )  # fmt: skip
        limit = UNNOTICED_S if stands else END_S
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            left = look(self._marker, process.pid)
            end_all(self._marker, process.pid)
            process.wait()
            self.story.rescued = self._all_killed = True
            self.story.note(f"it stood for {limit} s, and all was killed: {left}")
            assert stands, f"a start did not end within {limit} s; there were {left}"
            return process.returncode

    def _ended(self, pid: int, code: int) -> bool:
        self.story.note(f"exit code {code}")
        self._nothing_is_left(pid)
        assert "Traceback (most recent call last)" not in self._text(), "a bug of ours"
        assert code not in OURS, f"exit code {code}"
        output = self._output / self._kind.rows_file
        assert not output.exists() or output.read_bytes() == self._truth.output, (
            f"{output} is there, and wrong"
        )
        result = self._result()
        complete = code == 0
        if complete:
            assert result.get("verdict") == "complete", f"exit code 0, and the result says {result}"
            if self.story.harmed_at is not None:
                self.story.recovery_s = time.monotonic() - self.story.harmed_at
        else:
            assert self._harmed_in_this_start, f"exit code {code}, though nothing was done to it"
            assert not self._should_survive(), f"exit code {code}: it should have gone on by itself"
        return complete

    def _should_survive(self) -> bool:
        """Whether nothing was done in this start but what the run has to get over by itself."""
        return all(survives(self._scenario.launcher, fault) for fault in self._harmed_in_this_start)

    def _nothing_is_left(self, pid: int) -> None:
        if len(self._harmed_in_this_start) > 1:
            # Who would have ended what is frozen may be dead.
            for one in look(self._marker, pid):
                send(one.pid, signal.SIGCONT)
        end = time.monotonic() + GONE_S
        while (left := look(self._marker, pid)) and time.monotonic() < end:
            time.sleep(0.01)
        if left:
            end_all(self._marker, pid)
            raise Failed(f"{GONE_S} s after its end there were still {left}")
        folders = {entry.name for entry in self._temporary.glob("mpibatch-*")} - self._orphans
        if self._all_killed:
            self._orphans |= folders
        else:
            inside = {name: sorted(map(str, (self._temporary / name).rglob("*"))) for name in folders}
            assert not folders, f"left in TMPDIR: {inside}"
        # A process that ends gives up its memory, by which it is found, before its locks.
        support.wait_until(lambda: _is_free(RunFolder(self._output).lock), "the lock is free", GONE_S)

    def _result(self) -> dict[str, Any]:
        return support.result(self._output) if RunFolder(self._output).result.exists() else {}

    def _text(self) -> str:
        return self._said.read_text(errors="backslashreplace")

    def _words(self, error: AssertionError) -> str:
        lines = "\n".join(self.story.lines)
        again = f"MPIBATCH_FAULT_SEED={self._scenario.seed} python -m pytest tests/faults/test_kills.py"
        return (
            f"{error}\n{self._scenario.words}\n--- replay: {again}\n--- what was done\n{lines}\n"
            f"--- what it said\n{self._text()[-6000:]}\n--- its result\n{json.dumps(self._result())}"
        )


def _is_free(lock: Path) -> bool:
    if not lock.exists():
        return True
    with open(lock, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
