"""A pipeline as one Slurm job: all steps in one launch of `srun`, and again after its ranks were lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import support
from pipelines import ALL_FIRST, GATED_SECOND, ROWS, make_pipeline, states
from slurm.cluster import Cluster
from slurm.processes import in_environment, kill, others
from slurm.submitting import started, submit, waiting
from support import notes, open_gate, rows, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]


def test_ranks_lost_in_the_second_step(cluster: Cluster, tmp_path: Path) -> None:
    """Rank 0 has told of one step that is complete: that is not the end of the job."""
    steps = {"first": {"process_count_per_node": 1}, "second": {"process_count_per_node": 2}}
    file = make_pipeline(tmp_path, second=GATED_SECOND, steps=steps, slurm={"mem": "100M"})
    journal = tmp_path / "output/second/.mpibatch/session-0001.journal"
    with waiting(cluster, tmp_path, file) as waits:
        job = started(waits)
        wait_until(
            lambda: notes(tmp_path).count("second 1") >= 3 and journal.stat().st_size > 150, "two rows", 60
        )
        assert "step second: running" in support.mpibatch("status", tmp_path / "output").stdout
        kill({pid for pid in others() if in_environment(pid, f"\0SLURM_JOB_ID={job}\0") and is_rank(pid)})
        open_gate(tmp_path)
        code = waits.wait_to_end()
    assert code == 0, waits.said
    assert rows(tmp_path / "output" / "second") == ROWS
    assert states(tmp_path / "output") == {"first": "reused", "second": "complete"}
    assert sorted(note for note in notes(tmp_path) if note.startswith("first")) == ALL_FIRST


def is_rank(pid: int) -> bool:
    """And nothing that one has started: guardians remove what is left."""
    try:
        return b"\0run\0" in Path(f"/proc/{pid}/cmdline").read_bytes() and in_environment(
            pid, "\0SLURM_PROCID="
        )
    except OSError:
        return False


def test_a_mistake_in_the_last_step_is_not_submitted(cluster: Cluster, tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, steps={"second": {"slurm": {"time": "1:00"}}})

    ended = submit(cluster, file, "--wait")

    assert ended.returncode == 2, support.words(ended)
    assert "steps.second.slurm" in ended.stderr
    assert not (tmp_path / ".output.slurm").exists()
