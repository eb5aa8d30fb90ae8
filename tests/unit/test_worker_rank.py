"""When a rank ends although rank 0 has not told it to: its launcher, or rank 0, is gone."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from mpibatch import worker_rank
from mpibatch.errors import EXIT_STOPPED
from mpibatch.messages import Dismissed
from mpibatch.runtime.stops import Signals


class FakeWorker:
    """Finds what `heard` says at each step; dismissed after so many steps."""

    def __init__(self, steps: int, heard: Callable[[int], bool], silent: bool = False) -> None:
        self._left = steps
        self._heard = heard
        self._silent = silent
        self.steps = 0
        self.abandoned = False
        self.patience_s = 0.001
        self.dismissed: Dismissed | None = None

    def step(self) -> bool:
        self.steps += 1
        if self.steps == self._left:
            self.dismissed = Dismissed(True)
        return self._heard(self.steps)

    def fds(self) -> list[tuple[int, bool]]:
        return []

    def coordinator_silent(self) -> bool:
        return self._silent

    def abandon(self) -> None:
        self.abandoned = True

    def ask_to_stop(self, reason: str) -> None:
        raise AssertionError(reason)


class FakePort:
    def __init__(self, failed: list[int]) -> None:
        self._failed = failed

    def failed(self) -> list[int]:
        return self._failed


class Exit(Exception):
    pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look with each step, and ten of them are too many without a word."""

    def leave(code: int) -> None:
        raise Exit(code)

    monkeypatch.setattr(worker_rank, "LOOK_S", 0.0)
    monkeypatch.setattr(worker_rank, "UNUSED_LOOKS", 10)
    monkeypatch.setattr(worker_rank, "quiet_exit", leave)


def serve(worker: FakeWorker, failed: list[int] | None = None) -> bool:
    return worker_rank._serve(worker, FakePort(failed or []), Signals())  # type: ignore[arg-type]


def ends_at(worker: FakeWorker, failed: list[int] | None = None) -> int:
    """Its steps, until it ends by itself."""
    with pytest.raises(Exit) as caught:
        serve(worker, failed)
    assert caught.value.args == (EXIT_STOPPED,)
    assert worker.abandoned
    return worker.steps


def test_it_serves_until_it_is_dismissed() -> None:
    worker = FakeWorker(5, lambda step: False)

    assert serve(worker)
    assert not worker.abandoned


def test_a_plan_takes_as_long_as_it_takes() -> None:
    assert serve(FakeWorker(200, lambda step: False))


def test_who_has_heard_of_rank_0_does_not_wait_for_ever() -> None:
    assert ends_at(FakeWorker(200, lambda step: step == 50)) == 60


def test_each_word_counts() -> None:
    assert serve(FakeWorker(200, lambda step: step % 9 == 0))


def test_the_worker_knows_when_rank_0_is_silent() -> None:
    assert ends_at(FakeWorker(200, lambda step: True, silent=True)) == 1


def test_mpi_knows_that_rank_0_is_dead() -> None:
    assert serve(FakeWorker(20, lambda step: False), failed=[3])
    assert ends_at(FakeWorker(20, lambda step: False), failed=[3, 0]) == 1


def test_the_launcher_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([1, *[1] * 7, *[2] * 100])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))

    assert ends_at(FakeWorker(200, lambda step: False)) == 8
