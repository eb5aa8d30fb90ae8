"""`mpibatch run --dry-run`: the checked job and its plan in words. Nothing is run, nothing stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mpibatch.core.config import Job, job_warnings
from mpibatch.core.job_inputs import CountInput
from mpibatch.core.pipeline import Pipeline, Step
from mpibatch.core.shares import Share, find_element, share_of
from mpibatch.core.tables import ByRows, BySize
from mpibatch.errors import InputError
from mpibatch.runtime.array_folder import read_division
from mpibatch.runtime.pipeline_file import load_any, missing_words, refuse_options
from mpibatch.runtime.planner import Plan, make_plan
from mpibatch.runtime.programs import check_python
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.work import Piece

SHOWN_MINI_BATCHES = 3
SHOWN_ITEMS = 3


def dry_run(path: str, *, sets: Sequence[str], output: str | None, share: str | None = None) -> str:
    """Lines that say what `run` would do. Raises what it would raise before its first mini-batch."""
    job = load_any(path, sets=sets, output=output)
    if isinstance(job, Pipeline):
        refuse_options(job, only_failed=False, share=share)
        return _pipeline(job)
    return _job(job, _share(job, share))


def _pipeline(pipeline: Pipeline) -> str:
    """All steps; the plan of one that takes what others make can be told only when it is there."""
    lines = [f"warning: {remark}" for remark in pipeline.remarks]
    lines += missing_words(pipeline)
    lines.append(f"pipeline     {pipeline.name} ({pipeline.file})")
    lines.append(f"output       {pipeline.output}")
    for number, step in enumerate(pipeline.steps, 1):
        needs = f", takes data of {', '.join(step.needs)}" if step.needs else ""
        lines += ["", f"step {step.name} ({number} of {len(pipeline.steps)}){needs}"]
        lines += _step(step, is_first=number == 1)
    return "\n".join(lines)


def _step(step: Step, *, is_first: bool) -> list[str]:
    if not step.needs:
        try:
            return [_job(step.job, None)]
        except InputError:
            if is_first:
                raise  # Of others it has been told: the steps before may make them.
    check_python(step.job)
    return [*_head(step.job), *_end(step.job)]


def _job(job: Job, mine: Share | None) -> str:
    check_python(job)
    with tempfile.TemporaryDirectory(prefix="mpibatch-dry-run-") as folder:
        try:
            plan = make_plan(job, Path(folder))
        except InputError as error:
            if job.prepare is None:
                raise
            raise InputError(
                f"{error}\n(prepare: {job.prepare} makes them, perhaps: --dry-run does not run it)"
            ) from error
        try:
            return "\n".join(_lines(job, plan, mine))
        finally:
            plan.close()


def _share(job: Job, asked: str | None) -> Share | None:
    """The share that this start would take, as an element of a job array."""
    element = find_element(os.environ, asked, job.array)
    if element is None:
        return None
    return share_of(element, read_division(RunFolder(job.output)), job.output)


def _lines(job: Job, plan: Plan, share: Share | None) -> list[str]:
    lines = _head(job)
    lines.append(f"items        {plan.items:,}")
    lines.append(f"mini-batches {plan.mini_batches:,} of {_size(job)}")
    mine = range(plan.mini_batches)
    if share is not None:
        mine = share.mini_batches(plan.mini_batches)
        lines.append(
            f"share        number {share.number}, as one of {share.division.words}: {len(mine):,} of them"
        )
    lines += _end(job)
    for number in mine[:SHOWN_MINI_BATCHES]:
        items = plan.item_count(number)
        names = plan.item_names(Piece(number, 0, min(items, SHOWN_ITEMS)))
        shown = [f"  {_shown(name)}{'' if row is None else f', row {row}'}" for name, row in names]
        rest = [f"  ... and {items - SHOWN_ITEMS} more"] if items > SHOWN_ITEMS else []
        lines += [f"mini-batch {number}:", *shown, *rest]
    return lines


def _head(job: Job) -> list[str]:
    """What is known without the inputs."""
    lines = [f"warning: {warning}" for warning in job_warnings(job)]
    lines.append(f"job          {job.name} ({job.job_file})")
    lines.append(f"script       {job.entry_script}: has run()")
    if job.site is not None:
        lines.append(
            f"site profile {_shown(job.site)}: {', '.join(job.site_keys) or 'nothing of it is used'}"
        )
    return lines + [f"input        {_shown(one.text)}" for one in job.inputs]


def _end(job: Job) -> list[str]:
    lines = [f"workers      {_workers(job)}"]
    lines.append(f"output       {os.path.join(job.output, job.append_row_file_name)} ({job.output_action})")
    return lines + [f"side output  {name}: {_shown(folder)}" for name, folder in job.side_outputs.items()]


def _size(job: Job) -> str:
    if job.partition_keys:
        return f"one combination of {', '.join(job.partition_keys)} each"
    match job.table_size:
        case BySize(size):
            return f"about {size:,} bytes"
        case ByRows(rows):
            return f"up to {rows:,} rows"
        case None:
            of = "numbers" if isinstance(job.inputs[0], CountInput) else "files"
            return f"up to {job.mini_batch_size} {of}"


def _workers(job: Job) -> str:
    if job.process_count_per_node is None and job.node_count is None:
        return "1 here; as many as there are ranks under mpirun or srun"
    processes, nodes = job.process_count_per_node or 1, job.node_count or 1
    return f"{processes * nodes} ({nodes} nodes x {processes} processes)"


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\n", "\\n")
