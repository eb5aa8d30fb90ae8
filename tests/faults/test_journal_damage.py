"""What a run has stored, damaged: every cut, many flipped bits. A start on it ends with the right rows, or says in
words what is damaged and what to do; it never shows a traceback of ours, and is never silently wrong."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import support

from mpibatch.core import history
from mpibatch.core.history import Facts
from mpibatch.errors import MpibatchError, RunFolderError, StorageError
from mpibatch.outputs.assemble import Assembly
from mpibatch.runtime import lease as lease_module
from mpibatch.runtime.begin import begin
from mpibatch.runtime.failed_items import write_failed_items
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.journal import HEADER_SIZE, Journal, read_journal, write_about
from mpibatch.runtime.past import read_past
from mpibatch.runtime.plan_check import check_plan
from mpibatch.runtime.planner import Plan, make_plan, open_plan
from mpibatch.runtime.record import Begun
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.writer import Writer
from mpibatch.work import BadItem, ErrorReport, Failed, Piece, Succeeded

ITEMS = 24
SIZE = 4
ROWS = [f"item{number:03d}" for number in range(ITEMS)]
SCRIPT = (
    support.NOTE
    + """
def run(mini_batch):
    names = [os.path.basename(item) for item in mini_batch]
    if not os.path.exists(os.path.join(FOLDER, "repaired")) and {"item005", "item018"} & set(names):
        raise ValueError("poison")
    return names
"""
)
ERROR = ErrorReport("ValueError", "poison", "the traceback")
WORKERS = [{"name": "process000 on a", "stdout": "out", "stderr": "err", "errors": "errors", "sys": "sys"}]


class Session:
    """A start of the run in this process, in which the entry script's part is played by the test."""

    def __init__(self, job_file: Path, said: list[str], *, fresh: bool = False) -> None:
        job = load_job(job_file)
        begun = begin(job, fresh=fresh, say=said.append)
        assert isinstance(begun, Begun), f"it is taken for complete: {begun}"
        self.begun, self.folder = begun, begun.folder
        try:
            self.past = read_past(job, begun, said.append)
            self.number = (self.folder.sessions() or [0])[-1] + 1
            begun.lease.set_session(self.number)
            write_about(self.folder, self.number, WORKERS)
            partial = self.folder.partial_output(self.number)
            assembly = Assembly(
                partial=partial, final=self.folder.root / "rows.txt", facts=self.past.facts,
                segment=self.folder.rows, in_order=True,
            )  # fmt: skip
            journal = Journal(self.folder, self.number, begun.plan.fingerprint)
            self.writer = Writer(
                journal, self.past.facts, self.number, assembly, time.monotonic, begun.lease.check
            )
        except BaseException:
            self.close()
            raise
        self.writer.start()
        self.attempt = 0

    def close(self) -> None:
        self.begun.lease.release()
        self.begun.plan.close()

    def succeed(self, piece: Piece, **fields: Any) -> None:
        self.attempt += 1
        rows = [os.path.basename(name) for name, _ in self.begun.plan.item_names(piece)]
        fragment = "".join(row + "\n" for row in rows).encode()
        outcome = Succeeded(self.attempt, piece.count, piece.count, 0.0, 0.0, fragment)
        self.writer.success(piece, 0, msgspec.structs.replace(outcome, **fields))

    def fail(self, piece: Piece, *, final: bool) -> None:
        self.attempt += 1
        self.writer.failure(piece, 0, Failed(self.attempt, "raised", ERROR), tries=1, final=final)

    def end(self, *, complete: bool) -> None:
        """Raises what has ended the writer."""
        self.writer.finish(complete=complete)
        self.writer.join()
        try:
            write_failed_items(self.folder, self.begun.plan, self.past.facts, self.number)
            if self.writer.error is not None:
                raise self.writer.error
        finally:
            self.close()

    def do_all(self) -> None:
        """What remains, then the end."""
        plan = self.begun.plan
        try:
            for start, stop in self.past.todo:
                for number in range(start, stop):
                    self.succeed(Piece(number, 0, plan.item_count(number)))
            for piece in self.past.pieces:
                self.succeed(piece)
        except StorageError:  # The plan is damaged there.
            self.end(complete=False)
            raise
        self.end(complete=True)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job of which some is done: by the real command; then in pieces, with items that could not be
    read and failures; then made again."""
    folder = tmp_path_factory.mktemp("pristine")
    job = support.make_job(
        folder,
        SCRIPT,
        items=ITEMS,
        mini_batch_size=SIZE,
        run_max_try=1,
        mini_batch_error_threshold=0,
        isolate_failures=False,
    )
    ended = support.mpibatch("run", job)
    assert ended.returncode == 3, support.words(ended)

    second = Session(job, [])
    assert second.past.todo == [(1, 6)]
    bad = [BadItem(1, ErrorReport("BadRecord", "line 7"))]
    second.fail(Piece(1, 0, 4), final=False)
    second.writer.split(Piece(1, 0, 4), 2)
    second.succeed(Piece(1, 2, 2))
    second.succeed(Piece(1, 0, 1))
    second.fail(Piece(1, 1, 1), final=True)
    second.succeed(Piece(3, 0, 2))
    second.succeed(Piece(5, 0, 4), succeeded=3, bad=bad)
    second.end(complete=False)

    third = Session(job, [])
    third.fail(Piece(4, 0, 4), final=False)
    third.writer.split(Piece(4, 0, 4), 1)
    third.succeed(Piece(4, 1, 3))
    third.fail(Piece(4, 0, 1), final=True)
    third.end(complete=False)
    return folder


@pytest.fixture
def copied(pristine: Path) -> Callable[[], Path]:
    """Makes the pristine run anew, in its place, as a run is known by the paths of its items; its job file."""
    saved = pristine.parent / f"{pristine.name}-saved"
    if not saved.exists():
        shutil.copytree(pristine / "output", saved)

    def copy() -> Path:
        shutil.rmtree(pristine / "output")
        shutil.copytree(saved, pristine / "output")
        (pristine / "repaired").unlink(missing_ok=True)
        return pristine / "job.yaml"

    return copy


def told_in_words(error: MpibatchError) -> None:
    """Which file, and what to do."""
    text = str(error)
    assert "/output" in text, text
    assert any(remedy in text for remedy in ("--fresh", "Start again")), text


def settle(job: Path) -> list[str]:
    """Start until it is complete, as long as the words say so; then its rows must be right. What was said."""
    said: list[str] = []
    output = job.parent / "output"
    for _ in range(3):
        try:
            Session(job, said).do_all()
        except MpibatchError as error:
            told_in_words(error)
            said.append(str(error))
            assert not (output / "rows.txt").exists()
            if "Start again" in str(error):
                continue
            Session(job, said, fresh=True).do_all()
        right(output)
        return said
    raise AssertionError(f"three starts were not enough: {said}")


def right(output: Path) -> None:
    assert (output / "rows.txt").read_text().splitlines() == ROWS
    # What is without a row is told of: the item that could not be read, where that success still counts.
    assert len(support.failed_items(output)) <= 1


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# The journal: each cut, each bit


Told = set[tuple[int, int, int, int, int]]


def counted(facts: Facts) -> Told:
    """(mini-batch, first, count, session, offset) of all that counts."""
    told = {
        (number, part.first, part.count, part.session, part.offset)
        for number, parts in facts.parts.items()
        for part in parts
    }
    for number in facts.done.nonzero()[0].tolist():
        if number not in facts.parts:
            told.add((number, 0, SIZE, int(facts.session[number]), int(facts.offset[number])))
    return told


def load(folder: RunFolder, plan: Plan) -> Facts:
    facts = history.no_facts(plan.mini_batches, plan.item_counts)
    for session in folder.sessions():
        records, _ = read_journal(folder, session, plan.fingerprint)
        history.add_records(facts, records, session)
    return facts


def covers_once(facts: Facts) -> None:
    """What counts and what is left are all items, each once."""
    ranges, pieces = history.left_to_do(facts)
    items = [
        (number, item) for start, stop in ranges for number in range(start, stop) for item in range(SIZE)
    ]
    left = [(piece.mini_batch, piece.first, piece.count) for piece in pieces]
    for number, first, count in left + [told[:3] for told in counted(facts)]:
        items += [(number, item) for item in range(first, first + count)]
    assert sorted(items) == [(number, item) for number in range(ITEMS // SIZE) for item in range(SIZE)]


@pytest.mark.parametrize("session", [1, 2, 3])
def test_a_journal_cut_anywhere_tells_nothing_that_is_not_so(
    session: int, copied: Callable[[], Path]
) -> None:
    folder = RunFolder(copied().parent / "output")
    with open_plan(folder.private) as plan:
        everything = counted(load(folder, plan))
        assert {told[3] for told in everything} == {1, 2, 3}
        journal = folder.journal(session)
        whole = journal.read_bytes()
        for length in range(len(whole) + 1):
            journal.write_bytes(whole[:length])
            facts = load(folder, plan)
            assert counted(facts) <= everything
            covers_once(facts)
            lost = {told[3] for told in everything - counted(facts)}
            assert lost <= {session} and (length < len(whole) or not lost)


@pytest.mark.parametrize("session", [1, 2, 3])
def test_a_flipped_bit_of_a_journal_costs_at_most_what_its_record_told(
    session: int, copied: Callable[[], Path]
) -> None:
    random = Random(session)
    folder = RunFolder(copied().parent / "output")
    with open_plan(folder.private) as plan:
        everything = counted(load(folder, plan))
        journal = folder.journal(session)
        whole = journal.read_bytes()
        for bit in random.sample(range(8 * len(whole)), 250):
            journal.write_bytes(flipped(whole, bit))
            if bit < 8 * HEADER_SIZE:
                with pytest.raises(StorageError, match=r"session-000.\.journal is damaged.*--fresh"):
                    load(folder, plan)
                continue
            facts = load(folder, plan)
            covers_once(facts)
            assert len(everything - counted(facts)) <= 1 and counted(facts) <= everything


@pytest.mark.parametrize("seed", range(3))
def test_a_start_on_a_cut_journal_has_the_right_rows(seed: int, copied: Callable[[], Path]) -> None:
    random = Random(seed)
    for session in (1, 2, 3):
        job = copied()
        journal = RunFolder(job.parent / "output").journal(session)
        os.truncate(journal, random.randrange(journal.stat().st_size))
        settle(job)


# All files


@pytest.mark.parametrize("form", ["files", "table"])
def test_a_damaged_plan_is_told_of_or_is_the_same(form: str, tmp_path: Path) -> None:
    job = load_job(support.make_job(tmp_path, "def run(b): return b", items=7, mini_batch_size=3))
    if form == "table":
        (tmp_path / "t.csv").write_text("a,b\n" + "".join(f'{n},"x\n{n}"\n' for n in range(40)))
        job = load_job(
            support.make_job(
                tmp_path, "def run(b): return b", inputs=[{"csv": "t.csv"}], mini_batch_size="3 rows"
            )
        )
    make_plan(job, tmp_path).close()
    file = tmp_path / "plan"
    whole = file.read_bytes()

    def told() -> list[Any]:
        check_plan(file)
        with open_plan(tmp_path) as plan:
            pieces = [Piece(number, 0, plan.item_count(number)) for number in range(plan.mini_batches)]
            found: list[Any] = [(plan.source(piece), plan.item_names(piece)) for piece in pieces]
            return [*found, plan.fingerprint, plan.items]

    expected = told()
    random = Random(1)
    file.unlink()
    with pytest.raises(StorageError, match=r"plan.*--fresh"):
        check_plan(file)
    cuts = [whole[:length] for length in range(0, len(whole), 7)]
    flips = [flipped(whole, bit) for bit in random.sample(range(8 * len(whole)), 500)]
    silent = 0
    for data in cuts + flips:
        file.write_bytes(data)
        try:
            assert told() == expected
            silent += 1
        except (StorageError, RunFolderError) as error:  # The latter where it names another version.
            assert "plan" in str(error) and "--fresh" in str(error)
    assert silent < 40, "of 500; only what fills up to whole words says nothing"


NAMES = [
    "session-0001.journal", "session-0002.journal", "session-0001.rows", "session-0002.rows", "session-0003.rows",
    "session-0002.json", "session-0003.json", "plan", "run.json", "lease.json",
]  # fmt: skip


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A lease whose owner is unknown is not watched for long."""
    monkeypatch.setattr(lease_module, "LEASE_S", 0.1)
    yield


def damage(random: Random, file: Path) -> str:
    """Cuts, flips bits, or overwrites a part. What it did."""
    data = file.read_bytes()
    place = random.randrange(len(data))
    what = random.choice(("cut", "bit", "bit", "bit", "zeros", "noise"))
    match what:
        case "cut":
            data = data[:place]
        case "bit":
            data = flipped(data, 8 * place + random.randrange(8))
        case _:
            length = min(random.choice((1, 8, 64)), len(data) - place)
            put = bytes(length) if what == "zeros" else random.randbytes(length)
            data = data[:place] + put + data[place + length :]
    file.write_bytes(data)
    return f"{file.name}: {what} at {place}"


def with_a_dead_owner(folder: RunFolder) -> None:
    """The lease as a session leaves it that was killed."""
    lease = lease_module.Lease(folder)
    lease.acquire(lambda text: None)
    data = folder.lease.read_bytes()
    lease.release()
    record = msgspec.json.decode(data)
    folder.lease.write_bytes(msgspec.json.encode({**record, "pid": 1 << 22, "started": 1}))


@pytest.mark.parametrize("name", NAMES)
def test_a_start_on_any_damage_has_the_right_rows_or_says_what_it_is(
    name: str, copied: Callable[[], Path], soon: None
) -> None:
    random = Random(name)
    for _ in range(7):
        job = copied()
        folder = RunFolder(job.parent / "output")
        if name == "lease.json":
            with_a_dead_owner(folder)
        what = damage(random, folder.private / name)
        try:
            settle(job)
        except BaseException as error:
            error.add_note(what)
            raise


def test_a_path_of_the_plan_that_is_another_one_now_is_told_of(copied: Callable[[], Path]) -> None:
    """Nothing but its check value would tell: the other file is there."""
    job = copied()
    plan = RunFolder(job.parent / "output").private / "plan"
    data = plan.read_bytes()
    assert data.count(b"item015") == 1
    plan.write_bytes(data.replace(b"item015", b"item014"))
    said = settle(job)
    assert any(str(plan) in text for text in said)


@pytest.mark.parametrize("name", ["run.json", "lease.json", "session-0002.json"])
def test_texts_that_are_no_utf_8_are_damage_like_any_other(
    name: str, copied: Callable[[], Path], soon: None
) -> None:
    job = copied()
    folder = RunFolder(job.parent / "output")
    with_a_dead_owner(folder)
    file = folder.private / name
    data = file.read_bytes()
    file.write_bytes(re.sub(rb'(?<=":"|: ")\w', b"\xff", data, count=1))
    assert file.read_bytes() != data
    settle(job)


@pytest.mark.parametrize("name", ["session-0001.rows", "session-0002.rows", "session-0003.rows"])
def test_each_damaged_fragment_is_made_again(name: str, copied: Callable[[], Path]) -> None:
    job = copied()
    folder = RunFolder(job.parent / "output")
    file = folder.private / name
    file.write_bytes(bytes(file.stat().st_size))
    said = settle(job)
    assert any("the stored rows of" in text and "Start again" in text for text in said)


def test_what_is_not_said_in_words_is_found_by_settle(copied: Callable[[], Path]) -> None:
    """So that the tests above can fail: a row segment whose damage no checksum shows is a wrong output."""
    job = copied()
    output = job.parent / "output"
    session = Session(job, [])
    session.succeed(Piece(3, 2, 2), fragment=b"item013\nitem014\n")
    session.end(complete=False)
    with pytest.raises(AssertionError):
        settle(job)
    assert (output / "rows.txt").exists()


@pytest.mark.parametrize("name", [*NAMES, "session-0001.json", "session-0003.journal"])
def test_the_real_command_on_a_damaged_file(name: str, copied: Callable[[], Path]) -> None:
    random = Random(f"real {name}")
    job = copied()
    output = job.parent / "output"
    (job.parent / "repaired").touch()
    file = RunFolder(output).private / name
    if name == "lease.json":
        file.write_bytes(random.randbytes(100))
    else:
        damage(random, file)
    ended = support.mpibatch("run", job)
    if ended.returncode == 74 and "Start again" in ended.stdout + ended.stderr:
        ended = support.mpibatch("run", job)
    if ended.returncode != 0:
        assert ended.returncode in (2, 74), support.words(ended)
        said = ended.stdout + ended.stderr
        assert str(output) in said and "--fresh" in said and "Traceback" not in said, support.words(ended)
        ended = support.mpibatch("run", job, "--fresh")
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, support.words(ended)
    right(output)
    assert not isinstance(begin(load_job(job), fresh=False, say=lambda text: None), Begun)
