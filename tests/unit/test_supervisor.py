"""A processor as its worker sees it: real children that talk, die, hang and leave children of their own."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

from mpibatch.core.framing import FrameError
from mpibatch.messages import FromProcessor, Grant, Ready
from mpibatch.runtime import supervisor
from mpibatch.runtime.deaths import Death
from mpibatch.runtime.supervisor import Child, interpreter_command, processor_environment
from mpibatch.work import Assignment, Paths

MARKER = "TEST_SUPERVISOR"

TALK = """
import os, socket, struct, sys, time
sys.path.insert(0, {home!r})
from mpibatch.core.framing import FrameReader, frame
from mpibatch.messages import Ready, ToProcessor
mine = socket.socket(fileno=int(sys.argv[1]))
clock = int(sys.argv[2])
"""


class Started:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []

    def start(self, command: list[str], **environment: str) -> Child:
        child = Child(
            command, environment={**os.environ, MARKER: str(self.folder), **environment}, cwd=str(self.folder),
            stdout_file=str(self.folder / "out"), stderr_file=str(self.folder / "err"),
        )  # fmt: skip
        self.children.append(child)
        return child

    def shell(self, script: str) -> Child:
        return self.start(["/bin/sh", "-c", script, "sh", "{fd}"])

    def python(self, script: str) -> Child:
        home = str(Path(support.__file__).resolve().parents[1])
        return self.start([sys.executable, "-c", TALK.format(home=home) + script, "{fd}", "{clock}"])


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for child in started.children:
        if child._process.returncode is None:  # The test has not buried it.
            child.kill()
            support.wait_until(child.ended, "it is dead")
            child.bury()
        child.close()


def until_ended(child: Child) -> list[FromProcessor]:
    """All that it says to its end."""
    heard: list[FromProcessor] = []
    while not child.ended():
        child.flush()
        heard += child.receive()
    return [*heard, *child.receive()]


DEATHS: list[tuple[str, str, int]] = [
    ("exit 0", "exit code 0", 0),
    ("exit 7", "exit code 7", 7),
    ("kill -SEGV $$", "SIGSEGV", -signal.SIGSEGV),
    ("kill -TERM $$", "SIGTERM", -signal.SIGTERM),
    (
        "kill -KILL $$",
        "SIGKILL (not sent by mpibatch: most likely the kernel, because memory ran out; its peak",
        -9,
    ),
]


@pytest.mark.parametrize(("script", "words", "code"), DEATHS, ids=[row[0] for row in DEATHS])
def test_a_death_is_described_whole(script: str, words: str, code: int, started: Started) -> None:
    child = started.shell(f"echo last words >&2; {script}")
    assert until_ended(child) == []
    assert child.ended()  # Asking does not reap.
    death = child.bury()
    assert (death.pid, death.returncode, death.stderr_tail) == (child.pid, code, "last words")
    assert death.words.startswith(words)


def test_the_peak_of_its_memory_is_told(started: Started) -> None:
    child = started.python("large = bytearray(b'x') * (600 << 20)\nos.kill(os.getpid(), 9)\n")
    until_ended(child)
    death = child.bury()
    assert 600 << 20 < death.peak_bytes < max(1 << 30, death.blur_bytes + 1)
    # What this process has had at its largest the child has on its account.
    assert re.search(r"its peak resident memory was (at most )?\d\.\d\d GiB\)$", death.words)


def test_a_peak_that_may_be_our_own_is_told_as_that(started: Started) -> None:
    child = started.shell("kill -KILL $$")
    until_ended(child)
    assert "its peak resident memory was at most " in child.bury().words


def test_its_death_is_waited_for_but_not_for_ever(started: Started) -> None:
    child = started.shell("exec sleep 1000")
    assert not child.ends_within(0.01)
    child.kill()
    assert child.ends_within(30)


def test_a_stopped_one_can_be_killed(started: Started) -> None:
    child = started.shell("kill -STOP $$")
    support.wait_until(lambda: " (sh) T " in Path(f"/proc/{child.pid}/stat").read_text(), "it is stopped")
    child.kill()
    support.wait_until(child.ended, "it is dead")
    assert child.bury().returncode == -signal.SIGKILL


def test_one_that_reads_nothing_holds_nobody_up(started: Started) -> None:
    child = started.shell("exec sleep 1000")
    for _ in range(100):
        child.send(Grant([Assignment(1, 0, 0, 1, 0, 0, 0, Paths(b"x" * 100_000))]))
    child.flush()
    assert list(child.receive()) == []
    assert child.fds()[0][1], "and wakes its worker once it does read"
    assert not child.ended()


def test_a_signal_without_a_name() -> None:
    assert Death(1, -63, "").words == "signal 63"


def test_only_the_last_lines_of_its_own_stderr_are_told(started: Started, tmp_path: Path) -> None:
    (tmp_path / "err").write_text("of a processor before\n")
    child = started.shell("i=0; while [ $i -lt 40 ]; do echo line $i >&2; i=$((i+1)); done")
    until_ended(child)
    assert child.bury().stderr_tail.splitlines() == [f"line {number}" for number in range(25, 40)]
    short = started.shell("echo one >&2")
    until_ended(short)
    assert short.bury().stderr_tail == "one"
    odd = started.shell(r"printf '\377\n' >&2; head -c 100000 /dev/zero | tr '\0' x >&2")
    until_ended(odd)
    assert len(odd.bury().stderr_tail) == 4096


def test_a_stderr_that_is_gone_is_told(started: Started, tmp_path: Path) -> None:
    child = started.shell("exit 3")
    (tmp_path / "err").unlink()
    until_ended(child)
    assert "its stderr cannot be read: " in child.bury().stderr_tail


def test_what_it_says_and_what_is_said_to_it(started: Started) -> None:
    child = started.python(
        "reader = FrameReader(ToProcessor)\n"
        "got = []\n"
        "while not got: got += reader.feed(mine.recv(1 << 16))\n"
        "mine.sendall(frame(Ready(float(len(got[0].assignments[0].source.blob)))))\n"
    )
    blob = b"x" * (4 << 20)  # More than a socket takes at once.
    child.send(Grant([Assignment(1, 0, 0, 1, 0, 0, 0, Paths(blob))]))
    assert child.fds()[0][1]
    assert until_ended(child) == [Ready(float(len(blob)))]
    assert child.eof
    assert len(child.fds()) == 1


def test_what_it_said_before_its_death_still_counts(started: Started) -> None:
    child = started.python("mine.sendall(frame(Ready(1.0)) + frame(Ready(2.0)))\nos._exit(9)\n")
    support.wait_until(child.ended, "it has died")
    assert list(child.receive()) == [Ready(1.0), Ready(2.0)]
    assert child.bury().returncode == 9


def test_one_that_has_much_to_say_does_not_hold_its_worker_for_ever(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_MOST_AT_ONCE", 1)
    child = started.python("mine.sendall(frame(Ready(1.0)) * 5000)\n")  # Less than a socket holds.
    support.wait_until(child.ended, "it has said all")
    heard = [len(list(child.receive())) for _ in range(10)]
    assert 0 < heard[0] < 5000 and sum(heard) == 5000


def test_nonsense_is_an_error(started: Started) -> None:
    child = started.python("mine.sendall(b'\\xff' * 100)\n")
    with pytest.raises(FrameError):
        until_ended(child)
    child.send(Grant([]))  # To a dead one: of no consequence.


def test_a_clock_that_both_see(started: Started) -> None:
    child = started.python(
        "import mmap\nboard = mmap.mmap(clock, 4096)\nboard[:16] = struct.pack('<QQ', 42, 12345)\nmine.recv(1)\n"
    )
    support.wait_until(lambda: child.clock.running() == (42, 12345), "the child has set its clock")


def test_it_dies_with_all_of_its_group(started: Started, tmp_path: Path) -> None:
    child = started.shell("trap '' TERM INT; sleep 1000 & sleep 1000 & wait; wait")
    support.wait_until(lambda: len(support.processes_with(f"{MARKER}={tmp_path}")) == 3, "its children run")
    child.kill()
    child.kill()
    support.wait_until(child.ended, "it is dead")
    assert child.bury().returncode == -signal.SIGKILL
    support.wait_until(lambda: not support.processes_with(f"{MARKER}={tmp_path}"), "all are gone")


def test_burying_kills_what_it_has_left(started: Started, tmp_path: Path) -> None:
    child = started.shell("sleep 1000 & exit 0")
    until_ended(child)
    support.wait_until(lambda: len(support.processes_with(f"{MARKER}={tmp_path}")) == 1, "its child runs")
    assert child.bury().returncode == 0
    support.wait_until(lambda: not support.processes_with(f"{MARKER}={tmp_path}"), "its child is gone")


def test_it_gets_no_other_files_of_ours(started: Started, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        child = started.shell("ls -l /proc/self/fd; cat")
        until_ended(child)
    listed = (tmp_path / "out").read_text()
    assert "secret" not in listed and "socket" in listed


@pytest.mark.parametrize("wrong", ["command", "stdout"])
def test_what_cannot_be_started_leaves_nothing(wrong: str, tmp_path: Path) -> None:
    command = ["/no/such/python"] if wrong == "command" else ["/bin/true"]
    out = tmp_path / ("out" if wrong == "command" else "no/such/folder/out")
    with pytest.raises(OSError):
        Child(command, environment={}, cwd="/", stdout_file=str(out), stderr_file=str(tmp_path / "err"))


# Environment and interpreter


def test_what_the_launcher_set_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    launchers = {
        "PMI_RANK": "1", "PMIX_RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0",
        "HYDI_CONTROL_FD": "5", "MPIBATCH_LOCAL": "/x",
    }  # fmt: skip
    kept = {"SLURM_JOB_ID": "77", "CUDA_VISIBLE_DEVICES": "3", "MPI_HOME": "/opt/mpi"}
    for name, value in {**launchers, **kept}.items():
        monkeypatch.setenv(name, value)
    environment = processor_environment([], {"MINE": "1", "SLURM_JOB_ID": "78"})
    assert not launchers.keys() & environment.keys()
    assert environment["CUDA_VISIBLE_DEVICES"] == "3" and environment["MPI_HOME"] == "/opt/mpi"
    assert (environment["MINE"], environment["SLURM_JOB_ID"]) == ("1", "78")
    environment = processor_environment(["PMI_*", "SLURM_PROCID"], {})
    assert (environment["PMI_RANK"], environment["SLURM_PROCID"]) == ("1", "1")
    assert "PMIX_RANK" not in environment


def test_the_interpreter_finds_mpibatch_and_nothing_of_the_current_folder(
    started: Started, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    call = "import json, mpibatch; print(mpibatch.__version__)"
    child = started.start(interpreter_command(None, call), PYTHONPATH="")
    until_ended(child)
    death = child.bury()
    assert (death.returncode, death.stderr_tail) == (0, "")
    assert interpreter_command("/other/python", call) == ["/other/python", "-P", "-c", call]
