"""What tests share: jobs made on the fly, the real command line, and looking for what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray

import mpibatch as mpibatch_package
from mpibatch.local_world import find_mpiexec, launcher_command

COMMAND = [sys.executable, "-m", "mpibatch"]
RESULT = "job_result.json"
TIMEOUT_S = 120


def make_job(folder: Path, script: str, *, items: int = 6, name: str = "test-job", **keys: Any) -> Path:
    """A job of `items` small files, item000 and so on, in `folder`; its file's path. Rows go to rows.txt."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for number in range(items):
        (data / f"item{number:03d}").write_text(f"{number}\n")
    (folder / "script.py").write_text(textwrap.dedent(script))
    job = {
        "name": name,
        "entry_script": "script.py",
        "arguments": ["--notes", "${job_dir}/notes"],
        "inputs": [{"files": "data/"}],
        "mini_batch_size": 1,
        "output": "output",
        "append_row_file_name": "rows.txt",
        **keys,
    }
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    return file


def environment(**extra: str) -> dict[str, str]:
    """This process's, so that a child finds mpibatch wherever the tests run."""
    return {**os.environ, **extra}


def mpibatch(
    *arguments: object, ranks: int | None = None, timeout_s: float = TIMEOUT_S, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; with `ranks`, as so many ranks of an MPI world."""
    command, variables = command_of(arguments, ranks)
    options["env"] = {**options.get("env", os.environ), **variables}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=timeout_s,
        check=False,
        **options,
    )


def start(*arguments: object, ranks: int | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start the command line, with `ranks` as so many ranks of an MPI world; see that it ends."""
    command, variables = command_of(arguments, ranks)
    options["env"] = {**options.get("env", os.environ), **variables}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def command_of(arguments: Sequence[object], ranks: int | None) -> tuple[list[str], dict[str, str]]:
    """What to execute, and the variables that it needs."""
    command = [*COMMAND, *map(str, arguments)]
    if ranks is None:
        return command, {}
    launcher, variables = launcher_command(find_mpiexec(), ranks)
    return [*launcher, *command], variables


def from_anywhere() -> dict[str, str]:
    """An environment in which the command line is found from any current folder."""
    home = str(Path(mpibatch_package.__file__).resolve().parents[1])
    return environment(PYTHONPATH=os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")])))


def patient(folder: Path) -> dict[str, str]:
    """An environment in which a start waits as long as a test does for the end of the run that has its folder."""
    hook = folder / "patient"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        f"import mpibatch.runtime.lease\nmpibatch.runtime.lease.DYING_S = {TIMEOUT_S}\n"
    )
    variables = from_anywhere()
    return {**variables, "PYTHONPATH": f"{hook}{os.pathsep}{variables['PYTHONPATH']}"}


def words(ended: subprocess.CompletedProcess[str]) -> str:
    """What a failed assertion should show of a process."""
    return f"exit code {ended.returncode}\n--- stdout\n{ended.stdout}\n--- stderr\n{ended.stderr}"


def result(output: Path) -> dict[str, Any]:
    """`job_result.json`."""
    told: dict[str, Any] = json.loads((output / RESULT).read_text())
    return told


def rows(output: Path, name: str = "rows.txt") -> list[str]:
    return (output / name).read_text().splitlines()


def failed_items(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "failed_items.jsonl").read_text().splitlines()]


def tree(folder: Path) -> dict[str, bytes]:
    """All files below `folder` with their contents, but that of the lock; what goes meanwhile is not among them."""
    found: dict[str, bytes] = {}
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if file.is_file() and file.name != "lock":
                found[str(file.relative_to(folder))] = file.read_bytes()
    return found


def wait_until(condition: Callable[[], bool], reason: str, timeout_s: float = TIMEOUT_S) -> None:
    """Until `condition` holds; fails the test, saying for what it waited."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s} s in vain until {reason}"
        time.sleep(0.01)


def processes_with(marker: str) -> list[int]:
    """Processes, beside this one, whose command line or environment holds `marker`."""
    return sorted(pid for pid, text in _all_processes() if marker.encode() in text)


def _all_processes() -> Iterator[tuple[int, bytes]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = Path(entry.path, "cmdline").read_bytes()
                yield int(entry.name), command + b"\0" + Path(entry.path, "environ").read_bytes()
            except OSError:  # It ended meanwhile.
                continue


_RANK = re.compile(rb"\0(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)\0")


def ranks_with(marker: str) -> dict[int, int]:
    """The live ranks of an MPI world that hold `marker`: process id by rank."""
    found: dict[int, int] = {}
    for pid, text in sorted(_all_processes()):
        rank = _RANK.search(text)
        if rank and marker.encode() in text and b"guardian" not in text and b"runtime.processor" not in text:
            found.setdefault(int(rank[1]), pid)
    return found


def notes(folder: Path) -> list[str]:
    """Lines that the entry script of `make_job` left in its file of notes."""
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def open_gate(folder: Path, name: str = "gate") -> None:
    """Lets the entry scripts go on that stand at `gate(name)`."""
    (folder / name).touch()


NOTE = """
import os, sys, time

FOLDER = os.path.dirname(sys.argv[sys.argv.index("--notes") + 1])

def note(text):
    with open(sys.argv[sys.argv.index("--notes") + 1], "a") as file:
        file.write(text + "\\n")

def gate(name="gate"):
    while not os.path.exists(os.path.join(FOLDER, name)):
        time.sleep(0.005)
"""
"""For entry scripts: `note(text)` appends a line to the file that `notes` reads; `gate()` stands still until
`open_gate`."""


GATED = (
    NOTE
    + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(f"{name} {os.getpid()} {os.getcwd()}")
    if name >= "item004":
        gate()
    time.sleep(0.02)  # So long that each is handed over singly, and answered before the next begins.
    return [name]
"""
)
"""An entry script of single items: four are done before all stand at the gate. Notes: name, process id, folder."""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_all(pids: Iterable[int]) -> None:
    """Ranks of one world: a launcher that sees one die kills the others, so that some may be gone before that."""
    for pid in list(pids):
        with contextlib.suppress(ProcessLookupError):
            kill(pid)


class Started:
    """The command line while it runs: what it has said so far can be read. Leaving the context kills it."""

    def __init__(self, folder: Path, *arguments: object, ranks: int | None = None, **options: Any) -> None:
        self._out = folder / f"said-{time.monotonic_ns()}.txt"
        command, variables = command_of(arguments, ranks)
        options["env"] = {**options.get("env", os.environ), **variables}
        with open(self._out, "w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        """On stdout and stderr together."""
        return self._out.read_text(errors="backslashreplace")

    def wait_until(self, condition: Callable[[], bool], reason: str) -> None:
        """Until `condition` holds; fails the test at once if the command has ended and it does not."""
        wait_until(
            lambda: condition() or self.process.poll() is not None, f"{reason}; it has said:\n{self.said}"
        )
        assert condition(), f"exit code {self.process.returncode} before {reason}\n{self.said}"

    def wait_to_say(self, text: str) -> None:
        self.wait_until(lambda: text in self.said, f"it says {text!r}")

    def wait_to_end(self, timeout_s: float = TIMEOUT_S) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)


def one_by_one(
    item_count: Callable[[int], int],
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """For `Facts`: the counts that `item_count` gives for single mini-batches."""

    def counts(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.fromiter(map(item_count, numbers.tolist()), np.int64, len(numbers))

    return counts
