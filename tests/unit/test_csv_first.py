"""What is said before the work of files that can only be read wrongly: fields, separators, other files among them."""

from __future__ import annotations

import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mpibatch.core.tables import BySize, CsvOptions
from mpibatch.errors import InputError
from mpibatch.inputs.csv_cuts import NORMAL, Limits
from mpibatch.inputs.csv_survey import answer, survey
from mpibatch.inputs.other_files import glob_hint
from mpibatch.inputs.survey import Surveyed, TableFile

ORIGIN = "job.yaml: inputs.0.csv"


def ask(questions: Sequence[Any]) -> list[Any]:
    return [answer(question) for question in questions]


def listed(path: Path) -> TableFile:
    return TableFile(path=bytes(path), size=path.stat().st_size, name=bytes(path))


def surveyed(folder: Path, *contents: str | bytes, limits: Limits = NORMAL, **options: Any) -> Surveyed:
    """Files 0.csv, 1.csv, ... of these contents."""
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        files.append(listed(path))
    return survey(
        files, CsvOptions(**options), BySize(100), ask, origin=ORIGIN, unpack_to=None, limits=limits
    )


def refused(folder: Path, *contents: str | bytes, **options: Any) -> str:
    with pytest.raises(InputError) as raised:
        surveyed(folder, *contents, **options)
    assert str(raised.value).startswith(f"{ORIGIN}: ")
    return str(raised.value)


# Fields

R_TABLE = '"a" "b c"\n' + "".join(f'"{n}" {n} "x y"\n' for n in range(1, 30))


@pytest.mark.parametrize("limits", [NORMAL, Limits(block=50)])
def test_names_of_rows_as_r_writes_them(tmp_path: Path, limits: Limits) -> None:
    good = '"a" "b c"\n1 2\n'
    said = refused(tmp_path, good, R_TABLE, sep=" ", limits=limits)
    for words in ("1.csv'", "its header has 2 names", "have 3 fields", "a, b c", "col.names=NA"):
        assert words in said
    columns = surveyed(tmp_path, good, R_TABLE, sep=" ", columns=["a"], limits=limits)
    (warning,) = columns.warnings
    assert "1.csv' have one field more" in warning and "col.names=NA" in warning


FITTING: list[tuple[str, dict[str, Any]]] = [
    ("a,b\n1,2,3\n1,2,3\n1,2\n1,2,3\n", {}),  # One fits: the others are bad items.
    ("a,b\n1,2,3\n1,2,3\n", {}),  # So few that nobody can tell.
    ("a,b\n1,2,\n1,2,\n1,2,\n1,2,\n", {}),  # pandas passes over an empty field at the end.
    ("a,b\n1\n1\n1\n1\n", {}),
    ('a,b\n"1,2",3\n"1\n,2",3\n"1,2",3\n', {}),
    ('a,b\n"1,2",3\n"1,2",3\n"1,2",3\n', {"multiline": False}),
    ("a,b\n1,2\\,3\n1,2\\,3\n1,2\\,3\n", {"escapechar": "\\"}),
    ("1,2\n3,4,5\n3,4,5\n3,4,5\n", {"header": "none"}),
    ("a,b\n" + "\n" * 30 + "1,2\n" * 5, {}),
]


@pytest.mark.parametrize(("content", "options"), FITTING)
def test_files_whose_records_fit(tmp_path: Path, content: str, options: dict[str, Any]) -> None:
    found = surveyed(tmp_path, content, **options)
    assert found.warnings == [] and len(found.cuts[0].rows) and found.cuts[0].error is None


def test_a_file_none_of_whose_first_records_fits(tmp_path: Path) -> None:
    wide = "".join(f"{n},2,3,4\n" for n in range(100))
    said = refused(tmp_path, "a,b\n" + wide)
    assert "have 4 fields" in said and "mend its header" in said and "col.names" not in said
    assert "the job gives 2 names" in refused(tmp_path, wide, header="none", names=["x", "y"])
    assert "1.csv'" in refused(tmp_path, "a,b\n1,2\n", wide, header="first")
    assert "have 3 to 5 fields" in refused(tmp_path, "a,b\n1,2,3\n1,2,3,4,5\n1,2,3,4\n")
    assert "1.csv'" in refused(tmp_path, "a,b,c,d\n" + wide, "a,b\n" + wide, header="each")
    both = surveyed(tmp_path, "a,b\n" + wide, "a,b,c,d\n" + wide, header="each", columns=["a"])
    assert both.warnings == []


def test_records_in_another_encoding_under_a_header_of_letters(tmp_path: Path) -> None:
    data = ("name,city\n" + "Müller,Köln\n" * 5).encode("latin-1")
    said = refused(tmp_path, "name,city\na,b\n", data)
    assert "1.csv'" in said and "none of its first 5 records is in the encoding utf-8" in said
    assert not surveyed(tmp_path, data, encoding="latin-1").warnings
    assert not surveyed(tmp_path, data + b"a,b\n").warnings
    assert not surveyed(tmp_path, data, columns=["name"]).warnings, "its bytes may be in other columns"


def test_compressed_files_and_other_encodings_are_looked_at_too(tmp_path: Path) -> None:
    wide = "a,b\n" + "1,2,3,4\n" * 10
    assert "have 4 fields" in refused(tmp_path, wide.encode("utf-16"), encoding="utf-16")
    narrow = surveyed(tmp_path, ("a,b\n" + "1,é\n" * 5).encode("utf-16"), encoding="utf-16")
    assert narrow.cuts[0].rows.tolist() == [5] and narrow.warnings == []
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(wide.encode()))
    with pytest.raises(InputError, match="have 4 fields"):
        survey([listed(path)], CsvOptions(), BySize(9), ask, origin=ORIGIN, unpack_to=None)


# Separators

SEPARATED: list[tuple[str, dict[str, Any], str]] = [
    ("a;b;c\n1;2;3\n", {}, 'sep: ";"'),
    ("a;b;c\n", {}, 'sep: ";"'),
    ("a\tb\n1\t2\n", {}, "sep: tab"),
    ("a|b\n1|2\n", {}, 'sep: "|"'),
    ("a,b\n1,2\n", {"sep": ";"}, 'sep: ","'),
    ('a;b\n"x;y";2\n', {}, 'sep: ";"'),
    ("1;2\n3;4\n", {"header": "none"}, 'sep: ";"'),
    ('"a" "b"\n"1" 1 2\n"2" 3 4\n', {}, 'sep: " "'),
    ("a b\n1 2\n3 4\n", {}, 'sep: " "'),
]


@pytest.mark.parametrize(("content", "options", "words"), SEPARATED)
def test_another_separator_is_told_of_once(
    tmp_path: Path, content: str, options: dict[str, Any], words: str
) -> None:
    (warning,) = surveyed(tmp_path, content, content, **options).warnings
    assert warning.startswith(f"{ORIGIN}: ") and "0.csv' has only one column" in warning
    assert warning.endswith(f"write {words}")


ONE_COLUMN: list[tuple[str, dict[str, Any]]] = [
    ("a\n1\n2\n", {}),
    ("text\nSmith; John\nx;y\n", {}),
    ("first name\nAnn\nBob\n", {}),
    ("first name\n", {}),
    ('"a;b"\n1\n2\n', {}),
    ("a;b\n1\n2\n3\n", {}),
    ("x;y\n", {"header": "none"}),
    ("x;y\nz\nz\n", {"header": "none"}),
    ("a,b;c\n1,2;3\n", {}),
    ("", {}),
]


@pytest.mark.parametrize(("content", "options"), ONE_COLUMN)
def test_files_of_one_column_are_let_be(tmp_path: Path, content: str, options: dict[str, Any]) -> None:
    assert surveyed(tmp_path, content, **options).warnings == []


def test_decimal_commas_with_the_wrong_separator(tmp_path: Path) -> None:
    said = refused(tmp_path, "a;b\n" + "1,5;2,5\n" * 4)
    assert "its header has 1 name, and its first 4 records have 3 fields" in said
    assert 'write sep: ";"' in said


# Other files


def files(*names: str) -> list[TableFile]:
    return [TableFile(os.fsencode(name), 1, os.fsencode(name)) for name in names]


@pytest.mark.parametrize(
    ("names", "odd", "glob"),
    [
        (["/d/README", "/d/a.csv", "/d/b.csv"], [0, 1], "'/d/*.csv'"),
        (["/d/a.csv", "/d/x.parquet", "/d/y.parquet"], [1], "'/d/*.csv'"),
        (["/d/a.csv", "/d/e/b.csv", "/d/n.md"], [2], "'/d/**/*.csv'"),
        (["/d/a.csv", "/d/b.CSV.gz", "/d/n.json.gz"], [0, 2], "'/d/*.csv*'"),
        (["/d/a.log", "/d/b.log", "/d/n"], [2], "'/d/*.log'"),
        (["/d/a.csv", "/d/b.csv", "/d/n"], [0, 1], None),
        (["/d/a.csv", "/d/b.csv.gz"], [0, 1], None),
        (["/d/a", "/d/b"], [0, 1], None),
        (["/d/a", "/d/b", "/d/x.log"], [0, 2], None),
        ([], [], None),
    ],
)
def test_the_glob_that_leaves_others_out(names: list[str], odd: list[int], glob: str | None) -> None:
    listed = files(*names)
    hint = glob_hint(listed, [listed[number] for number in odd])
    assert hint.endswith(f"like {glob}.") if glob else hint == ""


def test_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("A table.\nOf numbers.\n")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    (tmp_path / "b.parquet").write_bytes(b"PAR1\xff\xfe\x00\x01")
    every = [listed(path) for path in sorted(tmp_path.iterdir())]
    with pytest.raises(InputError) as raised:
        survey(every, CsvOptions(), BySize(9), ask, origin=ORIGIN, unpack_to=None)
    for words in ("a.csv' is not that of", "README'", "'README' is no .csv file", f"{tmp_path}/*.csv"):
        assert words in str(raised.value)
    found = survey(every[1:], CsvOptions(), BySize(9), ask, origin=ORIGIN, unpack_to=None)
    (warning,) = found.warnings
    assert "1 of 3 files cannot be read" in warning and f"{tmp_path}/*.csv" in warning
