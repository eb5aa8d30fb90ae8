"""Tables as users have them and mistakes that users make, by the real command line: what is said, what is lost."""

from __future__ import annotations

import gzip
import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import support

LENGTHS = "def run(rows): return [str(len(rows))] * len(rows)"
SAME = "def run(df): return df"


def make(folder: Path, inputs: list[dict[str, Any]], script: str = LENGTHS, **keys: Any) -> Path:
    keys.setdefault("mini_batch_size", "1MB")
    return support.make_job(folder, textwrap.dedent(script), items=0, inputs=inputs, **keys)


def completes(job: Path, *, total: int, failed: int) -> str:
    """Runs a job whose items add up; what it wrote to standard error."""
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    output = job.parent / "output"
    counts = support.result(output)
    assert counts["items"] == {"total": total, "succeeded": total - failed, "failed": failed}
    assert counts["rows"] == total - failed
    nothing_is_left_in(output)
    return ended.stderr


def refused(job: Path, *words: str) -> str:
    """What is said of a job that ends before work."""
    ended = support.mpibatch("run", job)
    assert ended.returncode == 2, support.words(ended)
    for word in words:
        assert word in ended.stderr, ended.stderr
    assert not (job.parent / "output").exists()
    return ended.stderr


def nothing_is_left_in(output: Path) -> None:
    # A note that there were copies may stay, not the copies.
    left = {one.name for one in (output / ".mpibatch").iterdir()} - {"unpacked.removed"}
    assert not [name for name in left if name.startswith(("survey", "unpacked")) or name.endswith(".partial")]


def failures(job: Path) -> dict[tuple[str, int | None], str]:
    """Why each failed item failed, by the name of its file and its row."""
    found = support.failed_items(job.parent / "output")
    return {(Path(one["item"]).name, one.get("row")): one["error"]["message"] for one in found}


# Files that cannot be read, among others that can


def test_damaged_parquet_files(tmp_path: Path) -> None:
    pd.DataFrame({"id": range(20)}).to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "other.parquet").write_text("This is no table.")
    (tmp_path / "pages.parquet").write_bytes(whole[:20] + bytes(40) + whole[60:])  # Its footer is whole.
    (tmp_path / "_SUCCESS").touch()
    job = make(tmp_path, [{"parquet": "*.parquet"}], mini_batch_size="7 rows", run_max_try=1)
    said = completes(job, total=43, failed=23)
    assert said.count("warning: ") == 1 and "warning: inputs.0.parquet: 3 of 5 files cannot be read" in said
    assert ".." not in said, "a sentence ends once"
    why = failures(job)
    assert sorted(key for key in why if key[1] is None) == [
        ("cut.parquet", None), ("empty.parquet", None), ("other.parquet", None)
    ]  # fmt: skip
    assert "magic bytes not found" in why["cut.parquet", None] and "0 bytes" in why["empty.parquet", None]
    assert sum(name == "pages.parquet" for name, _ in why) == 20
    assert not any(".." in words for words in why.values())


def test_damaged_hdf5_files(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.arange(5000)
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "other.h5").write_text("This is no table.")
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "link.h5").symlink_to("nowhere.h5")
    job = make(tmp_path, [{"hdf5": "*.h5"}], mini_batch_size="3000 rows", run_max_try=1)
    said = completes(job, total=5002, failed=2)
    assert "lead nowhere" in said and "link.h5" in said
    why = failures(job)
    assert set(why) == {("cut.h5", None), ("other.h5", None)}
    assert "truncated file" in why["cut.h5", None] and "signature" in why["other.h5", None]


@pytest.mark.parametrize("unpack", [False, True])
def test_damaged_compressed_files(tmp_path: Path, unpack: bool) -> None:
    text = pd.DataFrame({"id": range(20), "name": [f"name {n}" for n in range(20)]}).to_csv(index=False)
    packed = gzip.compress(text.encode())
    (tmp_path / "a.csv.gz").write_bytes(packed)
    (tmp_path / "cut.csv.gz").write_bytes(packed[:-20])
    (tmp_path / "empty.csv.gz").write_bytes(b"")
    (tmp_path / "plain.csv.gz").write_text(text)
    table = {"csv": "*.gz", "unpack": unpack}
    job = make(tmp_path, [table], mini_batch_size="7 rows", run_max_try=1)
    assert "2 of 4 files cannot be read" in completes(job, total=22, failed=2)
    why = failures(job)
    assert "ended before" in why["cut.csv.gz", None] and "Not a gzipped file" in why["plain.csv.gz", None]


def test_wrong_encodings_and_stray_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n1,é\n2,b\n")
    (tmp_path / "latin.csv").write_bytes("id,name\n1,é\n2,b\n3,ü\n".encode("latin-1"))
    (tmp_path / "nul.csv").write_bytes(b"id,name\n1,a\0b\n2,c\n")
    (tmp_path / "wide.csv").write_bytes("id,name\n1,é\n".encode("utf-16"))
    job = make(tmp_path, [{"csv": "*.csv"}], SAME, run_max_try=1)
    said = completes(job, total=8, failed=3)
    assert "wide.csv" in said and "like utf-16" in said
    why = failures(job)
    assert set(why) == {("latin.csv", 0), ("latin.csv", 2), ("wide.csv", None)}
    assert "line 2" in why["latin.csv", 0] and "no utf-8" in why["latin.csv", 0]


def test_empty_files_are_passed_over_and_said_if_there_is_nothing_else(tmp_path: Path) -> None:
    contents = {"a": "", "b": "id,name\n", "c": "\n\n", "d": "id,name", "e": "\ufeff", "f": "id,name\n1,x\n"}
    for name, text in contents.items():
        (tmp_path / f"{name}.csv").write_text(text)
    assert "no rows" not in completes(make(tmp_path, [{"csv": "*.csv"}]), total=1, failed=0)
    (tmp_path / "f.csv").unlink()
    job = make(tmp_path, [{"csv": "*.csv"}], output="none")
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert "warning: inputs.0.csv: there are no rows in any of 5 files" in ended.stderr


CHANGES: list[tuple[str, str, int, str]] = [
    ("csv", "os.remove(file)", 40, "does not exist any more"),
    ("csv", "os.truncate(file, 100)", 30, "changed since it was planned"),
    ("csv", "os.remove(file); os.mkdir(file)", 40, "Is a directory"),
    ("jsonl", "os.truncate(file, 200)", 30, "changed since it was planned"),
    ("parquet", "pd.read_parquet(file)[:25].to_parquet(file)", 20, "it has 25 rows"),
    (
        "parquet",
        "pd.read_parquet(file).rename(columns={'v': 'w'}).to_parquet(file)",
        40,
        "column v is not there",
    ),
]


@pytest.mark.parametrize(("kind", "change", "failed", "words"), CHANGES, ids=range(len(CHANGES)))
def test_a_file_that_changes_after_the_plan(
    tmp_path: Path, kind: str, change: str, failed: int, words: str
) -> None:
    data = pd.DataFrame({"id": range(40), "v": 1.5})
    write: dict[str, Callable[[Path], Any]] = {
        "csv": lambda path: data.to_csv(path, index=False),
        "jsonl": lambda path: data.to_json(path, orient="records", lines=True),
        "parquet": data.to_parquet,
    }
    for name in "ab":
        write[kind](tmp_path / f"{name}.{kind}")
    script = f"""
        import os
        import pandas as pd
        def init():
            file = {str(tmp_path / "b")!r} + ".{kind}"
            {change}
        def run(df): return df
        """
    job = make(tmp_path, [{kind: f"*.{kind}"}], script, mini_batch_size="10 rows", run_max_try=1)
    completes(job, total=80, failed=failed)
    why = failures(job)
    assert {name for name, _ in why} == {f"b.{kind}"} and all(words in text for text in why.values())


# Records


def test_odd_records_of_json_lines(tmp_path: Path) -> None:
    lines = ['{"id":1,"n":{"a":1},"l":[1,2]}', '{"x":null}', "", "{}", "[1,2]", "5", '{"id":NaN}', '{"id":7']
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    (tmp_path / "b.jsonl").write_text(json.dumps([{"id": 1}], indent=1))
    (tmp_path / "latin.jsonl").write_bytes('{"id":"é"}\n{"id":"b"}\n'.encode("latin-1"))
    script = "import json\ndef run(rows): return [json.dumps(row) for row in rows]"
    job = make(tmp_path, [{"jsonl": "*.jsonl", "as": "records"}], script)
    completes(job, total=14, failed=9)
    why = failures(job)
    assert [row for name, row in why if name == "a.jsonl"] == [3, 4, 6]
    assert "line 5" in why["a.jsonl", 3] and "line 8" in why["a.jsonl", 6]
    assert "without an array around them" in why["b.jsonl", 0]
    assert "no utf-8" in why["latin.jsonl", 0]
    output = [json.loads(row) for row in support.rows(tmp_path / "output")]
    assert output[:3] == [{"id": 1, "n": {"a": 1}, "l": [1, 2]}, {"x": None}, {}]


@pytest.mark.parametrize(("multiline", "total"), [(True, 30_001), (False, 60_000)])
def test_a_quote_that_is_not_closed(tmp_path: Path, multiline: bool, total: int) -> None:
    lines = [f"{n},name{n}" for n in range(60_000)]
    lines[30_000] = '30000,"name'
    (tmp_path / "a.csv").write_text("id,name\n" + "\n".join(lines) + "\n")
    job = make(tmp_path, [{"csv": "a.csv", "multiline": multiline}], mini_batch_size="100KB")
    completes(job, total=total, failed=1)
    ((place, words),) = failures(job).items()
    assert place == ("a.csv", 30_000) and "line 30,002" in words and "not closed" in words
    assert len(words) < 500, "the rest of the file is not the message"


def test_records_as_long_as_files(tmp_path: Path) -> None:
    long = "y" * 5_000_000
    (tmp_path / "a.csv").write_text(f"id,name\n1,x\n2,{long}\n3,z\n")
    (tmp_path / "b.jsonl").write_text(f'{{"id":1}}\n{{"id":"{long}"}}\n{{"id":3}}\n')
    wide = np.arange(200 * 3000).reshape(200, 3000)
    pd.DataFrame(wide).to_csv(tmp_path / "c.csv", index=False)
    inputs = [{"csv": "a.csv"}, {"jsonl": "b.jsonl"}, {"csv": "c.csv"}]
    completes(make(tmp_path, inputs), total=206, failed=0)


def test_files_of_windows_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes('\ufeffName;Preis\r\nMüller;1.234,5\r\n"a;\r\nb";2,5\r\n'.encode())
    (tmp_path / "b.csv").write_bytes("Name;Preis\r\nMüller €;1,5".encode("cp1252"))
    (tmp_path / "c.tsv").write_text('Name\tPreis\n"x\t2\n')
    inputs: list[dict[str, Any]] = [
        {"csv": "a.csv", "sep": ";", "decimal": ",", "thousands": "."},
        {"csv": "b.csv", "sep": ";", "decimal": ",", "encoding": "cp1252"},
        {"csv": "c.tsv", "sep": "\t", "quotechar": None},
    ]
    script = "import json\ndef run(df): return [json.dumps(row) for row in df.values.tolist()]"
    completes(make(tmp_path, inputs, script, mini_batch_size="1 row"), total=4, failed=0)
    rows = [json.loads(row) for row in support.rows(tmp_path / "output")]
    assert rows == [["Müller", 1234.5], ["a;\r\nb", 2.5], ["Müller €", 1.5], ['"x', 2]]


def test_a_separator_that_parts_nothing_is_told_of(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("Name;Preis\nMüller;1\n")
    said = completes(make(tmp_path, [{"csv": "*.csv"}]), total=2, failed=0)
    assert said.count("warning: ") == 1
    assert "inputs.0.csv: " in said and "a.csv' has only one column" in said and 'write sep: ";"' in said


def test_files_in_utf_16_are_cut_if_they_are_unpacked_and_go_by_their_own_names(tmp_path: Path) -> None:
    lines = ["id,name", *(f"{n},é" for n in range(50)), "50,x,surplus", *(f"{n},é" for n in range(51, 60))]
    (tmp_path / "a.csv").write_bytes("\n".join(lines).encode("utf-16"))
    table = {"csv": "a.csv", "encoding": "utf-16", "unpack": True}
    job = make(tmp_path, [table], "def run(df): return [len(df)] * len(df)", mini_batch_size="20 rows")
    completes(job, total=60, failed=1)
    assert support.rows(tmp_path / "output") == ["20"] * 40 + ["19"] * 19
    ((place, words),) = failures(job).items()
    assert place == ("a.csv", 50) and words.startswith(f"'{tmp_path}/a.csv', line 52: 3 fields")


def test_values_that_declared_types_refuse(tmp_path: Path) -> None:
    lines = [
        "1,5,1.5,True",
        "2,x,2.5,False",
        "3,,3,True",
        "4,7,abc,True",
        "5,1.5,1e3,True",
        "6,8,1e400,maybe",
    ]
    (tmp_path / "a.csv").write_text("id,n,f,b\n" + "\n".join(lines) + "\n")
    table = {"csv": "a.csv", "dtype": {"n": "int64", "f": "float64", "b": "bool"}}
    job = make(tmp_path, [table], SAME, mini_batch_size="2 rows")
    completes(job, total=6, failed=5)
    why = failures(job)
    assert [row for _, row in why] == [1, 2, 3, 4, 5]
    assert "line 3: column 'n': 'x' is no int64" in why["a.csv", 1] and "'maybe'" in why["a.csv", 5]


# What is wrong with the job


def csv_files(folder: Path) -> None:
    (folder / "a.csv").write_text("id,name\n1,a\n")
    (folder / "b.csv").write_text("id,nmae\n3,c\n")


def csv_folder(folder: Path) -> None:
    (folder / "t").mkdir()
    (folder / "t" / "README").write_text("Measured in 2025.\n")
    for name in ("a.csv", "b.csv"):
        (folder / "t" / name).write_text("id,name\n1,a\n")


def r_files(folder: Path) -> None:
    rows = "".join(f'"{n}" {n} "x"\n' for n in range(1000))
    (folder / "a.txt").write_text('"id" "name"\n' + rows)
    (folder / "b.csv").write_text("id;name\n" + "1,5;a\n" * 1000)


def parquet_files(folder: Path) -> None:
    pd.DataFrame({"id": [1], "v": [1]}).to_parquet(folder / "a.parquet")
    pd.DataFrame({"id": ["x"]}).to_parquet(folder / "b.parquet")


def hdf5_files(folder: Path) -> None:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["grp/images"] = np.arange(50)
        file["odd/x"], file["odd/y"] = np.arange(3), np.arange(4)


WRONG: list[tuple[Callable[[Path], None], dict[str, Any], list[str]]] = [
    (csv_files, {"csv": "*.csv"}, ["b.csv", "id, nmae", "id, name", "header: each"]),
    (csv_folder, {"csv": "t/"}, ["a.csv", "README", "/t/*.csv"]),
    (
        csv_files,
        {"csv": "*.csv", "header": "each", "columns": ["name"]},
        ["b.csv", "did you mean nmae?", "id, nmae"],
    ),
    (r_files, {"csv": "a.txt", "sep": " "}, ["a.txt", "2 names", "3 fields", "col.names=NA"]),
    (r_files, {"csv": "b.csv"}, ["b.csv", "1 name", "2 fields", 'write sep: ";"']),
    (csv_files, {"csv": "a.csv", "seperator": ";"}, ["inputs.0.seperator", "did you mean sep?"]),
    (csv_files, {"csv": "a.csv", "header": "al"}, ["inputs.0.header", "did you mean all?"]),
    (csv_files, {"csv": "a.csv", "columns": ["nam"]}, ["no column nam", "did you mean name?", "a.csv"]),
    (csv_files, {"csv": "a.csv", "dtype": {"id": "int65"}}, ["int65", "did you mean int64?"]),
    (csv_files, {"csv": "a.csv", "parse_dates": ["idd"]}, ["parse_dates", "no column idd"]),
    (csv_files, {"csv": "a.csv", "sep": "\\t"}, ["inputs.0.sep", "write tab"]),
    (csv_files, {"csv": "*.tsv"}, ["matches nothing", "*.tsv"]),
    (parquet_files, {"parquet": "*.parquet"}, ["not in both: v", "a.parquet", "b.parquet"]),
    (parquet_files, {"parquet": "*.parquet", "columns": ["v"]}, ["no column v in", "b.parquet", "there: id"]),
    (parquet_files, {"parquet": "*.parquet", "columns": ["id"]}, ["column id is int64", "b.parquet"]),
    (hdf5_files, {"hdf5": "*.h5"}, ["a.h5", "datasets below it: grp/images, odd/x, odd/y"]),
    (hdf5_files, {"hdf5": "*.h5", "datasets": ["grp/imges"]}, ["did you mean grp/images?", "a.h5"]),
    (hdf5_files, {"hdf5": "*.h5", "group": "/gpr"}, ["no group /gpr", "groups there: /, grp, odd"]),
    (hdf5_files, {"hdf5": "*.h5", "group": "odd"}, ["same first dimension", "x (3,), y (4,)"]),
]


@pytest.mark.parametrize(("files", "table", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_with_an_input_is_said_before_work(
    tmp_path: Path, files: Callable[[Path], None], table: dict[str, Any], words: list[str]
) -> None:
    files(tmp_path)
    refused(make(tmp_path, [table]), "job.yaml: inputs.0", *words)


def test_an_unfinished_run_is_not_continued_with_other_options(tmp_path: Path) -> None:
    pd.DataFrame({"id": range(40)}).to_csv(tmp_path / "t.csv", index=False)
    script = support.NOTE + textwrap.dedent("""
        def run(df):
            if df["id"].iloc[0] == 20 and not os.path.exists(os.path.join(FOLDER, "repaired")):
                raise ValueError
            return df
        """)
    job = support.make_job(
        tmp_path, script, items=0, inputs=[{"csv": "t.csv"}], mini_batch_size="10 rows", error_threshold=0,
        run_max_try=1,
    )  # fmt: skip
    assert support.mpibatch("run", job).returncode == 3
    for change, words in (
        ("inputs.0.dtype.id=str", "inputs or mini_batch_size"),
        ("mini_batch_size=20 rows", "inputs or mini_batch_size"),
        ("append_row_format=jsonl", "append_row_format"),
        ("add_input_key=true", "add_input_key"),
    ):
        ended = support.mpibatch("run", job, "--set", change)
        assert ended.returncode == 2, support.words(ended)
        assert words in ended.stderr and "--fresh" in ended.stderr, ended.stderr
    (tmp_path / "repaired").touch()
    completes(job, total=40, failed=0)
    assert support.rows(tmp_path / "output") == [str(n) for n in range(40)]


# What run() returns


FORMATS = {"csv": "csv", "jsonl": "jsonl", "parquet": "parquet", "hdf5": "h5"}

RETURNS: list[tuple[str, str, str]] = [
    ("csv", "None", "is a `return` missing?"),
    ("csv", "5", "run() returned an int"),
    ("csv", "{'a': 1}", "run() returned a dict"),
    ("parquet", "df.assign(mixed=[1, 'a'] * 5)", "mixed"),
    ("jsonl", "[{'o': object()}] * 10", "cannot be written as JSON"),
    ("hdf5", "df.assign(day=pd.Timestamp('2026-01-02', tz='Europe/Berlin'))", "HDF5 has no dates"),
    ("hdf5", "[[0.5] * (n % 2 + 1) for n in df['id']]", "all need the same shape"),
]


@pytest.mark.parametrize(("kind", "returned", "words"), RETURNS, ids=range(len(RETURNS)))
def test_returns_that_no_format_takes(tmp_path: Path, kind: str, returned: str, words: str) -> None:
    pd.DataFrame({"id": range(10)}).to_csv(tmp_path / "t.csv", index=False)
    job = make(
        tmp_path, [{"csv": "t.csv"}], f"import pandas as pd\ndef run(df): return {returned}", run_max_try=1,
        isolate_failures=False,
        append_row_format=kind, append_row_file_name=f"rows.{FORMATS[kind]}",
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)
    last = ended.stdout.rstrip().splitlines()[-1]
    assert last.startswith("first cause") and words in last and "t.csv" in last
    assert not list((tmp_path / "output").glob("rows.*"))


KEYED = ["df.sample(frac=1, random_state=1)", "df[df['id'] % 2 == 0]", "df.head(3)",
         "pd.concat([df, df])"]  # fmt: skip
UNKEYED = ["df[df['id'] % 2 == 1].reset_index(drop=True)", "df.merge(df[df['id'] % 2 == 1], on='id')",
           "pd.DataFrame([{'id': n} for n in df['id'] if n % 2])", "df.groupby(df['id'] % 3).max()"]  # fmt: skip


@pytest.mark.parametrize("returned", [KEYED, UNKEYED], ids=["kept", "lost"])
def test_rows_name_the_row_that_they_are_of_or_fail(tmp_path: Path, returned: list[str]) -> None:
    """A new index counts from 0 too, and taken for the old one it would name other rows."""
    pd.DataFrame({"id": range(40)}).to_csv(tmp_path / "t.csv", index=False)
    ways = ", ".join(f"lambda df: {one}" for one in returned)
    script = f"import pandas as pd\ndef run(df): return [{ways}][df['id'].iloc[0] // 10](df)"
    job = make(
        tmp_path, [{"csv": "t.csv"}], script, mini_batch_size="10 rows", run_max_try=1, add_input_key=True,
        append_row_format="csv", append_row_file_name="rows.csv",
    )  # fmt: skip
    ended = support.mpibatch("run", job)
    result = support.result(tmp_path / "output")
    if returned is KEYED:
        assert ended.returncode == 0 and result["mini_batches"]["failed"] == 0, support.words(ended)
        rows = pd.read_csv(tmp_path / "output" / "rows.csv")
        assert len(rows) == 10 + 5 + 3 + 20 and rows["input_row"].tolist() == rows["id"].tolist()
    else:
        assert ended.returncode == 3 and result["items"]["failed"] == 40, support.words(ended)
        assert "a reset or a new one" in result["first_cause"]["error"]
