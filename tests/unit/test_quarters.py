"""Where processors start: on the CPUs that they are given, with the variables that nobody has set."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

from mpibatch.core.ranks import WorkerPlace
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.quarters import Quarters
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import worker_setups
from mpibatch.runtime.supervisor import Child

PLACES = {0: WorkerPlace(worker=0, rank=0, node=0, host="a", local_index=0)}


@contextmanager
def started(folder: Path, **changes: Any) -> Iterator[tuple[Quarters, Child]]:
    """A processor in quarters with such a setup."""
    job = load_job(support.make_job(folder, "def run(b): return b", environment_variables={"MINE": "job"}))
    (folder / "lost").mkdir()
    (setup,) = worker_setups(job, RunFolder(job.output), PLACES, inputs=[], notices=folder / "lost").values()
    quarters = Quarters(msgspec.structs.replace(setup, **changes))
    child = quarters.start()
    try:
        yield quarters, child
    finally:
        child.kill()
        support.wait_until(child.ended, "the processor is dead")
        quarters.bury(child)
        quarters.leave()


def variables(child: Child) -> dict[str, str]:
    environ = Path(f"/proc/{child.pid}/environ")
    # The kernel closes what tells us of the exec before the new process has its environment.
    support.wait_until(lambda: bool(environ.read_bytes()), "it has its environment")
    text = environ.read_text()
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def test_it_is_bound_from_its_first_moment_and_nobody_else(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    one = max(before)
    with started(tmp_path, cpus=[one]) as (quarters, child):
        assert os.sched_getaffinity(child.pid) == {one}
        assert os.sched_getaffinity(0) == before
        assert quarters.unbound == ""


def test_cpus_that_are_taken_away_while_it_starts_lose_no_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own are gone when the supervisor wants them back."""
    calls: list[object] = []

    def narrowed(pid: int, cpus: object) -> None:
        calls.append(cpus)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", narrowed)
    with started(tmp_path, cpus=[0]) as (_, child):
        assert not child.ended()
    assert len(calls) == 2


def test_cpus_that_are_not_there_are_no_reason_not_to_start(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    with started(tmp_path, cpus=[1023]) as (quarters, child):
        assert os.sched_getaffinity(child.pid) == before
        assert "Invalid argument" in quarters.unbound


def test_defaults_are_for_what_nobody_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_OUTSIDE", "outside")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    defaults = {"FROM_OUTSIDE": "1", "MINE": "2", "OMP_NUM_THREADS": "3"}
    with started(tmp_path, environment_defaults=defaults) as (_, child):
        found = variables(child)
    assert (found["FROM_OUTSIDE"], found["MINE"], found["OMP_NUM_THREADS"]) == ("outside", "job", "3")
