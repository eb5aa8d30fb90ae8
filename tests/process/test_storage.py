"""Storage that fails: a full disk, a read-only one, files that are damaged or gone. Nothing is lost, and
after the repair a start continues."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support
from disks import Disk, NoDisk

from mpibatch.core import history
from mpibatch.runtime.journal import read_journal
from mpibatch.runtime.planner import open_plan
from mpibatch.runtime.run_folder import RunFolder

FULL = (
    "No space left on device",
    "The disk is full: make room, then start again",
    "what was finished is kept",
)
READ_ONLY = ("Read-only file system", "The file system is read-only: name another folder with --output")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path / "disk")
    except NoDisk as error:
        pytest.skip(f"a small disk of its own cannot be mounted here: {error}")
    with disk:
        yield disk


SCRIPT = support.NOTE + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    note(names[0])
    if names[0] == "item005":
        gate()
    return [name + WIDTH * "x" for name in names]

WIDTH = 0
"""  # fmt: skip


def wide(script: str, width: int) -> str:
    """Rows that are so many bytes wider than the name of their item."""
    return script.replace("WIDTH = 0", f"WIDTH = {width}")


def fails(job: Path, output: Path, *told: str) -> None:
    """A start ends with 74 and says this, and no traceback of ours."""
    ended = support.mpibatch("run", job)
    assert ended.returncode == 74, support.words(ended)
    check_words(ended.stdout + ended.stderr, *told)
    assert not (output / "rows.txt").exists()


def check_words(said: str, *told: str) -> None:
    assert "Traceback" not in said, said
    for words in told:
        assert words in said, said


def completes(job: Path, output: Path) -> dict[str, Any]:
    """A start completes the run, and its output is that of an undisturbed run."""
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    called = support.notes(job.parent)
    undisturbed = job.parent / "undisturbed"
    other = support.mpibatch("run", job, "--output", undisturbed)
    assert other.returncode == 0, support.words(other)
    if (undisturbed / "rows.txt").exists():
        assert (output / "rows.txt").read_bytes() == (undisturbed / "rows.txt").read_bytes()
    told, expected = support.result(output), support.result(undisturbed)
    assert (told["items"], told["rows"]) == (expected["items"], expected["rows"])
    (job.parent / "notes").write_text("".join(name + "\n" for name in called))
    return told


def succeeded(output: Path) -> list[int]:
    """Mini-batches whose success is durable, in the order of their records."""
    folder = RunFolder(output)
    if not folder.sessions():
        return []
    with open_plan(folder.private) as plan:
        numbers: list[int] = []
        for session in folder.sessions():
            records, _ = read_journal(folder, session, plan.fingerprint)
            numbers += records["mini_batch"][records["kind"] == history.SUCCEEDED].tolist()
    return numbers


def test_full_before_anything(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    job = support.make_job(tmp_path, SCRIPT, output=str(output))
    support.open_gate(tmp_path)
    disk.fill()

    fails(job, output, str(output), *FULL)

    assert support.notes(tmp_path) == []
    disk.make_room()
    completes(job, output)


def test_full_at_the_plan(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    long = "/".join(["x" * 100] * 3)
    (tmp_path / "paths.txt").write_text("".join(f"/{number:06d}/{long}\n" for number in range(10_000)))
    inputs = [{"list": "paths.txt", "check": False}]
    job = support.make_job(tmp_path, SCRIPT, items=0, output=str(output), inputs=inputs, mini_batch_size=1000)

    fails(job, output, f"the plan '{output}/.mpibatch/", *FULL)

    assert not output.exists()
    disk.make_room()
    assert completes(job, output)["sessions"] == 1


def test_full_at_the_journal(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    job = support.make_job(tmp_path, SCRIPT, items=200, output=str(output), output_action="summary_only")
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "the sixth mini-batch runs")
        disk.fill()
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 74, run.said
    check_words(run.said, f"{output}/.mpibatch/", *FULL)
    kept = succeeded(output)

    fails(job, output, *FULL)  # Nobody has made room.

    assert succeeded(output) == kept and len(kept) < 200
    disk.make_room()
    before = support.notes(tmp_path)
    completes(job, output)
    again = support.notes(tmp_path)[len(before) :]
    assert sorted(again) == [f"item{number:03d}" for number in range(200) if number not in kept]


def test_full_at_the_rows(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    job = support.make_job(tmp_path, wide(SCRIPT, 60_000), items=40, output=str(output))
    support.open_gate(tmp_path)

    fails(job, output, f"{output}/.mpibatch/session-0001.rows cannot be written", *FULL)

    kept = succeeded(output)
    disk.make_room()
    before = support.notes(tmp_path)
    told = completes(job, output)
    assert told["sessions"] == 2
    again = support.notes(tmp_path)[len(before) :]
    assert sorted(again) == [f"item{number:03d}" for number in range(40) if number not in kept]


def test_full_at_the_output(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    job = support.make_job(tmp_path, wide(SCRIPT, 60_000), items=10, output=str(output))
    support.open_gate(tmp_path)

    fails(job, output, f"{output}/.mpibatch/output-0001.partial cannot be written", *FULL)

    assert sorted(succeeded(output)) == list(range(10))
    told = support.result(output)  # What was begun of the output made room for it.
    assert (told["verdict"], told["exit_code"], told["output"]) == ("failed", 74, None)
    assert told["items"] == {"total": 10, "succeeded": 10, "failed": 0}
    assert "No space left on device" in told["first_cause"]["error"]
    disk.make_room()
    completes(job, output)
    assert len(support.notes(tmp_path)) == 10  # Nothing was run again.


def test_what_is_told_after_a_failure_is_what_is_kept(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    script = wide(SCRIPT, 60_000).replace(
        "    return", "    if names[0] == 'item001': raise ValueError\n    return"
    )
    job = support.make_job(tmp_path, script, items=40, output=str(output), run_max_try=1)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: succeeded(output) != [], "something is committed")
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 74, run.said
    kept = len(succeeded(output))
    assert f"40: {kept} succeeded, 1 failed, {39 - kept} not done" in run.said
    assert f"({kept} rows kept so far)" in run.said


def test_a_limit_of_the_size_of_files(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, wide(SCRIPT, 10_000), items=20)
    support.open_gate(tmp_path)
    output = tmp_path / "output"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ended = support.mpibatch("run", job, preexec_fn=limit)

    assert ended.returncode == 74, support.words(ended)
    check_words(ended.stdout, "File too large", "limit (ulimit -f): raise it, then start again")
    completes(job, output)


def test_a_result_that_cannot_be_written_is_no_success(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, SCRIPT)
    output = tmp_path / "output"
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "the sixth mini-batch runs")
        (output / "job_result.json").mkdir()
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 74, run.said

    check_words(run.said, f"{output}/job_result.json cannot be written: Is a directory")
    assert support.mpibatch("run", job).returncode == 74
    (output / "job_result.json").rmdir()
    completes(job, output)


def test_a_read_only_disk(disk: Disk, tmp_path: Path) -> None:
    output = disk.folder / "output"
    job = support.make_job(tmp_path, SCRIPT, output=str(output), run_max_try=1, error_threshold=0)
    (tmp_path / "script.py").write_text("def run(b): raise ValueError")
    assert support.mpibatch("run", job).returncode == 3
    (tmp_path / "script.py").write_text(SCRIPT)
    support.open_gate(tmp_path)
    before = support.tree(output)
    disk.make_read_only()

    fails(job, output, str(output), *READ_ONLY)
    for options in (["--fresh"], ["--output", str(disk.folder / "new")]):
        ended = support.mpibatch("run", job, *options)
        assert ended.returncode == 74, support.words(ended)
        check_words(ended.stderr, str(disk.folder), *READ_ONLY)

    assert support.tree(output) == before
    disk.make_room()
    completes(job, output)


def test_an_input_file_that_is_gone_fails_its_items_only(tmp_path: Path) -> None:
    script = SCRIPT.replace("    return", "    for item in mini_batch: open(item).close()\n    return")
    job = support.make_job(tmp_path, script, items=12, run_max_try=1)
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "item005" in support.notes(tmp_path), "the sixth mini-batch runs")
        (tmp_path / "data" / "item009").unlink()
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said

    assert support.rows(tmp_path / "output") == [f"item{number:03d}" for number in range(12) if number != 9]
    (failed,) = support.failed_items(tmp_path / "output")
    assert failed["item"] == str(tmp_path / "data" / "item009")
    assert failed["error"]["type"] == "FileNotFoundError"


def unfinished(tmp_path: Path) -> Path:
    """All but the last mini-batch of ten have succeeded; it will, once the gate is open."""
    script = SCRIPT.replace("item005", "item009").replace(
        "        gate()", "        if not os.path.exists(FOLDER + '/gate'): raise ValueError"
    )
    job = support.make_job(tmp_path, script, items=10, run_max_try=1, error_threshold=0)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    support.open_gate(tmp_path)
    assert len(succeeded(tmp_path / "output")) == 9
    return job


def test_a_damaged_row_is_found_and_made_again(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    output = tmp_path / "output"
    segment = RunFolder(output).rows(1)
    rows = segment.read_bytes()
    place = rows.index(b"item003")
    segment.write_bytes(rows[:place] + b"I" + rows[place + 1 :])

    fails(job, output, "the stored rows of 1 mini-batches are damaged", "mini-batch 3", "Start again")

    told = support.result(output)
    assert told["exit_code"] == 74
    assert told["items"] == {"total": 10, "succeeded": 9, "failed": 0}
    before = support.notes(tmp_path)
    completes(job, output)
    assert support.notes(tmp_path)[len(before) :] == ["item003"]  # The last one had succeeded meanwhile.


def test_a_row_segment_that_is_gone_is_made_again(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    output = tmp_path / "output"
    RunFolder(output).rows(1).unlink()

    fails(job, output, "the stored rows of 9 mini-batches are damaged", "Start again")

    completes(job, output)


def test_a_damaged_journal_costs_what_it_told_of(tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    output = tmp_path / "output"
    journal = RunFolder(output).journal(1)
    data = bytearray(journal.read_bytes())
    data[64 + 2 * history.RECORD_SIZE + 8] ^= 1  # The number of the mini-batch in the third record.
    journal.write_bytes(data)

    before = support.notes(tmp_path)
    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert "1 records are damaged" in ended.stderr and str(journal) in ended.stderr
    assert set(support.notes(tmp_path)[len(before) :]) == {"item002", "item009"}
    assert support.rows(output) == [f"item{number:03d}" for number in range(10)]
    assert support.result(output)["items"] == {"total": 10, "succeeded": 10, "failed": 0}


@pytest.mark.parametrize("name", ["plan", "session-0001.journal", "session-0001.json", "run.json"])
def test_files_that_are_damaged_are_named(name: str, tmp_path: Path) -> None:
    job = unfinished(tmp_path)
    output = tmp_path / "output"
    file = output / ".mpibatch" / name
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])
    # So that its seals are looked at, there has to be a session before it.
    if name == "session-0001.json":
        file = file.rename(file.with_name("session-0002.json"))
        os.link(RunFolder(output).journal(1), RunFolder(output).journal(2))

    fails(job, output, str(file), "--fresh")

    ended = support.mpibatch("run", job, "--fresh")
    assert ended.returncode == 0, support.words(ended)
