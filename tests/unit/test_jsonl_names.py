from __future__ import annotations

import gzip
import os
from pathlib import Path

from mpibatch.core.tables import JsonlOptions
from mpibatch.inputs.jsonl_names import FIRST_ROWS, unknown_names
from mpibatch.inputs.survey import TableFile


def made(folder: Path, *contents: bytes, suffix: str = "jsonl") -> list[TableFile]:
    files = []
    for number, content in enumerate(contents):
        path = folder / f"{number}.{suffix}"
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        files.append(TableFile(os.fsencode(path), len(content), os.fsencode(path)))
    return files


def test_a_name_that_no_row_has_is_warned_of_with_the_nearest(tmp_path: Path) -> None:
    files = made(tmp_path, b"\n", b'{"id": 1}\n[1]\nno json\n{"text": "x"}\n')
    options = JsonlOptions(columns=["id", "txet"], dtype={"id": "int64", "odd": "str"}, parse_dates=["id"])
    columns, dtype = unknown_names(files, options)
    assert columns.startswith(
        f"columns: none of the first 2 rows of '{tmp_path}/1.jsonl' has 'txet'; did you mean text?"
    )
    assert dtype.startswith("dtype: ") and "'odd'" in dtype and "id, text" in dtype


def test_what_the_rows_have_is_not_warned_of(tmp_path: Path) -> None:
    rows = b'{"a": 1}\n' * (FIRST_ROWS - 1)
    options = JsonlOptions(columns=["late"])
    assert unknown_names(made(tmp_path, rows + b'{"late": 1}\n'), options) == []
    assert unknown_names(made(tmp_path, rows + b'{"late": 1}\n', suffix="jsonl.gz"), options) == []
    assert len(unknown_names(made(tmp_path, rows + b'{"a": 1}\n{"late": 1}\n'), options)) == 1


def test_without_names_or_rows_nothing_is_said(tmp_path: Path) -> None:
    assert unknown_names(made(tmp_path, b'{"a": 1}\n'), JsonlOptions()) == []
    assert unknown_names(made(tmp_path, b"", b"broken"), JsonlOptions(columns=["a"])) == []
    (tmp_path / "0.jsonl").unlink()
    gone = [TableFile(os.fsencode(tmp_path / "0.jsonl"), 1, b"gone")]
    assert unknown_names(gone, JsonlOptions(columns=["a"])) == []
