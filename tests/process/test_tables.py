"""Tables in, by the real command line: what `run()` gets, what is counted, and what a bad record costs."""

from __future__ import annotations

import gzip
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import support

from mpibatch.runtime.surveying.rounds import IN_PLACE

LINES = """
import json

def run(df, context):
    whole = df.astype(object).where(df.notna(), None).to_dict("records")
    return [json.dumps([context.global_row_index_lower_bound + n, context.minibatch_index, row], default=str)
            for n, row in enumerate(whole)]
"""
"""A row for each row: its number in the input, its mini-batch, what it holds."""


def table_job(folder: Path, inputs: list[dict[str, Any]], script: str = LINES, **keys: Any) -> Path:
    return support.make_job(folder, textwrap.dedent(script), items=0, inputs=inputs, **keys)


def completes(job: Path) -> list[Any]:
    """The rows of a run that completes."""
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    return [json.loads(line) for line in support.rows(job.parent / "output")]


def content(rows: list[Any]) -> list[Any]:
    return [row[2] for row in rows]


def frame(rows: int) -> pd.DataFrame:
    text = [None if n % 5 == 0 else f'quoted "{n}"\nwith, newlines' for n in range(rows)]
    return pd.DataFrame({"id": range(rows), "half": [n / 2 for n in range(rows)], "text": text})


def records(data: pd.DataFrame) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data.astype(object).where(data.notna(), None).to_dict("records")  # type: ignore[assignment]
    return found


# CSV


@pytest.mark.parametrize("size", ["300", "7 rows", "1MB"])
def test_csv_files_are_cut_at_records_and_come_whole_and_in_order(tmp_path: Path, size: str) -> None:
    data = frame(200)
    data[:120].to_csv(tmp_path / "a.csv", index=False)
    data[120:].to_csv(tmp_path / "b.csv", index=False)
    job = table_job(tmp_path, [{"csv": "*.csv"}], mini_batch_size=size)
    rows = completes(job)
    assert content(rows) == records(data)
    assert [row[0] for row in rows] == list(range(200)), "global_row_index_lower_bound"
    files = {(row[1], n >= 120) for n, row in enumerate(rows)}
    assert len({mini_batch for mini_batch, _ in files}) == len(files), "a mini-batch crosses a file"
    if size == "7 rows":
        assert len(files) == -(-120 // 7) + -(-80 // 7)
    else:
        assert len(files) > 20 if size == "300" else len(files) == 2
    counts = support.result(tmp_path / "output")
    assert counts["items"] == {"total": 200, "succeeded": 200, "failed": 0} and counts["rows"] == 200
    assert not (tmp_path / "output" / ".mpibatch" / "survey").exists()


def test_a_malformed_record_costs_itself_only_and_is_named(tmp_path: Path) -> None:
    lines = ["a,b", *(f"{n},{n}" for n in range(50))]
    lines[20] = "19,19,surplus"
    lines[31] = '30,"\udcff'.encode("utf-8", "surrogateescape").decode("latin-1") + '"'
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("latin-1"))
    job = table_job(tmp_path, [{"csv": "t.csv"}], mini_batch_size="10 rows")
    rows = completes(job)
    assert [row[2]["a"] for row in rows] == [n for n in range(50) if n not in (19, 30)]
    output = tmp_path / "output"
    assert support.result(output)["items"] == {"total": 50, "succeeded": 48, "failed": 2}
    surplus, undecodable = support.failed_items(output)
    assert (surplus["item"], surplus["row"], surplus["mini_batch"]) == (str(tmp_path / "t.csv"), 19, 1)
    assert "t.csv', line 21" in surplus["error"]["message"]
    assert (undecodable["row"], undecodable["mini_batch"]) == (30, 3)
    assert "line 32" in undecodable["error"]["message"] and "utf-8" in undecodable["error"]["message"].lower()


def test_bad_records_count_for_the_threshold(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2,3\n" * 4 + "1,2\n" * 4)
    job = table_job(tmp_path, [{"csv": "t.csv"}], mini_batch_size="2 rows", error_threshold=2)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    assert "error_threshold is 2" in ended.stdout + ended.stderr
    assert support.result(tmp_path / "output")["first_cause"]["error"].startswith("BadRecord: ")


def test_dtypes_dates_and_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("code;when;x;y\n007;2026-01-02;1,5;n/a\n008;2026-01-03;2,5;4\n")
    table = {
        "csv": "t.csv", "sep": ";", "decimal": ",", "dtype": {"code": "str"}, "parse_dates": ["when"],
        "columns": ["x", "code", "when", "y"], "na_values": ["n/a"],
    }  # fmt: skip
    script = """
        def run(df):
            assert str(df["when"].dtype).startswith("datetime64"), df.dtypes
            return [list(df.columns), *df[["code", "x", "y"]].values.tolist()][1:]
        """
    job = table_job(tmp_path, [table], script, mini_batch_size="1MB")
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == ["['007', 1.5, nan]", "['008', 2.5, 4.0]"]


def test_compressed_files_are_one_mini_batch_or_are_unpacked(tmp_path: Path) -> None:
    data = frame(100)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(data.to_csv(index=False).encode()))
    for unpack in (False, True):
        folder = tmp_path / str(unpack)
        job = table_job(folder, [{"csv": "../t.csv.gz", "unpack": unpack}], mini_batch_size="10 rows")
        rows = completes(job)
        assert content(rows) == records(data)
        assert len({row[1] for row in rows}) == (10 if unpack else 1)
        assert not (folder / "output" / ".mpibatch" / "unpacked").exists()


def test_a_column_that_no_file_has_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("alpha,beta\n1,2\n")
    job = table_job(tmp_path, [{"csv": "t.csv", "columns": ["alpah"]}])
    ended = support.mpibatch("run", job)
    assert ended.returncode == 2, support.words(ended)
    for word in ("alpah", "alpha", "t.csv", "inputs.0.csv"):
        assert word in ended.stderr
    assert not (tmp_path / "output").exists()


def test_a_file_that_cannot_be_read_is_one_failed_item_and_the_others_go_on(tmp_path: Path) -> None:
    data = frame(20)[["id", "half"]]
    for name in ("a", "b", "c"):
        data.to_parquet(tmp_path / f"{name}.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    job = table_job(tmp_path, [{"parquet": "*.parquet"}], mini_batch_size="15 rows", error_threshold=1)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert "b.parquet" in ended.stderr, "it is told before the work"
    output = tmp_path / "output"
    assert support.result(output)["items"] == {"total": 41, "succeeded": 40, "failed": 1}
    (failed,) = support.failed_items(output)
    assert failed["item"] == str(tmp_path / "b.parquet")


# The other kinds


def test_json_lines_as_frames_and_as_records(tmp_path: Path) -> None:
    lines = [{"id": n, "tags": ["a"] * (n % 3), "name": f"n\n{n}"} for n in range(60)]
    text = "".join(json.dumps(line) + "\n\n" for line in lines)
    (tmp_path / "t.jsonl").write_text(text.replace('{"id": 7,', '{"id": 7;', 1))
    for as_ in ("frame", "records"):
        folder = tmp_path / as_
        script = (
            LINES
            if as_ == "frame"
            else "import json\ndef run(rows): return [json.dumps([0, 0, r]) for r in rows]"
        )
        job = table_job(folder, [{"jsonl": "../t.jsonl", "as": as_}], script, mini_batch_size="400B")
        assert content(completes(job)) == [line for line in lines if line["id"] != 7]
        (failed,) = support.failed_items(folder / "output")
        assert failed["row"] == 7 and "line 15" in failed["error"]["message"]


def test_parquet_with_hive_columns_and_columns_pushed_down(tmp_path: Path) -> None:
    for year in (2024, 2025):
        folder = tmp_path / "sales" / f"year={year}"
        folder.mkdir(parents=True)
        frame(50)[["id", "half", "text"]].to_parquet(folder / "part.parquet", row_group_size=20)
    (tmp_path / "sales" / "_SUCCESS").touch()
    table = {"parquet": "sales/", "columns": ["year", "id"]}
    job = table_job(tmp_path, [table], mini_batch_size="30 rows")
    assert content(completes(job)) == [{"year": year, "id": n} for year in (2024, 2025) for n in range(50)]


def test_hdf5_as_arrays(tmp_path: Path) -> None:
    import h5py

    images = np.arange(40 * 3 * 2, dtype=np.uint8).reshape(40, 3, 2)
    for name, part in (("a", images[:25]), ("b", images[25:])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["set/images"] = part
            file["set/names"] = [f"n{int(one[0, 0])}" for one in part]
    script = """
        def run(arrays):
            assert arrays["images"].shape[1:] == (3, 2) and len(arrays["names"]) == len(arrays["images"])
            return [f"{name} {image.sum()}" for name, image in zip(arrays["names"], arrays["images"])]
        """
    table = {"hdf5": "*.h5", "group": "/set", "as": "arrays"}
    job = table_job(tmp_path, [table], script, mini_batch_size="10 rows")
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output") == [f"n{one[0, 0]} {one.sum()}" for one in images]


def test_several_tables_of_several_kinds_in_one_job(tmp_path: Path) -> None:
    data = frame(30)[["id", "half"]]
    data[:10].to_csv(tmp_path / "t.csv", index=False)
    data[10:20].to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    data[20:].to_parquet(tmp_path / "t.parquet")
    inputs = [{"csv": "t.csv"}, {"jsonl": "t.jsonl"}, {"parquet": "t.parquet"}]
    rows = completes(table_job(tmp_path, inputs, mini_batch_size="4 rows"))
    assert content(rows) == records(data)
    assert [row[0] for row in rows] == list(range(10)) * 3, "positions count in each input"


# Going on


def test_a_killed_run_over_a_table_goes_on(tmp_path: Path) -> None:
    data = frame(100)[["id", "half"]]
    data.to_csv(tmp_path / "t.csv", index=False)
    script = (
        support.NOTE
        + """
def run(df):
    note(str(df["id"].iloc[0]))
    if df["id"].iloc[0] == 50:
        gate()
    return df
"""
    )
    job = table_job(tmp_path, [{"csv": "t.csv"}], script, mini_batch_size="10 rows")
    with support.Started(tmp_path, "run", job) as run:
        run.wait_until(lambda: "50" in support.notes(tmp_path), "it stands at row 50")
        journal = tmp_path / "output" / ".mpibatch" / "session-0001.journal"
        run.wait_until(lambda: journal.stat().st_size >= 64 * 4, "some is durable")
        support.kill(run.process.pid)
    support.open_gate(tmp_path)
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    expected = data.to_csv(sep=" ", header=False, index=False)
    assert (tmp_path / "output" / "rows.txt").read_text() == expected
    assert support.notes(tmp_path).count("0") == 1, "what is durable is not done again"


def test_a_finished_run_is_reused_until_a_table_changes(tmp_path: Path) -> None:
    frame(10).to_csv(tmp_path / "t.csv", index=False)
    job = table_job(tmp_path, [{"csv": "t.csv"}])
    completes(job)
    again = support.mpibatch("run", job)
    assert again.returncode == 0 and "is reused" in again.stdout, support.words(again)
    frame(11).to_csv(tmp_path / "t.csv", index=False)
    changed = support.mpibatch("run", job)
    assert changed.returncode == 2, support.words(changed)
    assert "--fresh" in changed.stderr and "changed" in changed.stderr


def test_a_run_over_a_table_that_has_changed_is_not_continued(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    frame(20)[["id"]].to_csv(table, index=False)
    script = """
import os

def run(df):
    if os.path.exists(os.environ["BROKEN"]):
        raise ValueError("broken")
    return df
"""
    broken = tmp_path / "broken"
    broken.touch()
    job = table_job(
        tmp_path, [{"csv": "t.csv"}], script, mini_batch_size="5 rows", error_threshold=0, run_max_try=1,
        environment_variables={"BROKEN": str(broken)},
    )  # fmt: skip
    assert support.mpibatch("run", job).returncode == 3
    broken.unlink()
    (tmp_path / "more.csv").write_text("id\n0\n")  # Not of the plan: nothing is walked again.
    times = table.stat()
    frame(40)[["id"]].to_csv(table, index=False)
    refused = support.mpibatch("run", job)
    assert refused.returncode == 2 and "has changed" in refused.stderr, support.words(refused)

    frame(20)[["id"]].to_csv(table, index=False)
    os.utime(table, ns=(times.st_atime_ns, times.st_mtime_ns))
    continued = support.mpibatch("run", job)
    assert continued.returncode == 0, support.words(continued)
    assert "changed" not in continued.stderr
    assert support.rows(tmp_path / "output") == [str(n) for n in range(20)]


def test_a_finished_run_whose_table_has_changed_is_refused_without_a_survey(tmp_path: Path) -> None:
    """Its answers would be about a file that is another one by the next start."""
    on_workers = support.environment(**{IN_PLACE: "0"})
    job = table_job(tmp_path, [{"parquet": "t.parquet"}], "def run(df): return df")
    for rows, ends, arguments in [(10, 0, []), (20, 2, []), (30, 0, ["--fresh"])]:
        frame(rows)[["id"]].to_parquet(tmp_path / "t.parquet")
        ended = support.mpibatch("run", job, *arguments, env=on_workers)
        assert ended.returncode == ends, support.words(ended)
        assert not (tmp_path / "output" / ".mpibatch" / "survey").exists()
    assert support.rows(tmp_path / "output") == [str(n) for n in range(30)]


def test_a_dry_run_shows_rows(tmp_path: Path) -> None:
    frame(10).to_csv(tmp_path / "t.csv", index=False)
    ended = support.mpibatch(
        "run", table_job(tmp_path, [{"csv": "t.csv"}], mini_batch_size="4 rows"), "--dry-run"
    )
    assert ended.returncode == 0, support.words(ended)
    assert "items        10" in ended.stdout and "mini-batches 3 of up to 4 rows" in ended.stdout
    assert "t.csv, row 4" in ended.stdout
    assert not (tmp_path / "output").exists()


def test_a_dry_run_by_keys(tmp_path: Path) -> None:
    frame(10).assign(half=lambda data: data["id"] // 4).to_csv(tmp_path / "t.csv", index=False)
    job = table_job(tmp_path, [{"csv": "t.csv"}], partition_keys=["half"])
    job.write_text(
        "".join(line for line in job.read_text().splitlines(True) if "mini_batch_size" not in line)
    )
    ended = support.mpibatch("run", job, "--dry-run")
    assert ended.returncode == 0, support.words(ended)
    assert "mini-batches 3 of one combination of half each" in ended.stdout
