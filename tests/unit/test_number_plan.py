"""Plans of numbers: where each one is, what is refused, and that their size is nothing's measure."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import support

from mpibatch.core.config import Job
from mpibatch.core.job_inputs import CountInput
from mpibatch.errors import StorageError
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.runtime.entry_script import Context
from mpibatch.runtime.identity import input_stats
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.number_plan import NumberPlan
from mpibatch.runtime.plan_check import check_plan
from mpibatch.runtime.planner import PLAN_NAME, look_for_inputs, make_plan, open_plan
from mpibatch.runtime.reading import Readers, described, item_keys
from mpibatch.runtime.refusals import lie_in_files
from mpibatch.runtime.setups import downloads, input_specs
from mpibatch.work import Assignment, Numbers, Piece


def a_job(folder: Path, *counts: int, size: int = 4) -> Job:
    return Job(
        job_file=f"{folder}/job.yaml",
        job_dir=str(folder),
        name="sweep",
        entry_script=f"{folder}/script.py",
        inputs=[CountInput(count=count) for count in counts],
        mini_batch_size=size,
        output=f"{folder}/run",
    )


def planned(folder: Path, *counts: int, size: int = 4) -> NumberPlan:
    plan = make_plan(a_job(folder, *counts, size=size), folder)
    assert isinstance(plan, NumberPlan)
    return plan


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10])
def test_every_number_is_in_one_mini_batch(tmp_path: Path, size: int) -> None:
    with planned(tmp_path, 7, 3, size=size) as plan:
        found = []
        for number in range(plan.mini_batches):
            count = plan.item_count(number)
            first = plan.source(Piece(number, 0, count)).first
            found += [(plan.input_of(number), item) for item in range(first, first + count)]
        assert found == [(0, item) for item in range(7)] + [(1, item) for item in range(3)]
        assert (plan.items, plan.inputs, plan.mini_batches) == (10, 2, -(-7 // size) - (-3 // size))
        assert plan.largest_mini_batch == min(size, 7)
        assert plan.item_counts(np.arange(plan.mini_batches)).sum() == 10
        assert [(one.kind, one.text, one.items) for one in plan.planned_inputs] == [
            ("count", "count: 7", 7), ("count", "count: 3", 3),
        ]  # fmt: skip


def test_pieces_of_a_mini_batch(tmp_path: Path) -> None:
    with planned(tmp_path, 10) as plan:
        assert plan.source(Piece(1, 2, 1)) == Numbers(6)
        assert (plan.position(Piece(1, 2, 1)), plan.keys(1), plan.remarks) == (6, None, [])
        assert plan.item_names(Piece(1, 2, 2)) == [("6", None), ("7", None)]
        for piece in (Piece(3, 0, 1), Piece(2, 0, 3), Piece(0, -1, 1), Piece(0, 0, 0)):
            with pytest.raises(IndexError):
                plan.source(piece)
    with planned(tmp_path, 2, 2) as plan:
        assert plan.item_names(Piece(1, 1, 1)) == [("inputs.1: 1", None)]


def test_the_plan_stays_and_is_told_apart(tmp_path: Path) -> None:
    plans = [
        planned(tmp_path, *counts, size=size)
        for counts, size in (((4,), 2), ((4,), 4), ((5,), 2), ((4, 4), 2))
    ]
    assert len({plan.fingerprint for plan in plans}) == 4
    with planned(tmp_path, 4, size=2) as plan, open_plan(tmp_path) as again:
        assert isinstance(again, NumberPlan)
        assert plan.fingerprint == again.fingerprint == plans[0].fingerprint
        assert list(again.all_paths()) == []
        assert input_stats(again) == input_stats(plan)
        assert not lie_in_files(again)
        assert input_specs(again) == []
    check_plan(tmp_path / PLAN_NAME)
    look_for_inputs(a_job(tmp_path, 4))
    assert downloads(a_job(tmp_path, 4)) == []


def test_a_damaged_plan_is_told_of(tmp_path: Path) -> None:
    planned(tmp_path, 4).close()
    path = tmp_path / PLAN_NAME
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"items": 4', b'"items": 5'))
    with pytest.raises(StorageError, match="does not agree with its check value"):
        open_plan(tmp_path)


def test_two_thousand_million_numbers_take_no_room(tmp_path: Path) -> None:
    with planned(tmp_path, 2**31 - 1, size=1) as plan:
        assert (plan.mini_batches, plan.source(Piece(2**31 - 2, 0, 1)).first) == (2**31 - 1, 2**31 - 2)
    assert (tmp_path / PLAN_NAME).stat().st_size < 1000


def test_a_count_from_the_command_line(tmp_path: Path) -> None:
    job_file = support.make_job(tmp_path, "def run(b): return b")
    assert load_job(job_file, sets=["inputs.0.count=5"]).inputs == [CountInput(count=5)]


def test_what_run_is_given(tmp_path: Path) -> None:
    work = Assignment(1, 5, 1, 3, 0, 21, 0, Numbers(21))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(work), type=Assignment) == work
    readers = Readers([], str(tmp_path))
    batch = readers.read(work)
    readers.close()
    assert (list(batch.data), batch.data.task_id, batch.bad) == ([21, 22, 23], 5, [])
    assert item_keys(work, batch) == ItemKeys(paths=["21", "22", "23"], rows=None)
    assert described(work) == ["21", "22", "23"]
    context = Context(work, ["count: 30"])
    assert (context.dataset, context.original_paths) == ("count: 30", [])
