"""A job becomes the text of its batch script. The text alone decides what Slurm does: nothing is asked here."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.first_words import ONLY_AT_FIRST
from mpibatch.core.settings import printable
from mpibatch.core.shell_lines import container_words, environment_lines, quoted
from mpibatch.core.slurm_keys import LONGEST_SIGNAL_S, for_sbatch
from mpibatch.errors import EXIT_NO_WORKERS, EXIT_STOPPED
from mpibatch.runtime.journal import HEADER_SIZE

if TYPE_CHECKING:
    import jinja2


class BatchScript(msgspec.Struct, frozen=True):
    """The script, and the job key that each option of `sbatch` in it is from."""

    text: str
    """May hold surrogates, of paths that are not UTF-8: to be written with `surrogateescape`."""
    sources: dict[str, str]
    """Like `--partition`: `slurm.partition`; a key of the site's profile is told with its file."""


class _Option(msgspec.Struct, frozen=True):
    name: str
    value: str | None
    key: str


def batch_script(
    job: Job,
    *,
    command: Sequence[str],
    run_folder: str,
    log: str | None = None,
    work_dir: str | None = None,
    folder: str | None = None,
    step_folders: Sequence[str] = (),
) -> BatchScript:
    """The batch script that runs `command` (`mpibatch run JOB ...`, whole) in each task.

    `run_folder`: the run folder that this command takes, and `log`: the file for what the job prints, with Slurm's
    patterns. Both are relative to `work_dir`, which unless given is where `sbatch` is called; the log's folder
    has to exist. By default it is the job's name and number. `folder`: where `sbatch` is called, from which the
    container's image is looked for; unless given it is the current one. `step_folders`: the run folders of a
    pipeline's steps, absolute.
    """
    options = _options(job)
    log = log or ("%x-%A_%a.log" if _elements(job) is not None else "%x-%j.log")
    options += [_Option("--output", log, "the batch script's log")]
    options += [_Option("--chdir", work_dir, "the working directory")] if work_dir is not None else []
    lines = [_line(option) for option in options] + job.slurm.extra
    sources = {option.name: _from_site(job, option.key) for option in options}
    sources |= {re.split(r"[=\s]", one)[0]: _from_site(job, "slurm.extra") for one in job.slurm.extra}
    first = [word for word in command if word in ONLY_AT_FIRST]
    program = [quoted(word) for word in command if word not in ONLY_AT_FIRST]
    text = _template().render(
        name=job.name,
        options=lines,
        # A name that begins with - is an option to the commands of the script.
        run_folder=quoted(f"./{run_folder}" if run_folder.startswith("-") else run_folder),
        array=_elements(job) is not None,
        shares=job.array is None or not job.array.off,
        container=job.slurm.container,
        command=_in_container(job, work_dir or folder or os.getcwd()) + program,
        first_words=[quoted(word) for word in first],
        step=[quoted(word) for word in _step(job)],
        tasks_per_node=job.process_count_per_node or 1,
        max_requeues=job.slurm.max_requeues,
        max_restarts=job.max_restarts,
        signal=job.slurm.signal,
        signals=dict.fromkeys((job.slurm.signal, "TERM")),
        environment=environment_lines(
            modules=job.slurm.modules, conda=None, setup=[job.slurm.setup] if job.slurm.setup else []
        ),
        journals=[_journals(one, job.output) for one in step_folders],
        header_size=HEADER_SIZE,
        EXIT_STOPPED=EXIT_STOPPED,
        EXIT_NO_WORKERS=EXIT_NO_WORKERS,
    )
    return BatchScript(text, sources)


def _journals(step_folder: str, output: str) -> str:
    """Where a step of a pipeline has its journals, for the shell."""
    private = os.path.join(step_folder, ".mpibatch")
    below = seen_from(output, private)
    return quoted(private) if below == private else f'"$run_folder"/{quoted(below)}'


def _options(job: Job) -> list[_Option]:
    keys = job.slurm
    signal_s = keys.signal_s if keys.signal_s is not None else math.ceil(job.drain_margin)
    given = [
        _Option("--job-name", job.name, "name"),
        _Option("--partition", keys.partition, "slurm.partition"),
        _Option("--account", keys.account, "slurm.account"),
        _Option("--qos", keys.qos, "slurm.qos"),
        _Option("--time", keys.time, "slurm.time"),
        _Option("--nodes", str(job.node_count or 1), "node_count"),
        _Option("--ntasks-per-node", str(job.process_count_per_node or 1), "process_count_per_node"),
        _Option("--cpus-per-task", _text(keys.cpus_per_task), "slurm.cpus_per_task"),
        _Option("--mem", keys.mem, "slurm.mem"),
        _Option("--gpus-per-node", keys.gpus_per_node, "slurm.gpus_per_node"),
        _Option("--gpus-per-task", keys.gpus_per_task, "slurm.gpus_per_task"),
        _Option("--constraint", keys.constraint, "slurm.constraint"),
        _Option("--array", _elements(job), "array"),
        _Option("--signal", f"B:{keys.signal}@{min(signal_s, LONGEST_SIGNAL_S)}", _signal_key(job)),
    ]
    # The job outlives a lost node, and comes back after preemption, with the same log.
    always = [_Option("--no-kill", None, ""), _Option("--requeue", None, "")]
    return [one for one in given if one.value is not None] + [*always, _Option("--open-mode", "append", "")]


def _signal_key(job: Job) -> str:
    return "slurm.signal" if job.slurm.signal_s is not None else "drain_margin"


def _elements(job: Job) -> str | None:
    """What `--array` takes; None where the job is no array."""
    keys = job.array
    if keys is None or keys.elements is None:
        return None
    return f"0-{keys.elements - 1}" + (f"%{keys.at_once}" if keys.at_once is not None else "")


def _text(number: int | None) -> str | None:
    return str(number) if number is not None else None


def _line(option: _Option) -> str:
    return option.name if option.value is None else f"{option.name}={for_sbatch(option.value)}"


def _from_site(job: Job, key: str) -> str:
    if job.site is None or key not in job.site_keys:
        return key
    # Not cut, as it is to be edited there.
    return f"{key} (from the site profile {job.site if job.site.isprintable() else printable(job.site)})"


def _step(job: Job) -> list[str]:
    """Options of `srun`. It takes all others from the job, but for --cpus-per-task since Slurm 22.05."""
    step = [f"--mpi={job.slurm.mpi}"] if job.slurm.mpi is not None else []
    return step + (
        [f"--cpus-per-task={job.slurm.cpus_per_task}"] if job.slurm.cpus_per_task is not None else []
    )


def _in_container(job: Job, folder: str) -> list[str]:
    container = job.slurm.container
    if container is None:
        return []
    if "://" not in container.image:
        # As all paths in a job file, relative to it.
        image = os.path.join(job.job_dir, os.path.expanduser(container.image))
        container = msgspec.structs.replace(container, image=seen_from(folder, os.path.normpath(image)))
    if (job.slurm.gpus_per_node or job.slurm.gpus_per_task) and not {"--nv", "--rocm"} & set(
        container.options
    ):
        container = msgspec.structs.replace(container, options=["--nv", *container.options])
    return container_words(container)


def program(job: Job, interpreter: str | None) -> list[str]:
    """How the script calls mpibatch: `mpibatch` as it is found there where the script loads an environment of its
    own (or `interpreter` is None, as in what is shown to people), else by `interpreter`, the one in use."""
    keys = job.slurm
    if interpreter is None or keys.container is not None or keys.modules or keys.setup:
        return ["mpibatch"]
    return [interpreter, "-m", "mpibatch"]


def seen_from(folder: str, path: str) -> str:
    """`path` as the script writes it: relative to `folder`, where sbatch is called, if it lies below that."""
    relative = os.path.relpath(path, folder)
    return path if relative.split(os.sep)[0] == os.pardir else relative


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    text = resources.files("mpibatch.slurm").joinpath("templates", "batch.sh.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # Bash has ${#array[@]}, which holds what else begins a comment.
        comment_start_string="<#",
        comment_end_string="#>",
    )
    return environment.from_string(text)
