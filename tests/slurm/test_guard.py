"""A `--mpi` that does not fit the MPI that is loaded: one message that names the right one, and nothing begun."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import support
from slurm.cluster import Cluster
from slurm.steps import family, right_plugin, srun
from support import make_job

from mpibatch.core.mpi_kinds import fitting_plugin, listed_plugins

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]

SCRIPT = "def run(mini_batch):\n    return mini_batch\n"
SAID = "the launcher started 4 processes"


def stopped(ended: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert ended.returncode == 2, support.words(ended)
    said_once(ended, folder)


def said_once(ended: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert ended.stderr.count(SAID) == 1, support.words(ended)
    assert ended.stderr.count("Traceback") == 0, support.words(ended)
    assert f"Start it with srun --mpi={right_plugin()}" in ended.stderr
    assert f"which fits {family()}; this Slurm has pmix, cray_shasta, pmi2, pmix_v4" in ended.stderr
    assert not (folder / "output").exists()


def test_the_wrong_plugin(cluster: Cluster, tmp_path: Path) -> None:
    """A new MPICH below PMIx would end the process in `MPI_Init`, each with words of its own."""
    wrong = "pmi2" if right_plugin() == "pmix" else "pmix"

    ended = srun(cluster, "run", make_job(tmp_path, SCRIPT), mpi=wrong)

    stopped(ended, tmp_path)
    assert f"instead of --mpi={wrong}" in ended.stderr
    assert "Abort(" not in ended.stderr


def test_no_plugin(cluster: Cluster, tmp_path: Path) -> None:
    """MpiDefault of the cluster is none, as Slurm's own default."""
    stopped(srun(cluster, "run", make_job(tmp_path, SCRIPT), mpi=None), tmp_path)


def test_it_is_said_before_the_first_end_kills_the_step(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--nodes=4", "--ntasks=4", "--kill-on-bad-exit=1")

    ended = srun(cluster, "run", make_job(tmp_path, SCRIPT), options=options, mpi="none")

    assert ended.returncode != 0
    said_once(ended, tmp_path)


def test_one_task_needs_no_plugin(cluster: Cluster, tmp_path: Path) -> None:
    ended = srun(cluster, "run", make_job(tmp_path, SCRIPT), options=("--ntasks=1",), mpi=None)

    assert ended.returncode == 0, support.words(ended)


def test_what_srun_lists(cluster: Cluster) -> None:
    plugins = listed_plugins(cluster.command("srun", "--mpi=list"))

    assert {"none", "pmi2", "pmix", "pmix_v4"} <= set(plugins)
    assert fitting_plugin("Open MPI", plugins) == "pmix"
    assert fitting_plugin("MPICH", plugins) == "pmi2"
