"""The summary: five lines; where the run is not complete, also how to go on and, last, the first cause."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mpibatch.monitor.summary import summary
from mpibatch.results import CauseGroup, ItemCounts, JobResult, MiniBatchCounts

COMMAND = "mpibatch run digits.yaml"


def result(**changes: Any) -> JobResult:
    usual = JobResult(
        verdict="complete",
        exit_code=0,
        reason="",
        items=ItemCounts(total=1797, succeeded=1797, failed=0),
        mini_batches=MiniBatchCounts(total=360, succeeded=360, failed=0, attempts=360),
        rows=1797,
        elapsed_s=12.34,
        processing_s=10.0,
        mini_batches_per_s=36.0,
        sessions=1,
        output="/runs/digits/mnist_outputs.txt",
        first_cause=None,
    )
    return msgspec.structs.replace(usual, **changes)


def cause(number: int, count: int, **changes: Any) -> CauseGroup:
    usual = CauseGroup(
        error=f"ValueError: bad pixel {number}",
        item=f"/data/{number}.png",
        count=count,
        log="/runs/digits/logs/user/error/node1/process000.txt",
    )
    return msgspec.structs.replace(usual, **changes)


FAILED = result(
    verdict="too_many_errors",
    exit_code=3,
    reason="12 items failed; error_threshold is 10",
    items=ItemCounts(total=1797, succeeded=885, failed=12),
    mini_batches=MiniBatchCounts(total=360, succeeded=177, failed=3, attempts=190),
    rows=885,
    sessions=2,
    output=None,
    first_cause=cause(1, 7),
)


def lines(text: str) -> list[str]:
    assert not text.endswith("\n")
    return text.splitlines()


def test_a_complete_run_has_five_lines() -> None:
    assert lines(summary(result(), [], continue_command=COMMAND)) == [
        "verdict      complete, exit code 0",
        "items        1,797: 1,797 succeeded, 0 failed, in 360 mini-batches (360 attempts)",
        "failures     none",
        "output       /runs/digits/mnist_outputs.txt (1,797 rows)",
        "time         12 s, 36 mini-batches/s, 1 session",
    ]


def test_a_failed_run_ends_with_its_first_cause() -> None:
    causes = [cause(1, 7), cause(2, 5, item=None, log=None)]
    log = "log /runs/digits/logs/user/error/node1/process000.txt"
    again = f"start the same command again: {COMMAND}"
    assert lines(summary(FAILED, causes, continue_command=COMMAND)) == [
        "verdict      stopped: too many errors (12 items failed; error_threshold is 10), exit code 3",
        "items        1,797: 885 succeeded, 12 failed, 900 not done, in 360 mini-batches (190 attempts)",
        "failures     12 items, 2 causes; each in failed_items.jsonl",
        f"             ValueError: bad pixel 1: 7 items, for example /data/1.png, {log}",
        "             ValueError: bad pixel 2: 5 items",
        "output       none until the run is complete (885 rows kept so far)",
        "time         12 s, 36 mini-batches/s, 2 sessions",
        f"to go on     repair the cause, then {again} (what succeeded is kept)",
        f"first cause  ValueError: bad pixel 1: 7 items, /data/1.png, {log}",
    ]


def test_the_three_most_frequent_causes_are_shown_and_the_others_counted() -> None:
    causes = [cause(number, count) for number, count in enumerate([1, 9, 3, 9, 1, 2, 4])]
    text = summary(FAILED, causes, continue_command=COMMAND)
    shown = [line.split(":")[1].strip() for line in lines(text) if line.startswith("             Value")]
    assert shown == ["bad pixel 1", "bad pixel 3", "bad pixel 6"]
    assert "             ... and 4 other causes\n" in text
    assert "... and 1 other cause\n" in summary(FAILED, causes[:4], continue_command=COMMAND)
    assert "..." not in summary(FAILED, causes[:3], continue_command=COMMAND)


@pytest.mark.parametrize(
    ("changes", "verdict", "going_on"),
    [
        (
            {"verdict": "too_many_errors", "exit_code": 3},
            "stopped: too many errors (why)",
            "repair the cause",
        ),
        ({"verdict": "failed", "exit_code": 3}, "failed (why)", "repair the cause"),
        (
            {"verdict": "no_workers", "exit_code": 4},
            "stopped: no worker could work (why)",
            "repair the cause",
        ),
        ({"verdict": "failed", "exit_code": 74}, "failed: storage (why)", "repair the storage, then start"),
        ({"verdict": "stopped", "exit_code": 74}, "stopped before the end (why)", "repair the storage"),
        (
            {"verdict": "stopped", "exit_code": 75},
            "stopped before the end (why)",
            "start the same command again",
        ),
        ({"verdict": "stopped", "exit_code": 130}, "interrupted (why)", "start the same command again"),
        ({"verdict": "failed", "exit_code": 1}, "failed: an error inside mpibatch (why)", "start the same"),
        (
            {"verdict": "failed", "exit_code": 2},
            "failed: the job cannot run as it is (why)",
            "repair the cause",
        ),
    ],
)
def test_each_verdict_has_its_words(changes: dict[str, Any], verdict: str, going_on: str) -> None:
    text = lines(summary(result(reason="why", **changes), [], continue_command=COMMAND))
    assert text[0] == f"verdict      {verdict}, exit code {changes['exit_code']}"
    assert text[-2].startswith(f"to go on     {going_on}")
    assert COMMAND in text[-2]
    assert text[-1] == "first cause  why"


def test_where_nothing_is_known_the_way_to_go_on_is_last() -> None:
    stopped = result(verdict="stopped", exit_code=75)
    text = lines(summary(stopped, [], continue_command=""))
    assert text[-1] == "to go on     start the same command again"


def test_a_cause_without_items_counts_none() -> None:
    full = cause(1, 0, error="OSError: no space left on device", item=None, log=None)
    stopped = result(verdict="failed", exit_code=74, reason="the disk is full", first_cause=full)
    text = lines(summary(stopped, [], continue_command=COMMAND))
    assert text[-1] == "first cause  OSError: no space left on device"


def test_one_item_is_not_called_items() -> None:
    one = result(
        items=ItemCounts(total=1, succeeded=0, failed=1),
        mini_batches=MiniBatchCounts(total=1, succeeded=0, failed=1, attempts=1),
        rows=1,
    )
    text = summary(one, [cause(1, 1)], continue_command=COMMAND)
    assert "in 1 mini-batch (1 attempt)" in text
    assert "1 item, 1 cause;" in text
    assert "(1 row)" in text


def test_failures_whose_causes_are_unknown_are_counted_all_the_same() -> None:
    text = summary(FAILED, [], continue_command=COMMAND)
    assert "failures     12 items, each in failed_items.jsonl\n" in text


def test_summary_only_has_no_output_file() -> None:
    text = summary(result(output=None, rows=0), [], continue_command=COMMAND)
    assert "output       none: the entry script stores its own (output_action: summary_only)\n" in text


def test_nothing_from_outside_breaks_a_line() -> None:
    evil = cause(1, 2, error="Error: a\nb" + "x" * 500, item="/data/\x1b[2J\n\udcff.png", log="/log\n")
    broken = msgspec.structs.replace(FAILED, reason="a\nb", first_cause=evil)
    text = summary(broken, [evil], continue_command="mpibatch run 'a\nb'")
    assert len(lines(text)) == 8
    text.encode("utf-8")
    assert "\x1b" not in text
    assert "/data/\\x1b[2J\\n\\xff.png" in lines(text)[-1]
