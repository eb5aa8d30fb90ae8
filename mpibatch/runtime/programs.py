"""Programs that are run before the work is planned: `prepare` of the job, and a look at the processors' Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import mpibatch
from mpibatch.core.config import Job
from mpibatch.core.environment_script import shown_output
from mpibatch.errors import NoEnvironmentError, ScriptError
from mpibatch.runtime.environments import Ran, run_in_environment
from mpibatch.runtime.supervisor import code_for_any, interpreter_command, processor_environment

_CHECK_PYTHON_S = 60
_TELL = "print(sys.executable, flush=True); import mpibatch.runtime.processor; print(mpibatch.__version__)"


def run_prepare(job: Job, say: Callable[[str], None]) -> None:
    """Run what makes the inputs, if the job has that; what it prints is said. Raises ScriptError where it fails."""
    if job.prepare is None:
        return
    if job.environment.by_shell:
        _prepare_in_environment(job, job.prepare, say)
        return
    command = [job.python or sys.executable, job.prepare]
    environment = processor_environment(job.environment_keep, job.environment_variables)
    try:
        ended = subprocess.run(
            command,
            cwd=job.job_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise ScriptError(f"prepare: {job.prepare} cannot be run: {error}") from error
    stdout, stderr = (one.decode("utf-8", "replace") for one in (ended.stdout, ended.stderr))
    _judge_prepare(job.prepare, Ran(ended.returncode, stdout, stderr), say)


def _prepare_in_environment(job: Job, prepare: str, say: Callable[[str], None]) -> None:
    try:
        ran = run_in_environment(job, [prepare], cwd=job.job_dir)
    except OSError as error:
        raise ScriptError(f"prepare: {prepare} cannot be run in the job's environment: {error}") from error
    _judge_prepare(prepare, ran, say)


def _judge_prepare(prepare: str, ran: Ran, say: Callable[[str], None]) -> None:
    if ran.returncode != 0:
        raise ScriptError(
            f"prepare: {prepare} ended with exit code {ran.returncode}:\n{(ran.stdout + ran.stderr).rstrip()}\n"
            "It is run before the work is planned; repair it, or make by hand what it makes and remove the key."
        )
    if ran.stdout:
        say(ran.stdout.rstrip())


def check_environment(job: Job) -> None:
    """Make the job's environment once here, and look for an mpibatch of the same version in it.

    Raises NoEnvironmentError, or ScriptError where its interpreter is of no use.
    """
    words = ["-P", "-c", code_for_any(_TELL)]
    try:
        ran = run_in_environment(job, words, cwd="/", timeout_s=job.init_timeout)
    except OSError as error:
        raise NoEnvironmentError(f"environment: it cannot be made: {error}") from error
    told = ran.stdout.splitlines()
    python = told[0] if told else "python3"
    install = f"install it there: {python} -m pip install mpibatch=={mpibatch.__version__}"
    if ran.returncode != 0 or len(told) != 2:
        raise ScriptError(
            f"environment: {python} cannot import mpibatch, which the entry script's process needs there"
            f"{shown_output(ran.stderr)}\nChoose an interpreter with environment.python, or {install}"
        )
    if told[1] != mpibatch.__version__:
        raise ScriptError(
            f"environment: {python} has mpibatch {told[1]}, but this is {mpibatch.__version__}: {install}"
        )


def check_python(job: Job) -> None:
    """Another interpreter has to have an mpibatch of the same version, and an environment has to be made. Raises
    ScriptError or NoEnvironmentError."""
    if job.environment.by_shell:
        check_environment(job)
        return
    if job.python is None:
        return
    command = interpreter_command(job.python, "import mpibatch; print(mpibatch.__version__)")
    environment = processor_environment(job.environment_keep, job.environment_variables)
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", check=False,
            stdin=subprocess.DEVNULL, timeout=_CHECK_PYTHON_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ScriptError(f"python: {job.python} cannot be run: {error}") from error
    if ended.returncode != 0:
        raise ScriptError(
            f"python: {job.python} cannot import mpibatch, which the entry script's process needs there:\n"
            f"{ended.stderr.rstrip()}\nInstall it: {job.python} -m pip install mpibatch=={mpibatch.__version__}"
        )
    version = ended.stdout.strip()
    if version != mpibatch.__version__:
        raise ScriptError(
            f"python: {job.python} has mpibatch {version}, but this is {mpibatch.__version__}. Install the same:"
            f" {job.python} -m pip install mpibatch=={mpibatch.__version__}"
        )
