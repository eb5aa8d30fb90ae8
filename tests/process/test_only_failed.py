"""`--only-failed`: the failed items of a complete run are tried again, and their rows take their places."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest
import support

PICKY = (
    support.NOTE
    + """
BAD = {}

def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    note(" ".join(names))
    if BAD & set(names):
        raise ValueError("no good")
    return names
"""
)


def picky(*bad: int) -> str:
    return PICKY.replace("{}", repr({f"item{number:03d}" for number in bad} or {""}))


def names(*numbers: int) -> list[str]:
    return [f"item{number:03d}" for number in numbers]


def finished(folder: Path, script: str, **keys: Any) -> Path:
    keys = {"items": 10, "mini_batch_size": 4, "run_max_try": 1, **keys}
    job = support.make_job(folder, script, **keys)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    return job


def tried(folder: Path) -> list[str]:
    return [name for line in support.notes(folder) for name in line.split()]


@pytest.mark.parametrize("isolate", [True, False])
def test_rows_of_what_failed_take_their_places(isolate: bool, tmp_path: Path) -> None:
    job = finished(tmp_path, picky(2, 9), isolate_failures=isolate)
    output = tmp_path / "output"
    assert "item002" not in support.rows(output)
    missing = {line["item"].rpartition("/")[2] for line in support.failed_items(output)}
    assert missing == set(names(2, 9) if isolate else names(0, 1, 2, 3, 8, 9))
    before = len(support.notes(tmp_path))
    (tmp_path / "script.py").write_text(picky())

    ended = support.mpibatch("run", job, "--only-failed")

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == names(*range(10))
    assert support.failed_items(output) == []
    again = [name for line in support.notes(tmp_path)[before:] for name in line.split()]
    assert sorted(again) == sorted(missing)
    result = support.result(output)
    assert result["items"] == {"total": 10, "succeeded": 10, "failed": 0}
    assert result["mini_batches"]["succeeded"] == 3 and result["mini_batches"]["failed"] == 0
    assert (result["rows"], result["sessions"]) == (10, 2)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)


def test_what_fails_again_has_failed_and_the_rest_is_kept(tmp_path: Path) -> None:
    job = finished(tmp_path, picky(2, 9))
    (tmp_path / "script.py").write_text(picky(2))

    ended = support.mpibatch("run", job, "--only-failed")

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(*(n for n in range(10) if n != 2))
    assert [line["item"].rpartition("/")[2] for line in support.failed_items(tmp_path / "output")] == names(2)
    assert support.result(tmp_path / "output")["items"] == {"total": 10, "succeeded": 9, "failed": 1}


def test_where_nothing_failed_nothing_is_done(tmp_path: Path) -> None:
    job = finished(tmp_path, picky())
    before = tried(tmp_path)
    ended = support.mpibatch("run", job, "--only-failed")
    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)
    assert tried(tmp_path) == before


def test_short_returns_are_made_again(tmp_path: Path) -> None:
    """Which of their items failed is unknown, so that it is the whole mini-batch."""
    script = PICKY.replace("{}", "set()").replace(
        "return names", "return names[:2] if 'item004' in names else names"
    )
    job = finished(tmp_path, script)
    output = tmp_path / "output"
    assert support.rows(output) == names(0, 1, 2, 3, 4, 5, 8, 9)
    (tmp_path / "script.py").write_text(script.replace("[:2]", "[:3]"))

    ended = support.mpibatch("run", job, "--only-failed")

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(output) == names(0, 1, 2, 3, 4, 5, 6, 8, 9)
    (short,) = support.failed_items(output)
    assert (short["count"], short["error"]["type"]) == (1, "ShortReturn")
    result = support.result(output)
    assert (result["items"]["succeeded"], result["items"]["failed"], result["rows"]) == (9, 1, 9)


def test_a_short_return_that_fails_now_keeps_the_rows_it_had(tmp_path: Path) -> None:
    script = PICKY.replace("{}", "set()").replace(
        "return names", "return names[:2] if 'item004' in names else names"
    )
    job = finished(tmp_path, script)
    output = tmp_path / "output"
    rows, failed, result = support.rows(output), support.failed_items(output), support.result(output)
    (tmp_path / "script.py").write_text(picky(4, 5, 6))

    ended = support.mpibatch("run", job, "--only-failed")

    assert support.rows(output) == rows, support.words(ended)
    assert [line["count"] for line in support.failed_items(output)] == [line["count"] for line in failed]
    for key in ("items", "rows"):
        assert support.result(output)[key] == result[key]


def test_a_run_that_is_not_complete_is_refused(tmp_path: Path) -> None:
    job = support.make_job(tmp_path, picky(2), items=10, mini_batch_size=4, run_max_try=1, error_threshold=0)
    ended = support.mpibatch("run", job, "--only-failed")
    assert ended.returncode == 2 and "there is no run in" in ended.stderr, support.words(ended)
    assert not (tmp_path / "output").exists()
    assert support.mpibatch("run", job).returncode == 3
    before = support.tree(tmp_path / "output")

    ended = support.mpibatch("run", job, "--only-failed")

    assert ended.returncode == 2 and "is not complete" in ended.stderr, support.words(ended)
    assert support.tree(tmp_path / "output") == before


def test_with_fresh_it_means_nothing(tmp_path: Path) -> None:
    job = finished(tmp_path, picky(2))
    before = support.tree(tmp_path / "output")
    ended = support.mpibatch("run", job, "--only-failed", "--fresh")
    assert ended.returncode == 2 and "leave one out" in ended.stderr, support.words(ended)
    assert support.tree(tmp_path / "output") == before


def test_until_it_is_complete_the_old_output_stays(tmp_path: Path) -> None:
    job = finished(tmp_path, picky(2, 9))
    rows = support.rows(tmp_path / "output")
    (tmp_path / "script.py").write_text(picky().replace("    note(", "    gate()\n    note("))
    with support.Started(tmp_path, "run", str(job), "--only-failed") as started:
        started.wait_to_say("handed out")
        started.process.terminate()
        started.wait_to_say("stopping")
        support.open_gate(tmp_path)
        assert started.wait_to_end() == 75
    assert support.rows(tmp_path / "output") == rows

    ended = support.mpibatch("run", job)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(*range(10))


@pytest.mark.parametrize("words", [(), ("--only-failed",)])
def test_a_start_that_was_lost_is_gone_on_with(words: tuple[str, ...], tmp_path: Path) -> None:
    """With the short returns too, and whether the words are given again or not, as by a parent that restarts."""
    short = picky(2).replace("return names", "return names[:1] if 'item004' in names else names")
    job = finished(tmp_path, short)
    rows = support.rows(tmp_path / "output")
    assert rows == names(0, 1, 3, 4, 8, 9)
    (tmp_path / "script.py").write_text(picky().replace("    note(", "    gate()\n    note("))
    with support.Started(tmp_path, "run", str(job), "--only-failed") as started:
        started.wait_to_say("handed out")
        started.process.kill()
        started.wait_to_end()
    support.open_gate(tmp_path)

    ended = support.mpibatch("run", job, *words)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == names(*range(10))
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0 and "is reused" in ended.stdout, support.words(ended)


TABLE = """
BAD = 25

def run(df):
    if (df.number == BAD).any():
        raise ValueError("no good")
    return df
"""


def test_copies_that_were_removed_at_the_end_are_made_again(tmp_path: Path) -> None:
    table = tmp_path / "table.csv.gz"
    with gzip.open(table, "wt") as file:
        file.write("number\n" + "".join(f"{number}\n" for number in range(100)))
    job = finished(
        tmp_path, TABLE, inputs=[{"csv": str(table), "unpack": True}], mini_batch_size="20 rows", arguments=[]
    )
    assert len(support.rows(tmp_path / "output")) == 99
    assert not os.path.exists(tmp_path / "output" / ".mpibatch" / "unpacked")
    (tmp_path / "script.py").write_text(TABLE.replace("25", "-1"))

    ended = support.mpibatch("run", job, "--only-failed")

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [str(number) for number in range(100)]
    assert not os.path.exists(tmp_path / "output" / ".mpibatch" / "unpacked")
