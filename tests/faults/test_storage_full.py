"""Storage that breaks at any moment: a disk that is full at each write, limits of the size of files, a sync, a
write or a rename that fails. A start says which file and ends with 74, loses nothing, and once mended a start
completes.

Each test goes through all moments, one after the other; of most of them only every sixth, but in `make faults`.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import support
from disks import Disk, Ext4, NoDisk

from mpibatch.core import history
from mpibatch.runtime.clock import CLOCK_BYTES
from mpibatch.runtime.journal import read_journal
from mpibatch.runtime.planner import open_plan
from mpibatch.runtime.run_folder import RunFolder

ITEMS = 24
STEP = 1 if "MPIBATCH_FAULTS" in os.environ else 6
"""Of how many moments one is tried."""
INJECTED = Path(__file__).parent / "injected"
LEFT = ("*.partial", "*.partial.*", "new", "compare")
"""Names, below a run folder, of what is only there while something is under way."""

SCRIPT = support.NOTE + """
def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    note(name)
    if name == "item007":
        raise ValueError("always")
    return [name + WIDTH * "x"]

WIDTH = 1000
"""  # fmt: skip


class Run:
    """A job in a folder of its own, whose output goes to `output`, and what an undisturbed run makes of it."""

    def __init__(self, folder: Path, output: Path | None = None, script: str = SCRIPT) -> None:
        self.folder = folder
        self.output = output or folder / "output"
        self.job = support.make_job(folder, script, items=ITEMS, output=str(self.output), run_max_try=1)
        ended = support.mpibatch("run", self.job, "--output", folder / "undisturbed")
        assert ended.returncode == 0, support.words(ended)
        self._expected = (folder / "undisturbed" / "rows.txt").read_bytes()
        self._counts = support.result(folder / "undisturbed")["items"]
        (folder / "notes").unlink()

    def start(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return support.mpibatch("run", self.job, *arguments, **options)

    def kept(self) -> set[str]:
        """Items whose success is durable."""
        folder, found = RunFolder(self.output), set()
        if folder.sessions():
            with open_plan(folder.private) as plan:
                for session in folder.sessions():
                    records, _ = read_journal(folder, session, plan.fingerprint)
                    done = records["mini_batch"][records["kind"] == history.SUCCEEDED]
                    found |= {f"item{number:03d}" for number in done.tolist()}
        return found

    def check_broken(self, ended: subprocess.CompletedProcess[str], *told: str, tidy: bool = True) -> None:
        """It ended with 74, in words that name a file of the run; or nothing that it needs was hit."""
        said = ended.stdout + ended.stderr
        assert "Traceback" not in said, said
        if ended.returncode == 0:
            self.check_complete(tidy=tidy)
            return
        assert ended.returncode == 74, support.words(ended)
        assert (
            str(self.output) in said or "the run folder cannot be written" in said
        ) and "cannot be " in said, said
        for words in told:
            assert words in said, said
        rows = self.output / "rows.txt"  # It appears whole, which is before it is known to be there for good.
        assert not rows.exists() or rows.read_bytes() == self._expected

    def check_complete(self, *, tidy: bool = True) -> None:
        assert (self.output / "rows.txt").read_bytes() == self._expected
        told = support.result(self.output)
        assert (told["verdict"], told["exit_code"]) == ("complete", 0)
        assert told["items"] == self._counts
        (failed,) = support.failed_items(self.output)
        assert failed["item"].endswith("item007") and failed["error"]["type"] == "ValueError"
        assert not tidy or not [left for name in LEFT for left in self.output.rglob(name)]

    def completes(self, *, tidy: bool = True, **options: Any) -> None:
        """A start completes it, and runs nothing of what was kept."""
        kept, before = self.kept(), len(support.notes(self.folder))
        ended = self.start(**options)
        assert ended.returncode == 0, support.words(ended)
        self.check_complete(tidy=tidy)
        assert not kept & set(support.notes(self.folder)[before:])

    def forget(self) -> None:
        """As if it had never been started."""
        subprocess.run(["rm", "-rf", self.output, self.folder / "notes"], check=True)


# A full disk -----------------------------------------------------------------------------------------------------


@contextmanager
def mounted(kind: type[Disk], folder: Path) -> Iterator[Disk]:
    try:
        disk = kind(folder)
    except NoDisk as error:
        pytest.skip(f"a small disk of its own cannot be mounted here: {error}")
    with disk:
        yield disk


@pytest.fixture(params=[Disk, Ext4])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with mounted(request.param, tmp_path / "disk") as disk:
        yield disk


@pytest.mark.parametrize("ranks", [None, pytest.param(2, marks=pytest.mark.mpi)])
def test_a_disk_with_room_for_so_many_blocks(disk: Disk, ranks: int | None, tmp_path: Path) -> None:
    run = Run(tmp_path, disk.folder / "output")
    ended_well = 0
    # By and by the room is enough for the plan, for the journal, the rows, the output and the result.
    rooms = [*range(0, 28, STEP), 60] if ranks is None else [3, 12, 21]
    for room in rooms:
        disk.fill(room)
        ended = run.start(ranks=ranks)
        run.check_broken(ended, "No space left on device", "The disk is full: make room")
        ended_well += ended.returncode == 0
        disk.make_room()
        run.completes(ranks=ranks)
        run.forget()
    assert 0 < ended_well < len(rooms) or ranks


def test_a_disk_that_is_full_again_and_again(tmp_path: Path) -> None:
    """Each start gets a little further."""
    with mounted(Ext4, tmp_path / "disk") as disk:
        run = Run(tmp_path, disk.folder / "output")
        kept: set[str] = set()
        for room in range(4, 40, STEP):
            disk.fill(room)
            run.check_broken(run.start())
            assert kept <= run.kept()
            kept = run.kept()
            disk.make_room()
        run.completes()


PRINTING = SCRIPT.replace(
    "    note(name)", "    note(name); print('o' * 9999); print('e' * 9999, file=sys.stderr, flush=True)"
)


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        (Disk, SCRIPT),
        (Ext4, SCRIPT),
        (Disk, PRINTING),
    ],
    ids=["tmpfs", "ext4", "printing"],
)
def test_logs_on_a_full_disk_do_not_end_a_run(kind: type[Disk], script: str, tmp_path: Path) -> None:
    """The run folder's logs lie on the full disk, all else has room."""
    with mounted(kind, tmp_path / "disk") as disk:
        run = Run(tmp_path, script=script)
        logs = disk.folder / "logs"
        logs.mkdir()
        for room in (0, 1, 2, 3, 5, 8)[:: max(1, STEP // 2)]:
            (run.output / ".mpibatch").mkdir(parents=True)
            (run.output / "logs").symlink_to(logs)
            disk.fill(room)
            ended = run.start("--set", "logging_level=DEBUG")
            assert ended.returncode == 0, support.words(ended)
            run.check_complete()
            disk.make_room()
            run.forget()
            subprocess.run("rm -rf *", shell=True, cwd=logs, check=True)


# Limits of the size of files -------------------------------------------------------------------------------------


def sizes_of_files(folder: Path) -> list[int]:
    return sorted({file.stat().st_size for file in folder.rglob("*") if file.is_file()})


def test_a_limit_of_the_size_of_files_at_each_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    sizes = [size for size in sizes_of_files(tmp_path / "undisturbed") if size]
    limits = sorted({limit for size in sizes for limit in (size // 2, size - 1)})[:: max(1, STEP // 2)]

    def limited(limit: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    broken = 0
    for limit in limits:
        ended = run.start(preexec_fn=partial(limited, limit))
        if ended.returncode == 4:  # Not even a processor's clock could be made, which is no file of the run.
            assert (
                limit < CLOCK_BYTES
                and "cannot be started" in ended.stdout
                and "File too large" in ended.stdout
            )
        else:
            run.check_broken(ended, "File too large", "A file is larger than the limit (ulimit -f): raise it")
        broken += ended.returncode != 0
        run.completes()
        run.forget()
    assert broken > len(limits) // 2


# Calls that fail -------------------------------------------------------------------------------------------------


class Injection:
    """What `injected/sitecustomize.py` is told, and what it tells."""

    def __init__(self, run: Run, calls: list[str], error: int, *, short: bool = False) -> None:
        self._log = run.folder / "calls"
        self._how = {
            "calls": calls, "below": str(run.output), "error": error, "short": short, "log": str(self._log)
        }  # fmt: skip

    def environment(self, nth: int) -> dict[str, str]:
        self._log.unlink(missing_ok=True)
        told = support.from_anywhere()
        told["PYTHONPATH"] = os.pathsep.join([str(INJECTED), told["PYTHONPATH"]])
        return {**told, "BROKEN_STORAGE": json.dumps({**self._how, "nth": nth})}

    @property
    def calls(self) -> list[list[str]]:
        """Number, function, file, and `failed`."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [line.split(" ") for line in lines]

    def failed(self) -> list[str] | None:
        return next((call for call in self.calls if call[-1] == "failed"), None)


def at_each_call(
    run: Run,
    injection: Injection,
    check: Callable[..., None],
    *,
    ranks: int | None = None,
    step: int = STEP,
    tidy: bool = True,
) -> int:
    """A run for each `step`-th call, in which it fails; how many calls there are, about."""
    nth = 1
    while True:
        ended = run.start(ranks=ranks, env=injection.environment(nth))
        if injection.failed() is None:
            assert ended.returncode == 0, support.words(ended)
            return nth
        check(ended)
        run.completes(ranks=ranks, tidy=tidy)
        run.forget()
        nth += step


@pytest.mark.parametrize("ranks", [None, pytest.param(2, marks=pytest.mark.mpi)])
def test_a_sync_that_fails_is_not_tried_again(ranks: int | None, tmp_path: Path) -> None:
    """It may say that all is well the second time, although what was to be written is lost."""
    run = Run(tmp_path)
    injection = Injection(run, ["fsync", "fdatasync"], errno.EIO)

    def check(ended: subprocess.CompletedProcess[str]) -> None:
        assert ended.returncode == 74, f"{injection.failed()}\n{support.words(ended)}"
        run.check_broken(ended, "Input/output error", "The storage failed: have it repaired")
        number, _, file, _ = injection.failed() or []
        again = [call for call in injection.calls[int(number) :] if call[2] == file]
        assert not again or os.path.isdir(file), again

    step = max(1, STEP // 2) if ranks is None else 2 * STEP
    assert at_each_call(run, injection, check, ranks=ranks, step=step) > 15


@pytest.mark.parametrize(
    "calls", [["replace"], ["write", "pwrite"], ["unlink", "rmdir"], ["open"]], ids=" ".join
)
def test_another_call_that_fails(calls: list[str], tmp_path: Path) -> None:
    run = Run(tmp_path)
    injection = Injection(run, calls, errno.EIO)
    tidy = "unlink" not in calls  # What cannot be removed stays.

    def check(ended: subprocess.CompletedProcess[str]) -> None:
        run.check_broken(ended, tidy=tidy)

    at_each_call(run, injection, check, tidy=tidy)


def test_a_write_that_is_cut_short(tmp_path: Path) -> None:
    run = Run(tmp_path)
    injection = Injection(run, ["write", "pwrite"], errno.ENOSPC, short=True)
    assert at_each_call(run, injection, run.check_broken) > 3
