"""`mpibatch submit` on a real Slurm, and what becomes of the job."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import support
from slurm.cluster import Cluster

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
LONG_S = 480
"""For jobs that are put back into the queue several times."""

PACED = (
    support.NOTE
    + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(f"{name} {os.environ.get('SLURM_RESTART_COUNT', 0)}")
    if not os.path.exists(os.path.join(FOLDER, "fast")):
        time.sleep(0.5)
    return [name, name[::-1]]
"""
)
"""An entry script whose items take half a second each, unless there is a file `fast`."""


def submit(cluster: Cluster, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """To its end."""
    return support.mpibatch(
        "submit",
        *arguments,
        env={**cluster.environment(support.from_anywhere()), **variables},
        cwd=Path(str(arguments[0])).parent,  # Where the batch script leaves a file, if it is killed.
    )


def waiting(cluster: Cluster, folder: Path, *arguments: object) -> support.Started:
    """With `--wait`, to be looked at while it waits."""
    environment = cluster.environment(support.from_anywhere())
    return support.Started(folder, "submit", *arguments, "--wait", env=environment, cwd=folder)


def number(said: str) -> str:
    """Of the job, as the command line has told."""
    found = re.search(r"^job +(\d+)$", said, re.MULTILINE)
    assert found, said
    return found[1]


def log(folder: Path, job: str) -> str:
    """Of a job whose run folder is `output`."""
    file = folder / ".output.slurm" / f"{job}.log"
    return file.read_text(errors="backslashreplace") if file.exists() else ""


def started(waits: support.Started) -> str:
    """Wait until the job runs; its number."""
    waits.wait_to_say("is running")
    return number(waits.said)


def undisturbed(folder: Path, job: Path) -> bytes:
    """The output file of the same job, run here from its beginning to its end."""
    (folder / "fast").touch()
    ended = support.mpibatch("run", job, "--output", folder / "undisturbed")
    assert ended.returncode == 0, support.words(ended)
    return (folder / "undisturbed" / "rows.txt").read_bytes()
