"""Open MPI that goes on without ranks that have died: with `--with-ft ulfm` it tells of them, with `--continuous`
it does not."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import support

import mpibatch
from mpibatch.local_world import launcher_command

pytestmark = [
    pytest.mark.mpi,
    pytest.mark.open_mpi,  # MPICH's mpiexec ends all when a rank dies.
]

ULFM, CONTINUOUS = ["--with-ft", "ulfm"], ["--continuous"]
NAMES = [f"item{number:03d}" for number in range(20)]
IMPATIENT = ["--set", "heartbeat_timeout=6"]
"""For ranks that only their silence gives away."""


@pytest.fixture(params=[ULFM, CONTINUOUS], ids=["ulfm", "continuous"])
def flags(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `mpiexec` is given in this test, and what it is about."""
    flags: list[str] = request.param

    def command(mpiexec: str, ranks: int) -> tuple[list[str], dict[str, str]]:
        words, variables = launcher_command(mpiexec, ranks)
        return [words[0], *flags, *words[1:]], variables

    monkeypatch.setattr(support, "launcher_command", command)
    return flags


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return support.make_job(tmp_path, support.GATED, items=len(NAMES), process_count_per_node=3)


def at_the_gate(folder: Path, processors: int = 3) -> bool:
    return len([line for line in support.notes(folder) if line >= "item004"]) >= processors


def all_gone(folder: Path, temporary: Path) -> None:
    support.wait_until(lambda: not support.processes_with(str(folder)), "all ranks have ended")
    support.wait_until(lambda: not list(temporary.glob("mpibatch-*")), "the scratch is removed")


def test_a_worker_that_dies(flags: list[str], job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    """What it had is done by the others, and the exit code is that of the run."""
    with support.Started(tmp_path, "run", job, ranks=4) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "all processors are at the gate")
        killed_at = time.monotonic()
        support.kill(support.ranks_with(str(tmp_path))[2])
        run.wait_to_say("rank 2 on")
        noticed_s = time.monotonic() - killed_at
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said
        all_gone(tmp_path, temporary_folder)
    assert "has died" in run.said, run.said
    print(f"noticed after {noticed_s:.2f} s")
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["sessions"] == 1
    # Without ULFM the launcher has to be asked to end all, and says so.
    assert ("MPI_ABORT" in run.said) == (flags == CONTINUOUS), run.said
    assert "Traceback" not in run.said, run.said


def test_other_exit_codes_are_kept(flags: list[str], tmp_path: Path, temporary_folder: Path) -> None:
    script = (
        support.NOTE + "def run(mini_batch):\n  note(str(os.getpid()))\n  gate()\n  raise ValueError('no')\n"
    )
    job = support.make_job(tmp_path, script, process_count_per_node=2, run_max_try=1)
    with support.Started(tmp_path, "run", job, ranks=3) as run:
        run.wait_until(lambda: len(support.notes(tmp_path)) == 2, "both are at the gate")
        support.kill(support.ranks_with(str(tmp_path))[1])
        run.wait_to_say("rank 1 on")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 3, run.said
        all_gone(tmp_path, temporary_folder)


def test_two_that_die_and_one_that_freezes(
    flags: list[str], job: Path, tmp_path: Path, temporary_folder: Path
) -> None:
    with support.Started(tmp_path, "run", job, *IMPATIENT, ranks=4) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "all processors are at the gate")
        ranks = support.ranks_with(str(tmp_path))
        support.kill(ranks[3])
        os.kill(ranks[1], signal.SIGSTOP)
        run.wait_to_say("rank 3 on")
        run.wait_to_say("rank 1 on")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said
        all_gone(tmp_path, temporary_folder)
    assert support.rows(tmp_path / "output") == NAMES


def test_rank_0_that_dies(flags: list[str], job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    """The others end: at once where they are told, else as it is silent. A start continues."""
    with support.Started(tmp_path, "run", job, *IMPATIENT, ranks=4) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "all processors are at the gate")
        killed_at = time.monotonic()
        support.kill(support.ranks_with(str(tmp_path))[0])

        assert run.wait_to_end() != 0, run.said
        print(f"all had ended after {time.monotonic() - killed_at:.2f} s")
        all_gone(tmp_path, temporary_folder)
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["sessions"] == 2


def test_a_rank_without_work_that_dies(flags: list[str], tmp_path: Path, temporary_folder: Path) -> None:
    """It is missed by nobody but the end."""
    job = support.make_job(tmp_path, support.GATED, items=len(NAMES), process_count_per_node=1)
    # It is waited for, as it may have much to remove, where MPI does not tell of its death.
    (tmp_path / "sitecustomize.py").write_text(
        "import mpibatch.worker_rank\nmpibatch.worker_rank.PART_S = 4.0\n"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(mpibatch.__file__).parents[1])])
    with support.Started(tmp_path, "run", job, ranks=4, env=support.environment(PYTHONPATH=path)) as run:
        run.wait_until(lambda: at_the_gate(tmp_path, 1), "the processor is at the gate")
        support.kill(support.ranks_with(str(tmp_path))[3])
        support.open_gate(tmp_path)

        assert run.wait_to_end(100) == 0, run.said
        all_gone(tmp_path, temporary_folder)
    assert support.rows(tmp_path / "output") == NAMES
