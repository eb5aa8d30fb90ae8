"""`mpibatch submit`: the job is checked here, its batch script written and submitted, and followed if wanted."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from mpibatch.core.config import Job, job_warnings
from mpibatch.core.mpi_kinds import fitting_plugin, mpi_family
from mpibatch.core.pipeline import Pipeline, as_one_job
from mpibatch.core.shell_lines import quoted
from mpibatch.core.slurm_keys import wall_time_warnings
from mpibatch.errors import InterruptedByUser, MpibatchError, RunFolderError
from mpibatch.monitor.array_status import array_text, read_array
from mpibatch.monitor.mpi_check import load_mpi
from mpibatch.monitor.pipeline_status import read_pipeline, running_words
from mpibatch.monitor.progress import progress_line
from mpibatch.monitor.status import read_status
from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.jobfile import check_side_inputs
from mpibatch.runtime.pipeline_file import load_any, missing_words, refuse_only_failed
from mpibatch.runtime.pipeline_record import read_pipeline_result, refuse_pipeline, refuse_run, result_file
from mpibatch.runtime.planner import look_for_inputs
from mpibatch.runtime.programs import check_python
from mpibatch.runtime.record import any_result
from mpibatch.runtime.refusals import refuse_foreign, refuse_other_job
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.slurm.following import End, Following, exit_code
from mpibatch.slurm.queue import look
from mpibatch.slurm.refusals import waits_for_ever
from mpibatch.slurm.script import BatchScript, batch_script, program, seen_from
from mpibatch.slurm.srun_plugins import srun_plugins
from mpibatch.slurm.submit import Beside, Submitted, printed, submit

POLLS_S = ((60.0, 2.0), (600.0, 5.0), (3600.0, 15.0))
"""Up to so many seconds after the submission the queue is looked at each so many; later on each LAST_POLL_S."""
LAST_POLL_S = 30.0
PROGRESS_EVERY_S = 10.0
LOG_LINES = 25
"""Of a job that has failed, shown at its end."""


class Wanted(NamedTuple):
    """What the command line asks for."""

    path: str
    sets: Sequence[str]
    output: str | None
    fresh: bool
    only_failed: bool

    def load(self) -> tuple[Job, Pipeline | None]:
        """What Slurm is asked for; of a pipeline that is what its largest steps need."""
        loaded = load_any(self.path, sets=self.sets, output=self.output)
        if isinstance(loaded, Pipeline):
            refuse_only_failed(loaded, only_failed=self.only_failed)
            return as_one_job(loaded), loaded
        return loaded, None

    def words(self, job_file: str, output: str | None) -> list[str]:
        """The command `run` and what it takes."""
        sets = [word for one in self.sets for word in ("--set", one)]
        place = ["--output", output] if output is not None else []
        first = ["--fresh"] * self.fresh + ["--only-failed"] * self.only_failed
        return ["run", job_file, *sets, *place, *first]


def script_text(wanted: Wanted) -> str:
    """The batch script for people: with paths as they were given, to be submitted from this folder."""
    job, pipeline = wanted.load()
    command = [*program(job, None), *wanted.words(wanted.path, wanted.output)]
    run_folder = seen_from(os.getcwd(), job.output)
    return batch_script(job, command=command, run_folder=run_folder, step_folders=_folders(pipeline)).text


def submit_job(wanted: Wanted, *, wait: bool) -> int:
    """Check and submit it; with `wait`, follow it to its end. The exit code. Raises an MpibatchError where the job is
    wrong, where Slurm does not take it, or where one is there for this run folder already."""
    job, pipeline = wanted.load()
    beside = Beside(job.output)
    _check(job, pipeline, wanted, beside)
    elements = job.array.elements if job.array is not None else None
    before = _results(job.output, *([""] if elements is None else map(str, range(elements))))
    script = _script(wanted, job, pipeline, beside)
    beside.write_script(script.text)
    submitted = Submitted(job=submit(script, beside.script, _say), elements=elements)
    beside.keep(submitted)
    for line in _told(job, beside, submitted, script):
        click.echo(line)
    return _follow(job, beside, submitted, before) if wait else 0


def _say(text: str) -> None:
    click.echo(text, err=True)


def _check(job: Job, pipeline: Pipeline | None, wanted: Wanted, beside: Beside) -> None:
    """All that `run` would refuse, as far as it can be seen from here without much ado."""
    for warning in wall_time_warnings(job.slurm, job.drain_margin):
        _say(f"warning: {warning}")
    folder = RunFolder(job.output)
    refuse_foreign(folder)
    if pipeline is None:
        _check_job(job)
        refuse_pipeline(folder)
        if not wanted.fresh:
            refuse_other_job(folder, job)
    else:
        refuse_run(folder)
        for number, step in enumerate(pipeline.steps):
            # Of later steps the inputs may yet be made; what is missing is told of.
            _check_job(step.job, looks=number == 0)
        for words in [*(f"warning: {remark}" for remark in pipeline.remarks), *missing_words(pipeline)]:
            _say(words)
    _refuse_second(job, beside)


def _check_job(job: Job, *, looks: bool = True) -> None:
    """`looks`: for what it takes."""
    for warning in job_warnings(job):
        _say(f"warning: {warning}")
    if program(job, sys.executable) != ["mpibatch"] and not job.environment.by_shell:
        check_python(job)  # Otherwise it is made on the nodes, and may be there only.
    if job.prepare is None and looks:
        check_side_inputs(job)
        look_for_inputs(job)


def _refuse_second(job: Job, beside: Beside) -> None:
    last = beside.last()
    if last is not None:
        following = Following(last, queue=look, log=beside.log, say=lambda text: None, patience=1)
        if look([last.job]) and not following.over():
            jobs = ", ".join(following.waiting)
            raise RunFolderError(
                f"job {jobs} is in Slurm's queue for the run folder {job.output} already, and two would be in each"
                f" other's way. Wait for it (squeue --jobs={jobs.replace(' ', '')}), cancel it (scancel"
                f" {jobs.replace(',', '')}), or choose another folder with --output DIR."
            )
    if _is_running(job.output):
        raise RunFolderError(
            f"a run goes on in {job.output} already (mpibatch status tells of it). Wait for its end, stop it with"
            " mpibatch stop, or choose another folder with --output DIR."
        )


def _is_running(output: str) -> bool:
    with contextlib.suppress(MpibatchError):  # No run is there, or one that the new start will judge.
        pipeline = read_pipeline(Path(output))
        return (pipeline or read_status(Path(output))).state == "running"
    return False


def _folders(pipeline: Pipeline | None) -> list[str]:
    return [] if pipeline is None else [step.job.output for step in pipeline.steps]


def _script(wanted: Wanted, job: Job, pipeline: Pipeline | None, beside: Beside) -> BatchScript:
    """With absolute paths and this interpreter: it may be submitted again from anywhere."""
    run_words = wanted.words(job.job_file, None if wanted.output is None else job.output)
    is_array = job.array is not None and job.array.elements is not None
    return batch_script(
        _with_mpi(job),
        command=[*program(job, sys.executable), *run_words],
        run_folder=job.output,
        log=beside.log_pattern(array=is_array),
        work_dir=os.getcwd(),
        step_folders=_folders(pipeline),
    )


def _with_mpi(job: Job) -> Job:
    """With the `--mpi` that fits the MPI in use, where nobody has said which: a wrong one would make no world."""
    tasks = (job.node_count or 1) * (job.process_count_per_node or 1)
    own = program(job, sys.executable) == ["mpibatch"]  # What the script loads has an MPI of its own.
    if tasks == 1 or own or job.slurm.mpi is not None or "SLURM_MPI_TYPE" in os.environ:
        return job
    plugins = srun_plugins()
    fitting = fitting_plugin(mpi_family(load_mpi().library), plugins) if plugins else None
    return msgspec.structs.replace(job, slurm=msgspec.structs.replace(job.slurm, mpi=fitting))


def _told(job: Job, beside: Beside, submitted: Submitted, script: BatchScript) -> list[str]:
    number = submitted.job
    log = beside.log(number if submitted.elements is None else f"{number}_0")
    seen = look([number])
    words = waits_for_ever(seen[0].reason, script.text, script.sources) if seen else None
    if words is not None:
        _say(f"warning: {words}\nCancel it with scancel {number}, if that is not meant.")
    folder = quoted(printed(job.output))
    return [
        f"batch script  {printed(str(beside.script))}",
        f"log           {printed(str(log))}{' and so on' if submitted.elements is not None else ''}",
        f"job           {number}",
        f"status        mpibatch status {folder}; squeue --jobs={number}",
        f"to stop it    mpibatch stop {folder}; as long as it waits, scancel {number}",
    ]


# Following


def _follow(job: Job, beside: Beside, submitted: Submitted, before: dict[str, int]) -> int:
    following = Following(submitted, queue=look, log=beside.log, say=_say)
    begun = next_line = time.monotonic()
    said = ""
    try:
        while not following.look():
            now = time.monotonic()
            if now >= next_line:
                line = _progress(job, submitted)
                if line and line != said:
                    _say(line)
                    said = line
                next_line = now + PROGRESS_EVERY_S
            time.sleep(next((poll for until, poll in POLLS_S if now - begun < until), LAST_POLL_S))
    except KeyboardInterrupt:
        jobs = " ".join(following.waiting)
        folder = quoted(printed(job.output))
        raise InterruptedByUser(
            f"this command waits no longer, and job {jobs} goes on. mpibatch status {folder} tells how it stands;"
            f" mpibatch stop {folder} lets it stop in order, scancel {jobs} ends it: what is finished is kept."
        ) from None
    code = exit_code(following.ends, lambda end: _left(job, end, before))
    for line in _end_words(following.ends, code, beside):
        _say(line)
    return code


def _progress(job: Job, submitted: Submitted) -> str:
    with contextlib.suppress(MpibatchError):  # It has not begun, or its files are just being replaced.
        if submitted.elements is not None:
            array = read_array(Path(job.output))
            return array_text(array).splitlines()[1] if array is not None else ""
        pipeline = read_pipeline(Path(job.output))
        if pipeline is not None:
            return running_words(pipeline)
        status = read_status(Path(job.output))
        if status.state == "running" and status.progress is not None:
            return progress_line(status.progress)
    return ""


def _left(job: Job, end: End, before: dict[str, int]) -> int | None:
    """The exit code in the result that the run has left since the submission."""
    if _results(job.output, end.element).items() <= before.items():
        return None
    folder = _run_folder(job.output, end.element)
    result = any_result(folder) or read_pipeline_result(folder)
    return result.exit_code if result is not None else None


def _end_words(ends: Sequence[End], code: int, beside: Beside) -> list[str]:
    """How it ended; of the first that has not ended well, the last lines of its log."""
    bad = [end for end in ends if end.code != 0]
    lines = [f"job {end.job} has ended: {end.words}" for end in (bad or ends)[:10]]
    if len(bad) > 10:
        lines.append(f"... and {len(bad) - 10} more")
    if not bad or code == 0:
        return lines
    worst = next((end for end in bad if end.code == code), bad[0])
    log = beside.log(worst.job)
    try:
        told = log.read_text(errors="backslashreplace").splitlines()[-LOG_LINES:]
    except OSError as error:
        return [*lines, f"its log cannot be read: {printed(str(log))}: {error.strerror}"]
    return [*lines, f"the end of its log, {printed(str(log))}:", *(f"  {line}" for line in told)]


def _results(output: str, *elements: str) -> dict[str, int]:
    """When the results of the run, or of its shares, were written, by the element's number."""
    found = {}
    for element in elements:
        folder = _run_folder(output, element)
        for file in (folder.result, result_file(folder)):  # There is one or the other.
            with contextlib.suppress(OSError):
                found[element] = file.stat().st_mtime_ns
    return found


def _run_folder(output: str, element: str) -> RunFolder:
    folder = RunFolder(output)
    return share_folder(folder, int(element)) if element else folder
