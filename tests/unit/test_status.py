"""`mpibatch status`, from files that lie in a folder; the owner of a run is a real process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mpibatch.errors import RunFolderError, StorageError
from mpibatch.monitor.status import Survey, read_status, status_json, status_text
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts, Snapshot
from mpibatch.runtime.lease import LeaseRecord, process_started

NOW = 1_700_000_000.0
ITEMS = ItemCounts(total=1797, succeeded=894, failed=3)
MINI_BATCHES = MiniBatchCounts(total=360, succeeded=179, failed=1, attempts=182)


def lease(**changes: Any) -> LeaseRecord:
    """A lease of this process."""
    usual = LeaseRecord(
        host=os.uname().nodename,
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid=os.getpid(),
        started=process_started(os.getpid()) or 0,
        slurm_job=None,
        renewed=NOW - 1,
        session=2,
    )
    return msgspec.structs.replace(usual, **changes)


def progress(**changes: Any) -> Snapshot:
    usual = Snapshot(
        name="digits",
        session=2,
        host="node1",
        pid=17,
        written_at=NOW - 2,
        elapsed_s=12.0,
        workers=2,
        workers_ready=2,
        in_flight=4,
        items=ITEMS,
        mini_batches=MINI_BATCHES,
        rows=894,
        rows_per_s=145.0,
        mini_batches_per_s=29.0,
        remaining_s=125.0,
    )
    return msgspec.structs.replace(usual, **changes)


def result(**changes: Any) -> JobResult:
    usual = JobResult(
        verdict="complete",
        exit_code=0,
        reason="",
        items=ItemCounts(total=1797, succeeded=1797, failed=0),
        mini_batches=MiniBatchCounts(total=360, succeeded=360, failed=0, attempts=360),
        rows=1797,
        elapsed_s=12.0,
        processing_s=10.0,
        mini_batches_per_s=36.0,
        sessions=2,
        output="/runs/digits/rows.txt",
        first_cause=None,
    )
    return msgspec.structs.replace(usual, **changes)


def write(folder: Path, *words: LeaseRecord | Snapshot | JobResult) -> None:
    names = {
        LeaseRecord: ".mpibatch/lease.json",
        Snapshot: ".mpibatch/progress.json",
        JobResult: "job_result.json",
    }
    (folder / ".mpibatch").mkdir(exist_ok=True)
    for word in words:
        (folder / names[type(word)]).write_bytes(msgspec.json.encode(word))


def state(folder: Path) -> str:
    return read_status(folder, clock=lambda: NOW).state


def text(folder: Path) -> str:
    return status_text(read_status(folder, clock=lambda: NOW))


@pytest.fixture
def ended_pid() -> int:
    """The pid of a process that has ended and was waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


# States


def test_running(tmp_path: Path) -> None:
    write(tmp_path, lease(), progress())
    status = read_status(tmp_path, clock=lambda: NOW)
    assert (status.state, status.session, status.progress_age_s) == ("running", 2, 2.0)
    assert (status.owner, status.progress, status.result) == (lease(), progress(), None)


def test_running_though_an_earlier_session_has_left_a_result(tmp_path: Path) -> None:
    write(tmp_path, lease(), progress(), result(sessions=1, verdict="stopped", exit_code=75))
    assert state(tmp_path) == "running"


def test_progress_of_an_earlier_session_is_not_shown_as_this_ones(tmp_path: Path) -> None:
    write(tmp_path, lease(), progress(session=1))
    assert read_status(tmp_path).progress is None
    assert "the session is starting" in text(tmp_path)


def test_ended(tmp_path: Path) -> None:
    write(tmp_path, progress(), result())
    assert state(tmp_path) == "ended"
    write(tmp_path, lease())  # Its owner, about to end.
    assert state(tmp_path) == "ended"


def test_dead_by_its_pid(tmp_path: Path, ended_pid: int) -> None:
    write(tmp_path, lease(pid=ended_pid), progress())
    assert state(tmp_path) == "dead"


def test_dead_though_its_pid_is_used_again(tmp_path: Path) -> None:
    write(tmp_path, lease(started=lease().started - 1))
    assert state(tmp_path) == "dead"


def test_dead_while_nobody_has_waited_for_it_yet(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        write(tmp_path, lease(pid=child.pid, started=process_started(child.pid)))
        assert state(tmp_path) == "running"
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert state(tmp_path) == "dead"
    finally:
        child.kill()
        child.communicate()


def test_dead_without_a_lease(tmp_path: Path) -> None:
    write(tmp_path, progress(), result(sessions=1))
    assert state(tmp_path) == "dead"


def test_dead_where_only_a_journal_was_left(tmp_path: Path) -> None:
    write(tmp_path, result())
    assert state(tmp_path) == "ended"
    (tmp_path / ".mpibatch" / "session-0003.journal").touch()
    assert state(tmp_path) == "dead"


@pytest.mark.parametrize(("age_s", "expected"), [(59, "running"), (61, "dead"), (-3, "running")])
def test_an_owner_elsewhere_is_judged_by_its_renewals(tmp_path: Path, age_s: int, expected: str) -> None:
    write(tmp_path, lease(host="elsewhere", renewed=NOW - age_s))
    assert state(tmp_path) == expected


def test_dead_before_this_host_was_started_again(tmp_path: Path) -> None:
    write(tmp_path, lease(boot_id="another"))
    assert state(tmp_path) == "dead"


def test_a_start_that_has_no_number_yet_is_running(tmp_path: Path) -> None:
    write(tmp_path, lease(session=0), progress(), result())
    status = read_status(tmp_path)
    assert (status.state, status.session, status.progress) == ("running", 2, None)
    assert "state         running: a start after session 2 (process" in status_text(status)


def write_survey(folder: Path, name: str, **changes: Any) -> None:
    survey = folder / ".mpibatch" / "survey" / name / ".mpibatch"
    survey.mkdir(parents=True)
    (survey / "progress.json").write_bytes(msgspec.json.encode(progress(**changes)))


def test_a_start_that_surveys_its_inputs(tmp_path: Path) -> None:
    write(tmp_path, lease(session=0), progress(), result())
    own: dict[str, Any] = {"host": os.uname().nodename, "pid": os.getpid(), "session": 1}
    write_survey(tmp_path, "survey-1", **own, written_at=NOW - 60)
    parts = MiniBatchCounts(total=64, succeeded=11, failed=1, attempts=14)
    write_survey(tmp_path, "survey-2", **own, written_at=NOW - 3, mini_batches=parts)
    write_survey(tmp_path, "survey-3", **{**own, "pid": 1}, written_at=NOW)
    (tmp_path / ".mpibatch" / "survey" / "survey-4").mkdir()
    status = read_status(tmp_path, clock=lambda: NOW)
    assert (status.state, status.progress) == ("running", None)
    assert status.survey == Survey(total=64, surveyed=12, age_s=3.0)
    assert "progress      surveying the inputs: 12 of 64 parts, 3.0 s ago" in text(tmp_path)
    assert json.loads(status_json(status))["survey"] == {"total": 64, "surveyed": 12, "age_s": 3.0}


@pytest.mark.parametrize("session", [0, 2])
def test_a_survey_of_an_earlier_start_is_not_shown(tmp_path: Path, session: int) -> None:
    write(tmp_path, lease(session=session), progress())
    earlier = {} if session == 0 else {"host": os.uname().nodename, "pid": os.getpid()}
    write_survey(tmp_path, "survey-1", **earlier)
    assert read_status(tmp_path, clock=lambda: NOW).survey is None
    assert "surveying" not in text(tmp_path)


def test_a_start_that_died_leaves_the_run_as_it_was(tmp_path: Path, ended_pid: int) -> None:
    write(tmp_path, lease(session=0, pid=ended_pid), result())
    assert state(tmp_path) == "ended"
    (tmp_path / "job_result.json").unlink()
    assert "state         dead: its start was broken off (process" in text(tmp_path)


def test_a_run_that_ends_while_it_is_looked_at_is_not_called_dead(tmp_path: Path) -> None:
    write(tmp_path, lease(host="elsewhere", renewed=NOW - 100), progress())

    def clock() -> float:
        # Between the reading of the files and the judgement.
        write(tmp_path, result())
        return NOW

    assert read_status(tmp_path, clock=clock).state == "ended"


def test_the_start_of_a_process_whose_name_looks_like_more_fields(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to(shutil.which("cat") or "/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        assert b"a) Z 1 (b" in Path(f"/proc/{child.pid}/stat").read_bytes()
        started = process_started(child.pid)
    assert started is not None and started >= (process_started(os.getpid()) or 0) > 0


# No run, damaged files


def test_a_folder_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    with pytest.raises(RunFolderError, match=r"does not exist\. Did you mean .*/digits\?") as caught:
        read_status(tmp_path / "digit")
    assert caught.value.exit_code == 2


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").touch()
    with pytest.raises(RunFolderError, match="is no folder"):
        read_status(tmp_path / "job.yaml")


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    write(tmp_path / "digits", result())
    (tmp_path / "else").mkdir()
    with pytest.raises(
        RunFolderError, match=r"no session has started in it\. Below it there are runs: digits\."
    ):
        read_status(tmp_path)


FOREIGN = {
    "empty": b"",
    "half": msgspec.json.encode(result())[:100],
    "list": b"[1, 2]",
    "other keys": b'{"verdict": "complete"}',
    "not a number": b'{"elapsed_s": NaN}',
    "not UTF-8": b'{"verdict": "\xff"}',
    "deep": b"[" * 100_000,
    "binary": bytes(range(256)),
}


@pytest.mark.parametrize("name", ["job_result.json", ".mpibatch/progress.json", ".mpibatch/lease.json"])
@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_not_ours_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path, lease(), progress(), result())
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StorageError) as caught:
        read_status(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert ("it is empty" if not data else f"its {len(data):,} bytes") in str(caught.value)
    assert "move the file away" in str(caught.value)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "job_result.json").mkdir()
    with pytest.raises(StorageError, match=r"job_result\.json cannot be read: Is a directory"):
        read_status(tmp_path)


def test_keys_of_a_later_version_do_no_harm(tmp_path: Path) -> None:
    write(tmp_path, result())
    known = json.loads((tmp_path / "job_result.json").read_text())
    (tmp_path / "job_result.json").write_text(json.dumps({**known, "gpu_hours": 7}))
    assert state(tmp_path) == "ended"


# Words


def test_text_of_a_running_run(tmp_path: Path) -> None:
    write(tmp_path, lease(slurm_job="4711"), progress())
    (tmp_path / "failed_items.jsonl").touch()
    host = os.uname().nodename
    assert text(tmp_path).splitlines() == [
        f"run           {tmp_path}",
        f"state         running: session 2 (process {os.getpid()} on {host}, Slurm job 4711)",
        "workers       2 of 2 ready, 4 attempts in flight",
        "mini-batches  180 of 360 (50 %), 1 failed, 182 attempts",
        "items         1,797: 894 succeeded, 3 failed",
        "rows          894",
        "rate          29 mini-batches/s, 145 rows/s",
        "remaining     2 min 05 s",
        "elapsed       12 s",
        "as of         2.0 s ago",
        f"failed items  {tmp_path}/failed_items.jsonl",
        f"logs          {tmp_path}/logs",
    ]


def test_text_of_a_complete_run(tmp_path: Path) -> None:
    write(tmp_path, progress(), result())
    assert text(tmp_path).splitlines() == [
        f"run           {tmp_path}",
        "state         ended, session 2",
        "verdict       complete, exit code 0",
        "items         1,797: 1,797 succeeded, 0 failed, in 360 mini-batches (360 attempts)",
        "output        /runs/digits/rows.txt (1,797 rows)",
        "time          12 s, 36 mini-batches/s, 2 sessions",
        f"logs          {tmp_path}/logs",
    ]


def test_text_of_a_failed_run_names_the_cause_and_the_way_on(tmp_path: Path) -> None:
    cause = CauseGroup(error="ValueError: bad", item="/data/1.png", count=12, log="/logs/1.txt")
    failed = result(verdict="too_many_errors", exit_code=3, reason="12 items failed", first_cause=cause)
    write(tmp_path, failed)
    said = text(tmp_path).splitlines()
    assert "verdict       stopped: too many errors (12 items failed), exit code 3" in said
    assert "first cause   ValueError: bad: 12 items, /data/1.png, log /logs/1.txt" in said
    assert "to go on      repair the cause, then start the same command again" in text(tmp_path)


def test_text_of_a_dead_run_says_how_to_continue(tmp_path: Path) -> None:
    write(tmp_path, lease(host="gone", pid=7, renewed=NOW - 100), progress())
    said = text(tmp_path)
    assert "state         dead: session 2 has left no result and is gone (process 7 on gone)\n" in said
    assert "mini-batches  180 of 360 (50 %)" in said
    assert "to go on      start the same command again: what was finished is kept\n" in said


def test_json_has_the_documented_keys_and_reads_back(tmp_path: Path) -> None:
    write(tmp_path, lease(), progress(), result(sessions=1))
    printed = json.loads(status_json(read_status(tmp_path, clock=lambda: NOW)))
    assert list(printed) == [
        "folder", "state", "session", "owner", "progress", "progress_age_s", "survey", "result", "failed_items",
        "logs",
    ]  # fmt: skip
    assert printed["folder"] == str(tmp_path)
    assert printed["progress"]["items"] == {"total": 1797, "succeeded": 894, "failed": 3}
    assert printed["result"]["verdict"] == "complete"


def test_json_never_holds_nan(tmp_path: Path) -> None:
    write(tmp_path, lease(), progress())
    status = read_status(tmp_path, clock=lambda: float("nan"))
    broken = progress(rows_per_s=float("nan"), mini_batches_per_s=float("inf"), remaining_s=float("-inf"))
    printed = status_json(msgspec.structs.replace(status, progress=broken))

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    assert json.loads(printed, parse_constant=refuse)["progress"]["rows_per_s"] is None


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    write(folder, result())
    status = read_status(folder)
    assert json.loads(status_json(status))["folder"] == f"{tmp_path}/caf\\xe9"
    assert "caf\\xe9" in status_text(status)
    with pytest.raises(RunFolderError) as caught:
        read_status(folder / "none")
    str(caught.value).encode()


def test_a_mini_batch_that_is_tried_in_pieces_has_not_ended(tmp_path: Path) -> None:
    counts = msgspec.structs.replace(MINI_BATCHES, failed=3)
    write(tmp_path, lease(), progress(mini_batches=counts, half_failed=2))
    line = "mini-batches  180 of 360 (50 %), 3 failed (2 of them still tried in pieces), 182 attempts"
    assert line in text(tmp_path).splitlines()
