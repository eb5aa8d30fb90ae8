"""How a world ends: the exit code, and what stands last on the terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import support

import mpibatch

pytestmark = pytest.mark.mpi

ECHO = "import os\ndef run(mini_batch): return [os.path.basename(path) for path in mini_batch]\n"
FAIL = "def run(mini_batch): raise ValueError('no good')\n"


class End(NamedTuple):
    name: str
    code: int
    last: str
    """Regular expression: the last line that is printed."""
    script: str = ECHO
    keys: Mapping[str, Any] = MappingProxyType({})
    folder: bool = True
    """A run folder is there afterwards."""


ENDS = [
    End("complete", 0, r"^time .* 1 session$"),
    End(
        "some fail", 0, r"^time .* 1 session$",
        "def run(mini_batch):\n  if mini_batch[0].endswith('item004'): raise ValueError('no good')\n  return [1]\n",
    ),
    End("wrong key", 2, r"^  legal keys: ", keys={"mini_batch_sise": 2}, folder=False),
    End("no input", 2, r"^mpibatch: .*'nothing/': ", keys={"inputs": [{"files": "nothing/"}]}, folder=False),
    End("no run", 2, r"^mpibatch: .*run", "def runs(mini_batch): pass\n", folder=False),
    End("no run at run time", 2, r"^first cause +\w+: .*run", ECHO + "del run\n"),
    End("all fail", 3, r"^first cause +ValueError: no good: 6 items, /.*/item00\d, log /.*/error/", FAIL),
    End(
        "too many fail", 3, r"^first cause +ValueError: no good: [1-6] items?, /.*/item00\d, log ", FAIL,
        {"error_threshold": 0, "run_max_try": 1},
    ),
    End(
        "no init", 4, r"^first cause +OSError: no model \(in init\(\), .*\), log /.*/error/",
        ECHO + "def init(): raise OSError('no model')\n",
    ),
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=[end.name for end in ENDS])
@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
def test_ends(ranks: int | None, end: End, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, end.script, process_count_per_node=2, **end.keys)

    ended = run(job, ranks)
    code, told = ended.returncode, ended.stdout

    assert code == end.code, told
    # Launchers pass on stdout and stderr by two ways, so that progress may come after what was written later.
    lines = [
        line for line in told.splitlines() if line and not line.startswith(("test-job: ", "6 items in "))
    ]
    if ranks is not None:  # Launchers add words of their own where an exit code is not 0, before or after.
        lines = [line for line in lines if re.search(end.last, line)]
    assert len(lines) >= 1 and re.search(end.last, lines[-1]), told
    assert told.count(lines[-1]) == 1, told
    assert "Traceback" not in told, told
    assert (tmp_path / "output").exists() == end.folder
    if end.folder:
        assert support.result(tmp_path / "output")["exit_code"] == end.code


def run(job: Path, ranks: int | None, **environment: str) -> subprocess.CompletedProcess[str]:
    """All that was printed stands in `stdout`, in its order."""
    command, variables = support.command_of(["run", job], ranks)
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=support.environment(**variables, **environment), timeout=support.TIMEOUT_S,
    )  # fmt: skip


def test_mpi_that_cannot_be_loaded(tmp_path: Path) -> None:
    """Each rank sees it, one tells, and the parent of the world takes their word for it."""
    job = support.make_job(tmp_path, ECHO, process_count_per_node=2)

    ended = run(job, None, MPI4PY_LIBMPI="/nowhere/libmpi.so")

    assert ended.returncode == 2, ended.stdout
    assert ended.stdout.count("mpibatch: ") == ended.stdout.count("MPI cannot be loaded") == 1, ended.stdout
    assert 'install one: pip install "mpibatch[mpich]"' in ended.stdout.splitlines()[-1], ended.stdout
    assert not (tmp_path / "output").exists()


def test_mpi_that_cannot_be_loaded_by_one_rank_only(tmp_path: Path) -> None:
    """As on a machine that lacks it: rank 0 is well, and would wait for it for ever."""
    job = support.make_job(tmp_path, ECHO)
    command, variables = support.command_of(["run", job], 2)
    script = """
if [ "${PMI_RANK:-$OMPI_COMM_WORLD_RANK}" = 1 ]; then export MPI4PY_LIBMPI=/nowhere/libmpi.so; fi
exec "$@"
"""
    at = command.index(sys.executable)
    command[at:at] = ["sh", "-c", script, "sh"]

    ended = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=support.environment(**variables), timeout=support.TIMEOUT_S,
    )  # fmt: skip

    assert ended.returncode in (2, signal.SIGKILL), ended.stdout
    assert f"MPI cannot be loaded on {os.uname().nodename}: " in ended.stdout, ended.stdout
    assert not (tmp_path / "output").exists()


BUG = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "mpibatch.runtime.session":
            raise {error}

sys.meta_path.insert(0, Finder())
"""
"""As `sitecustomize`: an error in rank 0, before it looks for signals and where nobody expects one."""


@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
def test_a_bug_of_ours(ranks: int | None, tmp_path: Path) -> None:
    """Shown as such; and the other ranks end."""
    job = support.make_job(tmp_path, ECHO, process_count_per_node=2)
    path = with_error(tmp_path, 'RuntimeError("this is a bug of ours")')

    ended = run(job, ranks, PYTHONPATH=path)

    assert ended.returncode == 1, ended.stdout
    assert ended.stdout.count("Traceback") == 1 and "RuntimeError: this is a bug of ours" in ended.stdout
    assert "mpi_abort" not in ended.stdout.lower() and "TERMINATION" not in ended.stdout, ended.stdout


@pytest.mark.parametrize("ranks", [None, 3], ids=["local", "mpiexec"])
def test_ctrl_c_before_anything_is_done(ranks: int | None, tmp_path: Path) -> None:
    job = support.make_job(tmp_path, ECHO, process_count_per_node=2)

    ended = run(job, ranks, PYTHONPATH=with_error(tmp_path, "KeyboardInterrupt"))

    assert ended.returncode == 130, ended.stdout
    assert "Traceback" not in ended.stdout


def with_error(folder: Path, error: str) -> str:
    """A PYTHONPATH with it."""
    (folder / "sitecustomize.py").write_text(BUG.replace("{error}", error))
    return python_path(folder)


def python_path(folder: Path) -> str:
    """With `folder` first; and with mpibatch, wherever it is."""
    return os.pathsep.join([str(folder), str(Path(mpibatch.__file__).parents[1])])


def test_a_worker_that_does_not_end_changes_no_exit_code(tmp_path: Path) -> None:
    """It is waited for some seconds; then the launcher is asked to end all."""
    script = support.NOTE + "def run(mini_batch):\n  note(str(os.getpid()))\n  gate()\n"
    job = support.make_job(tmp_path, script, process_count_per_node=2, shutdown_timeout=0.1)
    fewer = "import mpibatch.runtime.farewell\nmpibatch.runtime.farewell.GOODBYE_S = 1.0\n"
    (tmp_path / "sitecustomize.py").write_text(fewer)
    environment = support.environment(PYTHONPATH=python_path(tmp_path))
    with support.Started(tmp_path, "run", job, ranks=3, env=environment) as started:
        started.wait_until(lambda: len(support.notes(tmp_path)) == 2, "two processors are in run()")
        ranks = support.ranks_with(str(tmp_path))
        os.kill(ranks[2], signal.SIGSTOP)
        os.kill(ranks[0], signal.SIGTERM)
        started.wait_to_say("stopping")  # Two signals that come at once are one.
        os.kill(ranks[0], signal.SIGTERM)

        assert started.wait_to_end() == 75, started.said
    assert support.result(tmp_path / "output")["exit_code"] == 75


def test_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """As in `mpibatch run JOB | head`: the run goes on, and its exit code is its own. (With more than one worker
    MPICH's mpiexec would die of it.)"""
    job = support.make_job(tmp_path, FAIL)
    reading, writing = os.pipe()
    os.close(reading)

    ended = subprocess.run(
        support.command_of(["run", job], None)[0], stdout=writing, stderr=writing, check=False,
        timeout=support.TIMEOUT_S,
    )  # fmt: skip
    os.close(writing)

    assert ended.returncode == 3
    assert support.result(tmp_path / "output")["exit_code"] == 3
