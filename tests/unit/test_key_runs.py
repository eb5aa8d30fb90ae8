"""Values of partition keys, the runs of a part, and how runs are put together."""

from __future__ import annotations

import datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.tables import CsvOptions, JsonlOptions
from mpibatch.inputs.csv_cells import packed, unpacked
from mpibatch.inputs.csv_setup import CsvSetup
from mpibatch.inputs.key_batches import KeyBatches, Part, pack, unpack
from mpibatch.inputs.key_join import Again, Joiner, keys_before, shown_keys
from mpibatch.inputs.key_parts import read_parts
from mpibatch.inputs.key_reading import KeySpec
from mpibatch.inputs.key_runs import Answer, KeyRuns, PartRuns, Question, answer, filled
from mpibatch.inputs.key_values import by_columns, by_packed, plain, with_gaps
from mpibatch.inputs.survey import Batch
from mpibatch.work import BadItem, ErrorReport, Slice, Slices

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (float("nan"), None),
    (np.float32("nan"), None),
    (pd.NaT, None),
    (pd.NA, None),
    (np.datetime64("NaT"), None),
    (True, True),
    (np.bool_(False), False),
    (np.int8(-3), -3),
    (2**64 - 1, 2**64 - 1),
    (2**64, str(2**64)),
    (np.float64(0.5), 0.5),
    (-0.0, 0.0),
    (float("inf"), float("inf")),
    ("ä", "ä"),
    ("\udcff", "\\xff"),
    ("", ""),
    (b"\xffa", "\\xffa"),
    (np.str_("x"), "x"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (Decimal("1.50"), "1.50"),
    ([1, "x"], '[1,"x"]'),
    ({"a": None}, '{"a":null}'),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=repr)
def test_values_become_plain(value: Any, expected: Any) -> None:
    found = plain(value)
    assert type(found) is type(expected) and found == expected
    assert str(found) == str(expected), "-0.0 is 0.0"
    assert unpack(pack([found])) == [expected]


def test_types_are_told_apart_and_equal_values_are_not() -> None:
    assert len({pack([value]) for value in (1, True, 1.0, "1", None, 0, False, "")}) == 8
    which, keys = by_columns([np.array([0.0, -0.0, np.nan, 1.0, np.nan])], 5)
    assert (which.tolist(), [unpack(key) for key in keys]) == ([0, 0, 1, 2, 1], [[0.0], [None], [1.0]])
    same = np.array(["x", "\udcff", "\\xff", "y"], object)
    which, keys = by_columns([same], 4)
    assert (which.tolist(), [unpack(key) for key in keys]) == ([0, 1, 1, 2], [["x"], ["\\xff"], ["y"]])
    which, keys = by_columns([np.array(["a", "a", "b", "a"], object), np.array([1, 2, 1, 1])], 4)
    assert which.tolist() == [0, 1, 2, 0]
    assert [unpack(key) for key in keys] == [["a", 1], ["a", 2], ["b", 1]]
    assert by_packed([b"x", b"y", b"x"])[0].tolist() == [0, 1, 0]


def test_malformed_rows_have_the_values_of_the_row_before() -> None:
    assert with_gaps(np.array([5, 6]), [0, 2, 3]).tolist() == [-1, 5, -1, -1, 6]
    whole, leading = filled(np.array([-1, -1, 5, -1, 6, -1]))
    assert (whole.tolist(), leading) == ([-1, -1, 5, 5, 6, 6], 2)
    assert filled(np.array([-1]))[1] == 1


# The runs of a part


def ask(question: KeyRuns) -> list[PartRuns]:
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(question), type=Question)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(answer(sent)), type=Answer).parts


def csv_spec(names: list[str], keys: list[str], **options: Any) -> KeySpec:
    setup = msgspec.msgpack.encode(CsvSetup(header=",".join(names).encode() + b"\n", names=names))
    return KeySpec(CsvOptions(**options), setup, keys)


def runs_of(path: Path, text: str, spec: KeySpec, rows: int, start: int = 0) -> PartRuns:
    path.write_text(text)
    size = len(text.encode())
    return ask(KeyRuns(spec, [Slice(bytes(path), start, size, 0, rows)]))[0]


def test_runs_begin_where_their_first_record_begins(tmp_path: Path) -> None:
    text = 'a,"1\n,"\n\na,"1\n,"\nb,2\nNA,2\n,2\n'
    found = runs_of(tmp_path / "t.csv", text, csv_spec(["k", "n"], ["k", "n"]), 5)
    assert [unpack(key) for key in found.keys] == [["a", "1\n,"], ["b", "2"], [None, "2"]]
    assert unpacked(found.rows).tolist() == [0, 2, 3]
    assert unpacked(found.starts).tolist() == [0, text.index("b,"), text.index("NA")]
    assert (found.last, found.leading, found.again, found.error) == (2, 0, b"", None)
    as_text = runs_of(tmp_path / "t.csv", text, csv_spec(["k", "n"], ["k"], keep_default_na=False), 5)
    assert [unpack(key) for key in as_text.keys] == [["a"], ["b"], ["NA"], [""]]


def test_keys_that_come_again_in_a_part_are_told_of_once(tmp_path: Path) -> None:
    found = runs_of(tmp_path / "t", "".join(f"{key}\n" for key in "aabacb"), csv_spec(["k"], ["k"]), 6)
    assert unpacked(found.rows).tolist() == [0, 2, 4], "only the first runs"
    assert dict(zip(unpacked(found.again).tolist(), unpacked(found.again_rows).tolist())) == {0: 3, 1: 5}
    assert found.last == 1


def test_values_of_json_lines_keep_their_types(tmp_path: Path) -> None:
    spec = KeySpec(JsonlOptions(columns=["x"], dtype={"k": "int8"}), b"", ["k", "m"])
    text = '{"k": 1}\n{"k": 1.0}\nnothing\n{"k": true}\n{"k": null}\n{}\n'
    found = runs_of(tmp_path / "t", text, spec, 6)
    assert [unpack(key)[0] for key in found.keys] == [1, 1.0, True, None]
    assert [type(unpack(key)[0]) for key in found.keys] == [int, float, bool, type(None)]
    assert unpacked(found.rows).tolist() == [0, 1, 3, 4] and found.found == [True, False]
    assert found.columns == ["k"]


def test_a_quote_that_no_parity_tells_of(tmp_path: Path) -> None:
    text = 'a,5" x\na,"1"\nb,6" y\nb,"\n"\n'
    found = runs_of(tmp_path / "t", text, csv_spec(["k", "n"], ["k"]), 4)
    assert unpacked(found.starts).tolist() == [0, text.index("b,")]


def test_a_file_that_has_changed_is_told_of(tmp_path: Path) -> None:
    found = runs_of(tmp_path / "t", "a\nb\n", csv_spec(["k"], ["k"]), 3)
    assert found.error is not None and "changed" in found.error
    gone = ask(KeyRuns(csv_spec(["k"], ["k"]), [Slice(b"/nowhere/t.csv", 0, 5, 0, 1)]))[0]
    assert gone.error is not None and "/nowhere/t.csv" in gone.error


# Joining


def part_of(text: str, *, width: int = 10) -> PartRuns:
    """A row is a letter, malformed if it is a dot; it takes ten bytes."""
    keys = list(dict.fromkeys(text.replace(".", "")))
    which, leading = filled(np.array([keys.index(one) if one != "." else -1 for one in text]))
    begins = [n for n in range(leading, len(text)) if n == leading or which[n] != which[n - 1]]
    return PartRuns(
        keys=[pack([key]) for key in keys],
        which=packed(which[begins]),
        rows=packed(np.array(begins, np.int64)),
        starts=packed(np.array(begins, np.int64) * width),
        leading=leading,
        last=int(which[-1]),
    )


def joined(files: list[list[str]]) -> Joiner:
    joiner = Joiner(1)
    for number, texts in enumerate(files):
        parts = []
        row = 0
        for text in texts:
            runs = part_of(text)
            starts = packed(unpacked(runs.starts) + 10 * row)
            part = Slice(b"/f", 10 * row, 10 * (row + len(text)), row, len(text))
            parts.append((part, msgspec.structs.replace(runs, starts=starts)))
            row += len(text)
        joiner.add_file(number, parts)
    return joiner


def shown(batches: KeyBatches) -> list[tuple[Any, list[tuple[int, int, int]]]]:
    """Key, and (file, first row, rows) of each part."""
    found = []
    for number, key in enumerate(batches.keys):
        parts = list(batches.parts(number))
        assert all(part.start == 10 * part.row and part.stop == part.start + 10 * part.rows for part in parts)
        found.append((unpack(key)[0], [(part.file, part.row, part.rows) for part in parts]))
    return found


def test_runs_are_joined_over_parts_and_files() -> None:
    joiner = joined([["aa", "ab", "b"], ["b", "bc"], ["d"]])
    assert joiner.again is None
    assert shown(joiner.finish()) == [
        ("a", [(0, 0, 3)]),
        ("b", [(0, 3, 2), (1, 0, 2)]),
        ("c", [(1, 2, 1)]),
        ("d", [(2, 0, 1)]),
    ]


def test_what_comes_again_is_told_with_its_first_place() -> None:
    joiner = joined([["ab", "bc"], ["bb", "a"]])
    assert joiner.again == Again(pack(["b"]), 1, 0)
    assert joiner.scattered == {pack(["a"]), pack(["b"])}
    within = msgspec.structs.replace(
        part_of("bxy"), again=packed(np.array([1])), again_rows=packed(np.array([3]))
    )
    joiner = joined([["bc"]])
    joiner.add_file(1, [(Slice(b"/g", 0, 40, 0, 4), within)])
    assert joiner.again == Again(pack(["b"]), 1, 0), "not that of x, in the row behind"
    assert shown_keys(["k", "n"], pack(["b", 1])) == "k='b', n=1"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([["a.", "..", "b."]], [("a", [(0, 0, 4)]), ("b", [(0, 4, 2)])]),
        ([[".", ".a"], [".b"]], [("a", [(0, 0, 3)]), ("b", [(1, 0, 2)])]),
        ([["a"], ["..", "."], ["b"]], [("a", [(0, 0, 1), (1, 0, 3)]), ("b", [(2, 0, 1)])]),
        ([["."], ["a"]], [("a", [(0, 0, 1), (1, 0, 1)])]),
        ([["..", "."]], [(None, [(0, 0, 3)])]),
    ],
)
def test_malformed_rows_join_the_run_before_them(files: list[list[str]], expected: Any) -> None:
    assert shown(joined(files).finish()) == expected


@settings(max_examples=200, deadline=None)
@given(files=st.lists(st.text("abc.", min_size=1, max_size=12), min_size=1, max_size=3), data=st.data())
def test_where_parts_begin_does_not_matter(files: list[str], data: st.DataObject) -> None:
    """Of rows whose keys are in order, among which malformed ones are."""
    letters = iter(sorted("".join(files).replace(".", "")))
    files = ["".join("." if one == "." else next(letters) for one in text) for text in files]
    cut = []
    for text in files:
        places = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=4)) | {0, len(text)})
        cut.append([text[first:last] for first, last in pairwise(places)])
    whole, other = joined([[text] for text in files]), joined(cut)
    assert (whole.again, other.again) == (None, None)
    assert shown(other.finish()) == shown(whole.finish())
    rows = [other.batches.rows(number) for number in range(len(other.batches))]
    assert sum(rows) == sum(map(len, files))
    assert len(rows) == max(1, len(set("".join(files)) - {"."}))


def test_the_key_before_each_part() -> None:
    nothing = pack([None])
    keys = [part_of(text) for text in (".", ".ab", "..", "a")]
    assert [unpack(key)[0] for key in keys_before(keys, nothing)] == ["a", "a", "b", "b"]
    assert keys_before([part_of("..")], nothing) == [nothing]


def test_a_file_that_is_not_cut_is_parted_by_rows() -> None:
    joiner = Joiner(1)
    part = Slice(b"/f", 0, 99, 0, 4, 0, True)
    joiner.add_file(0, [(part, msgspec.structs.replace(part_of("aabb"), starts=b""))])
    batches = joiner.finish()
    assert [list(batches.parts(number)) for number in (0, 1)] == [
        [Part(0, 99, 0, 4, 0, 2, 0)],
        [Part(0, 99, 0, 4, 2, 2, 0)],
    ]


# Reading several ranges


class Fake:
    """A reader whose rows are what `make` makes of numbers; odd ones are malformed."""

    def __init__(self, make: Any, *, bad: bool = False) -> None:
        self._make = make
        self._bad = bad

    def read(self, source: Slice, count: int) -> Batch:
        numbers = [source.start + source.skip + n for n in range(count)]
        good = [n for n in numbers if not (self._bad and n % 2)]
        report = ErrorReport("BadRecord", "bad")
        return Batch(
            self._make(good), [BadItem(place, report) for place, n in enumerate(numbers) if n not in good]
        )

    def close(self) -> None:
        pass


PARTS = [Slice(b"/a", 10, 20, 10, 10, 7), Slice(b"/a", 31, 32, 31, 1), Slice(b"/b", 40, 50, 40, 10)]
SLICES = Slices(PARTS, [3, 1, 2])


def test_ranges_are_read_as_one() -> None:
    frame = read_parts(Fake(lambda numbers: pd.DataFrame({"n": numbers})), SLICES, 6).data
    assert frame["n"].tolist() == [17, 18, 19, 31, 40, 41] and frame.index.tolist() == list(range(6))
    assert read_parts(Fake(list), SLICES, 6).data == [17, 18, 19, 31, 40, 41]
    arrays = read_parts(Fake(lambda numbers: {"n": np.zeros((len(numbers), 2))}), SLICES, 6).data
    assert arrays["n"].shape == (6, 2)
    batch = read_parts(Fake(list, bad=True), SLICES, 6)
    assert batch.data == [18, 40] and [one.position for one in batch.bad] == [0, 2, 3, 5]
    frame = read_parts(Fake(lambda ns: pd.DataFrame({"n": ns}), bad=True), SLICES, 6).data
    assert frame["n"].tolist() == [18, 40] and frame["n"].dtype == np.int64, "that of good rows only"
    first = Slices([PARTS[1], PARTS[2]], [1, 1])
    frame = read_parts(Fake(lambda ns: pd.DataFrame({"n": ns}), bad=True), first, 2).data
    assert frame["n"].tolist() == [40] and frame["n"].dtype == np.int64
    none = read_parts(Fake(list, bad=True), Slices([PARTS[1]] * 2, [1, 1]), 2)
    assert none.data == [] and len(none.bad) == 2
    categories = read_parts(
        Fake(lambda ns: pd.DataFrame({"n": pd.Categorical([str(n) for n in ns])})), SLICES, 6
    )
    assert isinstance(categories.data["n"].dtype, pd.CategoricalDtype)
