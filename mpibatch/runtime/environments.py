"""Interpreters in a job's environment, outside of workers: the script that makes it, and commands run in it here."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.environment_script import being_made, environment_script, shown_output
from mpibatch.core.job_inputs import CountInput, ListInput
from mpibatch.errors import NoEnvironmentError
from mpibatch.runtime.guardian import Guardian
from mpibatch.runtime.supervisor import let_go, processor_environment

_GLOB = "*?["


class Ran(msgspec.Struct, frozen=True):
    """How a command in a job's environment ended. Its environment was made."""

    returncode: int
    stdout: str
    stderr: str


def script_of(job: Job) -> str:
    """The script that makes the environment of the job's processors; empty where none has to be made."""
    if not job.environment.by_shell:
        return ""
    environment = job.environment
    if environment.python is None and environment.container is None and job.python is not None:
        environment = msgspec.structs.replace(environment, python=job.python)
    binds = _binds(job) if environment.container is not None else []
    return environment_script(environment, binds)


def run_in_environment(job: Job, words: Sequence[str], *, cwd: str, timeout_s: float | None = None) -> Ran:
    """Give `words` to the interpreter of the job's environment, made here for it alone; nothing of it is left.

    Raises NoEnvironmentError where the environment cannot be made, with the line that failed and what it printed, or
    where all takes longer than `timeout_s`; OSError where no shell can be started.
    """
    script = script_of(job)
    with tempfile.TemporaryDirectory(prefix="mpibatch-environment-") as folder:
        file, state = os.path.join(folder, "environment.sh"), os.path.join(folder, "environment")
        with open(file, "wb") as opened:
            opened.write(os.fsencode(script))
        with open(os.path.join(folder, "out"), "w+b") as out, open(os.path.join(folder, "err"), "w+b") as err:
            # Files, as pipes end only when all have ended that a line has left behind.
            command = ["bash", file, state, sys.executable, *words]
            returncode = _run(command, job, folder, cwd, (out.fileno(), err.fileno()), timeout_s)
            printed = [_content(one.fileno()) for one in (out, err)]
        unmade = being_made(script, _state(state))
    if unmade or returncode is None:
        raise NoEnvironmentError(_failure(unmade, returncode, timeout_s, printed[1]))
    return Ran(returncode, *printed)


def _run(
    command: list[str], job: Job, scratch: str, cwd: str, streams: tuple[int, int], timeout_s: float | None
) -> int | None:
    """The exit code; None: it was killed after `timeout_s`."""
    guardian = Guardian(scratch)
    try:
        process = subprocess.Popen(
            command, cwd=cwd, env=processor_environment(job.environment_keep, job.environment_variables),
            stdin=subprocess.PIPE, stdout=streams[0], stderr=streams[1], start_new_session=True,
        )  # fmt: skip
        guardian.watch(process.pid)
        let_go(process)
        try:
            ended = _ends_within(process.pid, timeout_s)
        finally:
            # Before it is reaped, with what its lines have left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            guardian.watch(0)
            process.wait()
    finally:
        guardian.dismiss()
    return process.returncode if ended else None


def _ends_within(pid: int, seconds: float | None) -> bool:
    """Wait for the end of a child; it is not reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else math.ceil(1000 * seconds)))
    finally:
        os.close(pidfd)


def _content(file: int) -> str:
    size = os.fstat(file).st_size
    return os.pread(file, size, 0).decode("utf-8", "replace")


def _state(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return os.fsdecode(opened.read())
    except FileNotFoundError:
        return ""


def _failure(unmade: str, returncode: int | None, timeout_s: float | None, printed: str) -> str:
    what = unmade or "the interpreter in the job's environment"
    if returncode is None:
        ending = f"has not ended within {timeout_s:g} s (init_timeout)"
    elif returncode < 0:
        ending = f"was ended by signal {-returncode}"
    else:
        ending = f"ended with exit code {returncode}"
    return (
        f"{what}: it {ending} on {os.uname().nodename}{shown_output(printed)}\n"
        "It is run before every processor's interpreter: repair it, or try it in a shell on that host."
    )


def _binds(job: Job) -> list[str]:
    """What processors read and write, for a container to show; what is not there cannot be shown."""
    paths = [
        job.job_dir,
        job.output,
        *job.side_inputs.values(),
        *job.models.values(),
        *job.side_outputs.values(),
    ]
    if job.source_directory is not None:
        paths.append(job.source_directory)
    if not job.entry_is_module:
        paths.append(os.path.dirname(job.entry_script))
    for one in job.inputs:
        if isinstance(one, ListInput):
            paths.append(os.path.dirname(one.list))
        elif not isinstance(one, CountInput):
            paths += map(_folder_of, one.files)
    return [path for path in paths if os.path.exists(path)]


def _folder_of(pattern: str) -> str:
    """The innermost folder above all that a glob can match; another path is itself."""
    at = min((pattern.find(c) for c in _GLOB if c in pattern), default=len(pattern))
    return pattern if at == len(pattern) else os.path.dirname(pattern[:at]) or "/"
