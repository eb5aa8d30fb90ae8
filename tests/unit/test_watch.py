"""Who is lost: silence, MPI's word, a guardian's file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpibatch.core.ranks import WorkerPlace
from mpibatch.runtime.watch import LOOK_S, Watch

PLACES = {number: WorkerPlace(number, number + 5, 0, number, "a") for number in range(3)}


class Stage:
    def __init__(self, notices: Path | None) -> None:
        self.failed: list[int] = []
        self.watch = Watch(PLACES, silence_s=10, failed=lambda: self.failed, notices=notices)
        for number in PLACES:
            self.watch.heard(number, 0.0)

    def lost(self, now: float) -> dict[int, str]:
        return self.watch.lost(now)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_who_speaks_is_there(stage: Stage) -> None:
    for now in range(30):
        for number in PLACES:
            stage.watch.heard(number, now)
        assert stage.lost(now) == {}


def test_who_is_silent_is_told_of_once(stage: Stage) -> None:
    stage.watch.heard(1, 8.0)
    stage.watch.forget(2)
    assert stage.lost(10.0) == {}
    assert stage.lost(10.0 + LOOK_S) == {0: "has been silent for 10 s"}
    assert stage.lost(17.0) == {}
    assert stage.lost(18.0 + LOOK_S) == {1: "has been silent for 10 s"}
    assert stage.watch.dead == set()


def test_who_comes_back_is_watched_again(stage: Stage) -> None:
    assert list(stage.lost(11.0)) == [0, 1, 2]
    stage.watch.heard(1, 12.0)
    assert stage.lost(22.0) == {}
    assert list(stage.lost(23.0)) == [1]


def test_a_stall_of_our_own_is_nobodys_silence(stage: Stage) -> None:
    stage.watch.extend(100.0)
    assert stage.lost(105.0) == {}
    assert len(stage.lost(111.0)) == 3


def test_ranks_that_mpi_reports_dead(stage: Stage) -> None:
    stage.failed += [0, 6]
    assert stage.lost(1.0) == {1: "has died"}, "rank 0 is no worker"
    assert stage.watch.dead == {1}
    assert stage.lost(2.0) == {}
    assert list(stage.lost(11.0)) == [0, 2], "nobody is lost twice"


def test_files_of_guardians(stage: Stage, tmp_path: Path) -> None:
    for name in ("2", "11", "-1", "2.tmp", ""):
        if name:
            (tmp_path / name).touch()
    assert stage.lost(1.0) == {2: "has died"}


@pytest.mark.parametrize("notices", [None, Path("/nowhere/at/all")])
def test_without_a_folder_silence_tells(notices: Path | None) -> None:
    stage = Stage(notices)
    assert stage.lost(1.0) == {}
    assert len(stage.lost(11.0)) == 3
