"""Mini-batches in pieces over real journals: however they are split, killed and continued, the output is the same."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
import support

from mpibatch.core import history
from mpibatch.core.history import Facts
from mpibatch.outputs.assemble import Assembly
from mpibatch.outputs.csv_rows import DEFAULTS
from mpibatch.outputs.encoders import make_encoder
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.outputs.sinks import make_sink
from mpibatch.runtime.forms import Forms, recorded_forms
from mpibatch.runtime.journal import HEADER_SIZE, Journal, read_journal, write_about
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.writer import Writer
from mpibatch.work import ErrorReport, Failed, Piece, Succeeded

PLAN = "ab" * 32
ERROR = ErrorReport("ValueError", "bad")
FORMATS = ["text", "csv", "parquet"]


class World:
    """A run whose items are numbered through; `poison` ones fail, alone and with whatever is run with them."""

    def __init__(self, folder: Path, format_: str, counts: list[int], poison: set[int]) -> None:
        self.folder = RunFolder(folder)
        self.folder.private.mkdir(parents=True)
        self.format = format_
        self.counts = counts
        self.begins = [sum(counts[:number]) for number in range(len(counts))]
        self.poison = poison
        self.settings: dict[str, Any] = DEFAULTS if format_ == "csv" else {}
        self.encoder: Any = make_encoder("append_row", format_, self.settings, False)
        self.final = folder / "rows"

    def load(self) -> Facts:
        facts = history.no_facts(len(self.counts), support.one_by_one(lambda number: self.counts[number]))
        for session in self.folder.sessions():
            records, damaged = read_journal(self.folder, session, PLAN)
            assert history.add_records(facts, records, session) == damaged == 0
        return facts

    def items(self, piece: Piece) -> range:
        begin = self.begins[piece.mini_batch] + piece.first
        return range(begin, begin + piece.count)

    def outcome(self, attempt: int, piece: Piece) -> Succeeded | Failed:
        items = self.items(piece)
        if self.poison & set(items):
            return Failed(attempt, "raised", ERROR)
        # Whole numbers, broken ones and gaps, so that the form of a piece is not that of its mini-batch.
        values = [(item, None if item % 5 == 0 else item / 2 if item % 3 == 0 else item) for item in items]
        result: Any = pd.DataFrame(values, columns=["item", "value"])
        if self.format == "text":
            result = [f"{item} {value}" for item, value in values]
        rows = self.encoder.encode(
            self.encoder.collect(result), 1 << 30, lambda: ItemKeys(paths=[], rows=None)
        )
        return Succeeded(attempt, piece.count, rows.rows, 0.0, 0.0, rows.fragment, rows.header)


class Session:
    """One session over a `World`: pieces end in any order; `again` are made once more although they are done."""

    def __init__(self, world: World, choice: Random, again: frozenset[int] = frozenset()) -> None:
        self.world, self.choice = world, choice
        self.number = (world.folder.sessions() or [0])[-1] + 1
        self.facts = world.load()
        partial = world.folder.partial_output(self.number)
        assembly = Assembly(
            partial=partial, final=world.final, facts=self.facts, segment=world.folder.rows, in_order=True,
            sink=make_sink(world.format, partial, world.settings),
        )  # fmt: skip
        self.forms = Forms(list(recorded_forms(world.folder, PLAN)))
        if self.forms.merged is not None:
            assembly.set_form(self.forms.merged)
        ranges, self.todo = history.left_to_do(self.facts)
        whole = sorted(again.union(*(range(*one) for one in ranges)))
        self.todo += [Piece(number, 0, world.counts[number]) for number in whole]
        write_about(world.folder, self.number, [])
        journal = Journal(world.folder, self.number, PLAN)
        self.writer = Writer(
            journal, self.facts, self.number, assembly, time.monotonic, lambda: None, again=again
        )
        self.writer.start()
        self.attempt = 0

    def run(self, most: int) -> bool:
        """At most so many attempts. True if all has ended."""
        while self.todo and most:
            most -= 1
            self.step(self.todo.pop(self.choice.randrange(len(self.todo))))
            if self.choice.random() < 0.1:
                self.writer.commit_soon()
        return not self.todo

    def step(self, piece: Piece) -> None:
        self.attempt += 1
        outcome = self.world.outcome(self.attempt, piece)
        if isinstance(outcome, Succeeded):
            own = self.forms.first(outcome)
            if own is not None:
                self.writer.form(own, self.forms.add(own))
            self.writer.success(piece, 0, outcome)
            return
        self.writer.failure(piece, 0, outcome, tries=1, final=piece.count == 1)
        if piece.count > 1:
            at = piece.first + self.choice.randrange(1, piece.count)
            self.writer.split(piece, at)
            self.todo.append(Piece(piece.mini_batch, piece.first, at - piece.first))
            self.todo.append(Piece(piece.mini_batch, at, piece.first + piece.count - at))

    def end(self, *, complete: bool) -> None:
        self.writer.finish(complete=complete)
        self.writer.join()

    def kill(self) -> None:
        """As if it had been killed at any moment: the journal ends anywhere, and so does the output."""
        self.end(complete=False)
        journal = self.world.folder.journal(self.number)
        os.truncate(journal, self.choice.randint(0, journal.stat().st_size))


def to_its_end(world: World, choice: Random) -> Session:
    """Killed some times, then complete. Its last session."""
    for _ in range(choice.randrange(5)):
        session = Session(world, choice)
        session.run(choice.choice((0, 3, 10, 1000)))
        session.kill()
    session = Session(world, choice)
    assert session.run(-1)
    session.end(complete=True)
    assert session.writer.error is None
    return session


@pytest.mark.parametrize("seed", range(36))
def test_killed_and_continued_in_pieces_is_undisturbed(seed: int, tmp_path: Path) -> None:
    choice = Random(seed)
    counts = [choice.choice((1, 2, 7)) for _ in range(choice.randrange(1, 9))]
    total = sum(counts)
    poison = {item for item in range(total) if choice.random() < choice.choice((0.0, 0.1, 0.9))}
    told = []
    for name in ("undisturbed", "disturbed"):
        world = World(tmp_path / name, FORMATS[seed % 3], counts, poison)
        if name == "undisturbed":
            session = Session(world, choice)
            session.run(-1)
            session.end(complete=True)
        else:
            session = to_its_end(world, choice)
        writer, facts = session.writer, session.facts
        assert (writer.failed_items, facts.succeeded) == (len(poison), total - len(poison))
        hit = [number for number in range(len(counts)) if poison & set(world.items(whole(world, number)))]
        assert writer.failed_mini_batches == len(hit)
        assert [n for n in range(len(counts)) if not facts.done[n]] == hit
        again = world.load()
        assert (again.succeeded, again.rows, again.done.tolist()) == (
            facts.succeeded, facts.rows, facts.done.tolist(),
        )  # fmt: skip
        told.append(world.final.read_bytes())
    assert told[0] == told[1]


def whole(world: World, number: int) -> Piece:
    return Piece(number, 0, world.counts[number])


def test_a_part_that_is_damaged_has_its_mini_batch_made_again(tmp_path: Path) -> None:
    choice = Random(1)
    world = World(tmp_path, "text", [4, 4, 4], {5})
    session = Session(world, choice)
    session.run(-1)
    session.writer.commit_soon()
    support.wait_until(lambda: world.load().succeeded == 11, "all is committed")
    rows = world.folder.rows(1)
    rows.write_bytes(rows.read_bytes().replace(b"6 3.0", b"6 9.0"))
    session.end(complete=True)
    assert "the stored rows of 1 mini-batches are damaged" in str(session.writer.error)
    assert history.left_to_do(session.facts) == ([(1, 2)], [])
    session = Session(world, choice)
    assert session.todo == [Piece(1, 0, 4)]
    session.run(-1)
    session.end(complete=True)
    assert [line.split()[0] for line in world.final.read_text().splitlines()] == [
        str(item) for item in range(12) if item != 5
    ]


class Once(World):
    """Of a first session the mini-batches in `short` have only one row, which says `old`."""

    def __init__(self, folder: Path, counts: list[int]) -> None:
        super().__init__(folder, "text", counts, set())
        self.short: set[int] = set()
        self.old = 1

    def outcome(self, attempt: int, piece: Piece) -> Succeeded | Failed:
        if piece.mini_batch in self.short:
            rows = f"{self.begins[piece.mini_batch]} old\n".encode()
            return Succeeded(attempt, self.old, 1, 0.0, 0.0, rows)
        return super().outcome(attempt, piece)

    def first_session(self, short: set[int]) -> None:
        self.short = short
        session = Session(self, Random(1))
        session.run(-1)
        session.end(complete=True)
        assert session.writer.error is None
        self.short = set()
        self.final.unlink()

    def lines(self) -> list[str]:
        return [line for line in self.final.read_text().splitlines() if line.endswith("old")]


@pytest.fixture
def once(tmp_path: Path) -> Once:
    world = Once(tmp_path, [3, 4, 3, 1])
    world.first_session({1, 3})
    return world


def test_what_is_made_again_takes_the_old_one_s_place_when_it_is_whole(once: Once) -> None:
    session = Session(once, Random(1), frozenset({1, 3}))
    session.step(Piece(1, 0, 4))
    session.writer.commit_soon()
    support.wait_until(lambda: once.load().session[1] == 2, "it is committed")
    assert (
        not once.folder.partial_output(2).exists() or "old" not in once.folder.partial_output(2).read_text()
    )
    session.step(Piece(3, 0, 1))
    session.end(complete=True)
    records, _ = read_journal(once.folder, 2, PLAN)
    kinds = [history.VOID, history.SUCCEEDED]
    assert records["kind"].tolist() == 2 * kinds and records["mini_batch"].tolist() == [1, 1, 3, 3]
    assert once.lines() == [] and len(once.final.read_text().splitlines()) == 11
    assert once.load().succeeded == 11


def test_while_it_is_made_again_the_old_one_counts(once: Once) -> None:
    session = Session(once, Random(1), frozenset({1, 3}))
    session.step(Piece(3, 0, 1))
    session.kill()
    facts = once.load()
    assert facts.done.all() or facts.done.tolist() == [True, True, True, False]
    assert facts.session[1] == 1


def test_what_fails_when_it_is_made_again_changes_nothing(once: Once) -> None:
    once.poison = {3, 4, 5, 6}
    session = Session(once, Random(1), frozenset({1}))
    assert session.todo == [Piece(1, 0, 4)]
    session.run(-1)  # Split to the last.
    session.end(complete=True)
    assert once.lines() == ["3 old", "10 old"]
    assert (session.writer.failed_mini_batches, session.writer.failed_items) == (0, 0)
    assert session.facts.done.all() and once.load().done.all()
    again = Session(once, Random(1), frozenset({3}))
    again.writer.failure(Piece(3, 0, 1), 0, Failed(1, "raised", ERROR), tries=1, final=True)
    again.end(complete=True)
    assert once.lines() == ["3 old", "10 old"] and once.load().done.all()


def test_pieces_take_the_old_one_s_place_where_they_have_not_fewer_items(once: Once) -> None:
    once.poison = {4}
    session = Session(once, Random(1), frozenset({1}))
    session.run(-1)
    session.end(complete=True)
    assert once.lines() == ["10 old"]
    assert (session.writer.failed_mini_batches, session.writer.failed_items) == (1, 1)
    for facts in (session.facts, once.load()):
        assert facts.done.tolist() == [True, False, True, True]
        assert (facts.parts[1][0].first, facts.parts[1][0].count) == (0, 1)
    assert history.left_to_do(session.facts) == ([], [Piece(1, 1, 1)])


def test_a_whole_one_of_fewer_items_takes_no_place(tmp_path: Path) -> None:
    world = Once(tmp_path, [4])
    world.old = 3
    world.first_session({0})
    session = Session(world, Random(1), frozenset({0}))
    session.writer.success(Piece(0, 0, 4), 0, Succeeded(1, 2, 2, 0.0, 0.0, b"0 new\n1 new\n"))
    session.end(complete=True)
    assert world.final.read_text() == "0 old\n"
    world.final.unlink()
    session = Session(world, Random(1), frozenset({0}))
    session.writer.success(Piece(0, 0, 4), 0, Succeeded(1, 3, 3, 0.0, 0.0, b"0 new\n1 new\n2 new\n"))
    session.end(complete=True)
    assert world.final.read_text() == "0 new\n1 new\n2 new\n"
    world.final.unlink()
    world.poison = {1, 2, 3}
    session = Session(world, Random(1), frozenset({0}))
    session.run(-1)
    session.end(complete=True)
    assert world.final.read_text() == "0 new\n1 new\n2 new\n"  # Not one for three.
    assert len(world.folder.journal(3).read_bytes()) > HEADER_SIZE
