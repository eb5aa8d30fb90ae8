"""The output file made of real row segments: order, headers, sessions, damage."""

from __future__ import annotations

import random
import resource
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import support

from mpibatch.core import history
from mpibatch.core.forms import Unmergeable, decode_form, encode_form, merge
from mpibatch.core.history import Facts
from mpibatch.outputs import assemble, segments
from mpibatch.outputs.assemble import Assembly, DamagedFragments
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.outputs.parquet_rows import ParquetEncoder
from mpibatch.outputs.parquet_sink import ParquetSink
from mpibatch.outputs.sinks import Sink


class Run:
    """Row segments and facts as a run leaves them; mini-batches of one item."""

    def __init__(self, folder: Path, mini_batches: int) -> None:
        self.folder = folder
        self.facts: Facts = history.no_facts(mini_batches, support.one_by_one(lambda number: 1))
        self.final = folder / "rows.txt"
        self.partial = folder / "output.partial"

    def segment(self, session: int) -> Path:
        return self.folder / f"{session}.rows"

    def add(
        self, mini_batch: int, fragment: bytes, *, session: int = 1, header: int = 0, gap: int = 0
    ) -> None:
        """A success; `gap`: bytes that no record names before it."""
        with open(self.segment(session), "ab") as file:
            file.write(b"?" * gap)
            offset = file.tell()
            file.write(fragment)
        record = history.record(
            kind=history.SUCCEEDED, mini_batch=mini_batch, first=0, count=1, attempt=1, worker=0,
            offset=offset, length=len(fragment), crc=zlib.crc32(fragment), succeeded=1, rows=1, header=header,
        )  # fmt: skip
        records, _ = history.unseal(history.seal(record, session, 0), session)
        assert history.add_records(self.facts, records, session) == 0

    def add_part(
        self,
        mini_batch: int,
        first: int,
        fragment: bytes,
        *,
        count: int = 1,
        session: int = 1,
        header: int = 0,
    ) -> None:
        """Of `parted` facts, whose mini-batches have four items."""
        with open(self.segment(session), "ab") as file:
            offset = file.tell()
            file.write(fragment)
        record = history.record(
            kind=history.SUCCEEDED, mini_batch=mini_batch, first=first, count=count, attempt=1, worker=0,
            offset=offset, length=len(fragment), crc=zlib.crc32(fragment), succeeded=count, rows=1, header=header,
        )  # fmt: skip
        assert history.add_records(self.facts, history.as_records(record), session) == 0

    def assembly(self, *, in_order: bool = True, sink: Sink | None = None) -> Assembly:
        return Assembly(
            partial=self.partial,
            final=self.final,
            facts=self.facts,
            segment=self.segment,
            in_order=in_order,
            sink=sink,
        )


class Telling:
    """A sink that writes down what it is asked to do; its file holds the form and the rows."""

    def __init__(self, partial: Path) -> None:
        self.partial = partial
        self.starts: list[bytes | None] = []
        self.rows: list[bytes] = []
        self.state = "new"

    def start(self, form: bytes | None) -> None:
        assert self.state in ("new", "open")
        self.state = "open"
        self.starts.append(form)
        self.rows = []

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        assert self.state == "open"
        for fragment, header in fragments:
            assert header == 0 or bytes(fragment[:header]) <= (self.starts[-1] or b"")
            self.rows.append(bytes(fragment[header:]))

    def finish(self) -> None:
        assert self.state == "open"
        self.state = "finished"
        self.partial.write_bytes(b"".join([self.starts[-1] or b"", *self.rows]))

    def close(self) -> None:
        self.state = "closed"


def test_fragments_come_in_the_order_of_the_plan_and_the_file_appears_whole(tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    assembly = run.assembly()
    for number, text in ((2, b"two\n"), (0, b"zero\n"), (3, b""), (1, b"one\n")):
        run.add(number, text)
        assembly.advance()
        assert not run.final.exists()
    assembly.complete()
    assert run.final.read_bytes() == b"zero\none\ntwo\n"
    assert not run.partial.exists()


def test_what_is_complete_from_the_front_is_written_before_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    assembly = run.assembly()
    assembly.advance()
    assert not run.partial.exists()
    run.add(0, b"zero\n")
    run.add(2, b"two\n")
    assembly.advance()
    assert run.partial.read_bytes() == b"zero\n"
    run.add(1, b"one\n")
    assembly.advance()
    assert run.partial.read_bytes() == b"zero\none\ntwo\n"
    assembly.close()
    assert run.partial.exists() and not run.final.exists()


def test_what_another_session_writes_is_never_touched(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.partial.write_bytes(b"of a session that is not dead after all\n")
    run.add(0, b"zero\n")
    assembly = run.assembly()
    with pytest.raises(FileExistsError):
        assembly.advance()
    assembly.close()
    assert run.partial.read_bytes() == b"of a session that is not dead after all\n"


def test_discarding_makes_room(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(0, b"zero\n")
    assembly = run.assembly()
    assembly.advance()
    assembly.discard()
    assert not run.partial.exists() and not run.final.exists()
    assembly.discard()


def test_nothing_waits_for_what_has_failed(tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    assembly = run.assembly()
    run.add(1, b"one\n")
    run.add(3, b"three\n")
    assembly.skip(np.array([0, 2]))
    assembly.advance()
    assert run.partial.read_bytes() == b"one\nthree\n"
    assembly.complete()
    assert run.final.read_bytes() == b"one\nthree\n"


def test_without_one_row_the_file_is_empty(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    assembly = run.assembly()
    run.add(0, b"")
    assembly.skip(np.array([1]))
    assembly.complete()
    assert run.final.read_bytes() == b""


@pytest.mark.parametrize("in_order", [True, False])
def test_nor_is_there_a_row_where_all_has_failed(in_order: bool, tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    assembly = run.assembly(in_order=in_order)
    assembly.skip(np.array([0, 1]))
    assembly.complete()
    assert run.final.read_bytes() == b""


def test_an_incomplete_run_is_not_completed(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(0, b"zero\n")
    assembly = run.assembly()
    with pytest.raises(AssertionError):
        assembly.complete()
    assembly.close()
    assert not run.final.exists()


@pytest.mark.parametrize("in_order", [True, False])
def test_a_header_stands_once_at_the_top_also_over_sessions(in_order: bool, tmp_path: Path) -> None:
    run = Run(tmp_path, 5)
    run.add(3, b"n\n3\n", header=2)
    run.add(0, b"")
    run.add(4, b"n\n", session=2, header=2)
    run.add(1, b"n\n1\n", session=2, header=2)
    run.add(2, b"n\n2\n", session=3, header=2)
    run.assembly(in_order=in_order).complete()
    assert run.final.read_bytes() == (b"n\n1\n2\n3\n" if in_order else b"n\n3\n1\n2\n")


def test_in_order_of_arrival(tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    run.add(3, b"three\n")
    run.add(2, b"two\n", session=2)
    run.add(1, b"one\n")
    assembly = run.assembly(in_order=False)
    assembly.advance()
    assert not run.partial.exists()
    assembly.skip(np.array([0]))
    assembly.complete()
    assert run.final.read_bytes() == b"three\none\ntwo\n"


@pytest.mark.parametrize("in_order", [True, False])
def test_damage_is_found_and_there_is_no_output(in_order: bool, tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    for number in range(4):
        run.add(number, f"row {number}\n".encode())
    data = bytearray(run.segment(1).read_bytes())
    data[data.index(b"2")] ^= 1
    run.segment(1).write_bytes(data[:-2])  # The third one is damaged, the fourth one torn.
    assembly = run.assembly(in_order=in_order)
    with pytest.raises(DamagedFragments, match="of 2 mini-batches are damaged") as caught:
        assembly.complete()
    assert caught.value.mini_batches == [2, 3] and caught.value.segment == run.segment(1)
    assembly.close()
    assert not run.final.exists()


def test_damage_that_was_seen_early_is_still_told_at_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(0, b"zero\n")
    run.segment(1).write_bytes(b"zerO\n")
    assembly = run.assembly()
    assembly.advance()
    run.add(1, b"one\n")
    with pytest.raises(DamagedFragments) as caught:
        assembly.complete()
    assert caught.value.mini_batches == [0]
    assembly.close()


def test_a_segment_that_is_gone_costs_what_was_in_it(tmp_path: Path) -> None:
    run = Run(tmp_path, 3)
    run.add(0, b"zero\n")
    run.add(1, b"")
    run.add(2, b"two\n", session=2)
    run.segment(1).unlink()
    assembly = run.assembly()
    with pytest.raises(DamagedFragments) as caught:
        assembly.complete()
    assert caught.value.mini_batches == [0]  # Of an empty fragment nothing is lost.
    assembly.close()


def test_a_new_form_begins_the_output_anew(tmp_path: Path) -> None:
    run = Run(tmp_path, 3)
    sink = Telling(run.partial)
    assembly = run.assembly(sink=sink)
    assembly.advance()
    assembly.set_form(b"a")
    assembly.set_form(b"b")
    assert sink.starts == []  # Nothing is written yet, so nothing is to be written again.
    run.add(0, b"azero ", header=1)
    assembly.advance()
    assembly.set_form(b"b")
    run.add(1, b"bone ", header=1)
    assembly.advance()
    assert sink.starts == [b"b"] and sink.rows == [b"zero ", b"one "]
    run.add(2, b"ctwo ", header=1)
    assembly.set_form(b"c")
    assert sink.starts == [b"b"]
    assembly.advance()
    assert sink.starts == [b"b", b"c"] and sink.rows == [b"zero ", b"one ", b"two "]
    assembly.complete()
    assert run.final.read_bytes() == b"czero one two " and sink.state == "closed"


def test_forms_that_change_often_put_writing_off_to_the_end(tmp_path: Path) -> None:
    run = Run(tmp_path, 20)
    sink = Telling(run.partial)
    assembly = run.assembly(sink=sink)
    for number in range(20):
        form = b"%c" % (ord("a") + number)
        run.add(number, form + b"%d " % number, header=1)
        assembly.set_form(form)
        assembly.advance()
    assert sink.starts == [b"a", b"b", b"c", b"d", b"e"]
    assembly.complete()
    assert sink.starts[5:] == [b"t"]
    assert run.final.read_bytes() == b"t" + b"".join(b"%d " % number for number in range(20))


def test_damage_that_is_met_twice_is_told_once(tmp_path: Path) -> None:
    run = Run(tmp_path, 2)
    run.add(0, b"azero ", header=1)
    run.segment(1).write_bytes(b"azerO ")
    assembly = run.assembly(sink=Telling(run.partial))
    assembly.set_form(b"a")
    assembly.advance()
    run.add(1, b"bone ", header=1)
    assembly.set_form(b"b")
    with pytest.raises(DamagedFragments) as caught:
        assembly.complete()
    assert caught.value.mini_batches == [0]
    assembly.close()


def test_a_form_without_a_row(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    sink = Telling(run.partial)
    assembly = run.assembly(sink=sink)
    run.add(0, b"a", header=1)
    assembly.set_form(b"a")
    assembly.complete()
    assert run.final.read_bytes() == b"a"


def parted(folder: Path) -> Run:
    """Mini-batches of four items: the second in parts, of which one has failed; the third in parts, whole."""
    run = Run(folder, 4)
    run.facts = history.no_facts(4, support.one_by_one(lambda number: 4))
    run.add_part(2, 2, b"h 2c ", count=2, header=2)
    run.add_part(1, 3, b"h 1d ", header=2)
    run.add_part(3, 0, b"h 3 ", count=4, session=2, header=2)
    run.add_part(1, 0, b"h 1a ", session=2, header=2)
    run.add_part(0, 0, b"h 0 ", count=4, header=2)
    run.add_part(2, 0, b"h 2a ", count=2, session=3, header=2)
    run.add_part(1, 2, b"", session=3)
    return run


def test_parts_stand_in_the_order_of_items_at_the_place_of_their_mini_batch(tmp_path: Path) -> None:
    run = parted(tmp_path)
    assembly = run.assembly()
    assembly.advance()
    assert run.partial.read_bytes() == b"h 0 "
    assembly.skip(np.array([1]))
    assembly.advance()
    assert run.partial.read_bytes() == b"h 0 1a 1d 2a 2c 3 "
    assembly.complete()
    assert run.final.read_bytes() == b"h 0 1a 1d 2a 2c 3 "


@pytest.mark.parametrize("block", [1, 16384])
def test_parts_in_order_of_arrival(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "BLOCK", block)
    run = parted(tmp_path)
    assembly = run.assembly(in_order=False)
    assembly.skip(np.array([1]))
    assembly.complete()
    assert run.final.read_bytes() == b"h 2c 1d 0 3 1a 2a "


@pytest.mark.parametrize("in_order", [True, False])
def test_damaged_parts_are_told_by_their_mini_batch(in_order: bool, tmp_path: Path) -> None:
    run = parted(tmp_path)
    for session, text in ((1, b"1d"), (2, b"1a"), (1, b"2c")):
        run.segment(session).write_bytes(run.segment(session).read_bytes().replace(text, b"??"))
    assembly = run.assembly(in_order=in_order)
    assembly.skip(np.array([1]))
    with pytest.raises(DamagedFragments, match="of 2 mini-batches") as caught:
        assembly.complete()
    assembly.close()
    assert sorted(caught.value.mini_batches) == [1, 2]


def test_what_may_be_replaced_is_waited_for(tmp_path: Path) -> None:
    run = Run(tmp_path, 4)
    for number in range(4):
        run.add(number, b"%d " % number)
    assembly = run.assembly()
    assembly.hold({1, 3})
    assembly.advance()
    assert run.partial.read_bytes() == b"0 "
    void = history.record(kind=history.VOID, mini_batch=1, first=0, count=0, attempt=0, worker=0)
    history.add_records(run.facts, history.as_records(void), 2)
    run.add(1, b"new ", session=2)
    assembly.release({1})
    assembly.advance()
    assert run.partial.read_bytes() == b"0 new 2 "
    assembly.release({3})
    assembly.complete()
    assert run.final.read_bytes() == b"0 new 2 3 "


class Picky(Telling):
    """Does not take a row `x`."""

    def append(self, fragments: list[tuple[memoryview, int]]) -> None:
        for place, (fragment, header) in enumerate(fragments):
            if bytes(fragment[header:]) == b"x":
                raise Unmergeable("x is no row", place)
        super().append(fragments)


def test_rows_that_do_not_fit_name_their_mini_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, 9)
    for number in range(9):
        run.add(number, b"x" if number == 7 else b"%d" % number)
    run.segment(1).write_bytes(run.segment(1).read_bytes().replace(b"3", b"?"))
    assembly = run.assembly(sink=Picky(run.partial))
    with pytest.raises(Unmergeable, match=r"^mini-batch 7: x is no row$"):
        assembly.complete()
    assembly.close()


def test_a_date_that_fits_no_parquet_file_names_its_mini_batch(tmp_path: Path) -> None:
    encoder = ParquetEncoder(False)
    columns = [pd.array(["2020-01-01"], "datetime64[ns]"), pd.array(["9999-01-01"], "datetime64[s]")]
    run, forms = Run(tmp_path, 3), []
    for number, column in enumerate([columns[0], columns[1], columns[0]]):
        rows = encoder.encode(
            encoder.collect(pd.DataFrame({"when": column})), 1 << 30, lambda: ItemKeys(paths=[], rows=None)
        )
        run.add(number, rows.fragment, header=rows.header)
        forms.append(decode_form(rows.fragment[: rows.header]))
    assembly = run.assembly(sink=ParquetSink(run.partial))
    assembly.set_form(encode_form(merge(forms[0], forms[1])))
    with pytest.raises(Unmergeable, match=r"^mini-batch 1: rows of different mini-batches"):
        assembly.complete()
    assembly.close()


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = Run(tmp_path, 1)
    run.add(0, b"zero\n")
    assembly = run.assembly()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            assembly.complete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(run.partial)
    assembly.close()
    assert not run.final.exists()


@pytest.mark.parametrize("seed", range(40))
def test_any_history_gives_the_same_output(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of arrival, the sessions, the sizes, and when it was advanced."""
    choice = random.Random(seed)
    monkeypatch.setattr(assemble, "BLOCK", choice.choice([1, 3, 16384]))
    monkeypatch.setattr(assemble, "READ_BYTES", choice.choice([1, 50, 32 << 20]))
    monkeypatch.setattr(segments, "GAP_BYTES", choice.choice([0, 10, 1 << 20]))
    count = choice.randrange(1, 60)
    run = Run(tmp_path, count)
    head = b"head\n" if choice.random() < 0.5 else b""
    failed = {number for number in range(count) if choice.random() < 0.1}
    rows = {
        number: b"".join(b"%d/%d\n" % (number, row) for row in range(choice.randrange(4)))
        for number in range(count)
    }
    arrivals = [number for number in range(count) if number not in failed]
    choice.shuffle(arrivals)
    assembly = run.assembly()
    if failed:
        assembly.skip(np.array(sorted(failed)))
    for number in arrivals:
        options: dict[str, Any] = {"session": choice.randrange(1, 4), "gap": choice.choice([0, 0, 1, 100])}
        run.add(number, head + rows[number], header=len(head), **options)
        if choice.random() < 0.2:
            assembly.advance()
    assembly.complete()
    expected = b"".join(rows[number] for number in range(count) if number not in failed)
    assert run.final.read_bytes() == (head + expected if arrivals else b"")
