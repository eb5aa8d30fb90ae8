"""core.read_inputs and core.table_keys: tables and archives in a job file, and words for what is wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.core.config import parse_job
from mpibatch.core.job_inputs import TABLE_KINDS, ArchiveInput, JobInput
from mpibatch.core.settings import Problems, shown
from mpibatch.core.table_hints import foreign_hint
from mpibatch.core.table_keys import OPTIONS, read_options
from mpibatch.core.tables import (
    CsvOptions,
    Hdf5Options,
    JsonlOptions,
    ParquetOptions,
    TableInput,
    TableOptions,
)
from mpibatch.errors import ConfigError

STRUCTS: dict[str, type[TableOptions]] = {
    "csv": CsvOptions,
    "jsonl": JsonlOptions,
    "parquet": ParquetOptions,
    "hdf5": Hdf5Options,
}


def inputs_of(*elements: Any) -> list[JobInput]:
    job = parse_job({"entry_script": "score.py", "inputs": list(elements)}, job_file="/j/rows.yaml")
    return job.inputs


def options_of(**element: Any) -> TableOptions:
    (one,) = inputs_of(element)
    assert isinstance(one, TableInput)
    return one.options


def words_of(*elements: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        inputs_of(*elements)
    return str(caught.value)


def test_each_option_is_a_field_and_each_field_an_option() -> None:
    assert set(OPTIONS) == set(TABLE_KINDS) == set(STRUCTS)
    for kind, options in OPTIONS.items():
        assert tuple(sorted(options)) == tuple(sorted(STRUCTS[kind].__struct_encode_fields__))


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_paths_are_those_of_files(kind: str) -> None:
    assert inputs_of({kind: ["a", "b/*.x"]}) == [
        TableInput(kind=kind, files=["/j/a", "/j/b/*.x"], text="a, b/*.x", options=STRUCTS[kind]())  # type: ignore[arg-type]
    ]
    assert f"inputs.0.{kind} is 5" in words_of({kind: 5})
    assert f"inputs.0.{kind}.1 is empty" in words_of({kind: ["a", None]})
    assert f"inputs.0.{kind} is an empty list" in words_of({kind: []})


def test_several_tables_of_any_kind_in_one_job() -> None:
    found = inputs_of({"csv": "a"}, {"parquet": "b"}, {"csv": "c", "sep": ";"})
    assert [one.kind for one in found if isinstance(one, TableInput)] == ["csv", "parquet", "csv"]


ALL_OPTIONS: dict[str, tuple[dict[str, Any], TableOptions]] = {
    "csv": (
        {
            "header": "none",
            "names": ["a", "b", "c"],
            "sep": "\t",
            "quotechar": "'",
            "escapechar": "\\",
            "encoding": "latin-1",
            "columns": ["c", "a"],
            "dtype": {"a": "Int64"},
            "parse_dates": ["c"],
            "na_values": ["-", ""],
            "keep_default_na": False,
            "decimal": ",",
            "thousands": ".",
            "multiline": False,
            "unpack": True,
            "path_column": "e",
            "path_columns": "{d}/a.csv",
        },
        CsvOptions(
            header="none",
            names=["a", "b", "c"],
            sep="\t",
            quotechar="'",
            escapechar="\\",
            encoding="latin-1",
            columns=["c", "a"],
            dtype={"a": "Int64"},
            parse_dates=["c"],
            na_values=["-", ""],
            keep_default_na=False,
            decimal=",",
            thousands=".",
            multiline=False,
            unpack=True,
            path_column="e",
            path_columns="{d}/a.csv",
        ),
    ),
    "jsonl": (
        {
            "as": "frame",
            "columns": ["a"],
            "dtype": {"a": "str"},
            "parse_dates": ["a"],
            "unpack": True,
            "path_column": "e",
            "path_columns": "{d}.jsonl",
        },
        JsonlOptions(
            as_="frame",
            columns=["a"],
            dtype={"a": "str"},
            parse_dates=["a"],
            unpack=True,
            path_column="e",
            path_columns="{d}.jsonl",
        ),
    ),
    "parquet": (
        {"columns": ["a", "b"], "hive": False, "path_column": "e", "path_columns": "{b}/*"},
        ParquetOptions(columns=["a", "b"], hive=False, path_column="e", path_columns="{b}/*"),
    ),
    "hdf5": (
        {
            "group": "/g/h",
            "datasets": ["x", "s/y"],
            "as": "arrays",
            "path_column": "e",
            "path_columns": "{b}/*",
        },
        Hdf5Options(group="/g/h", datasets=["x", "s/y"], as_="arrays", path_column="e", path_columns="{b}/*"),
    ),
}


@pytest.mark.parametrize("kind", TABLE_KINDS)
def test_every_option_arrives_in_its_field(kind: str) -> None:
    given, want = ALL_OPTIONS[kind]
    assert set(given) == set(OPTIONS[kind])
    options = options_of(**{kind: "t", **given})
    assert options == want
    plain = msgspec.to_builtins(options)
    assert msgspec.convert(plain, STRUCTS[kind]) == want
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=STRUCTS[kind]) == want


GOOD: list[tuple[dict[str, Any], TableOptions]] = [
    ({"csv": "t"}, CsvOptions()),
    ({"csv": "t", "header": "first"}, CsvOptions(header="first")),
    ({"csv": "t", "sep": "tab"}, CsvOptions(sep="\t")),
    ({"csv": "t", "quotechar": None}, CsvOptions(quotechar=None)),
    ({"csv": "t", "quotechar": "none"}, CsvOptions(quotechar=None)),
    ({"csv": "t", "columns": "a"}, CsvOptions(columns=["a"])),
    ({"csv": "t", "columns": None, "names": None, "dtype": None}, CsvOptions()),
    ({"csv": "t", "dtype": "str"}, CsvOptions(dtype="str")),
    ({"csv": "t", "dtype": "from_first_rows"}, CsvOptions(dtype="from_first_rows")),
    ({"csv": "t", "dtype": {}}, CsvOptions(dtype={})),
    ({"csv": "t", "parse_dates": "day"}, CsvOptions(parse_dates=["day"])),
    ({"csv": "t", "parse_dates": []}, CsvOptions()),
    ({"csv": "t", "na_values": "-"}, CsvOptions(na_values=["-"])),
    ({"csv": "t", "na_values": []}, CsvOptions()),
    ({"csv": "t", "thousands": ","}, CsvOptions(thousands=",")),
    ({"csv": "t", "sep": ";", "decimal": ","}, CsvOptions(sep=";", decimal=",")),
    ({"csv": "t", "sep": ",", "decimal": ","}, CsvOptions(decimal=",")),
    ({"csv": "t", "encoding": "UTF8"}, CsvOptions(encoding="UTF8")),
    ({"csv": "t", "encoding": "utf-8-sig"}, CsvOptions(encoding="utf-8-sig")),
    ({"csv": "t", "encoding": "utf-16"}, CsvOptions(encoding="utf-16")),
    ({"csv": "t", "header": "none", "names": "a"}, CsvOptions(header="none", names=["a"])),
    ({"jsonl": "t", "as": "records", "columns": "a"}, JsonlOptions(as_="records", columns=["a"])),
    ({"jsonl": "t", "as": "records", "dtype": None, "parse_dates": []}, JsonlOptions(as_="records")),
    ({"hdf5": "t", "datasets": "x"}, Hdf5Options(datasets=["x"])),
    *(
        ({"csv": "t", "dtype": {"a": name}}, CsvOptions(dtype={"a": name}))
        for name in (
            *("int", "int8", "uint64", "UInt16", "Int64", "float", "float32", "Float64", "double", "bool"),
            *("boolean", "str", "string", "object", "category", "complex128", "f8", "<i4", "b1"),
            *("string[pyarrow]", "int64[pyarrow]", "timestamp[ns][pyarrow]", "decimal128(5, 2)[pyarrow]"),
        )
    ),
]


@pytest.mark.parametrize(("element", "want"), GOOD, ids=lambda value: shown(value)[:60])
def test_good_options(element: dict[str, Any], want: TableOptions) -> None:
    assert options_of(**element) == want


def csv(**options: Any) -> dict[str, Any]:
    return {"csv": "t", **options}


WRONG: list[tuple[dict[str, Any], list[str]]] = [
    # Header and names.
    (csv(header=True), ["inputs.0.header is true", "write all"]),
    (csv(header=0), ["inputs.0.header is 0", "write all"]),
    (csv(header=False), ["inputs.0.header is false", "write none"]),
    (csv(header=None), ["inputs.0.header is empty", "write none"]),
    (csv(header="frist"), ["all, first, none, each", "did you mean first?"]),
    (csv(header=[0, 1]), ["all, first, none, each"]),
    (csv(names=["a"]), ['inputs.0.names is ["a"]', "header is all", "header: none"]),
    (csv(names=["a"], header="each"), ["header is each"]),
    (csv(names=["a", "a"], header="none"), ["inputs.0.names", '"a" stands twice']),
    (csv(names=[], header="none"), ["inputs.0.names", "at least one"]),
    # Characters.
    (csv(sep=""), ["inputs.0.sep", "one character"]),
    (csv(sep="||"), ["inputs.0.sep", "one character"]),
    (csv(sep=r"\s+"), ["inputs.0.sep", "one character"]),
    (csv(sep="\\t"), ["inputs.0.sep", "two characters", "write tab"]),
    (csv(sep="\n"), ["inputs.0.sep", "not the end of a line"]),
    (csv(sep="\r"), ["inputs.0.sep", "not the end of a line"]),
    (csv(sep="§"), ["inputs.0.sep", "ASCII"]),
    (csv(sep="\0"), ["inputs.0.sep", "ASCII"]),
    (csv(sep=None), ["inputs.0.sep is empty", "one character"]),
    (csv(sep=5), ["inputs.0.sep is 5", "in quotes"]),
    (csv(sep="none"), ["inputs.0.sep", "one character"]),
    (csv(quotechar=""), ["inputs.0.quotechar", "one character"]),
    (csv(quotechar="«"), ["inputs.0.quotechar", "ASCII"]),
    (csv(escapechar="ab"), ["inputs.0.escapechar", "one character"]),
    (csv(decimal=None), ["inputs.0.decimal is empty"]),
    (csv(decimal="٫"), ["inputs.0.decimal", "ASCII"]),
    (csv(thousands="\u00a0"), ["inputs.0.thousands", "ASCII"]),
    (csv(sep='"'), ["inputs.0.quotechar", "so is sep", "must be different"]),
    (csv(escapechar='"'), ["inputs.0.escapechar", "so is quotechar"]),
    (csv(sep="|", escapechar="|"), ["inputs.0.escapechar", "so is sep"]),
    (csv(thousands="."), ["inputs.0.thousands", "so is decimal"]),
    # Encodings.
    (csv(encoding="utf-9"), ["that Python knows", "like utf-8, utf-8-sig", "did you mean utf-8?"]),
    (csv(encoding="lattin-1"), ["did you mean latin-1?"]),
    (csv(encoding="base64"), ["that Python knows"]),
    (csv(encoding="rot13"), ["that Python knows"]),
    (csv(encoding="a\0b"), ["NUL"]),
    (csv(encoding="\udcff"), ["must be UTF-8"]),
    (csv(encoding="x" * 5000), ["that Python knows"]),
    (csv(encoding=1252), ["inputs.0.encoding is 1252", "in quotes"]),
    (csv(encoding=None), ["inputs.0.encoding is empty"]),
    # Columns.
    (csv(columns=[]), ["inputs.0.columns", "at least one", "leave it out"]),
    (csv(columns=["a", "b", "a"]), ["inputs.0.columns", '"a" stands twice']),
    (csv(columns=[0, 1]), ["inputs.0.columns", "0 in it must be text"]),
    (csv(columns=["a", ["b"]]), ["inputs.0.columns", "must be text"]),
    (csv(columns={"a": 1}), ["inputs.0.columns", "must be text"]),
    (csv(columns=["\udcff"]), ["inputs.0.columns", "must be UTF-8"]),
    (csv(columns=["sepal_lenght"], names=["sepal_length"], header="none"), ["did you mean sepal_length?"]),
    (csv(columns=["a"], parse_dates=["b"]), ["inputs.0.parse_dates", '"b": it is none of columns']),
    (csv(columns=["sum"], dtype={"sun": "str"}), ["inputs.0.dtype", "did you mean sum?"]),
    (csv(names=["day"], header="none", parse_dates=["dya"]), ["none of names", "did you mean day?"]),
    ({"jsonl": "t", "columns": ["a"], "dtype": {"b": "str"}}, ["inputs.0.dtype", "none of columns"]),
    # Dtypes.
    (csv(dtype="int46"), ["inputs.0.dtype", "name of a pandas dtype", "did you mean int64?"]),
    (csv(dtype={"a": "integer"}), ['"integer" of the column "a"', "name of a pandas dtype"]),
    (csv(dtype={"a": "Sparse[float]"}), ["name of a pandas dtype"]),
    (csv(dtype={"a": "f80"}), ["name of a pandas dtype"]),
    (csv(dtype={"a": "f9"}), ["name of a pandas dtype"]),
    (csv(dtype={"a": "uInt8"}), ["did you mean uint8?"]),
    (csv(dtype={"a": 5}), ['5 of the column "a": must be text']),
    (csv(dtype={0: "str"}), ["the column 0 must be text"]),
    (csv(dtype={"a": "datetime64[ns]"}), ["named in parse_dates"]),
    (csv(dtype={"a": "date"}), ["named in parse_dates"]),
    (csv(dtype="datetime64[ns, UTC]"), ["named in parse_dates"]),
    (csv(dtype={"a": "timedelta64[ns]"}), ["take str"]),
    (csv(dtype={"a": "from_first_rows"}), ["is for all columns", "dtype: from_first_rows"]),
    (csv(dtype="from_first_row"), ["did you mean from_first_rows?"]),
    (csv(dtype=["a"]), ["a mapping of columns", "from_first_rows"]),
    (csv(dtype=5), ["inputs.0.dtype is 5", "a mapping of columns"]),
    ({"jsonl": "t", "dtype": "str"}, ["must be a mapping of columns"]),
    # Dates and missing values.
    (csv(parse_dates=True), ["inputs.0.parse_dates", "a list of the columns"]),
    (csv(parse_dates={"d": ["y", "m"]}), ["a list of the columns"]),
    (csv(parse_dates=["a", "a"]), ["stands twice"]),
    (csv(parse_dates=None), ["inputs.0.parse_dates is empty"]),
    (csv(na_values=[-999]), ["inputs.0.na_values", "-999 in it must be text", "in quotes"]),
    (csv(na_values={"a": "-"}), ["inputs.0.na_values", "must be text"]),
    (csv(keep_default_na="no"), ["inputs.0.keep_default_na", "true or false"]),
    (csv(multiline=1), ["inputs.0.multiline", "true or false"]),
    (csv(unpack="yes"), ["inputs.0.unpack", "true or false"]),
    ({"parquet": "t", "hive": "yes"}, ["inputs.0.hive", "true or false"]),
    # What run() gets.
    ({"jsonl": "t", "as": "dicts"}, ['inputs.0.as is "dicts"', "frame, records"]),
    ({"hdf5": "t", "as": "records"}, ['inputs.0.as is "records"', "frame, arrays"]),
    ({"jsonl": "t", "as": "records", "dtype": {"a": "str"}}, ["inputs.0.dtype", "is for DataFrames"]),
    ({"jsonl": "t", "as": "records", "parse_dates": ["a"]}, ["inputs.0.parse_dates", "is for DataFrames"]),
    ({"hdf5": "t", "group": ""}, ["inputs.0.group", "must not be empty"]),
    ({"hdf5": "t", "group": ["a"]}, ["inputs.0.group", "must be text"]),
    ({"hdf5": "t", "datasets": ["x", "x"]}, ["inputs.0.datasets", "stands twice"]),
    # Options that are another's.
    (csv(delimiter=";"), ["inputs.0.delimiter", "here it is sep", "legal keys: csv, header, names, sep"]),
    (csv(usecols=["a"]), ["here it is columns"]),
    (csv(seperator=";"), ["inputs.0.seperator", "did you mean sep?"]),
    (csv(delimeter=";"), ["inputs.0.delimeter", "did you mean sep?"]),
    (csv(decimals=","), ["inputs.0.decimals", "did you mean decimal?"]),
    (csv(skip_rows=1), ["if skiprows is meant; a file's first line"]),
    ({"jsonl": "t", "delimiter": ","}, ["sep belongs to csv: inputs"]),
    ({"jsonl": "t", "seperator": ","}, ["sep belongs to csv: inputs"]),
    (
        {"hdf5": "t", "usecols": ["a"]},
        ["columns belongs to csv, jsonl, parquet: inputs; here they are datasets"],
    ),
    (csv(delim_whitespace=True), ["sep is one character"]),
    (csv(index_col=0), ["set_index"]),
    (csv(compression="gzip"), ["told by the ending"]),
    (csv(mini_batch_size=5), ["it is a key of the job"]),
    (csv(colums=["a"]), ["did you mean columns?"]),
    (csv(hive=True), ["hive belongs to parquet: inputs"]),
    (csv(datasets="x"), ["datasets belongs to hdf5: inputs"]),
    (csv(check=False), ["check belongs to list: inputs"]),
    (csv(**{"as": "records"}), ["as belongs to files, jsonl, hdf5: inputs", "run() gets a DataFrame"]),
    (csv(members="*.csv"), ["members are files in archives", "belong to files: inputs"]),
    ({"jsonl": "t", "encoding": "latin-1"}, ["encoding belongs to csv: inputs", "JSON lines are UTF-8"]),
    ({"jsonl": "t", "lines": True}, ["leave it out"]),
    ({"jsonl": "t", "sep": ","}, ["sep belongs to csv: inputs"]),
    ({"parquet": "t", "dtype": {}}, ["dtype belongs to csv, jsonl: inputs"]),
    ({"parquet": "t", "filters": []}, ["let run() filter"]),
    ({"hdf5": "t", "columns": ["a"]}, ["columns belongs to", "here they are datasets"]),
    ({"hdf5": "t", "key": "/g"}, ["here it is group"]),
    ({"files": "t", "sep": ","}, ["inputs.0.sep", "sep belongs to csv: inputs"]),
    ({"list": "t", "columns": "a"}, ["columns belongs to csv, jsonl, parquet: inputs"]),
    ({"cvs": "t"}, ["must have one of files, list, csv, jsonl, parquet, hdf5", "did you mean csv?"]),
    ({"json": "t"}, ["did you mean jsonl?"]),
    ({"csv": "t", "parquet": "u"}, ["inputs.0 has csv and parquet", "make it 2 elements"]),
    # Archives.
    ({"files": "t", "members": []}, ["inputs.0.members", "at least one"]),
    ({"files": "t", "members": True}, ["inputs.0.members is true", 'all members are "**"']),
    ({"files": "t", "members": None}, ["inputs.0.members is empty", "must be text"]),
    ({"files": "t", "members": ["a", "a"]}, ["stands twice"]),
    ({"files": "t", "members": "*", "as": "list"}, ['inputs.0.as is "list"', "path, bytes"]),
    ({"files": 5, "members": "*"}, ["inputs.0.files is 5"]),
    ({"files": "t", "as": "bytes"}, ['inputs.0.as is "bytes"', "there is no members"]),
    ({"list": "t", "members": "*"}, ["members are files in archives"]),
    ({"list": "t", "as": "path"}, ["as belongs to files, jsonl, hdf5: inputs"]),
]


@pytest.mark.parametrize(("element", "words"), WRONG, ids=lambda value: shown(value)[:60])
def test_wrong_options_are_named(element: dict[str, Any], words: list[str]) -> None:
    message = words_of(element)
    assert message.startswith("rows.yaml: inputs.0")
    assert [word for word in words if word not in message] == [], message


def test_all_wrong_options_are_told_at_once() -> None:
    message = words_of({"csv": 5, "sep": "", "encoding": "x", "colums": "a"}, {"hdf5": "t", "as": 1})
    assert message.startswith("rows.yaml: 5 things are wrong")


@pytest.mark.parametrize("element", [{"thousands": "."}, {"names": ["a"]}, {"sep": ""}])
def test_wrong_options_are_no_options(element: dict[str, Any]) -> None:
    problems = Problems("x.yaml")
    assert read_options(problems, "inputs.0", "csv", element) is None
    assert len(problems.lines) == 1


def test_archives() -> None:
    assert inputs_of({"files": "d/*.tar", "members": "*.png"}, {"files": ["a"], "members": ["b", "c"]}) == [
        ArchiveInput(files=["/j/d/*.tar"], members=["*.png"], text="d/*.tar"),
        ArchiveInput(files=["/j/a"], members=["b", "c"], text="a"),
    ]
    (one,) = inputs_of({"files": "a", "members": "*", "as": "bytes"})
    assert isinstance(one, ArchiveInput)
    assert one.as_ == "bytes"
    assert msgspec.to_builtins(one)["as"] == "bytes"


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ([{"files": "a"}, {"csv": "b"}], ["inputs.1 has tables", "inputs.0 has files", "make two jobs"]),
        ([{"parquet": "a"}, {"csv": "b"}, {"list": "b"}], ["inputs.2 has files", "inputs.0 has tables"]),
        ([{"files": "a"}, {"files": "b", "members": "*"}], ["inputs.1 has members of archives"]),
        ([{"csv": "a"}, {"files": "b", "members": "*"}], ["inputs.1 has members of archives"]),
        ([{"x": "a"}, {"list": "a"}, {"csv": "b"}], ["inputs.2 has tables", "inputs.1 has files"]),
    ],
)
def test_inputs_are_all_of_one_sort(elements: list[Any], words: list[str]) -> None:
    message = words_of(*elements)
    assert [word for word in words if word not in message] == [], message


def test_a_list_with_members_is_told_once() -> None:
    assert "one sort" not in words_of({"files": "a"}, {"list": "b", "members": "*"})


def test_hints_are_of_keys_that_no_kind_has() -> None:
    for options in OPTIONS.values():
        for option in options:
            assert foreign_hint(option) is None, option


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=4)
    | st.sampled_from(
        ["none", "all", "tab", "str", "int64", "utf-16", "frame", "records", "from_first_rows"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(), inner, max_size=2)
    ),
    max_leaves=5,
)
NAMES = sorted({name for options in OPTIONS.values() for name in options})


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(TABLE_KINDS), element=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5))
def test_any_options_are_read_or_named(kind: Any, element: dict[str, Any]) -> None:
    problems = Problems("x.yaml")
    options = read_options(problems, "inputs.0", kind, element)
    assert (options is None) == bool(problems.lines)
    if options is not None:
        # What is accepted travels as a message, and is of the types that it says.
        travelled = msgspec.msgpack.decode(msgspec.msgpack.encode(options), type=STRUCTS[kind])
        assert travelled == options
