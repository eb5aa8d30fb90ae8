"""A real worker with a real processor: it is killed, and what it leaves behind; it is abandoned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import support
from process import worker_alone

import mpibatch
from mpibatch.messages import Grant, ProcessorSpec, WorkerSetup
from mpibatch.work import Assignment, Paths

MARKER = "TEST_LOST_WORKER"

SCRIPT = (
    support.NOTE
    + """
import subprocess

def run(mini_batch):
    subprocess.Popen(["sleep", "1000"])
    if os.fork() == 0:
        time.sleep(1000)
        os._exit(0)
    note("cwd " + os.getcwd())
    gate()
    return mini_batch
"""
)


class Lone:
    """The process of a worker whose processor is in `run()`, with children of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lost_file = folder / "lost" / "1"
        self.lost_file.parent.mkdir()
        script = folder / "script.py"
        script.write_text(SCRIPT)
        logs = folder / "logs"
        spec = ProcessorSpec(
            name="process001", script=os.fsencode(script), is_module=False, source_directory=None,
            argv=[b"--notes", os.fsencode(folder / "notes")], output_action="summary_only", append_row={},
            datasets=[b"x"], error_file=os.fsencode(logs / "errors"), version=mpibatch.__version__,
        )  # fmt: skip
        setup = WorkerSetup(
            worker=1, processor=spec, python=None, environment={MARKER: os.fsencode(folder)}, environment_keep=[],
            stdout_file=os.fsencode(logs / "out"), stderr_file=os.fsencode(logs / "err"),
            log_file=os.fsencode(logs / "log"), logging_level="DEBUG", run_invocation_timeout_s=600.0,
            init_timeout_s=600.0, kill_grace_s=30.0, heartbeat_s=600.0, silence_s=60.0,
            lost_file=os.fsencode(self.lost_file),
        )  # fmt: skip
        grants = [Grant([Assignment(1, 0, 0, 1, 0, 0, 0, Paths(b"/item"))])]
        (folder / "setup").write_bytes(msgspec.msgpack.encode(setup))
        (folder / "grants").write_bytes(msgspec.msgpack.encode(grants))
        self.process = subprocess.Popen(
            [sys.executable, str(worker_alone.__file__), str(folder)], env=support.from_anywhere()
        )
        support.wait_until(lambda: bool(support.notes(folder)), "its processor is in run()")
        support.wait_until(lambda: len(self.marked()) == 3, "all have their environment")
        (line,) = support.notes(folder)
        self.scratch = Path(line.removeprefix("cwd ")).parent
        assert self.scratch.is_dir()

    def marked(self) -> list[int]:
        """Its processor and the children of that."""
        return support.processes_with(f"{MARKER}={self.folder}")

    def all_gone(self) -> None:
        support.wait_until(lambda: not self.marked(), "the processor and its children are gone")
        support.wait_until(lambda: not self.scratch.exists(), "the scratch folder is removed")

    def end(self) -> None:
        for pid in self.marked():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Lone]:
    lone = Lone(tmp_path)
    yield lone
    lone.end()


def test_a_worker_that_is_killed_leaves_nothing_but_a_notice(lone: Lone) -> None:
    assert not lone.lost_file.exists()
    lone.process.kill()
    lone.process.wait()
    support.wait_until(lone.lost_file.exists, "its guardian has told of it")
    lone.all_gone()


def test_also_where_its_processor_is_stopped(lone: Lone) -> None:
    for pid in lone.marked():
        os.kill(pid, signal.SIGSTOP)
    lone.process.kill()
    lone.process.wait()
    support.wait_until(lone.lost_file.exists, "its guardian has told of it")
    lone.all_gone()


def test_one_that_is_abandoned_leaves_nothing(lone: Lone) -> None:
    (lone.folder / "abandon").touch()
    assert lone.process.wait(30) == 0
    lone.all_gone()
    assert not lone.lost_file.exists()


@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_is_retired_stays_without_a_processor(stopped: bool, lone: Lone) -> None:
    if stopped:
        for pid in lone.marked():
            os.kill(pid, signal.SIGSTOP)
    (lone.folder / "release").touch()
    said = lone.folder / "said"
    support.wait_until(lambda: said.read_text().split() == ["Ready", "Goodbye"], "it has said its last word")
    lone.all_gone()
    assert lone.process.poll() is None, "the rank is to be dismissed by rank 0"
    (lone.folder / "abandon").touch()
    assert lone.process.wait(30) == 0
    assert not lone.lost_file.exists()
