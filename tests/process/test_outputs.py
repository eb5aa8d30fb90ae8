"""The rows as they come out, what is counted, and when too much has failed: the real command line, end to end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import support

NUMBERS = (
    support.NOTE
    + """
def numbers(mini_batch):
    return [int(os.path.basename(item)[4:]) for item in mini_batch]
"""
)


def job_of(folder: Path, script: str, **keys: Any) -> Path:
    """`script` defines `run`, and has `numbers(mini_batch)`: of item007 that is 7."""
    return support.make_job(folder, NUMBERS + textwrap.dedent(script), **keys)


def completes(job: Path, *options: str) -> subprocess.CompletedProcess[str]:
    ended = support.mpibatch("run", job, *options)
    assert ended.returncode == 0, support.words(ended)
    return ended


def test_lists_become_lines_in_the_order_of_the_input(tmp_path: Path) -> None:
    job = job_of(
        tmp_path,
        """
        def run(mini_batch):
            return tuple((n, n / 2, "ä b") for n in numbers(mini_batch))
        """,
        items=50,
        mini_batch_size=7,
    )
    completes(job)
    expected = "".join(f"{(n, n / 2, 'ä b')}\n" for n in range(50))
    assert (tmp_path / "output" / "rows.txt").read_bytes() == expected.encode()


FRAMES = """
import pandas as pd

def frame(ns):
    text = [f'a "{n}" b' if n % 3 else None for n in ns]
    return pd.DataFrame({"number": ns, "half": [n / 2 for n in ns], "text": text})

def run(mini_batch):
    ns = numbers(mini_batch)
    note(str(ns[0]))
    if ns[0] >= 6 and not os.path.exists(FOLDER + "/gate"):
        raise ValueError("not yet")
    return frame(ns)
"""


def frame(numbers: range) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": list(numbers),
            "half": [n / 2 for n in numbers],
            "text": [f'a "{n}" b' if n % 3 else None for n in numbers],
        }
    )


SETTINGS: list[dict[str, Any]] = [
    {},
    {"header": True, "sep": ","},
    {"header": True, "index": True, "sep": ";", "na_rep": "?", "float_format": "%.3f", "quoting": 1},
    {"header": ["n", "h", "t"], "columns": ["number", "half", "text"], "sep": "\t", "lineterminator": "\r\n"},
]


@pytest.mark.parametrize(
    ("settings", "order"),
    [*((one, "input") for one in SETTINGS), (SETTINGS[1], "completion")],
    ids=["default", "header", "many", "named header", "in order of completion"],
)
def test_frames_are_what_to_csv_gives_also_over_two_sessions(
    settings: dict[str, Any], order: str, tmp_path: Path
) -> None:
    job = job_of(
        tmp_path, FRAMES, items=12, mini_batch_size=3, append_row=settings, order=order, run_max_try=1,
        error_threshold=0,
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    support.open_gate(tmp_path)
    completes(job)

    written = (tmp_path / "output" / "rows.txt").read_bytes()
    keywords = {"sep": " ", "header": False, "index": False, **settings}
    # Mini-batches are numbered from 0 each: an index of their own is what to_csv of each gives.
    parts = [frame(range(start, start + 3)).to_csv(**keywords) for start in range(0, 12, 3)]
    head = frame(range(0)).to_csv(**keywords) if keywords["header"] is not False else ""
    expected = head + "".join(part.removeprefix(head) for part in parts)
    assert written == expected.encode()
    assert written.count(head.encode()) == 1 or not head
    assert support.result(tmp_path / "output")["sessions"] == 2


def test_the_header_is_written_once_where_the_first_frames_are_empty(tmp_path: Path) -> None:
    script = """
        import pandas as pd

        def run(mini_batch):
            ns = [n for n in numbers(mini_batch) if n > 3]
            return pd.DataFrame({"number": ns, "square": [n * n for n in ns]})
        """
    job = job_of(tmp_path, script, append_row={"header": True, "sep": ","})
    completes(job)
    assert (tmp_path / "output" / "rows.txt").read_text() == "number,square\n4,16\n5,25\n"
    told = support.result(tmp_path / "output")
    assert told["items"] == {"total": 6, "succeeded": 2, "failed": 4}


def test_settings_beside_the_script_and_the_argument_for_the_header(tmp_path: Path) -> None:
    script = (
        "import pandas as pd\ndef run(mini_batch): return pd.DataFrame({'n': numbers(mini_batch), 'a': 1})\n"
    )
    job = job_of(tmp_path, script, arguments=["--notes", "x", "--append_row_dataframe_header", "True"])
    (tmp_path / "parallel_run_step.settings.json").write_text(
        '{"append_row": {"pandas.DataFrame.to_csv": {"sep": "|"}}}'
    )
    completes(job)
    assert support.rows(tmp_path / "output") == ["n|a", *(f"{n}|1" for n in range(6))]


def test_in_order_of_completion(tmp_path: Path) -> None:
    script = """
        def run(mini_batch):
            (n,) = numbers(mini_batch)
            if n in (0, 5) and not os.path.exists(FOLDER + "/gate"):
                raise ValueError("not yet")
            return [n]
        """
    job = job_of(tmp_path, script, order="completion", run_max_try=1, error_threshold=1)
    assert support.mpibatch("run", job).returncode == 3
    support.open_gate(tmp_path)
    completes(job)
    assert support.rows(tmp_path / "output") == ["1", "2", "3", "4", "0", "5"]


def test_summary_only_writes_no_output_and_counts_what_is_returned(tmp_path: Path) -> None:
    script = """
        def run(mini_batch):
            ns = numbers(mini_batch)
            if ns[0] == 0:
                return ns
            if ns[0] == 3:
                return (n for n in ns[:2])
            if ns[0] == 6:
                return []
            raise ValueError("last")
        """
    job = job_of(tmp_path, script, items=12, mini_batch_size=3, output_action="summary_only", run_max_try=2)
    ended = completes(job)
    output = tmp_path / "output"
    assert not (output / "rows.txt").exists()
    told = support.result(output)
    assert told["items"] == {"total": 12, "succeeded": 5, "failed": 7}
    assert told["mini_batches"] == {"total": 4, "succeeded": 3, "failed": 1, "attempts": 5}
    assert (told["rows"], told["output"]) == (0, None)
    assert "none: the entry script stores its own" in ended.stdout
    failed = support.failed_items(output)
    assert [line.get("count") for line in failed] == [1, *[None] * 6]
    assert sum(line.get("count", 1) for line in failed) == 7


def test_summary_only_without_one_success_is_complete(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def run(b): return []", output_action="summary_only")
    completes(job)
    assert support.result(tmp_path / "output")["items"] == {"total": 6, "succeeded": 0, "failed": 6}


def test_a_short_return_fails_the_rest_and_is_not_tried_again(tmp_path: Path) -> None:
    script = """
        def run(mini_batch):
            note(str(numbers(mini_batch)[0]))
            return [] if numbers(mini_batch)[0] == 4 else numbers(mini_batch)[:1]
        """
    job = job_of(tmp_path, script, mini_batch_size=2, mini_batch_error_threshold=0)
    ended = completes(job)

    output = tmp_path / "output"
    assert support.rows(output) == ["0", "2"]
    assert support.notes(tmp_path) == ["0", "2", "4"]
    told = support.result(output)
    assert told["items"] == {"total": 6, "succeeded": 2, "failed": 4}
    assert told["mini_batches"] == {"total": 3, "succeeded": 3, "failed": 0, "attempts": 3}
    failed = support.failed_items(output)
    told_of = [(line["item"], line["mini_batch"], line.get("count"), line["attempts"]) for line in failed]
    left_out = [
        str(tmp_path / "data" / f"item00{number}") for number in (4, 5)
    ]  # All of a mini-batch: known.
    assert told_of == [
        (None, 0, 1, 1), (None, 1, 1, 1), (left_out[0], 2, None, 1), (left_out[1], 2, None, 1),
    ]  # fmt: skip
    error = failed[2]["error"]
    assert error == {"type": "ShortReturn", "message": "run() returned 0 elements for 2 items"}
    assert "4 items, 1 cause" in ended.stdout


def test_short_returns_count_for_the_error_threshold(tmp_path: Path) -> None:
    script = "def run(b): return numbers(b)[1:] if numbers(b)[0] < 6 else numbers(b)"
    job = job_of(tmp_path, script, items=40, mini_batch_size=2, error_threshold=2)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    told = support.result(tmp_path / "output")
    assert told["verdict"] == "too_many_errors"
    assert "3 items failed; error_threshold is 2" in told["reason"]
    assert told["mini_batches"]["attempts"] == 3  # At once, not at the end.
    completes(job, "--set", "error_threshold=3")
    assert support.rows(tmp_path / "output") == ["1", "3", "5", *(str(n) for n in range(6, 40))]


def test_more_rows_than_items_are_kept_with_one_warning(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def run(b): return numbers(b) * 3", mini_batch_size=2)
    ended = completes(job)
    assert support.rows(tmp_path / "output") == [
        str(n) for start in (0, 2, 4) for _ in range(3) for n in (start, start + 1)
    ]
    told = support.result(tmp_path / "output")
    assert told["items"] == {"total": 6, "succeeded": 6, "failed": 0}
    assert told["rows"] == 18
    assert ended.stderr.count("more elements than its mini-batch has items") == 1


def test_rows_with_newlines_are_written_as_they_are_with_one_warning(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def run(b): return [f'{n}\\nsecond' for n in numbers(b)]")
    ended = completes(job)
    assert (tmp_path / "output" / "rows.txt").read_text() == "".join(f"{n}\nsecond\n" for n in range(6))
    assert support.result(tmp_path / "output")["rows"] == 6
    assert ended.stderr.count("a row has a newline inside") == 1


def test_empty_lists_everywhere_but_one(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def run(b): return numbers(b) if 4 in numbers(b) else []")
    completes(job)
    assert support.rows(tmp_path / "output") == ["4"]
    told = support.result(tmp_path / "output")
    assert told["items"] == {"total": 6, "succeeded": 1, "failed": 5}


NAMES = [
    b"a space",
    b"new\nline",
    b"\xff\xfe not utf-8",
    "\N{SNOWMAN}".encode(),
    b"tab\t'quote' \"double\"",
    b"z$HOME `x`",
]


def test_odd_file_names_end_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "a folder \N{SNOWMAN}"
    script = """
        def run(mini_batch):
            rows = []
            for item in mini_batch:
                if b"quote" in os.fsencode(item):
                    raise ValueError("of " + item)
                rows.append(ascii(os.fsencode(os.path.basename(item))) + open(item).read())
            return rows
        """
    job = support.make_job(folder, support.NOTE + textwrap.dedent(script), items=0)
    for name in NAMES:
        (folder / "data" / os.fsdecode(name)).write_text("!")

    ended = completes(job)

    good = sorted(name for name in NAMES if b"quote" not in name)
    assert support.rows(folder / "output") == [ascii(name) + "!" for name in good]
    (failed,) = support.failed_items(folder / "output")
    assert failed["item"] == str(folder / "data" / "tab\t'quote' \"double\"")
    assert "ValueError: of " in ended.stdout
    assert support.mpibatch("run", job).returncode == 0


def test_an_odd_name_that_fails_is_told_in_every_place(tmp_path: Path) -> None:
    bad = os.fsdecode(b"bad \xff\nname")
    folder = tmp_path / os.fsdecode(b"job \xff")
    script = support.NOTE + "def run(b):\n  if 'bad' in b[0]: raise ValueError('of ' + b[0])\n  return b\n"
    job = support.make_job(folder, script, items=1, run_max_try=1)
    (folder / "data" / bad).touch()

    ended = completes(job)

    assert (folder / "output" / "rows.txt").read_bytes() == os.fsencode(folder / "data" / "item000") + b"\n"
    (failed,) = support.failed_items(folder / "output")
    assert os.fsencode(failed["item"]) == os.fsencode(folder / "data" / bad)
    cause = support.result(folder / "output")["first_cause"]
    assert "bad" in cause["item"] and "\\xff" in cause["item"]
    (line,) = [line for line in ended.stdout.splitlines() if "for example" in line]
    assert "bad" in line and "\\xff" in line
    told = support.mpibatch("status", folder / "output")
    assert told.returncode == 0, support.words(told)


def test_large_rows_do_not_fill_the_memory(tmp_path: Path) -> None:
    script = """
        def run(mini_batch):
            (n,) = numbers(mini_batch)
            return [str(n) * (30 << 20)]
        """
    job = job_of(tmp_path, script, items=10)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *support.COMMAND, "run", str(job)],
        capture_output=True, text=True, check=False, timeout=support.TIMEOUT_S,
    )  # fmt: skip
    assert measured.returncode == 0, support.words(measured)
    found = re.search(r"peak (\d+) KiB", measured.stderr)
    assert found and int(found[1]) < 1 << 20, support.words(measured)
    with open(tmp_path / "output" / "rows.txt", "rb") as file:
        for number in range(10):
            line = file.readline()
            assert len(line) == (30 << 20) + 1
            assert line.count(str(number).encode()) == 30 << 20
    # Some hundred megabytes need not wait for pytest to remove them.
    for file_ in (tmp_path / "output").rglob("*row*"):
        file_.unlink()


MEASURE = """
import os, resource, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
print("peak", used.ru_maxrss, "KiB", file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


# (keys, item numbers that fail, exit code, verdict, words of the reason)
THRESHOLDS: list[tuple[dict[str, Any], set[int], int, str, str]] = [
    ({"error_threshold": 0}, set(), 0, "complete", ""),
    ({"error_threshold": 0}, {5}, 3, "too_many_errors", "1 items failed; error_threshold is 0"),
    ({"error_threshold": 2}, {1, 5}, 0, "complete", ""),
    ({"error_threshold": 2}, {1, 2, 5}, 3, "too_many_errors", "3 items failed; error_threshold is 2"),
    ({"error_threshold": -1}, {0, 1, 2, 3, 4}, 0, "complete", ""),
    ({"error_threshold": 2, "mini_batch_size": 3}, {1}, 3, "too_many_errors", "3 items failed"),
    ({"mini_batch_error_threshold": 0}, {5}, 3, "too_many_errors", "mini_batch_error_threshold is 0"),
    ({"mini_batch_error_threshold": 1}, {1, 5}, 3, "too_many_errors", "2 mini-batches failed"),
    ({"mini_batch_error_threshold": 2}, {1, 5}, 0, "complete", ""),
    ({"allowed_failed_percent": 50}, {0, 1, 5}, 0, "complete", ""),
    ({"allowed_failed_percent": 49}, {0, 1, 5}, 3, "too_many_errors", "allowed_failed_percent is 49"),
    ({"allowed_failed_percent": 0}, {5}, 3, "too_many_errors", "allowed_failed_percent is 0"),
    ({}, set(range(6)), 3, "failed", "there is not one item that succeeded"),
    ({"error_threshold": 6}, set(range(6)), 3, "failed", "there is not one item that succeeded"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "bad", "code", "verdict", "reason"),
    THRESHOLDS,
    ids=[f"{row[0]} {row[1] or ''}" for row in THRESHOLDS],
)
def test_when_too_much_has_failed(
    keys: dict[str, Any], bad: set[int], code: int, verdict: str, reason: str, tmp_path: Path
) -> None:
    script = f"""
        def run(mini_batch):
            if {bad or "set()"} & set(numbers(mini_batch)):
                raise ValueError("bad")
            return numbers(mini_batch)
        """
    job = job_of(tmp_path, script, run_max_try=1, isolate_failures=False, **keys)
    ended = support.mpibatch("run", job)

    assert ended.returncode == code, support.words(ended)
    told = support.result(tmp_path / "output")
    assert (told["verdict"], told["exit_code"]) == (verdict, code)
    assert reason in told["reason"]
    assert (tmp_path / "output" / "rows.txt").exists() == (code == 0)
    if code == 0:
        assert told["items"] == {"total": 6, "succeeded": 6 - len(bad), "failed": len(bad)}
        assert support.rows(tmp_path / "output") == [str(n) for n in range(6) if n not in bad]
    else:
        assert told["first_cause"]["error"] == "ValueError: bad"
        assert ended.stdout.splitlines()[-1].startswith("first cause  ValueError: bad")


def test_an_attempt_that_a_later_one_repairs_never_counts(tmp_path: Path) -> None:
    script = """
        def run(mini_batch, context):
            if context.retry_count < 2:
                raise ValueError("at first")
            return numbers(mini_batch)
        """
    job = job_of(tmp_path, script, error_threshold=0, mini_batch_error_threshold=0)
    completes(job)
    told = support.result(tmp_path / "output")
    assert told["mini_batches"] == {"total": 6, "succeeded": 6, "failed": 0, "attempts": 18}
    assert support.failed_items(tmp_path / "output") == []
