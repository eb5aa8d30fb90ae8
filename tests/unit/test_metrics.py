"""`metrics.jsonl`: all lines of all processors, whole, in the order of time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpibatch.runtime.metrics import gather_metrics
from mpibatch.runtime.run_folder import RunFolder


def line(second: int, name: str) -> str:
    return json.dumps({"time": f"2026-11-28T17:10:{second:02d}.000000Z", "name": name, "value": 1}) + "\n"


def folder_with(root: Path, files: dict[str, str]) -> RunFolder:
    folder = RunFolder(root)
    folder.own_metrics.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder.own_metrics / name).write_text(text)
    return folder


def gathered(folder: RunFolder) -> list[str]:
    return [json.loads(text)["name"] for text in folder.metrics.read_text().splitlines()]


def test_they_stand_in_the_order_of_time_and_again_after_more(tmp_path: Path) -> None:
    files = {
        "n1.process000.jsonl": line(1, "a") + line(5, "d"),
        "n2.process000.jsonl": line(3, "b") + line(4, "c"),
    }
    folder = folder_with(tmp_path, files)
    gather_metrics([folder], folder.metrics)
    assert gathered(folder) == ["a", "b", "c", "d"]
    folder_with(tmp_path, {"n1.process001.jsonl": line(2, "later session")})
    gather_metrics([folder], folder.metrics)
    assert gathered(folder) == ["a", "later session", "b", "c", "d"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [".mpibatch", "metrics.jsonl"]
    assert [file.name for file in folder.private.iterdir()] == ["metrics"]


def test_equal_times_keep_the_order_of_their_file(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, {"n.jsonl": "".join(line(1, f"{n:03d}") for n in range(100))})
    gather_metrics([folder], folder.metrics)
    assert gathered(folder) == [f"{n:03d}" for n in range(100)]


def test_torn_lines_are_left_out_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = '{"time": "2026\n' + "\n" + '{"time": "yesterday", "name": "x"}\n'
    folder = folder_with(tmp_path, {"n.jsonl": line(1, "a") + bad + line(2, "b") + line(3, "torn")[:-1]})
    gather_metrics([folder], folder.metrics)
    assert gathered(folder) == ["a", "b"]
    assert "3 lines are left out" in caplog.text


def test_where_nothing_was_logged_there_is_no_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    gather_metrics([folder], folder.metrics)
    assert list(tmp_path.iterdir()) == []
    empty = folder_with(tmp_path, {"n.jsonl": '{"torn'})
    gather_metrics([empty], empty.metrics)
    assert empty.metrics.read_text() == ""


def test_of_an_array_it_is_one_file(tmp_path: Path) -> None:
    shares = [folder_with(tmp_path / str(n), {"n.jsonl": line(9 - n, f"share {n}")}) for n in range(3)]
    whole = folder_with(tmp_path / "whole", {})
    gather_metrics([*shares, whole], whole.metrics)
    assert gathered(whole) == ["share 2", "share 1", "share 0"]
