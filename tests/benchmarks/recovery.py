"""Times how fast a run goes on after something of it was killed, against what the issues promise.

    python tests/benchmarks/recovery.py [--rounds 7] [--finished 1000000]

Each round is a real run of two workers under the local mpiexec, in which each mini-batch sleeps for some
milliseconds. Something is killed with SIGKILL; measured is the time from there to the first mini-batch that only
runs because the loss was made good, without the `init()` of that processor:

* a processor;
* a worker rank, where the others can go on without it (Open MPI, `mpiexec --with-ft ulfm`): until another worker
  is at the mini-batch that it was at;
* rank 0 with all others, where nobody goes on: from the start of the same command to its first mini-batch, once
  with little in the journal, once with `--finished` mini-batches, for each million of which 0.5 s are allowed.

Prints the median and the slowest of the rounds. Exit code 1 where a median misses its target.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mpibatch.local_world import find_mpiexec, is_open_mpi, launcher_command

HOME = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
SCRIPT = """
import os, sys, time

notes = open(sys.argv[sys.argv.index("--notes") + 1], "a", buffering=1)

def note(what):
    notes.write(f"{what} {os.getpid()} {time.monotonic()}\\n")

def init():
    note("init")
    note("ready")

count = 0

def run(mini_batch):
    global count
    count += 1
    if count <= 10 or sys.argv[-1] == "slow":
        note(f"run{mini_batch[0]}")
    if sys.argv[-1] == "slow":
        time.sleep(0.02)
    return mini_batch
"""
JOB = """
name: recovery
entry_script: script.py
arguments: [--notes, "${job_dir}/notes", slow]
inputs: [{list: names.txt, check: false}]
mini_batch_size: 1
process_count_per_node: 2
output: output
"""


class Note(NamedTuple):
    what: str
    """`init` begins, `ready`: it has ended, `run/data/7`: that item begins."""
    pid: int
    at: float


class Scene:
    """A run in full swing. `launcher`: the command before that of mpibatch."""

    def __init__(
        self,
        folder: Path,
        launcher: tuple[list[str], dict[str, str]] = ([], {}),
        *sets: str,
        items: int = 100_000,
    ) -> None:
        self.folder = folder
        self._notes = folder / "notes"
        (folder / "names.txt").write_text("".join(f"/data/{number}\n" for number in range(items)))
        (folder / "script.py").write_text(SCRIPT)
        (folder / "job.yaml").write_text(JOB)
        words, self._variables = launcher
        options = [word for one in sets for word in ("--set", one)]
        self._command = [
            *words, sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml"), *options,
        ]  # fmt: skip
        self.process = self.start()
        self.wait_for(lambda notes: bool(notes) and notes[-1].what.startswith("run"))

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._variables, "TMPDIR": str(self.folder)}
        with open(self.folder / "said", "a") as said:
            self.process = subprocess.Popen(
                self._command, stdout=said, stderr=said, cwd=HOME, env=environment, start_new_session=True
            )
        return self.process

    def notes(self) -> list[Note]:
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        split = [line.split() for line in lines]
        return [Note(words[0], int(words[1]), float(words[2])) for words in split if len(words) == 3]

    def wait_for(self, condition: Callable[[list[Note]], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition(self.notes()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"the run does not go on: {self._notes.with_name('said').read_text()}")
            time.sleep(0.005)

    def successor(self, known: set[int], killed_at: float) -> float:
        """Seconds from the kill to the first mini-batch of a processor that is not `known`, less its `init()`."""
        self.wait_for(
            lambda notes: any(note.what.startswith("run") and note.pid not in known for note in notes)
        )
        first: dict[str, float] = {}
        for note in self.notes():
            if note.pid not in known:
                first.setdefault(note.what.partition("/")[0], note.at)
        return first["run"] - killed_at - (first["ready"] - first["init"])

    def end(self) -> None:
        """Ask for a stop; what is being done ends."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


def two_at_work(folder: Path, launcher: tuple[list[str], dict[str, str]] = ([], {}), *sets: str) -> Scene:
    scene = Scene(folder, launcher, *sets)
    scene.wait_for(lambda notes: len({note.pid for note in notes if note.what.startswith("run")}) == 2)
    return scene


def kill_processor(folder: Path) -> tuple[Scene, float]:
    scene = two_at_work(folder)
    known = {note.pid for note in scene.notes()}
    at = time.monotonic()
    os.kill(max(known), signal.SIGKILL)
    return scene, scene.successor(known, at)


def kill_worker_rank(folder: Path) -> tuple[Scene, float]:
    words, variables = launcher_command(find_mpiexec(), 3)
    scene = two_at_work(folder, ([words[0], "--with-ft", "ulfm", *words[1:]], variables))
    pid = max(note.pid for note in scene.notes())
    rank = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    at = time.monotonic()
    os.kill(rank, signal.SIGKILL)
    time.sleep(0.1)  # Its guardian ends its processor meanwhile.
    item = [note.what for note in scene.notes() if note.pid == pid][-1]
    scene.wait_for(lambda notes: any(note.what == item and note.pid != pid for note in notes))
    return scene, next(note.at for note in scene.notes() if note.what == item and note.pid != pid) - at


def kill_rank_0(folder: Path) -> tuple[Scene, float]:
    return _started_again(Scene(folder, ([], {}), "process_count_per_node=1"), 0)


def kill_rank_0_late(finished: int) -> Callable[[Path], tuple[Scene, float]]:
    def fault(folder: Path) -> tuple[Scene, float]:
        sets = ("process_count_per_node=1", "arguments.2=fast")
        return _started_again(Scene(folder, ([], {}), *sets, items=finished + finished // 4), finished)

    return fault


def _started_again(scene: Scene, finished: int) -> tuple[Scene, float]:
    """Kill it once so many mini-batches are in the journal, and start the same command again."""
    journal = scene.folder / "output" / ".mpibatch" / "session-0001.journal"
    while not journal.exists() or journal.stat().st_size < 64 * max(finished, 2):
        if scene.process.poll() is not None:
            raise SystemExit("it was over before it was to be killed")
        time.sleep(0.005)
    os.killpg(scene.process.pid, signal.SIGKILL)
    scene.process.wait()
    time.sleep(1.0)  # What it has started ends too.
    known = {note.pid for note in scene.notes()}
    at = time.monotonic()
    scene.start()
    return scene, scene.successor(known, at)


class Row(NamedTuple):
    what: str
    target_s: float
    fault: Callable[[Path], tuple[Scene, float]]
    """Does it, in an empty folder; the run, and how long it took to recover."""


def rows_for(finished: int) -> list[Row]:
    rows = [Row("a processor is killed", 0.5, kill_processor)]
    if is_open_mpi(find_mpiexec()):
        rows.append(Row("a worker rank is killed (ulfm)", 3.0, kill_worker_rank))
    rows.append(Row("rank 0, started again", 1.0, kill_rank_0))
    what = f"the same, {finished:,} finished"
    return [*rows, Row(what, 1.0 + 0.5 * finished / 1e6, kill_rank_0_late(finished))]


def main() -> int:
    parser = argparse.ArgumentParser(description="how fast a run goes on after a kill")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--finished", type=int, default=1_000_000)
    given = parser.parse_args()
    return sum(measure(row, given.rounds) for row in rows_for(given.finished)) and 1


def measure(row: Row, rounds: int) -> int:
    """Prints one row; 1 if its target is missed."""
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="mpibatch-recovery-") as name:
            scene, recovered_s = row.fault(Path(name))
            seconds.append(recovered_s)
            scene.end()
    median = statistics.median(seconds)
    missed = median > row.target_s
    verdict = "MISSED" if missed else "met"
    print(
        f"{row.what:<32} median {median:.3f} s, slowest {max(seconds):.3f} s  target <= {row.target_s} s: {verdict}"
    )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
