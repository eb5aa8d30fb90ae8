"""core.mltable and its rooms: what an MLTable is to a job, and what is refused in words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from mpibatch.core.config import parse_job
from mpibatch.core.mltable import Table, read_mltable
from mpibatch.errors import ConfigError

PATHS = "paths: [{file: ./a.csv}]\n"


def table(text: str, folder: str = "data/t", keys: tuple[str, ...] = ()) -> Table:
    """Also that a job takes what comes out."""
    read = read_mltable("MLTable", yaml.safe_load(text), folder, keys)
    mapping: dict[str, Any] = {"entry_script": "s.py", "inputs": read.inputs}
    if keys:
        mapping["partition_keys"] = list(keys)
    parse_job(mapping, job_file="/jobs/job.yaml")
    return read


def words(text: str, keys: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        read_mltable("t/MLTable", yaml.safe_load(text), "t", keys)
    assert str(caught.value).startswith("t/MLTable: ")
    return str(caught.value)


def steps(*steps: str) -> str:
    return PATHS + "transformations:\n" + "".join(f"  - {step}\n" for step in steps)


A_CSV = {"csv": "data/t/a.csv"}
TABLES: list[tuple[str, dict[str, Any]]] = [
    ("read_delimited", {"csv": "data/t/a.csv", "multiline": False}),
    ("read_delimited: {}", {"csv": "data/t/a.csv", "multiline": False}),
    (
        'read_delimited: {delimiter: ";", encoding: utf8, support_multi_line: true}',
        {"csv": "data/t/a.csv", "sep": ";"},
    ),
    ("read_delimited: {delimiter: '\\t'}", {"csv": "data/t/a.csv", "sep": "\t", "multiline": False}),
    (
        "read_delimited: {header: from_first_file, encoding: iso88591, empty_as_string: true}",
        {**A_CSV, "header": "first", "encoding": "latin-1", "multiline": False, "keep_default_na": False},
    ),
    (
        'read_delimited: {header: all_files_different_headers, delimiter: "\\t", infer_column_types: false}',
        {"csv": "data/t/a.csv", "header": "each", "sep": "\t", "multiline": False, "dtype": "str"},
    ),
    (
        "read_delimited: {infer_column_types: {column_type_overrides: [{columns: a, column_type: int}]}}",
        {"csv": "data/t/a.csv", "multiline": False, "dtype": {"a": "int64"}},
    ),
    ("read_parquet", {"parquet": "data/t/a.csv"}),
    ("read_parquet: {include_path_column: false}", {"parquet": "data/t/a.csv"}),
    # As the public package writes it.
    ("read_parquet: {include_path_column: false, path_column: Path}", {"parquet": "data/t/a.csv"}),
    ("read_json_lines: {encoding: utf8}", {"jsonl": "data/t/a.csv"}),
    ("read_parquet: {include_path_column: true}", {"parquet": "data/t/a.csv", "path_column": "Path"}),
    ("read_json_lines: {include_path_column: true, path_column: f}", {"jsonl": "data/t/a.csv", "path_column": "f"}),
    ("read_delimited: {include_path_column: true}", {**A_CSV, "path_column": "Path", "multiline": False}),
]  # fmt: skip


@pytest.mark.parametrize(("read", "want"), TABLES)
def test_reads_become_inputs(read: str, want: dict[str, Any]) -> None:
    found = table(steps(read))
    assert found == Table(inputs=[want], of_rows=True)


def of_files(columns: list[str] | None, *transformations: str) -> Table:
    """Where the files' first record, or their schema, is `columns`."""
    mapping = yaml.safe_load(steps(*transformations))
    return read_mltable("MLTable", mapping, "data/t", (), lambda kind, options, files: columns)


def test_columns_without_a_header_are_named_as_there() -> None:
    found = of_files(["7", "x", ""], "read_delimited: {header: no_header}", "drop_columns: [Column2]")
    csv = {"csv": "data/t/a.csv", "header": "none", "multiline": False}
    assert found.inputs == [
        {**csv, "names": ["Column1", "Column2", "Column3"], "columns": ["Column1", "Column3"]}
    ]
    unread = table(steps("read_delimited: {header: no_header}"))
    assert unread.inputs == [csv]
    assert unread.left_out[0].startswith(
        "transformations.0.read_delimited.header (the files are not there yet"
    )


def test_columns_are_dropped_from_those_of_the_files() -> None:
    found = of_files(["a", "b", "c"], "read_parquet", "drop_columns: [a]", "drop_columns: c")
    assert found.inputs == [{"parquet": "data/t/a.csv", "columns": ["b"]}]


def test_types_of_some_columns_beside_text() -> None:
    read, kinds = "read_delimited: {infer_column_types: false}", "{columns: [a], column_type: int}"
    dates = "{columns: d, column_type: datetime}"
    found = of_files(["a", "b", "d"], read, f"convert_column_types: [{kinds}, {dates}]").inputs[0]
    assert found["dtype"] == {"a": "int64", "b": "str"}
    assert found["parse_dates"] == ["d"]


def test_a_path_on_this_machine() -> None:
    assert table("paths: [{file: 'file:///d/a.csv'}]").inputs == [{"files": "/d/a.csv"}]


@pytest.mark.parametrize("encoding", ["utf8", "utf8 bom", "latin1", "ascii", "utf16", "utf32", "windows1252"])
def test_every_encoding_of_theirs_is_one_of_ours(encoding: str) -> None:
    assert table(steps(f"read_delimited: {{encoding: {encoding}}}")).of_rows


def test_columns() -> None:
    found = table(
        steps(
            "read_delimited: {support_multi_line: true}",
            "keep_columns: [a, b, c, day, d]",
            "drop_columns: d",
            "convert_column_types: [{columns: [a, b], column_type: float}, {columns: c, column_type: string}]",
            "convert_column_types: [{columns: day, column_type: {datetime: {formats: ['%Y-%m-%d']}}}]",
        )
    )
    assert found.inputs == [
        {
            "csv": "data/t/a.csv",
            "columns": ["a", "b", "c", "day"],
            "dtype": {"a": "float64", "b": "float64", "c": "str"},
            "parse_dates": ["day"],
        }
    ]


PLACES = [
    ("[{file: ./a.csv}, {file: /b.csv}]", ["data/t/a.csv", "/b.csv"]),
    ("[{pattern: ./x/*.csv}]", "data/t/x/*.csv"),
    ("[{folder: ./x}]", "data/t/x/"),
    ("[{file: ../a.csv}]", "data/t/../a.csv"),
    # The MLTable is in them, and is no data.
    ("[{folder: ./}]", "data/t/**/*.*"),
    ("[{folder: .}]", "data/t/**/*.*"),
]


@pytest.mark.parametrize(("paths", "want"), PLACES)
def test_paths_are_relative_to_the_folder(paths: str, want: Any) -> None:
    assert table(f"paths: {paths}\n").inputs == [{"files": want}]
    assert table(f"paths: {paths}\ntransformations: [read_parquet]").inputs == [{"parquet": want}]


def test_a_table_in_the_folder_of_the_job() -> None:
    assert table("paths: [{file: ./a.csv}, {folder: x}]", folder="").inputs == [{"files": ["a.csv", "x/"]}]
    assert table("paths: [{folder: .}]", folder=".").inputs == [{"files": "./**/*.*"}]


FORMATS = [
    ("[{folder: ./x}]", "{user}/{season}.wav", "t/x/**/{user}/{season}.wav"),
    ("[{folder: .}]", "{user}/{season}.wav", "t/**/{user}/{season}.wav"),
    ("[{pattern: ./x/*/*.wav}]", "{user}/{season}.wav", "t/x/{user}/{season}.wav"),
    ("[{pattern: ./x/**/*.wav}]", "{user}/{season}.wav", "t/x/**/{user}/{season}.wav"),
    ("[{pattern: '/d{1}/*/*'}]", "{user}/{season}.wav", "/d{{1}}/{user}/{season}.wav"),
]


@pytest.mark.parametrize(("paths", "partition_format", "want"), FORMATS)
def test_a_partition_format_of_files(paths: str, partition_format: str, want: str) -> None:
    text = f"""paths: {paths}
transformations:
  - extract_columns_from_partition_format: {{partition_format: "{partition_format}"}}
"""
    found = table(text, "t", ("user", "season"))
    assert found == Table(inputs=[{"files": want}], of_rows=False)
    without = table(text, "t")
    assert "extract_columns_from_partition_format" in without.left_out[0]


OF_TABLES = [
    ("read_parquet", "Store={Store}/Brand={Brand}/*.parquet", {"hive": False}, ["Store", "Brand"]),
    ("read_delimited", "/{Store}/{day:yyyy/MM/dd}/sales.csv", {"multiline": False}, ["Store", "day"]),
    ("read_json_lines", "{Store}.jsonl", {}, ["Store"]),
]


@pytest.mark.parametrize(("read", "partition_format", "options", "keys"), OF_TABLES)
@pytest.mark.parametrize("first", [True, False])
def test_a_partition_format_of_tables(
    read: str, partition_format: str, options: dict[str, Any], keys: list[str], first: bool
) -> None:
    extract = f"extract_columns_from_partition_format: {{partition_format: '{partition_format}'}}"
    found = table(steps(*((extract, read) if first else (read, extract))), "t", tuple(keys))
    ((kind, _),) = [item for item in found.inputs[0].items() if item[0] in ("csv", "parquet", "jsonl")]
    assert found.inputs == [{kind: "t/a.csv", "path_columns": partition_format, **options}]
    assert found.of_rows and found.keys_in_path == keys


def test_its_columns_are_kept_and_dropped_like_the_others() -> None:
    extract = "extract_columns_from_partition_format: {partition_format: '{shop}/{day}.csv'}"
    keep = "keep_columns: [day, id]"
    assert table(steps("read_delimited", extract, keep)).inputs[0]["columns"] == ["day", "id"]
    # What is extracted afterwards comes to what was kept.
    found = table(steps("read_delimited", "keep_columns: [id]", extract))
    assert found.inputs[0]["columns"] == ["id", "shop", "day"]
    assert of_files(["id", "x"], "read_delimited", extract, "drop_columns: [shop]").inputs[0]["columns"] == [
        "id",
        "x",
        "day",
    ]
    # Of columns of paths the types are those that their format gives.
    text = "read_delimited: {infer_column_types: false}"
    some = "convert_column_types: [{columns: x, column_type: int}]"
    month = "extract_columns_from_partition_format: {partition_format: '{shop}/{day:yyyy-MM}.csv'}"
    assert of_files(["id", "x"], text, month, some).inputs[0]["dtype"] == {"id": "str", "x": "int64"}
    found = of_files(["id", "x"], text, month, "keep_columns: [x, day]", some)
    assert (found.inputs[0]["dtype"], found.inputs[0]["columns"]) == ({"x": "int64"}, ["x", "day"])
    with pytest.raises(ConfigError, match="there is one already"):
        table(steps("read_delimited", extract, month))
    number = "convert_column_types: [{columns: day, column_type: int}]"
    assert table(steps("read_delimited", extract, number)).inputs[0]["dtype"] == {"day": "int64"}


def test_what_means_nothing_is_told_of() -> None:
    text = (
        steps("read_json_lines: {invalid_lines: drop, partition_size: 20}") + "traits: {index_columns: [a]}\n"
    )
    assert table(text).left_out == [
        "traits",
        "transformations.0.read_json_lines.partition_size",
        "transformations.0.read_json_lines.invalid_lines (a line that is no JSON is one failed item)",
    ]


REFUSED = [
    (steps("read_delimited", "filter: \"col('a') > 1\""), "transformations.1", "filter cannot be done here"),
    (steps("read_delimited", "take: 5"), "take cannot be done here", "a file of their own"),
    (steps("read_delimited", "take_random_sample: {probability: 0.1}"), "take_random_sample", "run()"),
    (steps("read_delta_lake"), "read_delta_lake cannot", "Parquet"),
    (steps("read_delimted"), "no transformation", "did you mean read_delimited?"),
    (steps("read_delimited", "read_parquet"), "read_parquet", "a table has one"),
    (steps("keep_columns: [a]"), "keep_columns is for tables", "in front of it"),
    (steps("read_delimited", "drop_columns: [a]"), "drop_columns", "by keep_columns"),
    (steps("read_delimited", "keep_columns: {pattern: a.*}"), "keep_columns", "by a pattern"),
    (steps("read_delimited: {include_path_column: maybe}"), "include_path_column is", "true or false"),
    (steps("read_delimited: {header: nope}"), "header is \"nope\"", "no_header"),
    (steps("read_delimited: {delimiter: '::'}"), "delimiter is \"::\"", "one character"),
    (steps("read_delimited: {encodin: utf8}"), "no option \"encodin\"", "did you mean encoding?"),
    (steps("read_json_lines: {encoding: utf16}"), "JSON lines are UTF-8", "convert"),
    (steps("read_parquet", "convert_column_types: [{columns: a, column_type: int}]"), "types of their", "astype"),
    (
        steps("read_delimited", "convert_column_types: [{columns: a, column_type: {datetime: {formats: '%d'}}}]"),
        "convert_column_types",
        "to_datetime",
    ),
    (steps("read_delimited", "convert_column_types: [{columns: a, column_type: stream_info}]"), "stream_info", "run"),
    (steps("read_delimited", "convert_column_types: [{columns: a, column_type: whole}]"), '"whole"', "int, float"),
    (steps("read_delimited", "extract_columns_from_partition_format: '{y:MM}/a.csv'"), "{y:MM}", "has a year"),
    (steps("read_delimited", "extract_columns_from_partition_format: 'a.csv'"), "has no column in it", "{month}.csv"),
    (steps("extract_columns_from_partition_format: {partition_format: '{y}.csv', x: 1}"), "more than", "one key"),
    ("paths: [{file: 'https://x.net/a.csv'}]", "paths.0", "cannot be reached"),
    ("paths: [{pattern: '.\\*.csv'}]", "paths.0", "here it is /"),
    (PATHS + "transformations: [{read_parquet: , path_column: x}]", "transformations.0", "deeper than its name"),
    ("paths: [{files: a.csv}]", 'there is no "files"', "did you mean file?"),
    ("transformations: [read_delimited]", "paths is empty", "must be a list"),
    (PATHS + "transform: []", "transform", "did you mean transformations?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "what", "way"), REFUSED)
def test_what_cannot_be_had_is_refused(text: str, what: str, way: str) -> None:
    said = words(text)
    assert what in said
    assert way in said


DATES = "extract_columns_from_partition_format: {partition_format: '{day:yyyy/MM/dd}/a.wav'}"


def test_formats_that_cannot_be_had() -> None:
    assert "a column for each part" in words(steps(DATES), ("day",))
    short = "extract_columns_from_partition_format: {partition_format: 'x/{y}/{z}/{w}.csv'}"
    assert "fewer parts" in words(steps(short), ("y",))


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = words(steps("read_delimited", "take: 5", "skip: 3"))
    assert "2 things are wrong" in said
    odd = "extract_columns_from_partition_format: {partition_format: '{y:MM}/a.csv'}"
    said = words(steps("read_delimited: {header: nope}", "keep_columns: [a]", odd))
    assert "2 things are wrong" in said
    assert "keep_columns is for tables" not in said


def test_types_are_put_together() -> None:
    types = "convert_column_types: [{{columns: {0}, column_type: {1}}}]"
    found = table(
        steps(
            "read_delimited",
            types.format("a", "int"),
            types.format("b", "string"),
            types.format("a", "float"),
        )
    )
    assert found.inputs[0]["dtype"] == {"a": "float64", "b": "str"}
