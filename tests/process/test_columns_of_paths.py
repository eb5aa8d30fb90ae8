"""`path_columns`: what the paths of a table's files say becomes columns, by the real command line."""

from __future__ import annotations

import gzip
import json
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import support
from table_files import write_table

SCRIPT = """
import json
import pandas as pd

def run(data, context):
    if isinstance(data, dict):
        data = pd.DataFrame({name: values if values.dtype.kind != "M" else values.astype(str)
                             for name, values in data.items()})
    if isinstance(data, pd.DataFrame):
        print(dict(data.dtypes.astype(str)))
        data = data.to_dict("records")
    keys = context.partition_key_value if KEYS else None
    return [json.dumps([keys, row], default=str) for row in data]
"""
END = "{shop}/{day:yyyy/MM/dd}/*.*"
PLACES = [("ann", "2020/01/05"), ("ann", "2021/12/31"), ("bob", "2020/01/05")]
ENDINGS = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "hdf5": "h5"}


def tables(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Two rows in each of the places; the rows that are expected."""
    wanted: list[dict[str, Any]] = []
    for number, (shop, day) in enumerate(PLACES):
        data = pd.DataFrame({"id": [2 * number, 2 * number + 1], "x": [0.5, 1.5]})
        write_table(data, kind, folder / "data" / shop / day / f"part.{ENDINGS[kind]}")
        at = f"{day.replace('/', '-')} 00:00:00"
        wanted += [{**row, "shop": shop, "day": at} for row in data.to_dict("records")]  # type: ignore[dict-item]
    return wanted


def make(folder: Path, one: dict[str, Any], **keys: Any) -> Path:
    script = textwrap.dedent(SCRIPT).replace("KEYS", repr("partition_keys" in keys))
    job = support.make_job(folder, script, items=0, inputs=[one], **keys)
    if "mini_batch_size" not in keys:
        job.write_text(job.read_text().replace("mini_batch_size: 1\n", ""))
    return job


def completes(job: Path, ranks: int | None = None) -> list[tuple[Any, dict[str, Any]]]:
    """Keys and row of each row of the output."""
    ended = support.mpibatch("run", job, ranks=ranks)
    assert ended.returncode == 0, support.words(ended)
    return [tuple(json.loads(line)) for line in support.rows(job.parent / "output")]


def refused(job: Path) -> str:
    ended = support.mpibatch("run", job)
    assert ended.returncode == 2, support.words(ended)
    return " ".join(support.words(ended).split())


@pytest.mark.parametrize("size", ["1 rows", "1MB"])
@pytest.mark.parametrize("kind", ENDINGS)
def test_each_kind_of_table_has_them(kind: str, size: str, tmp_path: Path) -> None:
    wanted = tables(tmp_path, kind)
    job = make(tmp_path, {kind: str(tmp_path / "data"), "path_columns": END}, mini_batch_size=size)

    assert [row for _, row in completes(job)] == wanted

    (printed,) = (tmp_path / "output" / "logs" / "user" / "stdout").rglob("*.txt")
    assert "'day': 'datetime64" in printed.read_text()


def test_records_and_arrays_have_them_as_well(tmp_path: Path) -> None:
    wanted = tables(tmp_path / "lines", "jsonl")
    for row in wanted:
        row["day"] = row["day"].replace(" ", "T")  # As JSON has times.
    one: dict[str, Any] = {"jsonl": str(tmp_path / "lines" / "data"), "as": "records", "path_columns": END}
    assert [row for _, row in completes(make(tmp_path / "lines", one))] == wanted

    wanted = tables(tmp_path / "arrays", "hdf5")
    for row in wanted:
        row["day"] = row["day"].replace(" ", "T")
    one = {"hdf5": str(tmp_path / "arrays" / "data"), "as": "arrays", "path_columns": END}
    assert [row for _, row in completes(make(tmp_path / "arrays", one))] == wanted


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_may_choose_and_order_them(kind: str, tmp_path: Path) -> None:
    wanted = [{"shop": row["shop"], "id": row["id"]} for row in tables(tmp_path, kind)]
    one = {kind: str(tmp_path / "data"), "path_columns": END, "columns": ["shop", "id"]}

    found = [row for _, row in completes(make(tmp_path, one))]

    assert found == wanted and [list(row) for row in found] == [["shop", "id"]] * len(wanted)


def test_they_are_text_unless_dtype_says_otherwise(tmp_path: Path) -> None:
    for number in ("007", "08"):
        write_table(pd.DataFrame({"a": [1]}), "csv", tmp_path / "data" / f"{number}.csv")
    one: dict[str, Any] = {"csv": str(tmp_path / "data"), "path_columns": "{number}.csv"}
    assert [row["number"] for _, row in completes(make(tmp_path / "text", one))] == ["007", "08"]

    one = {**one, "dtype": {"number": "int16", "a": "str"}}
    rows = [row for _, row in completes(make(tmp_path / "numbers", one))]
    assert rows == [{"a": "1", "number": 7}, {"a": "1", "number": 8}]


def test_copies_have_the_names_of_their_files(tmp_path: Path) -> None:
    for shop in ("ann", "bob"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{shop}.csv.gz").write_bytes(gzip.compress(b"a\n1\n2\n3\n"))
    one = {"csv": str(tmp_path / "data"), "path_columns": "{shop}.csv.gz", "unpack": True}

    rows = [row for _, row in completes(make(tmp_path, one, mini_batch_size="2 rows"))]

    assert rows == [{"a": a, "shop": shop} for shop in ("ann", "bob") for a in (1, 2, 3)]


def test_a_bad_record_costs_itself_only(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ann.csv").write_text("a,b\n1,2\n3,4,5\n6,7\n")
    one = {"csv": str(tmp_path / "data"), "path_columns": "{shop}.csv"}

    rows = [row for _, row in completes(make(tmp_path, one, error_threshold=1))]

    assert rows == [{"a": 1, "b": 2, "shop": "ann"}, {"a": 6, "b": 7, "shop": "ann"}]
    (failed,) = support.failed_items(tmp_path / "output")
    assert failed["row"] == 1


@pytest.mark.parametrize("as_", ["frame", "records", "arrays"])
def test_a_column_with_each_rows_file(as_: str, tmp_path: Path) -> None:
    kind = "hdf5" if as_ == "arrays" else "jsonl"
    tables(tmp_path, kind)
    one = {kind: str(tmp_path / "data"), "path_column": "Path", "as": as_}

    rows = [row for _, row in completes(make(tmp_path, one))]

    files = [f"{tmp_path}/data/{shop}/{day}/part.{ENDINGS[kind]}" for shop, day in PLACES]
    assert [row["Path"] for row in rows] == [file for file in files for _ in range(2)]
    assert all(list(row) == ["Path", "id", "x"] for row in rows)


def test_the_file_may_be_the_key(tmp_path: Path) -> None:
    tables(tmp_path, "csv")
    one = {
        "csv": str(tmp_path / "data"),
        "path_column": "Path",
        "path_columns": END,
        "columns": ["id", "Path"],
    }

    rows = completes(make(tmp_path, one, partition_keys=["Path"]))

    assert all(list(row) == ["id", "Path"] and key == {"Path": row["Path"]} for key, row in rows)
    assert list(by_key(rows).values()) == [[0, 1], [2, 3], [4, 5]]


# Partition keys


def by_key(rows: list[tuple[Any, dict[str, Any]]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for keys, row in rows:
        found.setdefault(json.dumps(keys), []).append(row["id"])
    return found


@pytest.mark.parametrize("kind", ENDINGS)
def test_they_can_be_partition_keys(kind: str, tmp_path: Path) -> None:
    tables(tmp_path, kind)
    job = make(tmp_path, {kind: str(tmp_path / "data"), "path_columns": END}, partition_keys=["shop", "day"])

    found = by_key(completes(job))

    days = ["2020-01-05 00:00:00", "2021-12-31 00:00:00", "2020-01-05 00:00:00"]
    shops = [shop for shop, _ in PLACES]
    keys = [json.dumps({"shop": shop, "day": day}) for shop, day in zip(shops, days)]
    assert found == {keys[0]: [0, 1], keys[1]: [2, 3], keys[2]: [4, 5]}


@pytest.mark.parametrize("shuffle", [False, True])
def test_files_of_one_key_may_lie_apart(tmp_path: Path, shuffle: bool) -> None:
    tables(tmp_path, "csv")
    one = {"csv": str(tmp_path / "data"), "path_columns": END}
    job = make(tmp_path, one, partition_keys=["day"], shuffle=shuffle)

    found = by_key(completes(job))

    assert found == {
        '{"day": "2020-01-05 00:00:00"}': [0, 1, 4, 5],
        '{"day": "2021-12-31 00:00:00"}': [2, 3],
    }
    assert not list((tmp_path / "output").rglob("sorted/*"))


@pytest.mark.parametrize("kind", ENDINGS)
def test_keys_of_paths_and_of_files_go_together(kind: str, tmp_path: Path) -> None:
    for shop in ("ann", "bob"):
        data = pd.DataFrame({"id": [1, 2, 3, 4], "x": [5, 6, 5, 6]})
        write_table(data, kind, tmp_path / "data" / f"{shop}.{ENDINGS[kind]}")
    one = {kind: str(tmp_path / "data"), "path_columns": "{shop}.*"}
    keys = {"partition_keys": ["x", "shop"], "shuffle": True, "process_count_per_node": 2}
    job = make(tmp_path, one, **keys)

    rows = completes(job)

    values = ["5", "6"] if kind == "csv" else [5, 6]
    assert by_key(rows) == {
        json.dumps({"x": x, "shop": shop}): ids
        for shop in ("ann", "bob")
        for x, ids in zip(values, ([1, 3], [2, 4]))
    }
    assert all(row["shop"] == keys["shop"] for keys, row in rows)


# What is refused


def test_a_path_that_ends_otherwise_is_told_before_anything_runs(tmp_path: Path) -> None:
    tables(tmp_path, "csv")
    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "data" / "odd.csv")
    said = refused(make(tmp_path, {"csv": str(tmp_path / "data"), "path_columns": END}))
    assert "inputs.0.csv: of 1 of 4 files the path does not give the columns that it should" in said
    assert f"path_columns: {END}" in said
    assert "odd.csv': it ends otherwise" in said


def test_a_time_that_is_none_is_told(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "data" / "2020-13-01.csv")
    said = refused(make(tmp_path, {"csv": str(tmp_path / "data"), "path_columns": "{day:yyyy-MM-dd}.csv"}))
    assert "2020-13-01T00:00:00 is no time" in said


def test_a_value_that_has_not_its_dtype_is_told(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "data" / "ann.csv")
    one = {"csv": str(tmp_path / "data"), "path_columns": "{shop}.csv", "dtype": {"shop": "int64"}}
    said = refused(make(tmp_path, one))
    assert "'ann' for shop is no int64" in said


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_the_files_have_too_is_told(kind: str, tmp_path: Path) -> None:
    write_table(pd.DataFrame({"shop": ["x"], "id": [1]}), kind, tmp_path / "data" / f"ann.{kind}")
    one = {kind: str(tmp_path / "data"), "path_columns": "{shop}.*"}
    said = refused(make(tmp_path / "whole", one))
    assert "the column shop comes from the files' paths and stands in the files as well" in said

    # That of the paths, where `columns` leaves that of the files unread.
    rows = completes(make(tmp_path / "chosen", {**one, "columns": ["id", "shop"]}))
    assert rows == [(None, {"id": 1, "shop": "ann"})]


@pytest.mark.parametrize("as_", ["frame", "records"])
def test_a_row_that_has_the_column_too_costs_itself_only(as_: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = [
        '{"id": 0, "shop": null}',
        '{"shop": "x", "id": 1}',
        "no JSON",
        '{"id": 3}',
        '{"shop": 1, "id": 4}',
    ]
    (tmp_path / "data" / "ann.jsonl").write_text("\n".join(lines))
    one = {"jsonl": str(tmp_path / "data"), "path_columns": "{shop}.*", "as": as_}

    rows = completes(make(tmp_path, one, error_threshold=-1))

    assert [row for _, row in rows] == [{"id": 0, "shop": "ann"}, {"id": 3, "shop": "ann"}]
    failed = support.failed_items(tmp_path / "output")
    assert [one["row"] for one in failed] == [1, 2, 4]
    assert "the column shop comes from the files' paths and stands in the files as well" in json.dumps(
        failed[0]
    )


def test_a_dataset_and_a_folder_of_the_same_name_are_told(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"shop": [1], "id": [1]}), "hdf5", tmp_path / "data" / "ann.h5")
    said = refused(make(tmp_path / "one", {"hdf5": str(tmp_path / "data"), "path_columns": "{shop}.*"}))
    assert "the column shop" in said and "let `datasets` name those" in said

    write_table(pd.DataFrame({"id": [1]}), "parquet", tmp_path / "more" / "shop=ann" / "a.parquet")
    one = {"parquet": str(tmp_path / "more"), "path_columns": "shop={shop}/*"}
    assert "from folders key=value as well: write `hive: false`" in refused(make(tmp_path / "two", one))
    assert completes(make(tmp_path / "three", {**one, "hive": False})) == [(None, {"id": 1, "shop": "ann"})]


def test_columns_that_nobody_has_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ann.csv").write_text("1,2\n3,4\n")
    one = {"csv": str(tmp_path / "data"), "header": "none", "path_columns": "{self}.csv"}
    rows = [row for _, row in completes(make(tmp_path / "all", one))]
    assert rows == [{"0": 1, "1": 2, "self": "ann"}, {"0": 3, "1": 4, "self": "ann"}]

    rows = [row for _, row in completes(make(tmp_path / "some", {**one, "columns": ["self", "1"]}))]
    assert rows == [{"self": "ann", "1": 2}, {"self": "ann", "1": 4}]


def test_dtypes_read_paths_as_they_read_fields(tmp_path: Path) -> None:
    for word in ("true", "False", "1"):
        write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "data" / word / "a.csv")
    one = {"csv": str(tmp_path / "data"), "path_columns": "{yes}/*.csv", "dtype": {"yes": "bool"}}
    assert [row["yes"] for _, row in completes(make(tmp_path / "bool", one))] == [True, False, True]

    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "numbers" / "1_000.csv")
    one = {"csv": str(tmp_path / "numbers"), "path_columns": "{n}.csv", "dtype": {"n": "int64"}}
    said = refused(make(tmp_path / "int", one))
    assert "'1_000' for n is no int64" in said and "(or dtype as they are called)" in said


def test_dots_lead_where_links_do(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "far" / "ann" / "a.csv")
    (tmp_path / "far" / "ann" / "sub").mkdir()
    (tmp_path / "near" / "bob").mkdir(parents=True)
    (tmp_path / "near" / "bob" / "link").symlink_to(tmp_path / "far" / "ann" / "sub")
    one = {
        "csv": str(tmp_path / "near/bob/link/../a.csv"),
        "path_columns": "{shop}/a.csv",
        "path_column": "f",
    }
    rows = completes(make(tmp_path, one))
    assert rows == [(None, {"f": f"{tmp_path}/far/ann/a.csv", "id": 1, "shop": "ann"})]


def test_times_may_lie_far_away(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"id": [1]}), "csv", tmp_path / "data" / "9999-12-31.csv")
    rows = completes(make(tmp_path, {"csv": str(tmp_path / "data"), "path_columns": "{day:yyyy-MM-dd}.csv"}))
    assert rows == [(None, {"id": 1, "day": "9999-12-31 00:00:00"})]


@pytest.mark.parametrize(
    ("one", "why"),
    [
        ({"csv": "d", "path_columns": "a.csv"}, "path_columns is \"a.csv\": has no column in it"),
        ({"csv": "d", "path_columns": "{a}.csv", "columns": ["a"]}, "columns is [\"a\"]: these all come from"),
        ({"csv": "d", "path_columns": "{a}.csv", "parse_dates": ["a"]}, "parse_dates names \"a\", which comes from"),
        ({"csv": "d", "path_columns": "{a}.csv", "header": "none", "names": ["a"]}, "has \"a\", which is a column"),
        ({"hdf5": "d", "path_columns": "{a}.h5", "datasets": ["a"]}, "has \"a\", which is a column of the files"),
        ({"csv": "d", "path_columns": "{a}.csv", "path_column": "a"}, "path_column is \"a\", which path_columns has"),
        ({"csv": "d", "path_column": "a", "header": "none", "names": ["a"]}, "path_column has \"a\", which is"),
        ({"csv": "d", "include_path_column": True}, "here it is path_column"),
        ({"csv": "d", "partition_format": "{a}.csv"}, "here it is path_columns"),
        ({"files": "d", "path_columns": "{a}.csv"}, "path_columns belongs to csv, jsonl, parquet, hdf5: inputs"),
    ],
)  # fmt: skip
def test_what_job_files_may_not_say(one: dict[str, Any], why: str, tmp_path: Path) -> None:
    assert why in refused(make(tmp_path, one))


def test_a_brace_without_quotes_is_told(tmp_path: Path) -> None:
    job = make(tmp_path, {"csv": "data", "path_columns": "{a}.csv"})
    job.write_text(job.read_text().replace("'{a}.csv'", "{a}.csv"))
    assert "text that begins with { needs quotes" in refused(job)
