"""Surveys in which something dies or is stopped: real worlds of ranks, and rank 0 by itself."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import deadly
import pandas as pd
import pytest
import support

from mpibatch.runtime.surveying.rounds import IN_PLACE

pytestmark = pytest.mark.mpi

ROWS = 5


def table(folder: Path, names: tuple[str, ...] = ("a", "c", "d")) -> None:
    for number, name in enumerate(names):
        data = pd.DataFrame({"x": range(number * ROWS, (number + 1) * ROWS)})
        data.to_parquet(folder / f"{name}.parquet", index=False)


def make(folder: Path, **keys: Any) -> Path:
    return support.make_job(
        folder, "def run(df): return df.x.tolist()", items=0, inputs=[{"parquet": "*.parquet"}],
        mini_batch_size="2 rows", **keys,
    )  # fmt: skip


def one_file_fails(job: Path, ranks: int | None, env: dict[str, str], why: str) -> str:
    """The run is complete but for one file, of which it is told why; what was said."""
    ended = support.mpibatch("run", job, ranks=ranks, env=env)
    assert ended.returncode == 0, support.words(ended)
    output = job.parent / "output"
    assert support.result(output)["items"] == {"total": 3 * ROWS + 1, "succeeded": 3 * ROWS, "failed": 1}
    assert support.rows(output) == [str(number) for number in range(3 * ROWS)]
    (failed,) = support.failed_items(output)
    assert "deadly.parquet" in failed["item"] and why in failed["error"]["message"]
    assert "1 of 4 files cannot be read" in ended.stderr and why in ended.stderr
    assert not support.processes_with(str(job.parent))
    return ended.stderr


@pytest.mark.parametrize("ranks", [None, 2, 3])
def test_a_file_that_kills_the_library_is_one_failed_item(tmp_path: Path, ranks: int | None) -> None:
    table(tmp_path)
    deadly.deadly_parquet(tmp_path / "deadly.parquet")
    one_file_fails(make(tmp_path), ranks, support.environment(), "its reader died: SIGABRT")


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize(
    ("deed", "why"),
    [
        ("signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGSEGV)", "died: SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died: SIGKILL"),
        ("raise TypeError('a bytes-like object')", "TypeError: a bytes-like object"),
    ],
)
def test_on_the_workers_too(tmp_path: Path, ranks: int, deed: str, why: str) -> None:
    table(tmp_path, ("a", "c", "d", "deadly"))
    env = {**deadly.deadly_reader(tmp_path / "site", deed), IN_PLACE: "0"}
    said = one_file_fails(make(tmp_path), ranks, env, why)
    assert "surveying the inputs on the workers" in said


def test_where_each_file_kills_its_reader_the_job_is_refused(tmp_path: Path) -> None:
    table(tmp_path, ("deadly1", "deadly2"))
    env = {**deadly.deadly_reader(tmp_path / "site", "os._exit(3)"), IN_PLACE: "0"}
    ended = support.mpibatch("run", make(tmp_path), ranks=2, env=env)
    assert ended.returncode == 2, support.words(ended)
    assert "None of the 2 files can be read" in ended.stderr and "exit code 3" in ended.stderr
    assert not (tmp_path / "output").exists()


# Stops

MANY = 60
"""Files that are not handed out yet while a worker stands still."""
STANDING = "open({began!r}, 'w').close()\nwhile not os.path.exists({gate!r}): time.sleep(0.01)"


def standing(folder: Path) -> dict[str, str]:
    """Variables for a survey that stands still at the file "deadly" once the file `began` is there."""
    deed = STANDING.format(began=str(folder / "began"), gate=str(folder / "gate"))
    return {**deadly.deadly_reader(folder / "site", deed), IN_PLACE: "0"}


def status(folder: Path) -> tuple[dict[str, Any], str]:
    told = [support.mpibatch("status", folder, *more) for more in (["--json"], [])]
    assert all(one.returncode == 0 for one in told), support.words(told[0])
    return json.loads(told[0].stdout), told[1].stdout


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)], ids=["SIGINT", "SIGTERM"]
)
def test_a_stop_says_what_is_kept_and_the_next_start_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    table(tmp_path, ("deadly", *(f"file{number}" for number in range(10, 10 + MANY))))
    job = make(tmp_path, process_count_per_node=1)
    env = standing(tmp_path)
    with support.Started(tmp_path, "run", job, ranks=2, env=env) as run:
        run.wait_until((tmp_path / "began").exists, "the file is looked at")
        output = tmp_path / "output"
        run.wait_until(lambda: bool(status(output)[0]["survey"]), "status tells of the survey")
        told, text = status(output)
        assert told["state"] == "running" and told["survey"]["total"] == 1 + MANY
        assert re.search(r"surveying the inputs: \d of 61 parts", text)
        os.kill(support.ranks_with(str(tmp_path))[0], number)
        run.wait_to_say(f"stopping (got {number.name})")
        support.open_gate(tmp_path)
        assert run.wait_to_end() == code, run.said
    assert re.search(rf"stopped while the inputs were surveyed \(got {number.name}\)", run.said), run.said
    assert re.search(r"\d of 61 parts are surveyed, and kept\. Start the same command again", run.said)
    support.wait_until(lambda: not support.ranks_with(str(tmp_path)), "its ranks have ended")
    ended = support.mpibatch("run", job, ranks=2, env=env)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [str(number) for number in range((1 + MANY) * ROWS)]


def test_a_worker_that_is_lost_in_the_survey_costs_neither_it_nor_the_run(tmp_path: Path) -> None:
    table(tmp_path, ("deadly", *(f"file{number}" for number in range(10, 20))))
    job = make(tmp_path, process_count_per_node=2, heartbeat_timeout=6, shutdown_timeout=2)
    worker = f"open({str(tmp_path / 'worker')!r}, 'w').write(str(os.getppid()))\n"
    deed = worker + STANDING.format(began=str(tmp_path / "began"), gate=str(tmp_path / "gate"))
    env = {**deadly.deadly_reader(tmp_path / "site", deed), IN_PLACE: "0"}
    with support.Started(tmp_path, "run", job, ranks=3, env=env) as run:
        run.wait_until((tmp_path / "began").exists, "the file is looked at")
        os.kill(int((tmp_path / "worker").read_text()), signal.SIGSTOP)
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said
        assert "surveying the inputs on the workers" in run.said
    assert support.rows(tmp_path / "output") == [str(number) for number in range(11 * ROWS)]
    support.wait_until(lambda: not support.processes_with(str(tmp_path / "site")), "all has ended")


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    table(tmp_path, ("a", "deadly"))
    job = make(tmp_path, process_count_per_node=1)
    with support.Started(tmp_path, "run", job, ranks=2, env=standing(tmp_path)) as run:
        run.wait_until((tmp_path / "began").exists, "the file is looked at")
        rank0 = support.ranks_with(str(tmp_path))[0]
        os.kill(rank0, signal.SIGINT)
        run.wait_to_say("stopping (got SIGINT)")
        os.kill(rank0, signal.SIGINT)
        assert run.wait_to_end() == 130, run.said
    support.wait_until(lambda: not support.processes_with(str(tmp_path / "site")), "all has ended")


def test_a_survey_is_stopped_through_the_run_folder(tmp_path: Path) -> None:
    table(tmp_path, ("deadly", *(f"file{number}" for number in range(10, 10 + MANY))))
    job = make(tmp_path, process_count_per_node=1)
    output = tmp_path / "output"
    with support.Started(tmp_path, "run", job, ranks=2, env=standing(tmp_path)) as run:
        run.wait_until((tmp_path / "began").exists, "the file is looked at")
        run.wait_until(lambda: bool(status(output)[0]["survey"]), "status tells of the survey")
        asked = support.mpibatch("stop", output)
        assert asked.returncode == 0, support.words(asked)
        run.wait_to_say("stopping (asked to by")
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 75, run.said
    assert "stopped while the inputs were surveyed (asked to by" in run.said, run.said
    support.wait_until(lambda: not support.processes_with(str(tmp_path / "site")), "all has ended")


def test_a_stop_in_place_is_noticed(tmp_path: Path) -> None:
    """Without workers that could be asked: a library that does not come back."""
    table(tmp_path, ("a", "deadly"))
    job = make(tmp_path)
    env = {**standing(tmp_path), IN_PLACE: "1000"}
    with support.Started(tmp_path, "run", job, env=env) as run:
        run.wait_until((tmp_path / "began").exists, "the file is looked at")
        run.process.send_signal(signal.SIGINT)
        assert run.wait_to_end() == 130, run.said
    assert not (tmp_path / "output").exists()
    assert not support.processes_with(str(tmp_path / "site"))


def test_a_wrong_setting_is_told_of_in_words(tmp_path: Path) -> None:
    table(tmp_path)
    ended = support.mpibatch("run", make(tmp_path), env=support.environment(**{IN_PLACE: "soon"}))
    assert ended.returncode == 2, support.words(ended)
    assert f"the environment variable {IN_PLACE} is 'soon'" in ended.stderr
    assert "Traceback" not in ended.stderr and not (tmp_path / "output").exists()
