"""Processors in an environment that a shell makes before their interpreter starts: real runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import support

import mpibatch as package
from mpibatch.core.framing import decoder, encode
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import GaveUp, Release, ToCoordinator
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import worker_setups
from mpibatch.runtime.transport import LocalPort
from mpibatch.runtime.worker import Worker

SCRIPT = (
    support.NOTE
    + """
def run(mini_batch):
    return [f"{os.environ.get('SITE')}|{os.environ.get('LOADED')}|{sys.executable}" for _ in mini_batch]
"""
)
MODULE = (
    'module() { [ "$2" != bad ] || { echo "no module $2" >&2; return 1; }; export LOADED="$LOADED<$2>"; }'
)


def a_job(folder: Path, environment: dict[str, Any], script: str = SCRIPT, **keys: Any) -> Path:
    return support.make_job(folder, script, items=2, environment=environment, **keys)


def rows_of(job: Path, **variables: str) -> set[str]:
    """What all processors of a run have told that goes well."""
    ended = support.mpibatch("run", job, env=support.environment(**variables))
    assert ended.returncode == 0, support.words(ended)
    return set(support.rows(job.parent / "output"))


def refused(job: Path, *options: str, **variables: str) -> str:
    """The message of a start that finds that the environment cannot be made; there is no run then."""
    ended = support.mpibatch("run", job, *options, env=support.environment(**variables))
    assert ended.returncode == 4, support.words(ended)
    assert not (job.parent / "output").exists()
    return ended.stderr


def test_lines_and_modules_are_seen_by_run(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text(MODULE)
    setup = ["SITE='a b'", "if true; then", "    export SITE", "    echo it is made", "fi"]
    job = a_job(tmp_path, {"modules": ["gcc/12", "mpi"], "setup": setup})
    assert rows_of(job, MODULESHOME=str(tmp_path)) == {f"a b|<gcc/12><mpi>|{sys.executable}"}
    (log,) = (tmp_path / "output/logs/user/stderr").rglob("*.stderr.txt")
    assert log.read_text() == "it is made\n"


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """The folder of another environment, in which this mpibatch can be imported, and a module of its own."""
    folder = tmp_path / "env"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = [
        str(Path(package.__file__).parents[1]),
        *(path for path in sys.path if path.endswith("-packages")),
    ]
    (site / "ours.pth").write_text("\n".join(ours))
    (site / "only_there.py").write_text("WORD = 'there'\n")
    return folder


@pytest.mark.parametrize(
    "how",
    [
        {"conda": "./env"},
        {"setup": "source env/bin/activate"},
        {"python": "python3", "setup": "PATH=$HERE/env/bin:$PATH"},
        {"python": "env/bin/python3", "setup": "true"},
    ],
)
def test_another_interpreter(tmp_path: Path, other_python: Path, how: dict[str, str]) -> None:
    script = (
        "import sys\nfrom only_there import WORD\ndef run(b): return [f'{WORD} {sys.executable}' for _ in b]"
    )
    how = {
        **how,
        "setup": how.get("setup", "true").replace("env/bin/activate", f"{other_python}/bin/activate"),
    }
    job = a_job(tmp_path, how, script, environment_variables={"HERE": str(tmp_path)})
    assert rows_of(job) == {f"there {other_python}/bin/python3"}


def test_an_interpreter_without_mpibatch(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    venv.create(folder, symlinks=True)
    job = a_job(tmp_path, {"conda": "./env"})
    ended = support.mpibatch("run", job, env=support.environment(PYTHONPATH=""))
    assert ended.returncode == 2, support.words(ended)
    assert f"{folder}/bin/python3 cannot import mpibatch" in ended.stderr
    assert f"{folder}/bin/python3 -m pip install mpibatch==" in ended.stderr


def test_a_line_that_fails_is_told_before_anything_is_begun(tmp_path: Path) -> None:
    job = a_job(tmp_path, {"setup": ["export A=1", "echo about to; ls /nowhere", "export B=1"]})
    for options in ([], ["--dry-run"]):
        message = refused(job, *options)
        assert (
            "environment.setup, line 2: echo about to; ls /nowhere: it ended with exit code 2 on " in message
        )
        assert "about to" in message
        assert "/nowhere': No such file" in message
    module = refused(a_job(tmp_path, {"modules": ["bad"], "setup": MODULE}), MODULESHOME="/nowhere")
    assert "environment.modules" in module


ONCE = """\
echo x >> "$HERE/made"
if [ "$(wc -l < "$HERE/made")" -gt 1 ]; then echo too often; fi
[ "$(wc -l < "$HERE/made")" = 1 ] || ls /nowhere
"""


def made_so_often(folder: Path) -> int:
    return len((folder / "made").read_text().splitlines())


def test_a_line_that_fails_on_the_workers_only(tmp_path: Path) -> None:
    """The first time is the look before the run."""
    job = a_job(tmp_path, {"setup": ONCE}, environment_variables={"HERE": str(tmp_path)})
    ended = support.mpibatch("run", job)
    assert ended.returncode == 4, support.words(ended)
    result = support.result(tmp_path / "output")
    assert result["verdict"] == "no_workers"
    cause = result["first_cause"]
    assert "environment.setup, line 3: " in cause["error"]
    assert "it ended with exit code 2 (pid " in cause["error"]
    assert "/nowhere': No such file" in cause["error"]
    assert "init()" not in cause["error"], "it has not come so far"
    assert cause["log"].endswith(".stderr.txt")
    assert "too often" in Path(cause["log"]).read_text()
    assert made_so_often(tmp_path) == 4, "three tries of the worker"
    assert result["mini_batches"]["attempts"] == 0


HANGING = "sleep 1000 & sleep 1001"


def test_a_line_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    message = refused(a_job(tmp_path, {"setup": HANGING}, init_timeout=0.3))
    # How far the shell has come by then, is not sure.
    assert "it has not ended within 0.3 s (init_timeout)" in message


def test_a_worker_ends_lines_that_hang_and_gives_up(tmp_path: Path) -> None:
    job = load_job(a_job(tmp_path, {"setup": f"echo going\n{HANGING}"}, init_timeout=0.2))
    place = WorkerPlace(worker=0, rank=0, node=0, host="here", local_index=0)
    (tmp_path / "lost").mkdir()
    setups = worker_setups(job, RunFolder(job.output), {0: place}, inputs=[], notices=tmp_path / "lost")
    ours, theirs = LocalPort.pair()
    now = [0.0]
    worker = Worker(theirs, rank=0, host="here", clock=lambda: now[0])
    ours.send(0, encode(setups[0]))
    said: list[ToCoordinator] = []
    log = tmp_path / "output/logs/user/stderr/here/process000.stderr.txt"
    seen = 0

    def given_up() -> bool:
        """The time of a try is over once its line has printed."""
        nonlocal seen
        worker.step()
        printed = log.read_text().count("\n") if log.exists() else 0
        if printed > seen:
            seen = printed
            now[0] += 0.5
        said.extend(decoder(ToCoordinator)(body) for _, body in ours.receive())
        return any(isinstance(message, GaveUp) for message in said)

    support.wait_until(given_up, "the worker has given up")
    ours.send(0, encode(Release(False)))
    support.wait_until(lambda: (worker.step(), worker.over)[1], "it has ended")
    (error,) = (message.error for message in said if isinstance(message, GaveUp))
    assert error.type == "EnvironmentFailed"
    assert "environment.setup: it was stopped: over init_timeout (pid " in error.message
    assert "of rank 0 on here); it printed:\ngoing\n" in error.message
    assert log.read_text() == "going\n" * 3


@pytest.mark.parametrize("makings", [0, 1], ids=["the look at it", "a processor's"])
def test_a_rank_that_is_killed_leaves_no_line_that_runs(tmp_path: Path, makings: int) -> None:
    """What is left fails every test."""
    setup = ['echo x >> "$HERE/made"', f'[ "$(wc -l < "$HERE/made")" -le {makings} ] || {{ {HANGING}; }}']
    job = a_job(tmp_path, {"setup": setup}, environment_variables={"HERE": str(tmp_path)})
    with support.Started(tmp_path, "run", job) as started:
        started.wait_until(
            lambda: (tmp_path / "made").exists() and made_so_often(tmp_path) > makings, "its line is run"
        )


KILLED_BEFORE = """
import os, signal, sys
from mpibatch.runtime import environments
from mpibatch.runtime.guardian import Guardian
from mpibatch.runtime.jobfile import load_job

job = load_job({job!r})
Guardian.watch = lambda self, group: os.kill(os.getpid(), signal.SIGKILL)
"""
"""The worker dies when it has started a process, and has not yet said whom its guardian is to end."""
STARTS = {
    "the look at it": 'environments.run_in_environment(job, ["-c", ""], cwd="/")',
    "a processor's": """
from mpibatch.core.ranks import WorkerPlace
from mpibatch.runtime.quarters import Quarters
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import worker_setups
from pathlib import Path
place = WorkerPlace(worker=0, rank=0, node=0, host="here", local_index=0)
lost = Path(job.output, "lost")
lost.mkdir(parents=True)
Quarters(worker_setups(job, RunFolder(job.output), {0: place}, inputs=[], notices=lost)[0]).start()
""",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=list(STARTS))
def test_a_rank_that_is_killed_before_anybody_watches_leaves_no_line_that_runs(
    start: str, tmp_path: Path
) -> None:
    """What is left fails every test."""
    job = a_job(
        tmp_path,
        {"setup": f'echo x >> "$HERE/made"; {HANGING}'},
        environment_variables={"HERE": str(tmp_path)},
    )
    code = KILLED_BEFORE.format(job=str(job)) + start
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=support.TIMEOUT_S, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "made").exists()


def test_a_processor_that_dies_gets_the_environment_again(tmp_path: Path) -> None:
    script = (
        support.NOTE
        + """
def run(mini_batch):
    note(os.environ["SITE"])
    if not os.path.exists(os.path.join(FOLDER, "died")):
        open(os.path.join(FOLDER, "died"), "w").close()
        os.kill(os.getpid(), 9)
    return mini_batch
"""
    )
    job = a_job(tmp_path, {"setup": 'echo x >> "$HERE/made"; export SITE=s'}, script,
                environment_variables={"HERE": str(tmp_path)})  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.notes(tmp_path) == ["s"] * 3
    assert made_so_often(tmp_path) == 3, "to look at it, and for two processors"


def test_prepare_is_run_in_it(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text(
        "import os\nprint('prepared', os.environ['SITE'], os.getcwd())\nopen('data/more', 'w').close()\n"
    )
    job = a_job(tmp_path, {"setup": "export SITE=s; sleep 1000 &"}, prepare="prepare.py")
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert f"prepared s {tmp_path}" in ended.stdout + ended.stderr
    assert support.result(tmp_path / "output")["items"]["total"] == 3
    (tmp_path / "prepare.py").write_text("raise SystemExit('cannot')")
    failed = support.mpibatch("run", job, "--fresh")
    assert failed.returncode == 2
    assert "ended with exit code 1:\ncannot" in failed.stderr
    message = support.mpibatch("run", job, "--fresh", "--set", "environment.setup=false")
    assert (message.returncode, "environment.setup, line 1: false" in message.stderr) == (4, True)


def test_another_environment_is_another_job(tmp_path: Path) -> None:
    job = a_job(tmp_path, {"setup": "export SITE=s"})
    assert rows_of(job) == {f"s|None|{sys.executable}"}
    ended = support.mpibatch("run", job, "--set", "environment.setup=export SITE=t")
    assert (
        ended.returncode,
        "environment, environment_variables, python or tensorflow_v1" in ended.stderr,
    ) == (2, True)


APPTAINER = """\
#!/bin/sh
echo "$@" >> "$HERE/started"
shift
while :; do case $1 in --bind) [ -e "$2" ] || exit 255; shift 2;; --pwd) shift 2;; *) break;; esac; done
[ -e "$1" ] || { echo "FATAL: could not open image $1" >&2; exit 255; }
shift
exec "$@"
"""
"""Stands in for the command, as it is not to be had here: executes what it is given, without a container."""


def test_a_container(tmp_path: Path, other_python: Path) -> None:
    tool = tmp_path / "bin" / "apptainer"
    tool.parent.mkdir()
    tool.write_text(APPTAINER)
    tool.chmod(0o755)
    (tmp_path / "tools.sif").touch()
    job = a_job(
        tmp_path,
        {"container": "tools.sif", "setup": "export SITE=s", "python": str(other_python / "bin" / "python3")},
        environment_variables={"HERE": str(tmp_path)},
    )
    path = {"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
    missing = refused(job, "--set", "environment.container=no.sif", **path)
    assert f"environment.container: {tmp_path}/no.sif: it ended with exit code 255" in missing
    assert "FATAL: could not open image" in missing
    assert rows_of(job, **path) == {f"s|None|{other_python}/bin/python3"}
    started = (tmp_path / "started").read_text().splitlines()[-1]
    assert started.startswith(f"exec --bind {tmp_path} --pwd /"), started


def test_without_bash(tmp_path: Path) -> None:
    for name in ("sh", "env"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / name).symlink_to(found)
    job = a_job(tmp_path, {"setup": "true"})
    message = refused(job, PATH=str(tmp_path))
    assert "environment: it cannot be made" in message
    assert "'bash'" in message
