"""What rank 0 tells the batch script: the exit code, and whether the job is to go on by itself."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support
from support import NOTE, Started, make_job, mpibatch, open_gate

HELD = NOTE + "\ndef run(mini_batch):\n    gate()\n    return mini_batch\n"
PLAIN = "def run(mini_batch):\n    return mini_batch\n"


def told(folder: Path) -> str:
    file = folder / "end"
    return file.read_text() if file.exists() else ""


def variables(folder: Path) -> dict[str, str]:
    return support.environment(MPIBATCH_END_FILE=str(folder / "end"))


@pytest.mark.parametrize(
    ("script", "keys", "want"),
    [
        (PLAIN, {}, "0 other\n"),
        (
            "def run(mini_batch):\n    raise ValueError\n",
            {"error_threshold": 0, "run_max_try": 1},
            "3 other\n",
        ),
        ("def init():\n    raise OSError\n" + PLAIN, {}, "4 other\n"),
    ],
)
def test_the_end_of_a_run(script: str, keys: dict[str, Any], want: str, tmp_path: Path) -> None:
    mpibatch("run", make_job(tmp_path, script, **keys), env=variables(tmp_path))
    assert told(tmp_path) == want


def test_a_job_that_is_wrong(tmp_path: Path) -> None:
    ended = mpibatch("run", make_job(tmp_path, PLAIN, nodes=2), env=variables(tmp_path))
    assert ended.returncode == 2
    assert told(tmp_path) in ("", "2\n")


def test_a_run_that_is_reused_is_complete(tmp_path: Path) -> None:
    job = make_job(tmp_path, PLAIN)
    assert mpibatch("run", job).returncode == 0
    assert mpibatch("run", job, env=variables(tmp_path)).returncode == 0
    assert told(tmp_path) == "0\n"


def ask_by_signal(run: Started, folder: Path) -> None:
    run.process.send_signal(signal.SIGTERM)


def ask_by_file(run: Started, folder: Path) -> None:
    (folder / "output" / ".mpibatch" / "stop").write_text("drain")


@pytest.mark.parametrize(("ask", "want"), [(ask_by_signal, "75 batch\n"), (ask_by_file, "75 other\n")])
def test_who_asked_for_the_end(ask: Callable[[Started, Path], None], want: str, tmp_path: Path) -> None:
    job = make_job(tmp_path, HELD)
    with Started(tmp_path, "run", job, env=variables(tmp_path)) as run:
        run.wait_until(lambda: told(tmp_path) == "session\n", "it has said so")
        ask(run, tmp_path)
        run.wait_to_say("stopping (")
        open_gate(tmp_path)
        assert run.wait_to_end() == 75
        assert f"mpibatch submit {job}" in run.said
    assert told(tmp_path) == want


def test_the_wall_time_is_the_batch_systems(tmp_path: Path) -> None:
    job = make_job(tmp_path, HELD, time_limit=4, drain_margin=3)
    with Started(tmp_path, "run", job, env=variables(tmp_path)) as run:
        assert run.wait_to_end() == 75
    assert told(tmp_path) == "75 batch\n"


def test_a_run_that_is_killed_has_not_told_its_end(tmp_path: Path) -> None:
    job = make_job(tmp_path, HELD)
    with Started(tmp_path, "run", job, env=variables(tmp_path)) as run:
        run.wait_until(lambda: told(tmp_path) == "session\n", "it runs")
        support.kill(run.process.pid)
        run.wait_to_end()
    assert told(tmp_path) == "session\n"


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    assert mpibatch("run", make_job(tmp_path, PLAIN), env=variables(folder)).returncode == 0
