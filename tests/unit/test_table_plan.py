from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.errors import MpibatchError, StorageError
from mpibatch.inputs.archives import FoundMembers, SurveyedArchives
from mpibatch.inputs.key_batches import KeyBatches, Part, pack
from mpibatch.inputs.survey import Cut
from mpibatch.runtime import plan_container, table_plan, table_plan_keys, table_plan_writer
from mpibatch.runtime.plan_file import PlanWriter
from mpibatch.runtime.table_plan import PlannedFile, TablePlan, TablePlanWriter, is_table_plan
from mpibatch.runtime.table_plan_keys import Group
from mpibatch.work import Members, Paths, Piece, Slice, Slices


def cut(rows: list[int], *, whole: bool = False, error: str | None = None) -> Cut:
    """Each row takes ten bytes, after a header of seven."""
    starts = [7 + 10 * row for row in accumulate(rows, initial=0)] if rows else []
    return Cut(np.array(starts, np.int64), np.array(rows, np.int64), whole, error)


def file(name: str, **changes: Any) -> PlannedFile:
    path = os.fsencode(f"/data/{name}")
    fields: dict[str, Any] = {"path": path, "name": path, "size": 100, "mtime_ns": 5} | changes
    return PlannedFile(**fields)


def members(*archives: list[str] | str) -> SurveyedArchives:
    """Of each archive the names of its members, or its error. A member has as many bytes as its name."""
    found = []
    for one in archives:
        names = [] if isinstance(one, str) else [os.fsencode(name) for name in one]
        sizes = np.array([len(name) for name in names], np.int64)
        offsets = 512 * np.arange(1, len(names) + 1, dtype=np.int64)
        found.append(FoundMembers(b"\0".join(names), offsets, sizes, one if isinstance(one, str) else None))
    return SurveyedArchives(found, [])


class Input(NamedTuple):
    """What is given to the writer."""

    kind: str
    files: list[PlannedFile]
    cuts: list[Cut] | SurveyedArchives
    text: str = "text"
    options: dict[str, Any] | None = None
    setup: bytes = b""
    keys: list[dict[str, Any]] | None = None
    size: int = 2


def planned(path: Path, *inputs: Input, identity: list[Any] | None = None, **header: Any) -> TablePlan:
    with TablePlanWriter(path) as writer:
        for one in inputs:
            if isinstance(one.cuts, SurveyedArchives):
                writer.add_archives(one.text, one.options or {}, one.files, one.cuts, one.size)
            else:
                writer.add_table(
                    one.kind, one.text, one.options or {}, one.setup, one.files, one.cuts, one.keys
                )
        writer.finish({"remarks": [], **header}, identity or [])
    return TablePlan(path)


TABLE = Input("csv", [file("a.csv"), file("b.csv"), file("c.csv")], [cut([3, 2]), cut([]), cut([4])])


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[TablePlan]:
    archives = Input(
        "archive",
        [file("a.tar"), file("b.tar"), file("c.tar"), file("\udcff.zip")],
        members(["1", "d/two", "3"], "it is cut short", [], ["\udcfe", "x\ny"]),
        text="*.tar",
        options={"as": "path"},
    )
    table = TABLE._replace(text="*.csv", options={"sep": ";", "names": ["ä"]}, setup=b"\0setup\xff")
    with planned(
        tmp_path / "plan", table, archives, remarks=["a remark"], state="s", mini_batch_size=2
    ) as plan:
        yield plan


def test_what_the_rest_of_the_program_asks(plan: TablePlan) -> None:
    assert (plan.items, plan.mini_batches, plan.inputs, plan.largest_mini_batch) == (15, 7, 2, 4)
    assert (plan.mini_batch_size, plan.remarks, plan.header["state"]) == (2, ["a remark"], "s")
    assert [plan.item_count(number) for number in range(7)] == [3, 2, 4, 2, 1, 1, 2]
    assert plan.item_counts(np.array([6, 0, 0])).tolist() == [2, 3, 3]
    assert [plan.input_of(number) for number in (0, 6, 2, 3)] == [0, 1, 0, 1]
    assert [(one.kind, one.text, one.items, one.mini_batches) for one in plan.planned_inputs] == [
        ("csv", "*.csv", 9, 3),
        ("archive", "*.tar", 6, 4),
    ]
    assert [(one.kind, one.options, one.setup) for one in plan.tables] == [
        ("csv", {"sep": ";", "names": ["ä"]}, b"\0setup\xff"),
        ("archive", {"as": "path"}, b""),
    ]


def test_sources_of_tables(plan: TablePlan) -> None:
    assert plan.source(Piece(0, 0, 3)) == Slice(b"/data/a.csv", 7, 37, 0, 3)
    assert plan.source(Piece(1, 1, 1)) == Slice(b"/data/a.csv", 37, 57, 3, 2, 1)
    assert plan.source(Piece(2, 0, 4)) == Slice(b"/data/c.csv", 7, 47, 0, 4)
    assert [plan.position(Piece(*one)) for one in ((0, 2, 1), (1, 1, 1), (2, 3, 1))] == [2, 4, 8]
    assert plan.item_names(Piece(1, 0, 2)) == [("/data/a.csv", 3), ("/data/a.csv", 4)]
    assert plan.item_names(Piece(2, 3, 1)) == [("/data/c.csv", 3)]


def test_sources_of_archives(plan: TablePlan) -> None:
    assert plan.source(Piece(3, 0, 2)) == Members(b"/data/a.tar", b"1\0d/two", [512, 1024], [1, 5])
    assert plan.source(Piece(3, 1, 1)) == Members(b"/data/a.tar", b"d/two", [1024], [5])
    assert plan.source(Piece(4, 0, 1)) == Members(b"/data/a.tar", b"3", [1536], [1])
    assert plan.source(Piece(5, 0, 1)) == Members(b"/data/b.tar", b"", [0], [0])
    assert plan.source(Piece(6, 0, 2)) == Members(b"/data/\xff.zip", b"\xfe\0x\ny", [512, 1024], [1, 3])
    assert plan.item_names(Piece(3, 0, 2)) == [("/data/a.tar/1", None), ("/data/a.tar/d/two", None)]
    assert plan.item_names(Piece(6, 0, 1)) == [("/data/\udcff.zip/\udcfe", None)]
    assert [plan.position(Piece(*one)) for one in ((3, 1, 1), (4, 0, 1), (5, 0, 1), (6, 1, 1))] == [
        1,
        2,
        3,
        5,
    ]


def test_a_file_that_cannot_be_read_is_an_item_with_an_error(tmp_path: Path, plan: TablePlan) -> None:
    assert [plan.error(number) for number in (0, 4, 5, 6)] == [None, None, "it is cut short", None]
    assert plan.item_names(Piece(5, 0, 1)) == [("/data/b.tar", None)]
    bad = Input("csv", [file("a"), file("b")], [cut([1], whole=True, error=""), cut([2], whole=True)])
    with planned(tmp_path / "other", bad) as other:
        assert (other.error(0), other.error(1)) == ("", None)
        assert other.source(Piece(0, 0, 1)) == Slice(b"/data/a", 7, 17, 0, 1, 0, True, error="")
        assert other.item_names(Piece(0, 0, 1)) == [("/data/a", None)]
        assert other.source(Piece(1, 1, 1)) == Slice(b"/data/b", 7, 27, 0, 2, 1, True)


def test_an_unpacked_file_is_read_where_it_is_and_called_what_it_was(tmp_path: Path) -> None:
    one = Input("csv", [file("a.csv.gz", path=b"/run/unpacked/1")], [cut([1])])
    with planned(tmp_path / "plan", one) as plan:
        source = plan.source(Piece(0, 0, 1))
        assert isinstance(source, Slice) and source.path == b"/run/unpacked/1"
        assert plan.item_names(Piece(0, 0, 1)) == [("/data/a.csv.gz", 0)]
        assert list(plan.all_paths()) == [[b"/data/a.csv.gz"]]


def test_all_paths_come_in_blocks_also_of_files_without_rows(
    tmp_path: Path, plan: TablePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_plan, "_BLOCK", 2)
    names = [
        b"/data/" + name for name in (b"a.csv", b"b.csv", b"c.csv", b"a.tar", b"b.tar", b"c.tar", b"\xff.zip")
    ]
    assert list(plan.all_paths()) == [names[:2], names[2:3], names[3:5], names[5:]]


@pytest.mark.parametrize(
    "piece", [(-1, 0, 1), (7, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 4), (0, 3, 1), (3, 2, 1)]
)
def test_what_is_not_in_the_plan(plan: TablePlan, piece: tuple[int, int, int]) -> None:
    with pytest.raises(IndexError, match="plan"):
        plan.source(Piece(*piece))
    with pytest.raises(IndexError, match="plan"):
        plan.item_names(Piece(*piece))


@pytest.mark.parametrize("number", [-1, 7, 1 << 40])
def test_a_mini_batch_that_is_not_in_the_plan(plan: TablePlan, number: int) -> None:
    asked: list[Callable[[int], object]] = [plan.item_count, plan.input_of, plan.keys, plan.error]
    for ask in asked:
        with pytest.raises(IndexError, match=f"no mini-batch {number}: the plan has 7"):
            ask(number)


KEYS: list[dict[str, Any]] = [
    {"k": "ä", "n": 1},
    {"k": "ä", "n": True},
    {"k": None, "n": 1.0},
    {"k": None, "n": 1.0},
    {},
]


def test_keys_come_back_with_their_types(tmp_path: Path) -> None:
    one = Input("csv", [file("a")], [cut([1, 1, 1, 1, 1])], keys=KEYS)
    with planned(tmp_path / "plan", TABLE, one, one) as plan:
        got = [plan.keys(number) for number in range(plan.mini_batches)]
        assert got == [None] * 3 + KEYS * 2
        assert [type(keys["n"]) for keys in got[3:7] if keys] == [int, bool, float, float]


def test_equal_keys_of_neighbours_are_stored_once(tmp_path: Path) -> None:
    one = Input("csv", [file("a")], [cut([1] * 1000)], keys=[{"k": number // 500} for number in range(1000)])
    with planned(tmp_path / "plan", one) as plan:
        assert plan.header["inputs"][0]["keys"][1] == 2 * len(b"\x81\xa1k\x00")


def test_sections_begin_at_multiples_of_eight(plan: TablePlan) -> None:
    sections = [value for one in plan.header["inputs"] for value in one.values() if isinstance(value, list)]
    begins = [section[0] for section in sections if len(section) == 3]
    assert len(begins) == 9 and not any(begin % 8 for begin in [*begins, plan.header["rows"][0]])


def test_inputs_without_items_lie_between_others(tmp_path: Path) -> None:
    nothing = Input("jsonl", [file("none")], [cut([])])
    without_files = Input("hdf5", [], [])
    no_members = Input("archive", [file("n.tar")], members([]))
    inputs = [nothing, TABLE, nothing, without_files, no_members, TABLE, nothing]
    with planned(tmp_path / "plan", *inputs) as plan:
        assert [plan.input_of(number) for number in (5, 0, 3, 2)] == [5, 1, 5, 1]
        assert plan.source(Piece(5, 0, 1)) == Slice(b"/data/c.csv", 7, 47, 0, 4)
        assert [one.items for one in plan.planned_inputs] == [0, 9, 0, 0, 0, 9, 0]
    with planned(tmp_path / "plan", nothing) as plan:
        assert (plan.items, plan.mini_batches, plan.largest_mini_batch) == (0, 0, 0)


# Partition keys


def batches(*parts: tuple[Any, list[Part]]) -> KeyBatches:
    found = KeyBatches()
    for key, some in parts:
        number = found.begin(pack([key]))
        for part in some:
            found.add(number, part)
    return found


FIRST, SECOND = Part(7, 37, 0, 3, 0, 3, 0), Part(0, 90, 0, 9, 4, 2, 1)
SEGMENT = Part(5, 25, 2, 2, 0, 2, 3)
KEYED = [("x", [FIRST, SECOND]), (None, [Part(0, 1, 0, 1, 0, 1, 2)]), (1, [SEGMENT])]


def keyed(path: Path, parts: list[tuple[Any, list[Part]]] = KEYED, **changes: Any) -> TablePlan:
    """Two tables: the first file is cut, the second one is not, the third one cannot be read, the last is a copy."""
    given: dict[str, Any] = {
        "files": [file("a.csv"), file("b.csv"), file("c.csv")],
        "cuts": [cut([3]), cut([9], whole=True), cut([1], whole=True, error="it is torn")],
        "copies": [file("a.csv", path=bytes(path.parent / "sorted"))],
        "names": ["k"],
    } | changes
    with TablePlanWriter(path) as writer:
        for _ in range(2):
            writer.add_keyed_table("csv", "*.csv", {}, b"setup", batches=batches(*parts), **given)
        writer.finish({"remarks": []}, [])
    return TablePlan(path)


def test_mini_batches_by_keys_are_made_of_parts(tmp_path: Path) -> None:
    with keyed(tmp_path / "plan") as plan:
        assert (plan.items, plan.mini_batches, plan.largest_mini_batch) == (16, 6, 5)
        assert [plan.keys(number) for number in (3, 1, 5)] == [{"k": "x"}, {"k": None}, {"k": 1}]
        first, second = Slice(b"/data/a.csv", 7, 37, 0, 3), Slice(b"/data/b.csv", 0, 90, 0, 9, 4, True)
        assert plan.source(Piece(3, 0, 5)) == Slices([first, second], [3, 2])
        assert plan.source(Piece(0, 1, 2)) == msgspec.structs.replace(first, skip=1)
        assert plan.source(Piece(0, 4, 1)) == msgspec.structs.replace(second, skip=5)
        assert plan.source(Piece(0, 2, 2)) == Slices([msgspec.structs.replace(first, skip=2), second], [1, 1])
        names = [("/data/a.csv", 1), ("/data/a.csv", 2), ("/data/b.csv", 4), ("/data/b.csv", 5)]
        assert plan.item_names(Piece(0, 1, 4)) == names
        assert [plan.position(Piece(*one)) for one in ((0, 1, 1), (1, 0, 1), (5, 1, 1))] == [1, 5, 7]
        assert [plan.error(number) for number in (0, 1, 2)] == [None, "it is torn", None]
        assert plan.item_names(Piece(4, 0, 1)) == [("/data/c.csv", None)]
        assert list(plan.all_paths()) == [[b"/data/a.csv", b"/data/b.csv", b"/data/c.csv"]] * 2


def test_rows_of_a_sorted_copy_are_those_of_the_file(tmp_path: Path) -> None:
    rows = tmp_path / "sorted.rows"
    rows.write_bytes(np.array([0, 5, 3, 8, 9], "<i8").tobytes())
    copy = bytes(tmp_path / "sorted")
    with keyed(tmp_path / "plan") as plan:
        assert plan.source(Piece(2, 1, 1)) == Slice(copy, 5, 25, 2, 2, 1, False, b"/data/a.csv", True)
        assert plan.item_names(Piece(2, 0, 2)) == [("/data/a.csv", 3), ("/data/a.csv", 8)]
        rows.unlink()
        assert plan.item_names(Piece(2, 0, 2)) == [("/data/a.csv", None)] * 2, "it is cleared away at the end"


def test_parts_that_go_on_become_one() -> None:
    following = Part(37, 57, 3, 2, 0, 2, 0)
    whole = [Part(0, 90, 0, 9, at, 2, 1) for at in (0, 2, 6)]
    found = batches(("x", [FIRST, following, *whole]))
    assert list(found.parts(0)) == [
        Part(7, 57, 0, 5, 0, 5, 0),
        Part(0, 90, 0, 9, 0, 4, 1),
        Part(0, 90, 0, 9, 6, 2, 1),
    ]
    assert found.rows(0) == 11
    for other in ({"file": 1}, {"start": 38}, {"row": 4}):
        assert len(list(batches(("x", [FIRST, following._replace(**other)])).parts(0))) == 2


def test_what_changes_mini_batches_by_keys_changes_the_fingerprint(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"parts": [KEYED[0], KEYED[2], KEYED[1]]},
        {"parts": [("y", KEYED[0][1]), *KEYED[1:]]},
        {"parts": [("x", [FIRST]), *KEYED[1:]]},
        {"parts": [("x", [FIRST, SECOND._replace(skip=5)]), *KEYED[1:]]},
        {"parts": [("x", [SECOND, FIRST]), *KEYED[1:]]},
        {"names": ["n"]},
        {"copies": [file("a.csv", path=b"/1", size=1)]},
    ]
    prints = set()
    for change in changes:
        with keyed(tmp_path / "plan", **change) as plan:
            prints.add(plan.fingerprint)
    assert len(prints) == len(changes)
    with keyed(tmp_path / "plan", copies=[file("a.csv", path=b"/elsewhere")]) as plan:
        assert plan.fingerprint in prints


def groups(path: Path, *found: tuple[str, bytes]) -> TablePlan:
    with TablePlanWriter(path) as writer:
        writer.add_groups("{k}", [Group({"k": key}, paths) for key, paths in found])
        writer.finish({"remarks": []}, [])
    return TablePlan(path)


def test_groups_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_plan_keys, "_BLOCK", 2)
    with groups(tmp_path / "plan", ("x", b"/1\0/\xff\0/3\0"), ("y", b"/4\0")) as plan:
        assert plan.source(Piece(0, 0, 3)) == Paths(b"/1\0/\xff\0/3")
        assert plan.source(Piece(0, 1, 2)) == Paths(b"/\xff\0/3")
        assert plan.item_names(Piece(0, 1, 1)) == [("/\udcff", None)]
        assert (plan.keys(1), plan.error(1), plan.position(Piece(1, 0, 1))) == ({"k": "y"}, None, 3)
        assert list(plan.all_paths()) == [[b"/1", b"/\xff", b"/3"], [b"/4"]]
        before = plan.fingerprint
    others = [(("x", b"/1\0/\xff\0"), ("y", b"/3\0/4\0")), (("y", b"/1\0/\xff\0/3\0"), ("x", b"/4\0"))]
    for other_groups in others:
        with groups(tmp_path / "plan", *other_groups) as plan:
            assert plan.fingerprint != before


# Fingerprint


def other(path: Path, *inputs: Input, identity: list[Any] | None = None) -> str:
    with planned(path, *inputs, identity=identity) as plan:
        return plan.fingerprint


def test_the_same_has_the_same_fingerprint_whatever_the_header_and_the_place_of_copies(
    tmp_path: Path,
) -> None:
    first = other(tmp_path / "a", TABLE, TABLE._replace(keys=KEYS[:3]), identity=[1])
    files = [file(name, path=b"/elsewhere") for name in ("a.csv", "b.csv", "c.csv")]
    with planned(
        tmp_path / "b",
        TABLE._replace(files=files, options={}),
        TABLE._replace(keys=KEYS[:3]),
        identity=[1],
        remarks=["x"],
    ) as plan:
        assert plan.fingerprint == first


CHANGES: dict[str, list[Input]] = {
    "name": [TABLE._replace(files=[file("a.csv"), file("b.csv"), file("d.csv")])],
    "size": [TABLE._replace(files=[file("a.csv", size=101), *TABLE.files[1:]])],
    "time": [TABLE._replace(files=[file("a.csv", mtime_ns=6), *TABLE.files[1:]])],
    "order": [TABLE._replace(files=TABLE.files[::-1])],
    "file without rows": [TABLE._replace(files=[file("a.csv"), file("b2.csv"), file("c.csv")])],
    "rows": [TABLE._replace(cuts=[cut([2, 3]), cut([]), cut([4])])],
    "rows of a last one": [
        TABLE._replace(cuts=[cut([3, 2]), cut([]), Cut(np.array([7, 47]), np.array([3]))])
    ],
    "starts": [TABLE._replace(cuts=[cut([3, 2]), cut([]), Cut(np.array([8, 47]), np.array([4]))])],
    "which file": [TABLE._replace(cuts=[cut([3, 2]), cut([4]), cut([])])],
    "whole": [TABLE._replace(cuts=[cut([3, 2]), cut([]), cut([4], whole=True)])],
    "error": [TABLE._replace(cuts=[cut([3, 2]), cut([]), cut([4], error="bad")])],
    "kind": [TABLE._replace(kind="jsonl")],
    "text": [TABLE._replace(text="other")],
    "options": [TABLE._replace(options={"sep": ";"})],
    "setup": [TABLE._replace(setup=b"x")],
    "keys": [TABLE._replace(keys=KEYS[:3])],
    "other keys": [TABLE._replace(keys=KEYS[1:4])],
    "keys of another mini-batch": [TABLE._replace(keys=[KEYS[0], KEYS[0], KEYS[1]])],
    "keys of yet another": [TABLE._replace(keys=[KEYS[0], KEYS[1], KEYS[1]])],
    "twice": [TABLE, TABLE],
    "archives": [Input("archive", [file("a")], members(["a", "b", "c"]))],
    "members of another size": [Input("archive", [file("a")], members(["a", "b", "c"]), size=3)],
    "members of another name": [Input("archive", [file("a")], members(["a", "b", "d"]))],
    "members elsewhere": [
        Input(
            "archive",
            [file("a")],
            SurveyedArchives([FoundMembers(b"a\0b\0c", np.array([0, 1, 2]), np.array([1, 1, 1]))], []),
        )
    ],
}


def test_whatever_changes_the_plan_changes_the_fingerprint(tmp_path: Path) -> None:
    prints = {name: other(tmp_path / "plan", *inputs) for name, inputs in CHANGES.items()}
    prints |= {
        "same": other(tmp_path / "plan", TABLE),
        "identity": other(tmp_path / "plan", TABLE, identity=[1]),
    }
    assert len(set(prints.values())) == len(prints)


# Writing


def test_until_the_end_there_is_nothing_and_what_was_killed_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "plan"
    (tmp_path / "plan.123.partial").write_bytes(b"killed")
    with pytest.raises(KeyError), TablePlanWriter(path) as writer:
        writer.add_table("csv", "", {}, b"", TABLE.files, [cut([1])] * 3)
        assert [found.name for found in tmp_path.iterdir()] == [f"plan.{os.getpid()}.partial"]
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_where_the_plan_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the plan '.*/gone/plan' cannot be written: No such file"):
        planned(tmp_path / "gone" / "plan", TABLE)


WRONG = [
    (TABLE._replace(cuts=[cut([1])]), "3 files and 1 cuts"),
    (TABLE._replace(cuts=[cut([1]), cut([1, 0]), cut([1])]), "without rows"),
    (TABLE._replace(cuts=[cut([1]), cut([1 << 32]), cut([1])]), "four billions"),
    (
        TABLE._replace(cuts=[cut([1]), Cut(np.array([1, 2]), np.array([], np.int64)), cut([1])]),
        "2 starts for 0",
    ),
    (TABLE._replace(cuts=[cut([1]), Cut(np.array([1]), np.array([1])), cut([1])]), "1 starts for 1"),
    (TABLE._replace(keys=KEYS[:2]), "keys of 2 mini-batches, and there are 3"),
    (
        Input("archive", [file("a")], SurveyedArchives([FoundMembers(b"a", np.arange(2), np.arange(2))], [])),
        "1 names, 2 offsets, 2 sizes",
    ),
]


@pytest.mark.parametrize(("one", "words"), WRONG)
def test_what_makes_no_sense_is_not_written(tmp_path: Path, one: Input, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned(tmp_path / "plan", one)
    assert list(tmp_path.iterdir()) == []


# Damage


def test_whose_plan_it_is(tmp_path: Path, plan: TablePlan) -> None:
    assert is_table_plan(tmp_path / "plan")
    assert not is_table_plan(tmp_path / "gone")
    with PlanWriter(tmp_path / "files", 1) as writer:
        writer.add(b"/", [b"a"])
        writer.finish({"inputs": [{"items": writer.end_input()}]}, [])
    assert not is_table_plan(tmp_path / "files")
    with pytest.raises(StorageError, match="does not begin like one"):
        TablePlan(tmp_path / "files")


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGE: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda data: data[:40], "it has 40 bytes"),
    (lambda data: data[:-1], "were written"),
    (lambda data: data + b"x", "were written"),
    (flipped(3), "does not begin like one"),
    (flipped(8), "has the form 3"),
    (flipped(-2), "check value"),
    (flipped(50), "check value"),
]


@pytest.mark.parametrize(("spoil", "words"), DAMAGE)
@pytest.mark.usefixtures("plan")
def test_a_damaged_plan_is_told_of(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    path = tmp_path / "plan"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(MpibatchError, match=words) as caught:
        TablePlan(path)
    assert "--fresh" in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_plan(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is missing"):
        TablePlan(tmp_path / "plan")


def spoilt(plan: TablePlan, path: Path, section: list[int], at: int, value: int) -> TablePlan:
    data = bytearray(path.read_bytes())
    assert 0 <= at < section[1]
    data[section[0] + at] = value
    path.with_name("spoilt").write_bytes(data)
    return TablePlan(path.with_name("spoilt"))


def test_damage_within_is_told_of_where_it_can_be_seen(tmp_path: Path, plan: TablePlan) -> None:
    table, archives = plan.header["inputs"]
    path = tmp_path / "plan"
    with pytest.raises(StorageError, match="rows do not agree"):
        spoilt(plan, path, plan.header["rows"], 4, 9)
    with pytest.raises(StorageError, match="files do not agree"):
        spoilt(plan, path, table["files"], 70, 9)
    with (
        spoilt(plan, path, table["mini_batches"], 24, 9) as bad,
        pytest.raises(StorageError, match="no file 9"),
    ):
        bad.source(Piece(0, 0, 1))
    with spoilt(plan, path, table["mini_batches"], 7, 1) as bad, pytest.raises(StorageError, match="nowhere"):
        bad.source(Piece(0, 0, 1))
    with spoilt(plan, path, archives["names"], 0, 0) as bad, pytest.raises(StorageError, match="are not 2"):
        bad.source(Piece(3, 0, 1))
    with (
        spoilt(plan, path, archives["name_index"], 15, 1) as bad,
        pytest.raises(StorageError, match="are not"),
    ):
        bad.source(Piece(3, 0, 1))


def test_damaged_keys(tmp_path: Path) -> None:
    with planned(tmp_path / "plan", TABLE._replace(keys=KEYS[:3])) as plan:
        section = plan.header["inputs"][0]["keys"]
        with (
            spoilt(plan, tmp_path / "plan", section, 0, 0xC1) as bad,
            pytest.raises(StorageError, match="keys of"),
        ):
            bad.keys(0)


# Any plan

ROWS = st.lists(st.lists(st.integers(1, 5), max_size=4), max_size=6)
NAMES = st.lists(
    st.lists(st.text("ab/\udcff", min_size=1, max_size=3), max_size=7) | st.just("bad"), max_size=4
)


def any_table(rows: list[list[int]]) -> Input:
    return Input("csv", [file(f"{number}") for number in range(len(rows))], [cut(one) for one in rows])


def any_archives(names: list[list[str] | str], size: int) -> Input:
    files = [file(f"{number}.tar") for number in range(len(names))]
    return Input("archive", files, members(*names), size=size)


def expected(one: Input) -> Iterator[list[tuple[str, int | None]]]:
    """The item names of each mini-batch."""
    if isinstance(one.cuts, SurveyedArchives):
        for planned_file, found in zip(one.files, one.cuts.archives):
            name = os.fsdecode(planned_file.name)
            items: list[tuple[str, int | None]] = [
                (f"{name}/{os.fsdecode(member)}", None)
                for member in found.names.split(b"\0")
                if len(found.sizes)
            ]
            items = [(name, None)] if found.error is not None else items
            yield from (items[first : first + one.size] for first in range(0, len(items), one.size))
        return
    for planned_file, part in zip(one.files, one.cuts):
        row = 0
        for rows in part.rows.tolist():
            yield [(os.fsdecode(planned_file.name), number) for number in range(row, row + rows)]
            row += rows


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_plan_gives_back_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tables, archives = ROWS.map(any_table), st.builds(any_archives, NAMES, st.integers(1, 4))
    inputs = data.draw(st.lists(tables | archives, max_size=4))
    path = tmp_path_factory.mktemp("any") / "plan"
    right = [(number, items) for number, one in enumerate(inputs) for items in expected(one)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_plan_writer, "_BLOCK", data.draw(st.integers(1, 3)))
        patch.setattr(plan_container, "_MOST_MAPPED", 50)
        plan = planned(path, *inputs)
        with plan:
            assert plan.mini_batches == len(right)
            assert plan.items == sum(len(items) for _, items in right)
            assert plan.item_counts(np.arange(len(right))).tolist() == [len(items) for _, items in right]
            for mini_batch in data.draw(st.permutations(range(len(right)))):
                check(plan, mini_batch, *right[mini_batch], before(right, mini_batch))


def before(right: list[tuple[int, list[tuple[str, int | None]]]], mini_batch: int) -> int:
    """Items of the same input that lie before a mini-batch."""
    return sum(len(items) for number, items in right[:mini_batch] if number == right[mini_batch][0])


def check(
    plan: TablePlan, mini_batch: int, number: int, items: list[tuple[str, int | None]], position: int
) -> None:
    assert plan.input_of(mini_batch) == number
    assert plan.item_count(mini_batch) == len(items)
    assert plan.item_names(Piece(mini_batch, 0, len(items))) == items
    for first in range(len(items)):
        piece = Piece(mini_batch, first, len(items) - first)
        assert plan.position(piece) == position + first
        assert plan.item_names(piece) == items[first:]
        source = plan.source(piece)
        if isinstance(source, Members):
            assert source.sizes == [len(name) for name in source.names.split(b"\0")]
            assert len(source.sizes) == len(source.offsets) == piece.count
        else:
            assert isinstance(source, Slice) and source.row == items[0][1]
            assert (source.start, source.stop) == (7 + 10 * source.row, 7 + 10 * (source.row + len(items)))
            assert (source.rows, source.skip) == (len(items), first)
