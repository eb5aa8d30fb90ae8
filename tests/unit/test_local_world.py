"""Starting `mpiexec` here: which one, with which options, and what its parent makes of its end.

`mpiexec` is a shell script of the test that does what rank 0 would.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpibatch import local_world
from mpibatch.errors import LaunchError
from mpibatch.local_world import find_mpiexec, is_open_mpi, launcher_command, run_world


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


# Its parent


@pytest.fixture
def mpiexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the test writes the script. The handlers of the signals are put back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    file = tmp_path / "mpiexec"
    program(tmp_path / "mpiexec.hydra")
    monkeypatch.setattr(local_world, "find_mpiexec", lambda: str(file))
    yield file
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


SIGNALS_UNTIL = 'lines() { wc -l < "$MPIBATCH_LOCAL/signals" 2>/dev/null || echo 0; }\n'
"""`kill` its parent, wait until `lines` says that it has taken note."""


@pytest.mark.parametrize("code", [0, 2, 3, 4, 74, 75, 130])
def test_the_exit_code_is_that_of_rank_0(code: int, mpiexec: Path) -> None:
    program(mpiexec, f'echo {code} > "$MPIBATCH_LOCAL/exit_code"; exit 9')

    assert run_world(["run", "job.yaml"], 2, 1.5) == code


def test_what_the_ranks_are_given(mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        f'env > {tmp_path}/environment; printf "%s\\n" "$@" > {tmp_path}/words\n'
        f'cut -d" " -f5 /proc/$$/stat > {tmp_path}/group; echo $$ >> {tmp_path}/group\n'
        'echo 0 > "$MPIBATCH_LOCAL/exit_code"',
    )

    run_world(["run", "my job.yaml"], 7, 1.5)

    words = (tmp_path / "words").read_text().splitlines()
    assert words[:3] == ["-n", "7", sys.executable] and words[-2:] == ["run", "my job.yaml"]
    environment = dict(
        line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines()
    )
    assert environment["MPIBATCH_STARTED"] == "1.5"
    assert environment["MPIBATCH_PARENT"].startswith(f"{os.getpid()}:")
    assert not os.path.exists(environment["MPIBATCH_LOCAL"]), "the folder between them is left"
    # A group of its own: what a terminal sends to the group of this process does not reach it.
    group, process = (tmp_path / "group").read_text().split()
    assert group == process


def test_ranks_that_are_lost(mpiexec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program(mpiexec, 'touch "$MPIBATCH_LOCAL/begun"; exit 9')

    assert run_world(["run", "job.yaml"], 2, 1.5) == 75
    assert "ranks were lost (mpiexec ended with 9)" in capfd.readouterr().err


def test_ranks_that_never_begin(mpiexec: Path) -> None:
    program(mpiexec, "exit 213")

    with pytest.raises(
        LaunchError, match=rf"{mpiexec} ended with 213 before rank 0 had begun.* 'my job.yaml'$"
    ):
        run_world(["run", "my job.yaml"], 2, 1.5)


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 75), ("USR2", 75)])
def test_a_signal_is_told_of_in_the_folder(name: str, code: int, mpiexec: Path, tmp_path: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + f"kill -{name} $PPID; until [ $(lines) -eq 1 ]; do sleep 0.01; done\n"
        + "kill -TERM $PPID; until [ $(lines) -eq 2 ]; do sleep 0.01; done\n"
        + f'cp "$MPIBATCH_LOCAL/signals" {tmp_path}; echo 75 > "$MPIBATCH_LOCAL/exit_code"',
    )

    assert run_world(["run", "job.yaml"], 2, 1.5) == code
    assert (tmp_path / "signals").read_text().split() == [f"SIG{name}", "SIGTERM"]


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_in_order_is_not_changed_by_a_late_ctrl_c(code: int, mpiexec: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + "kill -INT $PPID; until [ $(lines) -eq 1 ]; do sleep 0.01; done\n"
        + f'echo {code} > "$MPIBATCH_LOCAL/exit_code"',
    )

    assert run_world(["run", "job.yaml"], 2, 1.5) == code


def test_the_third_signal_kills(mpiexec: Path) -> None:
    program(
        mpiexec,
        SIGNALS_UNTIL
        + 'touch "$MPIBATCH_LOCAL/begun"; for n in 1 2; do\n'
        + "  kill -INT $PPID; until [ $(lines) -eq $n ]; do sleep 0.01; done\ndone\n"
        + "kill -INT $PPID; sleep 60",
    )

    assert run_world(["run", "job.yaml"], 2, 1.5) == 130
