"""`copy_output_to`: the rows of a complete run are also there, whole or not at all."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import support
from support import Started, make_job, mpibatch, result, rows, words

ECHO = (
    support.NOTE
    + """
def run(mini_batch):
    note("run")
    if os.path.basename(mini_batch[0]) == "item005" and os.path.exists(FOLDER + "/held"):
        gate()
    return [os.path.basename(item) for item in mini_batch]
"""
)
NAMES = [f"item{number:03d}" for number in range(6)]
COPY = "copies/of/all.txt"


def test_the_copy_is_a_file_of_its_own_in_a_folder_that_is_made(tmp_path: Path) -> None:
    job = make_job(tmp_path, ECHO, copy_output_to=COPY)
    copy = tmp_path / COPY

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert copy.read_text().splitlines() == rows(tmp_path / "output") == NAMES
    assert os.stat(copy).st_ino != os.stat(tmp_path / "output" / "rows.txt").st_ino
    assert os.listdir(copy.parent) == ["all.txt"]


def test_it_has_what_finalize_made_of_the_rows(tmp_path: Path) -> None:
    job = make_job(
        tmp_path, ECHO + "\ndef finalize(file): open(file, 'a').write('end')\n", copy_output_to=COPY
    )

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert (tmp_path / COPY).read_text().splitlines() == [*NAMES, "end"]


def test_an_older_file_stands_until_the_run_is_complete(tmp_path: Path) -> None:
    job = make_job(tmp_path, ECHO, copy_output_to="all.txt")
    copy = tmp_path / "all.txt"
    copy.write_text("old\n")
    (tmp_path / "held").touch()
    with Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: len(support.notes(tmp_path)) == 6, "the last one is held")
        assert copy.read_text() == "old\n"
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 0, run.said
    assert copy.read_text().splitlines() == NAMES


def test_a_reused_run_makes_a_copy_that_is_missing(tmp_path: Path) -> None:
    job = make_job(tmp_path, ECHO, copy_output_to=COPY)
    assert mpibatch("run", job).returncode == 0
    (tmp_path / COPY).write_text("changed since\n")
    assert "is reused" in mpibatch("run", job).stdout
    assert (tmp_path / COPY).read_text() == "changed since\n", "what is there is not looked into"
    (tmp_path / COPY).unlink()

    ended = mpibatch("run", job)

    assert ended.returncode == 0 and "is reused" in ended.stdout, words(ended)
    assert "the copy of the rows was missing" in ended.stderr
    assert (tmp_path / COPY).read_text().splitlines() == NAMES
    assert len(support.notes(tmp_path)) == 6


def test_another_place_is_another_job(tmp_path: Path) -> None:
    job = make_job(tmp_path, ECHO)
    assert mpibatch("run", job).returncode == 0

    ended = mpibatch("run", job, "--set", f"copy_output_to={COPY}")

    assert ended.returncode == 2 and "copy_output_to" in ended.stderr, words(ended)
    assert not (tmp_path / COPY).exists()


def test_a_copy_that_cannot_be_written_is_the_storage_s_fault_and_made_at_the_next_start(
    tmp_path: Path,
) -> None:
    """Its place becomes a folder while the run goes on."""
    job = make_job(tmp_path, ECHO, copy_output_to="all.txt")
    (tmp_path / "held").touch()
    with Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: len(support.notes(tmp_path)) == 6, "the last one is held")
        (tmp_path / "all.txt").mkdir()
        support.open_gate(tmp_path)
        assert run.wait_to_end() == 74, run.said
        assert f"{tmp_path / 'all.txt'} cannot be written" in run.said
    assert result(tmp_path / "output")["verdict"] == "failed"
    assert not (tmp_path / "output" / "rows.txt").exists(), "without the copy the run is not complete"
    assert not list(tmp_path.glob(".all.txt*"))
    (tmp_path / "all.txt").rmdir()

    ended = mpibatch("run", job)

    assert ended.returncode == 0, words(ended)
    assert (tmp_path / "all.txt").read_text().splitlines() == rows(tmp_path / "output") == NAMES
    assert len(support.notes(tmp_path)) == 6


REFUSED = [
    ("folder", {}, "that is a folder"),
    ("file/all.txt", {}, 'file" is no folder'),
    ("copies/", {}, "must be a file, not a folder"),
    ("output/rows.txt", {}, "must be another file than what the run folder has as rows.txt"),
    ("output/logs/all.txt", {}, "must be another file than what the run folder has as logs"),
    ("all.txt", {"output_action": "summary_only"}, "summary_only writes none"),
]


@pytest.mark.parametrize(("path", "keys", "told"), REFUSED)
def test_a_place_that_cannot_be_is_refused_before_any_work(
    path: str, keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    job = make_job(tmp_path, ECHO, copy_output_to=path, **keys)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    ended = mpibatch("run", job)

    assert ended.returncode == 2, words(ended)
    assert "copy_output_to" in ended.stderr and told in ended.stderr, words(ended)
    assert not (tmp_path / "output").exists() and not support.notes(tmp_path)


def test_of_an_array_the_merged_rows_are_copied_and_finalized_once(tmp_path: Path) -> None:
    finalize = """
def finalize(file):
    note(f"finalize {os.path.getsize(file)}")
    if not os.path.exists(FOLDER + "/gate"):
        open(file, "w").close()
        raise ValueError("not yet")
    open(file, "a").write("end")
"""
    job = make_job(tmp_path, ECHO + finalize, copy_output_to=COPY, run_max_try=2)
    assert mpibatch("run", job, "--share", "0/2").returncode == 0
    assert not any("finalize" in line for line in support.notes(tmp_path))

    last = mpibatch("run", job, "--share", "1/2")
    assert last.returncode == 3, words(last)
    assert "finalize() raised ValueError: not yet" in last.stdout.splitlines()[-1]
    assert f"mpibatch merge {tmp_path / 'output'}" in last.stdout
    assert not (tmp_path / COPY).exists() and not (tmp_path / "output" / "rows.txt").exists()
    assert not (tmp_path / "output" / ".mpibatch" / "finalize").exists()

    support.open_gate(tmp_path)
    merged = mpibatch("merge", tmp_path / "output")
    assert merged.returncode == 0, words(merged)
    assert (tmp_path / COPY).read_text().splitlines() == rows(tmp_path / "output") == [*NAMES, "end"]
    calls = [line for line in support.notes(tmp_path) if line.startswith("finalize")]
    assert calls == 3 * ["finalize 48"] and len(support.notes(tmp_path)) == 9
    assert mpibatch("merge", tmp_path / "output").returncode == 0
    assert len(support.notes(tmp_path)) == 9, "what is merged already is only told of"


def test_of_an_array_that_stores_its_own_output_it_is_called_too(tmp_path: Path) -> None:
    script = ECHO + "\ndef finalize(file): note(f'finalize {file}')\n"
    job = make_job(tmp_path, script, output_action="summary_only")

    for share in ("0/2", "1/2"):
        ended = mpibatch("run", job, "--share", share)
        assert ended.returncode == 0, words(ended)
    assert support.notes(tmp_path)[-1] == "finalize None" and len(support.notes(tmp_path)) == 7


def test_a_merge_that_is_broken_off_meanwhile_is_done_again(tmp_path: Path) -> None:
    finalize = "\ndef finalize(file):\n    note('finalize')\n    open(file, 'w').close()\n    gate()\n"
    job = make_job(tmp_path, ECHO + finalize, array={"elements": 2, "merge": "manual"}, run_max_try=1)
    for share in ("0/2", "1/2"):
        assert mpibatch("run", job, "--share", share).returncode == 0
    output = tmp_path / "output"
    with Started(tmp_path, "merge", output) as merge:
        merge.wait_until(lambda: "finalize" in support.notes(tmp_path), "finalize() is called")
        merge.process.send_signal(signal.SIGINT)
        assert merge.wait_to_end() == 130, merge.said
    assert not (output / "rows.txt").exists() and not (output / ".mpibatch" / "finalize").exists()

    (tmp_path / "script.py").write_text(ECHO + "\ndef finalize(file): open(file, 'a').write('end')\n")
    merged = mpibatch("merge", output)
    assert merged.returncode == 0, words(merged)
    assert rows(output) == [*NAMES, "end"]
