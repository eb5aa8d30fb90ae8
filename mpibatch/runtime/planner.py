"""Makes the plan: all mini-batches in order, from the job's inputs and their partition only.

The plan is one file below the run folder, written once, so that a later session trusts it and walks
nothing again. Its fingerprint covers the ordered paths, where one input ends and the next begins, and
the size of a mini-batch: it decides whether a run can be continued.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mpibatch.core.config import ArchiveInput, FilesInput, Job, ListInput, TableInput
from mpibatch.core.job_inputs import CountInput
from mpibatch.inputs.files import find_files
from mpibatch.inputs.lists import listed_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.survey import Ask
from mpibatch.inputs.walk import Names, Remarks
from mpibatch.runtime.file_plan import FilePlan
from mpibatch.runtime.number_plan import MAGIC as OF_NUMBERS
from mpibatch.runtime.number_plan import NumberPlan, write_number_plan
from mpibatch.runtime.plan_container import has_magic
from mpibatch.runtime.plan_file import PlanFile, PlanWriter
from mpibatch.runtime.table_plan import TablePlan, is_table_plan

PLAN_NAME = "plan"

Plan: TypeAlias = FilePlan | TablePlan | NumberPlan


def ask_here(questions: Sequence[Any]) -> list[Any]:
    """Answers the questions of a survey one after the other."""
    from mpibatch.runtime.surveying.here import Here

    return Here().ask(questions)


def open_plan(folder: Path) -> Plan:
    """The plan that `make_plan` left in `folder`. Raises StorageError where it is missing or damaged."""
    path = folder / PLAN_NAME
    if is_table_plan(path):
        return TablePlan(path)
    if has_magic(path, OF_NUMBERS):
        return NumberPlan(path)
    return FilePlan(PlanFile(path))


def make_plan(job: Job, folder: Path, *, ask: Ask = ask_here, unpacked: Path | None = None) -> Plan:
    """Find all items of the job and write the plan into `folder`, which must exist; replaces an older plan.

    `ask` has the questions of a survey answered; `unpacked`: where copies of compressed tables go. One process at a
    time may plan in a folder. Raises InputError where an input matches nothing or cannot be
    read, StorageError where the plan cannot be written; then no file is left behind.
    """
    if isinstance(job.inputs[0], TableInput | ArchiveInput):
        from mpibatch.runtime.table_planner import write_plan

        write_plan(job, folder / PLAN_NAME, ask=ask, unpacked=unpacked or folder / "unpacked")
    elif isinstance(job.inputs[0], CountInput):
        counts = [one for one in job.inputs if isinstance(one, CountInput)]
        write_number_plan(counts, job.mini_batch_size, folder / PLAN_NAME)
    elif job.partition_keys:
        _write_groups(job, folder)
    else:
        _write_plan(job, folder)
    return open_plan(folder)


def look_for_inputs(job: Job) -> None:
    """Raises InputError where an input matches nothing or cannot be read. Nothing is read beyond the first matches,
    or the names of tables and archives."""
    if isinstance(job.inputs[0], TableInput | ArchiveInput):
        from mpibatch.runtime.table_planner import find_all

        find_all(job)
        return
    if isinstance(job.inputs[0], CountInput):
        return
    for number, one in enumerate(job.inputs):
        assert isinstance(one, FilesInput | ListInput)
        origin = Origin(f"{os.path.basename(job.job_file)}: inputs.{number}.{_kind(one)}", one.text)
        next(iter(_items(one, origin, job, Remarks())), None)


def plan_to_compare(job: Job, stored: Path, folder: Path) -> Plan | None:
    """The plan of the job as it would be made now, to see whether a finished run still is of it: a new one in
    `folder`; of tables and archives the one in `stored`, or None if their files have changed, as nothing has to be
    surveyed to know that it would be another one."""
    if not isinstance(job.inputs[0], TableInput | ArchiveInput):
        return make_plan(job, folder)
    plan = open_plan(stored)
    if plan.header.get("state") == state_of_inputs(job):
        return plan
    plan.close()
    return None


def state_of_inputs(job: Job) -> str:
    """Digest of which files tables or archives are made of now, with their sizes and times. Raises InputError."""
    from mpibatch.runtime.table_planner import find_all, state_of

    return state_of(find_all(job))


def _write_plan(job: Job, folder: Path) -> None:
    inputs: list[dict[str, Any]] = []
    remarks: list[str] = []
    with PlanWriter(folder / PLAN_NAME, job.mini_batch_size) as writer:
        for number, one in enumerate(job.inputs):
            assert isinstance(one, FilesInput | ListInput)
            key = f"inputs.{number}.{_kind(one)}"
            remark = Remarks()
            for folder_of, names in _items(
                one, Origin(f"{os.path.basename(job.job_file)}: {key}", one.text), job, remark
            ):
                writer.add(folder_of, names)
            remarks += [f"{key}: {text}" for text in remark.texts()]
            inputs.append({"kind": _kind(one), "text": one.text, "items": writer.end_input()})
        header = {"mini_batch_size": job.mini_batch_size, "inputs": inputs, "remarks": remarks}
        writer.finish(header, [job.mini_batch_size, [one["items"] for one in inputs]])


def _write_groups(job: Job, folder: Path) -> None:
    """Mini-batches of files by partition keys."""
    from mpibatch.runtime.key_planner import groups_of_files
    from mpibatch.runtime.table_plan_writer import TablePlanWriter

    remarks: list[str] = []
    with TablePlanWriter(folder / PLAN_NAME) as writer:
        for number, one in enumerate(job.inputs):
            assert isinstance(one, FilesInput)
            key = f"inputs.{number}.files"
            remark = Remarks()
            origin = Origin(f"{os.path.basename(job.job_file)}: {key}", one.text)
            writer.add_groups(one.text, groups_of_files(one, origin, job, remark))
            remarks += [f"{key}: {text}" for text in remark.texts()]
        writer.finish({"remarks": remarks}, [job.partition_keys])


def _kind(one: FilesInput | ListInput) -> str:
    return "list" if isinstance(one, ListInput) else "files"


def _items(one: FilesInput | ListInput, origin: Origin, job: Job, remarks: Remarks) -> Iterator[Names]:
    if isinstance(one, ListInput):
        return listed_files(one.list, origin, check=one.check)
    return find_files(one.files, origin, remarks, job.output)
