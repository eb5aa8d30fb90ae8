"""`sbatch --array` on a real Slurm: elements share the plan, a single one is started again, the last one merges."""

from __future__ import annotations

from pathlib import Path

import pytest
import support
from slurm.cluster import Cluster
from slurm.steps import right_plugin, srun_words
from support import NOTE, make_job, notes, result, rows

from mpibatch.core.shell_lines import quoted

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

NAMES = (
    NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    for name in names:
        note(name)
    if "item009" in names and not os.path.exists(os.path.join(FOLDER, "repaired")):
        raise ValueError("not repaired yet")
    return names
"""
)


def submit(cluster: Cluster, folder: Path, job: Path, array: str) -> list[str]:
    """Have the elements run to their ends; what their logs say."""
    script = folder / "batch.sh"
    command = [*srun_words((), right_plugin()), *support.COMMAND, "run", str(job)]
    end = f"code=$?; touch {quoted(str(folder))}/ended-$SLURM_ARRAY_TASK_ID; exit $code"
    script.write_text(f"#!/bin/bash\n{' '.join(map(quoted, command))}\n{end}\n")
    for file in folder.glob("ended-*"):
        file.unlink()
    cluster.command(
        *("sbatch", "--parsable", f"--array={array}", "--ntasks=2", f"--output={folder}/%a.log", str(script)),
        environment=support.from_anywhere(),
    )
    ids, _, _ = array.partition("%")
    first, _, last = ids.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    for number in numbers:
        ended = folder / f"ended-{number}"
        support.wait_until(ended.exists, f"element {number} has ended", support.TIMEOUT_S)
    return [(folder / f"{number}.log").read_text() for number in numbers]


def test_elements_with_a_limit_then_one_alone(cluster: Cluster, tmp_path: Path) -> None:
    job = make_job(tmp_path, NAMES, items=22, mini_batch_size=2, error_threshold=0, run_max_try=1)
    output = tmp_path / "output"

    logs = submit(cluster, tmp_path, job, "0-3%2")

    said = "\n".join(logs)
    assert "of Slurm array" in logs[3], said
    assert "as one of 4 shares, numbers 0 to 3" in logs[0], said
    assert not (output / "rows.txt").exists(), said
    told = support.mpibatch("merge", output)
    assert told.returncode == 3, support.words(told)
    assert "  0: too many errors" in told.stdout, support.words(told)

    (tmp_path / "repaired").touch()
    unfinished = [number for number in range(4) if result(output / "shares" / f"{number:04d}")["exit_code"]]
    for number in unfinished:
        logs = submit(cluster, tmp_path, job, str(number))

    assert "The 4 shares of the array, merged" in logs[-1]
    assert rows(output) == [f"item{number:03d}" for number in range(22)]
    assert result(output)["items"] == {"total": 22, "succeeded": 22, "failed": 0}
    assert notes(tmp_path).count("item021") == 1, "what was finished is not done again"
