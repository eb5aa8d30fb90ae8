"""The reference scripts of the folder slurm/, each by `sbatch` on the real Slurm, and what a #SBATCH line means.

All are submitted at once, as they mostly wait. What a script has of a site (its partition, its modules, its
container's launcher) is made for it here; the script itself is what stands in the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import reference_scripts
import support
from slurm.cluster import Cluster
from slurm.steps import right_plugin

from mpibatch.core.slurm_keys import for_sbatch

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

NAMES = [file.stem for file in reference_scripts.job_files()]
OPTIONS = {"modules": ["--partition=debug", "--mem=100M"]}
"""What the site of a script has, and this Slurm has not."""

GOES_ON = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED"}

MODULE = 'module() { [ "$1" = load ] || return 1; loaded="${loaded:-} $2"; echo "module: $2"; }\n'
APPTAINER = """\
#!/bin/bash
# Stands for the container's launcher: executes what comes after the image.
[ "$1" = exec ] || exit 9
until [[ "$1" == *.sif ]]; do shift; done
shift
exec "$@"
"""


class Submitted(msgspec.Struct):
    """The batch jobs, by the script's name."""

    folder: Path
    jobs: dict[str, str]


@pytest.fixture(scope="module")
def submitted(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """All scripts, with the folder that they lie in copied to another place. All have ended."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "slurm"
    shutil.copytree(reference_scripts.FOLDER, folder, ignore=shutil.ignore_patterns("runs", "*.log"))
    environment = _site(home)
    jobs = {
        name: _sbatch(cluster, folder, environment, f"{name}.sh", OPTIONS.get(name, [])) for name in NAMES
    }
    for name, job in jobs.items():
        _wait_for(cluster, name, job)
    return Submitted(folder, jobs)


def _wait_for(cluster: Cluster, name: str, job: str) -> None:
    support.wait_until(
        # squeue as well: while a job is put back, it may be shown as cancelled, or not at all.
        lambda: (
            not cluster.command("squeue", "-h", "-j", job, check=False)
            and bool(_states(cluster, job))
            and not _states(cluster, job) & GOES_ON
        ),
        f"{name}.sh has ended (job {job})",
        timeout_s=240,
    )


def _site(home: Path) -> dict[str, str]:
    """Commands and files that a script finds at its site, and the variables that lead to them."""
    commands = home / "bin"
    for file, text in (
        (commands / "mpibatch", f'#!/bin/bash\nexec "{sys.executable}" -m mpibatch "$@"\n'),
        (commands / "apptainer", APPTAINER),
        (home / "modules" / "init" / "bash", MODULE),
        (home / "envs" / "mpibatch" / "bin" / "activate", "echo activated\n"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    return {
        **support.from_anywhere(),
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(home),
        "MODULESHOME": str(home / "modules"),
    }


def _sbatch(cluster: Cluster, folder: Path, base: dict[str, str], script: str, options: list[str]) -> str:
    ended = subprocess.run(
        ["sbatch", "--parsable", *options, script],
        cwd=folder,
        # The scripts leave --mpi to the site.
        env={**cluster.environment(base), "SLURM_MPI_TYPE": right_plugin()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, support.words(ended)
    return ended.stdout.strip()


def _log(submitted: Submitted, name: str) -> str:
    label = name.replace("_", "-")
    return "".join(
        file.read_text() for file in sorted(submitted.folder.glob(f"{label}-{submitted.jobs[name]}*.log"))
    )


def _states(cluster: Cluster, job: str) -> set[str]:
    """Of all elements, where it is an array."""
    words = cluster.command("scontrol", "show", "job", job, check=False).split()
    return {word.removeprefix("JobState=") for word in words if word.startswith("JobState=")}


@pytest.mark.parametrize("name", NAMES)
def test_the_script_runs_to_its_end(name: str, cluster: Cluster, submitted: Submitted) -> None:
    job = submitted.jobs[name]
    assert _states(cluster, job) == {"COMPLETED"}, _log(submitted, name)
    output = submitted.folder / "runs" / name.replace("_", "-")
    rows = (output / "parallel_run_step.txt").read_text().split("\n")
    files = sorted(submitted.folder.glob("*.yaml"))
    wanted = [f"{file.name} {file.read_text().count(chr(10))}" for file in files]
    assert [row.rpartition(" ")[0] for row in rows if row] == wanted
    assert not list(submitted.folder.glob(f".mpibatch-{job}*")), "the end file is left behind"
    match name:
        case "gpus":
            assert {row.rpartition("=")[2] for row in rows if row} == {"0", "1"}, "a device for each process"
        case "requeue":
            assert support.result(output)["sessions"] > 1, _log(submitted, name)
            assert "put back into the queue" in _log(submitted, name)
        case "modules":
            assert "module: gcc/12\nmodule: openmpi/5\nactivated\n" in _log(submitted, name)


@pytest.mark.parametrize("value", ["two words # no comment", 'it\'s "one" \\ word', "hetjob $HOME `x` é"])
def test_a_value_in_a_line_for_slurm_is_what_slurm_reads(
    value: str, cluster: Cluster, tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\n#SBATCH --comment={for_sbatch(value)}\n#SBATCH --hold\ntrue\n")
    job = cluster.command("sbatch", "--parsable", f"--output={tmp_path}/log", script).strip()
    told = cluster.command("scontrol", "show", "job", job)
    cluster.command("scancel", job)
    assert (
        f"Comment={value}" in told.replace(" \n", "\n").splitlines()[-1].strip() or f"Comment={value}" in told
    )
