"""Somebody else ends the job in its midst, in each way that Slurm has: it goes on later, or can be gone on with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from slurm.cluster import Cluster
from slurm.submitting import LONG_S, log, started, waiting
from support import GATED, make_job, notes, open_gate, result, rows, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

WAYS: dict[str, list[str]] = {
    "requeue": ["scontrol", "requeue"],
    "to_the_script": ["scancel", "--signal=TERM", "--batch"],
    "to_the_steps": ["scancel", "--signal=TERM"],
    "to_all": ["scancel", "--signal=TERM", "--full"],
    "cancel": ["scancel"],
}
DRAINS = {"to_the_script", "to_the_steps"}
"""The others end srun as well, or all of the job: what was under way is done again."""


class Disturbed(msgspec.Struct):
    folder: Path
    job: Path
    code: int
    said: str
    log: str


@pytest.fixture(scope="module")
def disturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Disturbed]:
    """A job for each way, all run at once; each is ended so while items of it are under way. All that is waited for
    is waited for here."""
    folders = {way: tmp_path_factory.mktemp(way) for way in WAYS}
    jobs = {way: make_job(folder, GATED, items=8) for way, folder in folders.items()}
    with contextlib.ExitStack() as stack:
        waits = {way: stack.enter_context(waiting(cluster, folders[way], jobs[way])) for way in WAYS}
        numbers = {way: started(waits[way]) for way in WAYS}
        for way, command in WAYS.items():
            wait_until(_under_way(folders[way]), f"{way}: items are under way")
            cluster.command(*command, numbers[way])
        for way in WAYS:
            if way in DRAINS:
                wait_until(_stops(folders[way], numbers[way]), f"{way}: the run stops")
            else:
                wait_until(_has_left(cluster, numbers[way]), f"{way}: the job has ended")
            open_gate(folders[way])
        codes = {way: waits[way].wait_to_end(LONG_S) for way in WAYS}
        return {
            way: Disturbed(
                folders[way], jobs[way], codes[way], waits[way].said, log(folders[way], numbers[way])
            )
            for way in WAYS
        }


def _under_way(folder: Path) -> Callable[[], bool]:
    return lambda: len(notes(folder)) > 4


def _stops(folder: Path, job: str) -> Callable[[], bool]:
    return lambda: "stopping" in log(folder, job)


def _has_left(cluster: Cluster, job: str) -> Callable[[], bool]:
    """Or is back already: a job that was put back waits for some seconds only."""
    return lambda: cluster.job_state(job) in ("PENDING", "CANCELLED") or cluster.job(job)["Restarts"] != "0"


@pytest.mark.parametrize("way", ["requeue", "to_the_script", "to_the_steps", "to_all"])
def test_it_goes_on_by_itself(disturbed: dict[str, Disturbed], way: str) -> None:
    one = disturbed[way]

    assert one.code == 0, one.said + one.log
    assert "was put back into the queue (once by now)" in one.said
    assert rows(one.folder / "output") == [f"item{item:03d}" for item in range(8)]
    assert result(one.folder / "output")["sessions"] == 2


def test_a_cancelled_job_stays_so_and_can_be_gone_on_with(
    disturbed: dict[str, Disturbed], cluster: Cluster
) -> None:
    one = disturbed["cancel"]

    assert one.code == 75, one.said
    assert "Slurm says CANCELLED" in one.said
    assert "put back" not in one.said
    with waiting(cluster, one.folder, one.job) as waits:
        assert waits.wait_to_end(LONG_S) == 0, waits.said
    assert rows(one.folder / "output") == [f"item{item:03d}" for item in range(8)]
    assert result(one.folder / "output")["sessions"] == 2


def test_a_more_urgent_job_takes_its_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """By the site's preemption, which puts the job back into the queue."""
    job = make_job(
        tmp_path, GATED, items=8, node_count=4, process_count_per_node=1, slurm={"extra": ["--exclusive"]}
    )
    with waiting(cluster, tmp_path, job) as waits:
        number = started(waits)
        wait_until(lambda: len(notes(tmp_path)) > 4, "items are under way")
        cluster.command(
            "sbatch", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=true"
        )
        wait_until(lambda: cluster.job(number)["Restarts"] == "1", "the job was put back")
        open_gate(tmp_path)
        assert waits.wait_to_end(LONG_S) == 0, waits.said + log(tmp_path, number)

    assert rows(tmp_path / "output") == [f"item{item:03d}" for item in range(8)]


def test_an_element_of_an_array_goes_back_alone(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, GATED, items=8, array=2)
    with waiting(cluster, tmp_path, job) as waits:
        number = started(waits)
        wait_until(lambda: len(notes(tmp_path)) == 6, "both elements stand at the gate")
        cluster.command("scontrol", "requeue", f"{number}_1")
        wait_until(lambda: cluster.job(f"{number}_1")["Restarts"] == "1", "one was put back")
        open_gate(tmp_path)
        assert waits.wait_to_end(LONG_S) == 0, waits.said

    assert f"job {number}_1 was put back" in waits.said
    assert f"job {number}_0 was put back" not in waits.said
    shares = tmp_path / "output" / "shares"
    assert [result(shares / name)["sessions"] for name in ("0000", "0001")] == [1, 2]
    assert rows(tmp_path / "output") == [f"item{item:03d}" for item in range(8)]
