"""Starting `mpiexec` here: which one, and with which options."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mpibatch.errors import LaunchError
from mpibatch.local_world import find_mpiexec, is_open_mpi, launcher_command


def program(file: Path, script: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


# Which one


def test_that_beside_the_interpreter_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = program(tmp_path / "venv" / "bin" / "mpiexec")
    program(tmp_path / "site" / "mpiexec")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "site"))

    assert find_mpiexec() == str(own)


@pytest.mark.parametrize("name", ["mpiexec", "mpirun"])
def test_else_that_of_the_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(tmp_path / "site" / name)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "site"))

    assert find_mpiexec() == str(found)


def test_without_one_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(
        LaunchError, match=r"no mpiexec here.*mpibatch\[mpich\].*process_count_per_node: 1"
    ) as error:
        find_mpiexec()
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("beside", "version", "is_open"),
    [
        ("mpiexec.hydra", "", False),
        ("prterun", "", True),
        ("orterun", "", True),
        ("", "mpiexec (Open MPI) 4.1.4", True),
        ("", "mpirun (Open MPI) 5.0.8", True),
        ("", "HYDRA build details:", False),
        ("", "Intel(R) MPI Library for Linux* OS, Version 2021.9", False),
    ],
)
def test_family(beside: str, version: str, is_open: bool, tmp_path: Path) -> None:
    mpiexec = program(tmp_path / "mpiexec", f'echo "{version}"')
    if beside:
        program(tmp_path / beside)

    assert is_open_mpi(str(mpiexec)) == is_open


def test_family_behind_a_link(tmp_path: Path) -> None:
    program(tmp_path / "opt" / "mpiexec.hydra")
    link = tmp_path / "bin" / "mpiexec"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "opt" / "mpiexec.hydra")

    assert not is_open_mpi(str(link))


def test_options_differ_by_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpich = program(tmp_path / "mpich" / "mpiexec.hydra")
    open_mpi = program(tmp_path / "open" / "mpiexec")
    program(tmp_path / "open" / "prterun")

    assert launcher_command(str(mpich), 3) == ([str(mpich), "-n", "3"], {})
    command, _ = launcher_command(str(open_mpi), 3)
    assert command == [str(open_mpi), "--oversubscribe", "--bind-to", "none", "-n", "3"]
    for user, needed in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        assert bool(launcher_command(str(open_mpi), 3)[1]) == needed
