"""The guardian: what is left when a worker has died, and when it has ended in order."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import support

from mpibatch.runtime.guardian import Guardian

MARKER = "TEST_GUARDIAN"


class Sleepers:
    """Process groups that a guardian may have to kill."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, script: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            env={**os.environ, MARKER: str(self._folder)},
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[Sleepers]:
    sleepers = Sleepers(tmp_path)
    yield sleepers
    sleepers.end()


class Scene:
    def __init__(self, folder: Path) -> None:
        self.scratch = folder / "scratch with 'quotes'"
        self.scratch.mkdir()
        (self.scratch / "file").touch()
        self.notices = folder / "notices; of $workers"
        self.notices.mkdir()
        self.lost_file = self.notices / "1\n"

    def guardian(self, *, lost_file: Path | None = None) -> Guardian:
        return Guardian(str(self.scratch), os.fsencode(lost_file or self.lost_file))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def vanish(guardian: Guardian) -> None:
    """What the death of its worker does to it."""
    assert guardian._process.stdin is not None
    guardian._process.stdin.close()
    guardian._process.wait()


def test_when_its_worker_dies_it_kills_the_group_and_tidies_up(
    scene: Scene, sleepers: Sleepers, tmp_path: Path
) -> None:
    old, new = sleepers.start("exec sleep 1000"), sleepers.start("sleep 1000 & wait")
    support.wait_until(lambda: len(support.processes_with(f"{MARKER}={tmp_path}")) == 3, "all run")
    guardian = scene.guardian()
    for group in (old.pid, 0, new.pid):
        guardian.watch(group)
    vanish(guardian)

    support.wait_until(lambda: new.poll() is not None, "the group is killed")
    assert old.poll() is None
    assert not scene.scratch.exists()
    assert os.listdir(scene.notices) == ["1\n"] and scene.lost_file.read_bytes() == b""


def test_without_a_group_it_tidies_up(scene: Scene, sleepers: Sleepers) -> None:
    other = sleepers.start("exec sleep 1000")
    guardian = scene.guardian()
    guardian.watch(other.pid)
    guardian.watch(0)
    vanish(guardian)
    assert other.poll() is None
    assert not scene.scratch.exists() and scene.lost_file.exists()


def test_a_group_that_has_ended_already_is_no_obstacle(scene: Scene, sleepers: Sleepers) -> None:
    ended = sleepers.start("exit 0")
    ended.wait()
    guardian = scene.guardian()
    guardian.watch(ended.pid)
    vanish(guardian)
    assert not scene.scratch.exists() and scene.lost_file.exists()


@pytest.mark.parametrize("where", ["no such folder", "a folder"])
def test_where_nobody_can_be_told_it_tidies_up_all_the_same(
    where: str, scene: Scene, sleepers: Sleepers
) -> None:
    group = sleepers.start("exec sleep 1000")
    lost_file = scene.notices if where == "a folder" else scene.notices / "nowhere" / "1"
    guardian = scene.guardian(lost_file=lost_file)
    guardian.watch(group.pid)
    vanish(guardian)
    support.wait_until(lambda: group.poll() is not None, "the group is killed")
    assert not scene.scratch.exists() and not os.listdir(scene.notices)


def test_nobody_has_to_be_told(scene: Scene) -> None:
    vanish(Guardian(str(scene.scratch)))
    assert not scene.scratch.exists() and not os.listdir(scene.notices)


def test_when_it_is_dismissed_it_does_nothing(scene: Scene, sleepers: Sleepers) -> None:
    group = sleepers.start("exec sleep 1000")
    guardian = scene.guardian()
    guardian.watch(group.pid)
    guardian.dismiss()
    assert group.poll() is None and (scene.scratch / "file").exists()
    assert not os.listdir(scene.notices)


def test_it_ignores_the_signals_that_stop_its_worker(scene: Scene) -> None:
    guardian = scene.guardian()
    status = Path(f"/proc/{guardian._process.pid}/status")

    def ignored() -> set[int]:
        (mask,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigIgn"))
        return {number for number in range(1, 32) if int(mask, 16) >> (number - 1) & 1}

    wanted = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
    support.wait_until(lambda: wanted <= ignored(), f"it ignores {wanted}")
    guardian.dismiss()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_it_may_be_killed_or_stopped(how: signal.Signals, scene: Scene, sleepers: Sleepers) -> None:
    group = sleepers.start("exec sleep 1000")
    guardian = scene.guardian()
    os.kill(guardian._process.pid, how)
    if how == signal.SIGKILL:
        guardian._process.wait()
    guardian.watch(group.pid)
    guardian.dismiss()
    assert group.poll() is None and not os.listdir(scene.notices)
