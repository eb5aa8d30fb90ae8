"""A processor as its worker sees it: real children that talk, die, hang and leave children of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support

from mpibatch.core.framing import FrameError
from mpibatch.messages import FromProcessor, Grant, Ready
from mpibatch.runtime.supervisor import Child, Death, Guardian, interpreter_command, processor_environment
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
    ("kill -KILL $$", "SIGKILL (not sent by mpibatch: most likely the kernel, because memory ran out)", -9),
]


@pytest.mark.parametrize(("script", "words", "code"), DEATHS, ids=[row[0] for row in DEATHS])
def test_a_death_is_described_whole(script: str, words: str, code: int, started: Started) -> None:
    child = started.shell(f"echo last words >&2; {script}")
    assert until_ended(child) == []
    assert child.ended()  # Asking does not reap.
    death = child.bury()
    assert death == Death(child.pid, code, "last words")
    assert death.words == words


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
    assert len(support.processes_with(f"{MARKER}={tmp_path}")) == 1
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
    assert child.bury() == Death(child.pid, 0, "")
    assert interpreter_command("/other/python", call) == ["/other/python", "-P", "-c", call]


# The guardian


def guard(scratch: Path, then: Callable[[Guardian], None]) -> None:
    scratch.mkdir()
    (scratch / "file").touch()
    then(Guardian(str(scratch)))


def vanish(guardian: Guardian) -> None:
    """What the death of its worker does to it."""
    assert guardian._process.stdin is not None
    guardian._process.stdin.close()
    guardian._process.wait()


def test_a_guardian_kills_the_group_and_tidies_up_when_its_worker_dies(
    started: Started, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch with 'quotes'"
    old, new = started.shell("exec sleep 1000"), started.shell("sleep 1000 & wait")

    def die(guardian: Guardian) -> None:
        guardian.watch(old.pid)
        guardian.watch(0)
        guardian.watch(new.pid)
        vanish(guardian)

    support.wait_until(lambda: len(support.processes_with(f"{MARKER}={tmp_path}")) == 3, "all run")
    guard(scratch, die)
    support.wait_until(new.ended, "the group is killed")
    assert not old.ended()
    assert not scratch.exists()


def test_a_guardian_without_a_group_tidies_up(started: Started, tmp_path: Path) -> None:
    child = started.shell("exec sleep 1000")

    def die(guardian: Guardian) -> None:
        guardian.watch(child.pid)
        guardian.watch(0)
        vanish(guardian)

    guard(tmp_path / "scratch", die)
    assert not child.ended() and not (tmp_path / "scratch").exists()


def test_a_guardian_that_is_dismissed_does_nothing(started: Started, tmp_path: Path) -> None:
    child = started.shell("exec sleep 1000")

    def dismiss(guardian: Guardian) -> None:
        guardian.watch(child.pid)
        guardian.dismiss()

    guard(tmp_path / "scratch", dismiss)
    assert not child.ended() and (tmp_path / "scratch" / "file").exists()


def test_a_guardian_ignores_the_signals_that_stop_its_worker(tmp_path: Path) -> None:
    def check(guardian: Guardian) -> None:
        status = Path(f"/proc/{guardian._process.pid}/status")

        def ignores(number: int) -> bool:
            (mask,) = (
                line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigIgn")
            )
            return bool(int(mask, 16) >> (number - 1) & 1)

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            support.wait_until(lambda number=number: ignores(number), f"it ignores {number}")  # type: ignore[misc]
        guardian.dismiss()

    guard(tmp_path / "scratch", check)


def test_a_guardian_may_be_killed(started: Started, tmp_path: Path) -> None:
    child = started.shell("exec sleep 1000")

    def kill(guardian: Guardian) -> None:
        guardian._process.kill()
        guardian._process.wait()
        guardian.watch(child.pid)
        guardian.dismiss()

    guard(tmp_path / "scratch", kill)
    assert not child.ended()
