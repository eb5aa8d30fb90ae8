"""Worlds that are lost, wholly or in part: a local one is started again, and what freezes does not stay."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import support

from mpibatch.core.history import RECORD_SIZE
from mpibatch.runtime.journal import HEADER_SIZE

pytestmark = pytest.mark.mpi

NAMES = [f"item{number:03d}" for number in range(20)]
IMPATIENT = ["--set", "heartbeat_timeout=6"]
"""For what freezes. Elsewhere no silence counts: who is slow only is not to be taken for lost."""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return support.make_job(
        tmp_path, support.GATED, items=len(NAMES), process_count_per_node=2, max_restarts=2
    )


def at_the_gate(folder: Path, worlds: int = 1) -> bool:
    """Both processors of so many worlds stand or stood there; what was done before is in the journal."""
    stand = len([line for line in support.notes(folder) if line >= "item004"]) == 2 * worlds
    journals = (folder / "output" / ".mpibatch").glob("session-*.journal")
    return stand and sum(file.stat().st_size - HEADER_SIZE for file in journals) >= 4 * RECORD_SIZE


def launcher_of(run: support.Started) -> int:
    (child,) = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children").read_text().split()
    return int(child)


def rank(number: int) -> Callable[[support.Started, Path], int]:
    return lambda run, folder: support.ranks_with(str(folder))[number]


def mpiexec(run: support.Started, folder: Path) -> int:
    return launcher_of(run)


def nothing_lives(folder: Path, temporary: Path) -> None:
    """As the parent has seen to it; what a guardian has killed may take its time to be gone."""
    support.wait_until(
        lambda: not any(map(frozen_or_running, support.processes_with(str(folder)))), "no process is left"
    )
    assert not list(temporary.glob("mpibatch-*")), list(temporary.rglob("*"))
    assert not any(Path(line.split(maxsplit=2)[2]).exists() for line in support.notes(folder))


def frozen_or_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("victim", "number", "why"),
    [
        (rank(0), signal.SIGKILL, "mpiexec ended with"),
        (rank(1), signal.SIGKILL, "mpiexec ended with"),
        (mpiexec, signal.SIGKILL, "mpiexec ended with -9"),
        (rank(0), signal.SIGSTOP, ""),
    ],
    ids=["kill rank 0", "kill rank 1", "kill mpiexec", "stop rank 0"],
)
def test_a_lost_world_is_started_again(
    victim: Callable[[support.Started, Path], int],
    number: signal.Signals,
    why: str,
    job: Path,
    tmp_path: Path,
    temporary_folder: Path,
) -> None:
    """Twice; and nothing that was finished is done again."""
    patience = IMPATIENT if number == signal.SIGSTOP else []
    with support.Started(tmp_path, "run", job, "--fresh", *patience) as run:
        for worlds in (1, 2):
            run.wait_until(lambda worlds=worlds: at_the_gate(tmp_path, worlds), "both are at the gate")  # type: ignore[misc]
            os.kill(victim(run, tmp_path), number)
            run.wait_to_say(f"starting again ({worlds} of 2)")
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said
        nothing_lives(tmp_path, temporary_folder)
    assert f"the MPI ranks were lost ({why}" in run.said
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["sessions"] == 3
    early = [line.split()[0] for line in support.notes(tmp_path) if line < "item004"]
    assert sorted(early) == NAMES[:4], "something that was finished was done twice"


@pytest.mark.parametrize("victim", [rank(1), mpiexec], ids=["worker", "mpiexec"])
def test_what_is_frozen_does_not_stop_the_others(
    victim: Callable[[support.Started, Path], int], job: Path, tmp_path: Path, temporary_folder: Path
) -> None:
    """And is killed in the end."""
    with support.Started(tmp_path, "run", job, *IMPATIENT) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        os.kill(victim(run, tmp_path), signal.SIGSTOP)
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 0, run.said
        nothing_lives(tmp_path, temporary_folder)
    assert "starting again" not in run.said
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["sessions"] == 1


def test_after_ctrl_c_it_is_not_started_again(job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        run.process.send_signal(signal.SIGINT)
        run.wait_to_say("stopping (got SIGINT)")
        support.kill(support.ranks_with(str(tmp_path))[0])

        assert run.wait_to_end() == 130, run.said
        nothing_lives(tmp_path, temporary_folder)
    assert "starting again" not in run.said
    assert "start the same command again" in run.said.splitlines()[-1]


# The wall time


@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
def test_the_wall_time_ends_what_runs(ranks: int | None, tmp_path: Path) -> None:
    """Nothing new starts, and what hangs is given up before the end."""
    job = support.make_job(
        tmp_path, support.GATED, items=len(NAMES), process_count_per_node=2, time_limit=45, drain_margin=15,
    )  # fmt: skip
    with support.Started(tmp_path, "run", job, ranks=ranks) as run:
        run.wait_to_say("stopping (less than 15 s of the wall time are left (drain_margin))")

        assert run.wait_to_end() == 75, run.said
    told = support.result(tmp_path / "output")
    began = [line.split()[0] for line in support.notes(tmp_path)]
    done = [name for name in began if name < "item004"]
    # On a slow machine not all of them have begun, but what has begun before the gate is kept.
    assert (told["verdict"], told["items"]["succeeded"]) == ("stopped", len(done))
    assert len(began) - len(done) <= 2, "something new has started"
    assert "wall time" in told["reason"]
    if len(began) > len(done):
        assert told["elapsed_s"] > 40, "what hangs has its time until 3.75 s before the end"


def test_the_wall_time_counts_from_the_first_start(job: Path, tmp_path: Path) -> None:
    """A world that is started again has what is left of it."""
    long_ago = support.environment(MPIBATCH_STARTED=str(time.monotonic() - 1000))
    limits = ["--set", "time_limit=1060", "--set", "drain_margin=10"]
    with support.Started(tmp_path, "run", job, *limits, env=long_ago) as run:
        run.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        support.kill(support.ranks_with(str(tmp_path))[0])
        run.wait_to_say("of the wall time are left")  # In vain, if it counts from the second start.
        support.open_gate(tmp_path)

        assert run.wait_to_end() == 75, run.said
    assert "starting again (1 of 2)" in run.said


# Two sessions of one run


def test_a_start_beside_ranks_that_outlive_mpiexec(job: Path, tmp_path: Path, temporary_folder: Path) -> None:
    """The old ones end by themselves; the new start waits for that, and all is there once."""
    with support.Started(tmp_path, "run", job, ranks=3) as old:
        old.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        old.process.kill()
        with support.Started(tmp_path, "run", job, ranks=3, env=support.patient(tmp_path)) as new:
            support.open_gate(tmp_path)
            assert new.wait_to_end() == 0, new.said
    assert support.rows(tmp_path / "output") == NAMES
    support.wait_until(lambda: not support.processes_with(str(tmp_path)), "the old ranks have ended")
    support.wait_until(lambda: not list(temporary_folder.glob("mpibatch-*")), "their scratch is removed")


def test_a_start_beside_a_frozen_rank_0(tmp_path: Path) -> None:
    """It is refused, as that one may wake up. Once it has been killed, all goes on."""
    job = support.make_job(tmp_path, support.GATED, items=len(NAMES), process_count_per_node=2)
    with support.Started(tmp_path, "run", job, ranks=3) as old:
        old.wait_until(lambda: at_the_gate(tmp_path), "both processors are at the gate")
        frozen = support.ranks_with(str(tmp_path))[0]
        os.kill(frozen, signal.SIGSTOP)

        refused = support.mpibatch("run", job)
        assert refused.returncode == 2, support.words(refused)
        assert f"is in use by process {frozen}" in refused.stderr, support.words(refused)

        support.kill(frozen)
        old.process.kill()
        support.open_gate(tmp_path)
        ended = support.mpibatch("run", job)
        assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == NAMES


def test_of_two_starts_at_the_same_time_one_runs(job: Path, tmp_path: Path) -> None:
    with (
        support.Started(tmp_path, "run", job, ranks=3) as one,
        support.Started(tmp_path, "run", job, ranks=3) as other,
    ):
        support.wait_until(
            lambda: None not in (one.process.poll(), other.process.poll()) or at_the_gate(tmp_path),
            "one is at work",
        )
        support.wait_until(
            lambda: one.process.poll() is not None or other.process.poll() is not None, "the other is refused"
        )
        support.open_gate(tmp_path)
        codes = [one.wait_to_end(), other.wait_to_end()]
        said = one.said + other.said

    assert sorted(codes) == [0, 2], said
    assert said.count("is in use by") >= 1, said
    assert support.rows(tmp_path / "output") == NAMES
    assert support.result(tmp_path / "output")["sessions"] == 1
