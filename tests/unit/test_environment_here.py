"""Which script a job's environment gets, what its container shows, and commands that are run in it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import support

import mpibatch as package
from mpibatch.core.config import Job
from mpibatch.errors import NoEnvironmentError
from mpibatch.runtime import environments
from mpibatch.runtime.environments import run_in_environment, script_of
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.supervisor import code_for_any, shell_command


def job_of(folder: Path, **keys: Any) -> Job:
    return load_job(support.make_job(folder, "def run(b): return b", **keys))


def test_no_script_is_made_where_none_is_needed(tmp_path: Path) -> None:
    assert script_of(job_of(tmp_path)) == ""
    assert script_of(job_of(tmp_path, environment={"python": sys.executable})) == ""


def test_the_key_python_beside_lines_is_the_interpreter(tmp_path: Path) -> None:
    script = script_of(job_of(tmp_path, environment={"setup": "true"}, python=sys.executable))
    assert f"mpibatch_python=$(type -P {sys.executable})" in script


def shown_in_container(job: Job) -> list[str]:
    (line,) = (line for line in script_of(job).splitlines() if line.startswith("exec apptainer"))
    words = shlex.split(line.rstrip("\\"))
    return [words[at + 1] for at, word in enumerate(words) if word == "--bind"]


def test_a_container_shows_what_processors_read_and_write(tmp_path: Path) -> None:
    places = {
        name: tmp_path / name for name in ("in", "globs", "lists", "code", "side", "model", "out", "job")
    }
    for place in places.values():
        place.mkdir()
    (places["globs"] / "a").mkdir()
    (places["lists"] / "list.txt").touch()
    (places["code"] / "script.py").write_text("def run(b): return b")
    inputs = [
        {"files": str(places["in"])},
        {"files": f"{places['globs']}/a*/*.png"},
        {"list": str(places["lists"] / "list.txt")},
    ]
    job = job_of(
        places["job"], environment={"container": "i.sif"}, inputs=inputs, output=str(places["out"]),
        entry_script=str(places["code"] / "script.py"), side_inputs={"s": str(places["side"])},
        models={"m": str(places["model"]), "none": "/nowhere"},
    )  # fmt: skip
    # The last one is that of the processor's own folder, whose name only the shell knows.
    assert shown_in_container(job)[:-1] == sorted(map(str, places.values()))


def test_only_this_interpreter_finds_this_mpibatch(tmp_path: Path) -> None:
    command = shell_command("script", "state", "import sys; print(*sys.path, sep='\\n')")
    assert command[:5] == ["bash", "script", "state", sys.executable, "-P"]
    other = tmp_path / "python3"
    other.symlink_to(Path(sys.executable).resolve())
    home = str(Path(str(package.__file__)).resolve().parents[1])
    for python, finds in ((sys.executable, True), (str(other), False)):
        ended = subprocess.run([python, "-I", *command[5:]], capture_output=True, text=True, check=True)
        # Once for an mpibatch that is installed, and once for the code.
        assert (ended.stdout.splitlines()[-1:] == [home]) == finds
    assert code_for_any("x") == command[6].replace("import sys; print(*sys.path, sep='\\n')", "x")


def test_a_command_in_the_environment(tmp_path: Path) -> None:
    job = job_of(tmp_path, environment={"setup": "export A='x y'; echo loud"})
    ran = run_in_environment(job, ["-c", "import os; print(os.environ['A'], os.getcwd())"], cwd=str(tmp_path))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"x y {tmp_path}\n", "loud\n")
    failed = run_in_environment(job, ["-c", "raise SystemExit(3)"], cwd="/")
    assert failed.returncode == 3


def test_a_command_that_takes_too_long(tmp_path: Path) -> None:
    job = job_of(tmp_path, environment={"setup": "true"})
    with pytest.raises(NoEnvironmentError, match=r"it has not ended within 0\.3 s"):
        run_in_environment(job, ["-c", "import time; time.sleep(1000)"], cwd="/", timeout_s=0.3)


def test_a_line_that_takes_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over once it is run."""

    def ends_within(pid: int, seconds: float | None) -> bool:
        support.wait_until((tmp_path / "runs").exists, "the line is run")
        return False

    monkeypatch.setattr(environments, "_ends_within", ends_within)
    job = job_of(tmp_path, environment={"setup": f"touch {tmp_path}/runs; sleep 1000"})
    with pytest.raises(
        NoEnvironmentError, match=r"^environment\.setup: it has not ended within 0\.3 s \(init_"
    ):
        run_in_environment(job, ["-c", ""], cwd="/", timeout_s=0.3)


def test_a_line_that_kills_its_shell(tmp_path: Path) -> None:
    job = job_of(tmp_path, environment={"setup": "kill -9 $$"})
    with pytest.raises(NoEnvironmentError, match=r"environment.setup: it was ended by signal 9 on"):
        run_in_environment(job, ["-c", ""], cwd="/")
