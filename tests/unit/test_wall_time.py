"""When this job's time is up, and what the clocks have to do with it. `squeue` is a script of the test."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mpibatch.runtime import wall_time
from mpibatch.runtime.stops import Signals, StopAsk, Stops
from mpibatch.runtime.wall_time import MOST_SAFETY_S, WallTime

EPOCH = 1_800_000_000.0


class Clocks:
    """Our own, and that of the wall, which others set."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.wall = EPOCH

    def pass_by(self, seconds: float) -> float:
        self.now += seconds
        self.wall += seconds
        return self.now


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def wall_time_of(
    clocks: Clocks, environment: dict[str, str], *, limit_s: float | None = None, margin_s: float = 120.0
) -> WallTime:
    return WallTime(
        margin_s=margin_s, started_at=clocks.now, limit_s=limit_s, environment=environment,
        clock=lambda: clocks.now, wall_clock=lambda: clocks.wall,
    )  # fmt: skip


def test_nobody_knows_an_end(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {})

    assert wall.left(clocks.pass_by(1e9)) is None
    assert wall.ask(clocks.now) is None


def test_the_job_may_say_how_long(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {}, limit_s=1000.0)

    assert wall.left(clocks.pass_by(300)) == 700.0


def test_from_the_start_of_the_command_on(clocks: Clocks) -> None:
    wall = WallTime(
        margin_s=1, started_at=clocks.now - 100, limit_s=1000.0, environment={}, clock=lambda: clocks.now
    )

    assert wall.left(clocks.now) == 900.0


def test_slurm_knows_better(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {"SLURM_JOB_END_TIME": str(int(EPOCH) + 500)}, limit_s=1000.0)

    assert wall.left(clocks.pass_by(100)) == 400.0


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_wall_clock_that_jumps_changes_nothing(jump: float, clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {"SLURM_JOB_END_TIME": str(int(EPOCH) + 500)})
    clocks.wall += jump

    assert wall.left(clocks.pass_by(100)) == 400.0


def test_first_nothing_new_starts_and_then_all_is_given_up(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {}, limit_s=1000.0)
    reason = "less than 120 s of the wall time are left (drain_margin)"

    assert wall.ask(clocks.pass_by(880)) is None
    assert wall.ask(clocks.pass_by(1)) == (reason, False)
    assert wall.ask(clocks.pass_by(119 - MOST_SAFETY_S)) == (reason, False)
    assert wall.ask(clocks.pass_by(1)) == (reason, True)
    assert wall.ask(clocks.pass_by(1000)) == (reason, True)


def test_a_short_margin_leaves_a_quarter_of_it_to_commit(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {}, limit_s=1000.0, margin_s=8.0)
    reason = "less than 8 s of the wall time are left (drain_margin)"

    assert wall.ask(clocks.pass_by(993)) == (reason, False)
    assert wall.ask(clocks.pass_by(4.9)) == (reason, False)
    assert wall.ask(clocks.pass_by(0.2)) == (reason, True)


def test_with_less_time_than_the_margin_half_of_it_is_worked(clocks: Clocks) -> None:
    """Else each start would end without having done anything."""
    wall = wall_time_of(clocks, {}, limit_s=60.0)

    assert wall.ask(clocks.pass_by(30)) is None
    assert wall.ask(clocks.pass_by(1)) == ("less than 30 s of the wall time are left (drain_margin)", False)


def test_a_start_after_the_end(clocks: Clocks) -> None:
    wall = wall_time_of(clocks, {"SLURM_JOB_END_TIME": str(int(EPOCH) - 5)})

    assert wall.ask(clocks.now) == ("less than 0 s of the wall time are left (drain_margin)", True)


# Slurm is asked


def slurm(folder: Path, script: str, **variables: str) -> dict[str, str]:
    """An environment with a `squeue` that does this, and notes what it was asked."""
    file = folder / "bin" / "squeue"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'#!/bin/sh\necho "$@ $SLURM_TIME_FORMAT" >> {folder}/asked\n{script}\n')
    file.chmod(0o755)
    return {"SLURM_JOB_ID": "41", "PATH": f"{file.parent}:{os.environ['PATH']}", **variables}


def local_time(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(epoch))


def test_what_squeue_says_is_local_time(clocks: Clocks, tmp_path: Path) -> None:
    wall = wall_time_of(
        clocks, slurm(tmp_path, f"echo {local_time(EPOCH + 500)}", SLURM_TIME_FORMAT="relative")
    )
    wall.settle()

    assert wall.left(clocks.pass_by(100)) == 400.0
    assert (tmp_path / "asked").read_text() == "-h -j 41 -o %e standard\n"


def test_an_element_of_an_array_asks_for_itself(clocks: Clocks, tmp_path: Path) -> None:
    """By its own number the last one is the whole array."""
    environment = slurm(tmp_path, "echo NONE", SLURM_ARRAY_JOB_ID="41", SLURM_ARRAY_TASK_ID="7")
    wall_time_of(clocks, environment).settle()

    assert (tmp_path / "asked").read_text().startswith("-h -j 41_7 ")


@pytest.mark.parametrize(
    "script",
    ["echo NONE", "echo UNKNOWN", "echo", "exit 1", "echo slurm_load_jobs error >&2; exit 1", "echo '\\377'"],
)
def test_without_an_end_the_jobs_own_limit_holds(script: str, clocks: Clocks, tmp_path: Path) -> None:
    wall = wall_time_of(clocks, slurm(tmp_path, script), limit_s=1000.0)
    wall.settle()

    assert wall.left(clocks.now) == 1000.0


def test_slurm_is_not_waited_for(clocks: Clocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall_time, "ANSWER_S", 0.3)
    gate = tmp_path / "gate"
    wall = wall_time_of(
        clocks, slurm(tmp_path, f"exec {sys.executable} -c 'import time; time.sleep(60)'; touch {gate}")
    )

    assert wall.left(clocks.now) is None, "nothing is known yet"
    wall.settle()
    assert wall.left(clocks.now) is None
    assert not gate.exists()


def test_an_answer_that_comes_late_counts_from_then_on(clocks: Clocks, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"until [ -e {gate} ]; do sleep 0.01; done; echo {local_time(EPOCH + 500)}"
    wall = wall_time_of(clocks, slurm(tmp_path, script))

    assert wall.left(clocks.pass_by(10)) is None
    gate.touch()
    wall.settle()
    assert wall.left(clocks.now) == 490.0


def test_slurm_is_asked_only_of_its_own_jobs(clocks: Clocks, tmp_path: Path) -> None:
    environment = slurm(tmp_path, "echo NONE")
    del environment["SLURM_JOB_ID"]
    wall_time_of(clocks, environment).settle()
    wall_time_of(clocks, {"SLURM_JOB_ID": "41", "PATH": str(tmp_path)}).settle()

    assert not (tmp_path / "asked").exists()


# Among others who ask to stop


@pytest.fixture
def stops(clocks: Clocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Stops, Signals]:
    monkeypatch.delenv("MPIBATCH_LOCAL", raising=False)
    monkeypatch.delenv("MPIBATCH_PARENT", raising=False)
    signals = Signals()
    wall = wall_time_of(clocks, {}, limit_s=1000.0)
    return Stops(
        signals, tmp_path / "stop", term_grace_s=20, wall_time=wall, clock=lambda: clocks.now
    ), signals


WALL = "less than 120 s of the wall time are left (drain_margin)"


def test_the_wall_time_asks(stops: tuple[Stops, Signals], clocks: Clocks) -> None:
    clocks.pass_by(800)
    assert stops[0].poll() is None
    clocks.pass_by(81)
    assert stops[0].poll() == StopAsk(WALL, False)
    clocks.pass_by(105)
    assert stops[0].poll() == StopAsk(WALL, True)
    assert not stops[0].interrupted


def test_a_signal_about_then_is_the_first_of_its_kind(stops: tuple[Stops, Signals], clocks: Clocks) -> None:
    """Batch systems send theirs before the end of the wall time: that gives up nothing."""
    clocks.pass_by(890)
    assert stops[0].poll() == StopAsk(WALL, False)
    stops[1].got.append(signal.SIGUSR2)
    assert stops[0].poll() == StopAsk("got SIGUSR2", False)
    stops[1].got.append(signal.SIGUSR2)
    assert stops[0].poll() == StopAsk("got SIGUSR2", True)


def test_who_was_asked_before_has_no_more_time(
    stops: tuple[Stops, Signals], clocks: Clocks, tmp_path: Path
) -> None:
    (tmp_path / "stop").touch()
    asked = f"asked to by {tmp_path / 'stop'}"
    clocks.pass_by(500)
    assert stops[0].poll() == StopAsk(asked, False)
    clocks.pass_by(490)
    assert stops[0].poll() == StopAsk(asked, True)
