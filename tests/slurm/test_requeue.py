"""More work than the wall time has room for: the job comes to its end by itself, or says why it does not.

All jobs are submitted at once, as they mostly wait.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from slurm.cluster import Cluster
from slurm.submitting import LONG_S, PACED, log, number, undisturbed, waiting
from support import make_job, notes, result

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

KEYS: dict[str, dict[str, Any]] = {
    "requeue": {},
    "too_often": {"max_requeues": 1},
    "never": {"max_requeues": 0},
    "successor": {"extra": ["--no-requeue"]},
    "successor_too_often": {"extra": ["--no-requeue"], "max_requeues": 1},
}
ITEMS = {"requeue": 80, "too_often": 1000, "never": 1000, "successor": 80, "successor_too_often": 1000}
"""Of half a second each: more than a session has time for."""


class Ended(msgspec.Struct):
    folder: Path
    job: Path
    code: int
    said: str


@pytest.fixture(scope="module")
def ended(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Jobs of a minute; 25 s before its end nothing new begins. All that is waited for is waited for here."""
    folders = {name: tmp_path_factory.mktemp(name) for name in KEYS}
    jobs = {
        name: make_job(
            folders[name], PACED, items=ITEMS[name], drain_margin=25, slurm={"time": 1, **KEYS[name]}
        )
        for name in KEYS
    }
    with contextlib.ExitStack() as stack:
        waits = {
            name: stack.enter_context(waiting(cluster, folders[name], job)) for name, job in jobs.items()
        }
        return {
            name: Ended(folders[name], jobs[name], one.wait_to_end(LONG_S), one.said)
            for name, one in waits.items()
        }


@pytest.mark.parametrize("name", ["requeue", "successor"])
def test_it_ends_by_itself(ended: dict[str, Ended], name: str) -> None:
    one = ended[name]

    said = one.said
    assert one.code == 0, said
    assert result(one.folder / "output")["sessions"] > 1
    assert len(notes(one.folder)) == ITEMS[name], "nothing was done twice"
    assert (one.folder / "output" / "rows.txt").read_bytes() == undisturbed(one.folder, one.job)
    if name == "requeue":
        assert "was put back into the queue (once by now)" in said
        assert "is followed by" not in said
    else:
        assert f"job {number(said)} is followed by job" in said
        assert "put back" not in said


@pytest.mark.parametrize("name", ["too_often", "never", "successor_too_often"])
def test_it_is_started_again_so_often_and_no_more(ended: dict[str, Ended], name: str) -> None:
    one = ended[name]

    said = one.said
    assert one.code == 75, said
    times = 0 if name == "never" else 1
    assert f"started again {times} times (slurm.max_requeues): submit it again to go on" in said
    assert result(one.folder / "output")["sessions"] == times + 1
    assert len(set(notes(one.folder))) == len(notes(one.folder)) > 0
    assert "Traceback" not in log(one.folder, number(said))
