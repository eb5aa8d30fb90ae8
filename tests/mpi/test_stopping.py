"""Stops, asked for and forced: what the exit code is, that nothing lives on, and that a start continues."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import support
from mpi.terminal import Terminal

from mpibatch.core.history import RECORD_SIZE
from mpibatch.local_world import is_open_mpi
from mpibatch.runtime.journal import HEADER_SIZE

pytestmark = pytest.mark.mpi

NAMES = [f"item{number:03d}" for number in range(40)]
"""The first four are done at once, the others only once the gate is open."""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    # Worlds that are lost stay so: what becomes of them otherwise is in `test_lost_worlds`.
    return support.make_job(
        tmp_path, support.GATED, items=len(NAMES), process_count_per_node=2, max_restarts=0
    )


def at_the_gate(folder: Path) -> bool:
    """Both processors stand there; and what was done before is in the journal."""
    stand = len([line for line in support.notes(folder) if line >= "item004"]) == 2
    journal = folder / "output" / ".mpibatch" / "session-0001.journal"
    return stand and journal.stat().st_size >= HEADER_SIZE + 4 * RECORD_SIZE


def continues(job: Path, workers: int = 1) -> None:
    """A start now does what is left. With one worker, for a change, it also starts fast."""
    folder = job.parent
    support.open_gate(folder)
    ended = support.mpibatch("run", job, "--set", f"process_count_per_node={workers}")
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(folder / "output") == NAMES
    assert support.result(folder / "output")["sessions"] == 2


def processors(folder: Path) -> set[str]:
    return {line.split()[1] for line in support.notes(folder)}


def called(folder: Path) -> list[str]:
    return [line.split()[0] for line in support.notes(folder)]


# Asked for


def test_ctrl_c_lets_what_runs_finish(job: Path, tmp_path: Path) -> None:
    with Terminal(support.command_of(["run", job], None)[0]) as terminal:
        support.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        terminal.press(b"\x03")
        terminal.wait_to_show("stopping (got SIGINT)")
        support.open_gate(tmp_path)
        code = terminal.wait_to_end()
        shown = terminal.shown

    assert code == 130, shown
    assert f"start the same command again: mpibatch run {job}" in shown
    told = support.result(tmp_path / "output")
    assert (told["verdict"], told["exit_code"]) == ("stopped", 130)
    # Two that ran; and one more each, if the gate was open before it was asked for.
    assert told["items"]["succeeded"] in (6, 7, 8)
    assert "Traceback" not in shown and "KILL" not in shown and "TERMINATION" not in shown, shown
    continues(job, workers=2)
    assert sorted(called(tmp_path)) == NAMES, "something was done twice"


def test_a_second_ctrl_c_gives_up_what_runs(job: Path, tmp_path: Path) -> None:
    with Terminal(support.command_of(["run", job], None)[0]) as terminal:
        support.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        terminal.press(b"\x03")
        terminal.wait_to_show("stopping (got SIGINT)")
        terminal.press(b"\x03")
        code = terminal.wait_to_end()
        shown = terminal.shown

    assert code == 130, shown
    told = support.result(tmp_path / "output")
    assert told["exit_code"] == 130
    assert told["items"]["succeeded"] == 4
    assert "Traceback" not in shown, shown
    continues(job)


def test_ctrl_c_under_mpiexec(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPICH hands it on to the ranks; Open MPI kills them, but what was finished is kept."""
    command, variables = support.command_of(["run", job], 3)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Terminal(command) as terminal:
        support.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        terminal.press(b"\x03")
        if not is_open_mpi(command[0]):
            terminal.wait_to_show("stopping (got SIGINT)")
            support.open_gate(tmp_path)
        code = terminal.wait_to_end()

    assert code == (1 if is_open_mpi(command[0]) else 130), terminal.shown
    continues(job)


def test_a_terminal_shows_a_bar(job: Path, tmp_path: Path) -> None:
    support.open_gate(tmp_path)
    with Terminal(support.command_of(["run", job], None)[0]) as terminal:
        code = terminal.wait_to_end()
        shown = terminal.shown

    assert code == 0, shown
    assert "40/40 mini-batches" in shown, shown
    assert shown.count("\r") > 1 or "\x1b[" in shown, "nothing was drawn over"


@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGINT, 130)]
)
def test_a_signal_to_the_first_process(
    number: signal.Signals, code: int, ranks: int | None, job: Path, tmp_path: Path
) -> None:
    """To the parent of a local world, to rank 0 of another."""
    with support.Started(tmp_path, "run", job, ranks=ranks) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        os.kill(run.process.pid if ranks is None else support.ranks_with(str(tmp_path))[0], number)
        run.wait_to_say(f"stopping (got {number.name})")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == code, run.said
    assert support.result(tmp_path / "output")["exit_code"] == code
    assert "start the same command again" in run.said
    if ranks is None:
        continues(job)


def test_a_signal_to_a_worker_rank(job: Path, tmp_path: Path) -> None:
    with support.Started(tmp_path, "run", job, ranks=3) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        os.kill(support.ranks_with(str(tmp_path))[2], signal.SIGTERM)
        log = tmp_path / "output" / "logs" / "sys" / "coordinator.txt"
        run.wait_until(lambda: "asks to stop" in log.read_text(), "rank 0 knows")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 75, run.said
    assert "SIGTERM" in support.result(tmp_path / "output")["reason"]
    assert support.result(tmp_path / "output")["items"]["succeeded"] in (6, 7, 8)


def test_mpibatch_stop(job: Path, tmp_path: Path) -> None:
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        asked = support.mpibatch("stop", tmp_path / "output")
        assert asked.returncode == 0, support.words(asked)
        run.wait_to_say("stopping (asked to by")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 75, run.said
    continues(job)
    assert sorted(called(tmp_path)) == NAMES


def test_mpibatch_stop_twice(job: Path, tmp_path: Path) -> None:
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        for _ in range(2):
            support.mpibatch("stop", tmp_path / "output")

        assert run.wait_to_end() == 75, run.said
    continues(job)


def test_after_sigterm_there_is_not_for_ever(tmp_path: Path) -> None:
    job = support.make_job(
        tmp_path, support.GATED, items=len(NAMES), process_count_per_node=2, term_grace_s=0.5
    )
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        run.process.terminate()

        assert run.wait_to_end() == 75, run.said
    assert support.result(tmp_path / "output")["items"]["succeeded"] == 4


# Forced


def all_gone(folder: Path, temporary: Path) -> None:
    """Processes, scratch folders, the folder between parent and rank 0."""
    support.wait_until(lambda: not support.processes_with(str(folder)), "all ranks and processors have ended")
    support.wait_until(lambda: not support.processes_with(str(temporary)), "the guardians have ended")
    support.wait_until(lambda: not list(temporary.glob("mpibatch-*")), "the scratch folders are removed")
    scratch = [Path(line.split(maxsplit=2)[2]) for line in support.notes(folder)]
    assert scratch and not any(path.exists() for path in scratch)


def test_sigkill_of_the_local_parent(job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        assert list(temporary_folder.glob("mpibatch-*"))
        run.process.kill()

        all_gone(tmp_path, temporary_folder)
    continues(job)


@pytest.mark.parametrize("ranks", [None, 2], ids=["local", "mpiexec"])
def test_sigkill_of_mpiexec(ranks: int | None, job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    with support.Started(tmp_path, "run", job, ranks=ranks) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        if ranks is None:
            support.kill(child_of(run.process.pid))
            assert run.wait_to_end() == 75, run.said
            assert "ranks were lost" in run.said.splitlines()[-1]
            assert "start the same command again" in run.said.splitlines()[-1]
        else:
            run.process.kill()

        all_gone(tmp_path, temporary_folder)
    continues(job)


def child_of(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


@pytest.mark.parametrize("rank", [0, 1])
def test_sigkill_of_a_rank(rank: int, job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    """It takes the world with it; the processors are gone, what was finished is kept."""
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        support.kill(support.ranks_with(str(tmp_path))[rank])

        assert run.wait_to_end() == 75, run.said
        assert "start the same command again" in run.said.splitlines()[-1]
        all_gone(tmp_path, temporary_folder)
    continues(job)


def test_sigkill_of_a_processor(job: Path, tmp_path: Path) -> None:
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        victim, pid, _ = next(line for line in support.notes(tmp_path) if line >= "item004").split()
        support.kill(int(pid))
        run.wait_until(lambda: len(processors(tmp_path)) == 3, "another processor is at work")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["mini_batches"]["attempts"] == len(NAMES) + 1
    assert all(called(tmp_path).count(name) == 1 + (name == victim) for name in NAMES)
