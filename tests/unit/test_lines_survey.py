"""The survey of files of JSON lines, against `splitlines` of bytes."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import ByRows, BySize, JsonlOptions, MiniBatchSize
from mpibatch.errors import InputError
from mpibatch.inputs.csv_cuts import NORMAL, Limits
from mpibatch.inputs.lines_survey import Answer, Question, answer, survey
from mpibatch.inputs.survey import Surveyed, TableFile

ORIGIN = "job.yaml: inputs.0.jsonl"


def ask(questions: Sequence[Any]) -> list[Any]:
    """Questions and answers travel as msgpack."""
    sent = [msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question) for question in questions]
    return [
        msgspec.msgpack.decode(msgspec.msgpack.encode(answer(question)), type=Answer) for question in sent
    ]


def surveyed(paths: Sequence[Path], size: MiniBatchSize, limits: Limits = NORMAL, **more: Any) -> Surveyed:
    files = [TableFile(path=bytes(path), size=path.stat().st_size, name=bytes(path)) for path in paths]
    unpack_to = more.pop("unpack_to", None)
    return survey(files, JsonlOptions(**more), size, ask, origin=ORIGIN, unpack_to=unpack_to, limits=limits)


def rows_of(data: bytes) -> list[bytes]:
    return [line for line in data.split(b"\n") if line.strip(b" \t\r")]


LINES = st.lists(
    st.sampled_from([b"{}", b"\n", b"\r\n", b" ", b"\t", b'{"a": "\\n"}', b'"', b"\r", b"\xc3"]), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(
    LINES.map(b"".join),
    st.integers(1, 60).map(BySize) | st.integers(1, 7).map(ByRows),
    st.builds(Limits, block=st.integers(1, 50), piece=st.integers(1, 100)),
    st.booleans(),
)
def test_the_mini_batches_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, size: MiniBatchSize, limits: Limits, mark: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + data if mark else data)
    (cut,) = surveyed([path], size, limits).cuts
    rows = rows_of(data)
    whole = path.read_bytes()
    found = [rows_of(whole[start:stop]) for start, stop in zip(cut.starts.tolist(), cut.starts.tolist()[1:])]
    assert [len(part) for part in found] == cut.rows.tolist()
    assert [row for part in found for row in part] == rows
    if isinstance(size, ByRows):
        assert all(len(part) == size.rows for part in found[:-1])
    else:
        grid = [(start - 3 * mark) // size.bytes for start in cut.starts.tolist()[:-1]]
        assert grid == sorted(set(grid))


def test_unreadable_and_compressed_files(tmp_path: Path) -> None:
    plain, archive, torn = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.gz"
    plain.write_bytes(b"{}\n{}\n")
    archive.write_bytes(gzip.compress(b"{}\n\n{}"))
    torn.write_bytes(gzip.compress(b"{}\n")[:-4])
    found = surveyed([plain, archive, torn], ByRows(1))
    assert [cut.rows.tolist() for cut in found.cuts] == [[1, 1], [2], [1]]
    assert [cut.whole for cut in found.cuts] == [False, True, True]
    assert "truncated" in (found.cuts[2].error or "") and "1 of 3" in found.warnings[0]
    with pytest.raises(InputError, match=r"c\.jsonl\.gz"):
        surveyed([torn], ByRows(1))


def test_unpacked_files(tmp_path: Path) -> None:
    torn, archive, target = tmp_path / "a.gz", tmp_path / "b.gz", tmp_path / "run"
    torn.write_bytes(gzip.compress(b"{}\n")[:-4])
    archive.write_bytes(gzip.compress(b"{}\n{}\n"))
    found = surveyed(
        [torn, archive],
        ByRows(1),
        unpack=True,
        unpack_to=lambda file: bytes(target / Path(file.name.decode()).stem),
    )
    assert found.paths == [bytes(torn), bytes(target / "b")]
    assert found.cuts[0].error and found.cuts[1].starts.tolist() == [0, 3, 6]
    assert (target / "b").read_bytes() == b"{}\n{}\n" and not (target / "a").exists()
