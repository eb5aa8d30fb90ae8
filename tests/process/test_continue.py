"""A run that was broken off goes on where it was: killed, stopped, or ended by too many errors."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import support
import yaml

from mpibatch.core import history
from mpibatch.runtime.journal import HEADER_SIZE, read_journal
from mpibatch.runtime.planner import open_plan
from mpibatch.runtime.run_folder import RunFolder

ROWS_OF_NAMES = (
    support.NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    for name in names:
        note(name)
    return names
"""
)

SLOW_AND_ODD = (
    support.NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    if not os.path.exists(FOLDER + "/gate"):
        time.sleep(0.015)
    if names[0] > "item400":
        gate()
    for name in names:
        note(name)
    if "item013" in names:
        raise ValueError("always bad")
    if "item021" in names and "item021" not in open(FOLDER + "/notes").read().split()[:-len(names)]:
        raise ValueError("bad at first")
    if "item030" in names:
        return names[:1]
    if "item041" in names:
        return []
    return names
"""
)


def change(job: Path, **keys: Any) -> None:
    """Replace keys of a job file."""
    job.write_text(yaml.safe_dump({**yaml.safe_load(job.read_text()), **keys}))


def committed(output: Path) -> list[int]:
    """The mini-batches whose success is in a journal."""
    folder = RunFolder(output)
    with open_plan(folder.private) as plan:
        numbers: list[int] = []
        for session in folder.sessions():
            records, damaged = read_journal(folder, session, plan.fingerprint)
            assert not damaged
            numbers += records["mini_batch"][records["kind"] == history.SUCCEEDED].tolist()
    return numbers


def test_killed_again_and_again_the_output_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, SLOW_AND_ODD, items=600, mini_batch_size=2, isolate_failures=False)
    output = tmp_path / "output"

    for session in (1, 2):
        journal = RunFolder(output).journal(session)
        with support.Started(tmp_path, "run", job) as run:
            run.wait_until(
                lambda journal=journal: journal.exists() and journal.stat().st_size > HEADER_SIZE,  # type: ignore[misc]
                "a first commit is made",
            )
            run.process.kill()
        support.wait_until(lambda: not support.processes_with(str(tmp_path)), "the processor has died too")
        kept = committed(output)
        called = support.notes(tmp_path)
        assert 0 < len(kept) < 299
        assert not (output / "rows.txt").exists()
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    done = {name for number in kept for name in (f"item{2 * number:03d}", f"item{2 * number + 1:03d}")}
    assert not done & set(support.notes(tmp_path)[len(called) :])
    assert len(committed(output)) == len(set(committed(output))) == 299
    told = support.result(output)
    assert told["sessions"] == 3
    undisturbed = support.mpibatch("run", job, "--output", tmp_path / "undisturbed")
    assert undisturbed.returncode == 0, support.words(undisturbed)
    other = support.result(tmp_path / "undisturbed")
    assert (output / "rows.txt").read_bytes() == (tmp_path / "undisturbed" / "rows.txt").read_bytes()
    assert told["items"] == other["items"] == {"total": 600, "succeeded": 595, "failed": 5}
    for told_of, known in (("total", 300), ("succeeded", 299), ("failed", 1)):
        assert told["mini_batches"][told_of] == other["mini_batches"][told_of] == known
    assert told["rows"] == other["rows"] == 595
    failed = [
        [
            (line["item"], line.get("count"), line["mini_batch"], line["error"])
            for line in support.failed_items(folder)
        ]
        for folder in (output, tmp_path / "undisturbed")
    ]  # fmt: skip
    assert sorted(failed[0], key=repr) == sorted(failed[1], key=repr)
    assert len(failed[0]) == 5


ASKS = [
    ("stop", 75, "asked to by "),
    (signal.SIGINT, 130, "got SIGINT"),
    (signal.SIGTERM, 75, "got SIGTERM"),
    (signal.SIGUSR2, 75, "got SIGUSR2"),
    (signal.SIGHUP, 75, "got SIGHUP"),
]


def ask_to_stop(run: support.Started, how: signal.Signals | str, output: Path) -> None:
    if isinstance(how, signal.Signals):
        run.process.send_signal(how)
    else:
        asked = support.mpibatch("stop", output)
        assert asked.returncode == 0, support.words(asked)


STANDS = ROWS_OF_NAMES.replace(
    "    return", "    time.sleep(0.02)\n    if names[0] == 'item005': gate()\n    return"
)


@pytest.mark.parametrize(("how", "code", "reason"), ASKS, ids=[str(row[0]) for row in ASKS])
def test_asked_to_stop_what_runs_may_finish(
    how: signal.Signals | str, code: int, reason: str, tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, STANDS, items=50)
    output = tmp_path / "output"
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "it is at the sixth mini-batch")
        ask_to_stop(run, how, output)
        run.wait_to_say(f"stopping ({reason}")
        assert run.process.poll() is None
        support.open_gate(tmp_path)
        assert run.wait_to_end() == code, run.said

    assert support.notes(tmp_path)[-1] == "item005"  # Nothing new has been started.
    told = support.result(output)
    assert (told["verdict"], told["exit_code"], told["sessions"]) == ("stopped", code, 1)
    assert told["items"] == {"total": 50, "succeeded": 6, "failed": 0}
    assert told["output"] is None
    assert reason in told["reason"]
    assert not (output / "rows.txt").exists()
    last = run.said.splitlines()[-2]
    assert last.startswith("to go on") and "start the same command again: mpibatch run" in last
    assert str(job) in last
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == [f"item{number:03d}" for number in range(50)]
    assert sorted(support.notes(tmp_path)) == support.rows(output)  # Each was called once.
    assert support.result(output)["sessions"] == 2


@pytest.mark.parametrize(("how", "code", "reason"), ASKS[:3], ids=[str(row[0]) for row in ASKS[:3]])
def test_asked_twice_what_runs_is_given_up(
    how: signal.Signals | str, code: int, reason: str, tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, STANDS, items=10)
    output = tmp_path / "output"
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "it is at the sixth mini-batch")
        ask_to_stop(run, how, output)
        run.wait_to_say("ask again to give it up")
        ask_to_stop(run, how, output)
        assert run.wait_to_end() == code, run.said

    assert support.result(output)["items"] == {"total": 10, "succeeded": 5, "failed": 0}
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert len(support.rows(output)) == 10
    assert support.notes(tmp_path).count("item005") == 2


def test_after_sigterm_what_runs_has_the_time_of_grace(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS, items=10, term_grace_s=0.3)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "it is at the sixth mini-batch")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_to_end() == 75, run.said
    assert support.result(tmp_path / "output")["items"]["succeeded"] == 5


def test_a_stop_that_nobody_took_up_does_not_stop_the_next_session(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, STANDS, items=10)
    output = tmp_path / "output"
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "it is at the sixth mini-batch")
        run.process.kill()
    (output / ".mpibatch" / "stop").write_text("now")
    support.open_gate(tmp_path)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert len(support.rows(output)) == 10


EVEN_FAIL = ROWS_OF_NAMES.replace(
    "    return", "    if int(names[0][-1]) % 2 == 0: raise ValueError('even')\n    return"
)


def test_after_too_many_errors_a_repaired_script_goes_on(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, EVEN_FAIL, error_threshold=2, run_max_try=1)
    output = tmp_path / "output"
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    assert ended.stdout.splitlines()[-1].startswith("first cause  ValueError: even: 3 items")
    told = support.result(output)
    assert told["verdict"] == "too_many_errors" and not (output / "rows.txt").exists()
    assert told["items"] == {"total": 6, "succeeded": 2, "failed": 3}
    assert "error_threshold is 2" in told["reason"]
    failed = [f"item00{number}" for number in (0, 2, 4)]
    assert [Path(line["item"]).name for line in support.failed_items(output)] == failed
    before = len(support.notes(tmp_path))

    (tmp_path / "script.py").write_text(ROWS_OF_NAMES)
    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert "have changed" in ended.stderr and "script" in ended.stderr
    # The successes are kept, also one that had not been recorded when it ended; the failures are tried again.
    assert set(support.notes(tmp_path)[before:]) - {"item005"} == set(failed)
    assert support.rows(output) == [f"item00{number}" for number in range(6)]
    assert support.failed_items(output) == []
    told = support.result(output)
    assert told["items"] == {"total": 6, "succeeded": 6, "failed": 0}
    assert (told["sessions"], told["first_cause"]) == (2, None)


def unfinished(folder: Path, **keys: Any) -> Path:
    """A job whose run has ended by one error too many, and which goes on once the gate is open."""
    script = ROWS_OF_NAMES.replace(
        "    return",
        "    if names[0] == 'item002' and not os.path.exists(FOLDER + '/gate'): raise ValueError\n    return",
    )
    job = support.make_job(folder, script, error_threshold=0, run_max_try=1, **keys)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    support.open_gate(folder)
    return job


REFUSED = [
    ("mini_batch_size", 2, "other settings (inputs or mini_batch_size)"),
    ("inputs", [{"files": "data/item00*"}], "other settings (inputs or mini_batch_size)"),
    ("append_row", {"sep": ","}, " append_row "),
    ("append_row_format", "jsonl", "append_row_format"),
    ("output_action", "summary_only", "output_action"),
]


def test_what_does_not_fit_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    original = job.read_text()
    output = tmp_path / "output"
    before = support.tree(output)
    for key, value, told in REFUSED:
        change(job, **{key: value})
        refused = support.mpibatch("run", job)
        assert refused.returncode == 2, support.words(refused)
        assert all(words in refused.stderr for words in (str(output), told, "--output DIR", "--fresh")), (
            support.words(refused)
        )
        assert len(refused.stderr.splitlines()) == 1
        assert support.tree(output) == before, key
        job.write_text(original)

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == [f"item00{number}" for number in range(6)]


def test_what_may_change_in_an_unfinished_run(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    change(
        job, run_max_try=2, run_invocation_timeout=50, append_row_file_name="other.txt", error_threshold=-1
    )

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output", "other.txt") == [f"item00{number}" for number in range(6)]
    assert not (tmp_path / "output" / "rows.txt").exists()


def test_new_files_do_not_disturb_an_unfinished_run(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    (tmp_path / "data" / "item0000-new").touch()

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [f"item00{number}" for number in range(6)]


def test_fresh_throws_an_unfinished_run_away(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    change(job, mini_batch_size=4)

    ended = support.mpibatch("run", job, "--fresh")

    assert ended.returncode == 0, support.words(ended)
    told = support.result(tmp_path / "output")
    assert (told["sessions"], told["mini_batches"]["total"]) == (1, 2)
    assert len(support.rows(tmp_path / "output")) == 6


@pytest.mark.parametrize("name", ["progress.json", "lease.json", "run.json"])
def test_what_a_killed_start_was_about_to_write_is_removed(tmp_path: Path, name: str) -> None:
    job = unfinished(tmp_path)
    half = tmp_path / "output" / ".mpibatch" / f"{name}.4194305.partial"  # No process has so high a number.
    half.write_text("{")

    support.mpibatch("run", job)

    assert not half.exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75)]
)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.mpi)])
def test_before_any_work_a_signal_breaks_off_at_once(
    workers: int, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    job = support.make_job(tmp_path, ROWS_OF_NAMES, prepare="make.py", process_count_per_node=workers)
    (tmp_path / "make.py").write_text(
        "import pathlib, time\npathlib.Path('at_it').touch()\ntime.sleep(1000)\n"
    )
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until((tmp_path / "at_it").exists, "prepare is at it")
        run.process.send_signal(number)
        assert run.wait_to_end() == code, run.said

    assert f"stopped before any work was begun (got {number.name})" in run.said.splitlines()[-1]
    assert not (tmp_path / "output").exists()
