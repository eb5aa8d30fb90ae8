"""Many starts of one run at the same instant: one at a time works, the others are refused in words, or come after
its end and reuse what it made; whatever is in the lease file."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import support
from pipelines import make_pipeline

from mpibatch.core.pipeline import Pipeline
from mpibatch.errors import InputError
from mpibatch.runtime.begin import begin
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.pipeline_file import load_any
from mpibatch.runtime.pipeline_home import owned
from mpibatch.runtime.run_folder import RunFolder

STARTS = 6
ITEMS = 12
SEEDS = range(40 if "MPIBATCH_FAULTS" in os.environ else 3)

SCRIPT = support.NOTE + """
def init():
    note(f"in {os.environ['WHO']}")

def run(mini_batch):
    note(os.path.basename(mini_batch[0]))
    if os.path.basename(mini_batch[0]) == os.environ["GATED"]:
        gate()
    time.sleep(float(os.environ["SLOW"]))
    return [os.path.basename(mini_batch[0])]

def shutdown():
    note(f"out {os.environ['WHO']}")
    time.sleep(float(os.environ["SLOW_END"]))
"""  # fmt: skip
REFUSED = ("is in use by", "another start of this run has just begun", "another start has taken over")


class Race:
    """Starts of one job, each known by its number, and what became of them."""

    def __init__(self, folder: Path, *, slow: float = 0.0, slow_end: float = 0.0, gated: str = "") -> None:
        self.folder = folder
        self.output = folder / "output"
        self.job = support.make_job(folder, SCRIPT, items=ITEMS)
        self._variables = {"SLOW": str(slow), "SLOW_END": str(slow_end), "GATED": gated}
        self.said = ""
        """By those that have ended."""
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: object) -> None:
        variables = support.environment(WHO=str(len(self._started)), **self._variables)
        self._started.append(support.start("run", self.job, *arguments, env=variables))

    def end(self) -> list[int]:
        """All have ended: their exit codes, the words of each looked at."""
        said = [process.communicate(timeout=support.TIMEOUT_S) for process in self._started]
        for process, (out, err) in zip(self._started, said):
            self.said += err
            story = f"exit code {process.returncode}\n{out}\n{err}"
            assert "Traceback" not in story, story
            assert process.returncode in (0, 2), story
            if process.returncode == 2:
                assert any(words in err for words in REFUSED), story
                assert str(self.output) in err, story
        return [process.returncode for process in self._started]

    def check(self, codes: list[int], *, sessions: int | None = 1) -> None:
        """One at a time has worked, the output is right, and a start more reuses it. `sessions`: of the run; of two
        the first has been broken off."""
        assert 0 in codes
        assert support.rows(self.output) == [f"item{number:03d}" for number in range(ITEMS)]
        told = support.result(self.output)
        assert told["items"] == {"total": ITEMS, "succeeded": ITEMS, "failed": 0}
        notes = support.notes(self.folder)
        if sessions != 2:
            check_turns([note.split() for note in notes if note.startswith(("in ", "out "))])
        if sessions is not None:
            assert told["sessions"] == sessions
            assert sorted({note for note in notes if note.startswith("item")}) == support.rows(self.output)
        private = RunFolder(self.output).private
        assert not (private / "lease.json").exists() and not list(self.output.rglob("*.partial*"))
        again = support.mpibatch("run", self.job)
        assert again.returncode == 0 and "complete already" in again.stdout, support.words(again)


def check_turns(turns: list[list[str]]) -> None:
    """No processor of a start has begun before that of the one before it had ended."""
    assert turns and len(turns) % 2 == 0
    for (begun, who), (ended, same) in zip(turns[::2], turns[1::2]):
        assert (begun, ended) == ("in", "out") and who == same, turns


@pytest.mark.parametrize("seed", SEEDS)
def test_many_starts_at_the_same_instant(seed: int, tmp_path: Path) -> None:
    luck = random.Random(seed)
    race = Race(tmp_path, slow=luck.choice([0, 0.02, 0.5]), slow_end=luck.choice([0, 0.5]))
    for _ in range(STARTS):
        race.start()
        time.sleep(luck.choice([0, 0, 0.01, 0.1, 0.4]))
    race.check(race.end())


@pytest.mark.parametrize("seed", SEEDS)
def test_starts_while_the_first_one_is_ending(seed: int, tmp_path: Path) -> None:
    """Its rows are all there, and it finalises, writes its results, lets its processors end."""
    luck = random.Random(seed)
    race = Race(tmp_path, slow_end=luck.choice([0.2, 1.0, 6.5]))
    race.start()
    support.wait_until(lambda: "item011" in support.notes(tmp_path), "the last mini-batch has begun")
    for _ in range(STARTS - 1):
        time.sleep(luck.choice([0, 0.01, 0.1, 0.3]))
        race.start()
    race.check(race.end())


@pytest.mark.parametrize("seed", SEEDS)
def test_fresh_starts_at_the_same_instant(seed: int, tmp_path: Path) -> None:
    """Each that gets its turn does all of it anew; none removes what another is writing."""
    luck = random.Random(seed)
    race = Race(tmp_path, slow=luck.choice([0, 0.02]))
    for _ in range(STARTS):
        race.start("--fresh")
        time.sleep(luck.choice([0, 0.05, 0.4]))
    codes = race.end()
    race.check(codes, sessions=None)
    notes = support.notes(tmp_path)
    assert all(notes.count(f"item{number:03d}") == codes.count(0) for number in range(ITEMS)), notes


# A start that looked before another one made the folder, and gets its turn after it ------------------------------


@pytest.mark.parametrize("arguments", [{"fresh": True}, {"fresh": False, "only_failed": True}])
def test_a_late_start_that_fails_removes_nothing_of_the_run(
    arguments: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    race = Race(tmp_path)
    race.start()
    race.check(race.end())
    folder = RunFolder(race.output)
    job = load_job(str(race.job))
    monkeypatch.setattr("mpibatch.runtime.begin.make_folder", lambda _: [folder.private, folder.root])

    def fails(*_: object) -> None:
        raise InputError("what is wrong with the inputs")

    monkeypatch.setattr("mpibatch.runtime.begin.run_prepare", fails)
    before = support.tree(race.output)
    with pytest.raises(InputError):
        begin(job, say=print, **arguments)  # type: ignore[arg-type]

    after = support.tree(race.output)
    assert {name: data for name, data in after.items() if name != ".mpibatch/lock"} == {
        name: data for name, data in before.items() if name != ".mpibatch/lock"
    }
    race.check([0])


def test_a_late_start_of_a_pipeline_that_is_refused_removes_nothing(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path)
    pipeline = load_any(str(file))
    assert isinstance(pipeline, Pipeline)
    with owned(pipeline, fresh=False, say=print):
        before = _without_lease(Path(pipeline.output))
        command = [sys.executable, "-c", LATE.format(file=str(file))]
        late = subprocess.run(command, capture_output=True, text=True, timeout=support.TIMEOUT_S, check=False)
        assert late.returncode == 0, late.stderr
        assert _without_lease(Path(pipeline.output)) == before
    ended = support.mpibatch("run", file)
    assert ended.returncode == 0, support.words(ended)


def _without_lease(output: Path) -> dict[str, bytes]:
    """The files of a run whose owner lives, and writes its lease anew every few seconds."""
    return {name: data for name, data in support.tree(output).items() if name != ".mpibatch/lease.json"}


LATE = """
import mpibatch.runtime.lease, mpibatch.runtime.pipeline_home as home
from mpibatch.errors import RunFolderError
from mpibatch.runtime.pipeline_file import load_any
from mpibatch.runtime.run_folder import RunFolder
pipeline = load_any({file!r})
folder = RunFolder(pipeline.output)
home.make_folder = lambda _: [folder.private, folder.root]
mpibatch.runtime.lease.DYING_S = 0.0
try:
    with home.owned(pipeline, fresh=False, say=print):
        raise AssertionError
except RunFolderError:
    pass
"""


# Whatever is in the lease file -----------------------------------------------------------------------------------


def lease_of(**changes: Any) -> bytes:
    """That of a process of this host which is gone."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    lease = {
        "host": socket.gethostname(), "boot_id": boot_id, "pid": 2**22 + 1, "started": 1, "slurm_job": None,
        "renewed": time.time(), "session": 1,
    }  # fmt: skip
    return json.dumps(lease | changes).encode()


LEFT: dict[str, bytes] = {
    "nothing": b"",
    "zeros": bytes(300),
    "no JSON": b"\xff\xfe{]",
    "half a lease": lease_of()[:60],
    "another form": b'{"owner": "somebody"}',
    "a list": b"[]",
    "wrong types": lease_of(pid="x"),
    "a huge number": lease_of(pid=10**30),
    "a negative process": lease_of(pid=-1),
    "deep": b"[" * 100_000,
    "a dead process": lease_of(),
    "from the future": lease_of(renewed=4e9),
    "without a time": lease_of(renewed=-1),
    "a number used again": lease_of(pid=os.getppid(), started=7),
    "before this host's last start": lease_of(boot_id="0" * 36),
}


WATCHES = "to see whether it is alive"


@pytest.mark.parametrize("left", LEFT)
def test_a_lease_that_says_nothing_of_a_living_owner(left: str, tmp_path: Path) -> None:
    race = Race(tmp_path)
    private = RunFolder(race.output).private
    private.mkdir(parents=True)
    (private / "lease.json").write_bytes(LEFT[left])
    for _ in range(2):
        race.start()
    race.check(race.end())
    assert WATCHES not in race.said, "it is seen at once that nobody is there"


def test_a_lease_of_another_host_whose_owner_is_gone(tmp_path: Path) -> None:
    """It is watched for a lease's time: nobody renews it."""
    race = Race(tmp_path)
    private = RunFolder(race.output).private
    private.mkdir(parents=True)
    (private / "lease.json").write_bytes(lease_of(host="elsewhere", boot_id="1" * 36))
    race.start()
    race.check(race.end())
    assert WATCHES in race.said


@pytest.mark.parametrize("changes", [{}, {"renewed": 4e9}])
def test_a_lease_of_a_living_process_without_its_lock(changes: dict[str, Any], tmp_path: Path) -> None:
    """As on a file system that does not carry locks between containers of one host."""
    race = Race(tmp_path)
    private = RunFolder(race.output).private
    private.mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as owner:
        alive = lease_of(pid=owner.pid, started=process_started(owner.pid), **changes)
        (private / "lease.json").write_bytes(alive)
        race.start()
        assert race.end() == [2]
        assert (private / "lease.json").read_bytes() == alive
        owner.kill()
    race.start()
    race._started = race._started[1:]
    race.check(race.end())


def test_the_lease_is_taken_away_while_the_run_goes_on(tmp_path: Path) -> None:
    """Somebody tidies up `.mpibatch`: the run stops, says so, and its folder is sound."""
    race = Race(tmp_path, gated="item001")
    race.start()
    lease = RunFolder(race.output).private / "lease.json"
    support.wait_until(lambda: "item001" in support.notes(tmp_path), "the second mini-batch has begun")
    lease.unlink()
    (process,) = race._started
    out, err = process.communicate(timeout=support.TIMEOUT_S)
    assert process.returncode == 75, out + err
    assert "its lease is gone" in out + err and "Traceback" not in out + err
    race._started = []
    support.open_gate(tmp_path)
    race.start()
    race.check(race.end(), sessions=2)
