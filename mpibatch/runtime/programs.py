"""Programs that are run before the work is planned: `prepare` of the job, and a look at the processors' Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import mpibatch
from mpibatch.core.config import Job
from mpibatch.errors import ScriptError
from mpibatch.runtime.supervisor import interpreter_command, processor_environment

_CHECK_PYTHON_S = 60


def run_prepare(job: Job, say: Callable[[str], None]) -> None:
    """Run what makes the inputs, if the job has that; what it prints is said. Raises ScriptError where it fails."""
    if job.prepare is None:
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
    output = (ended.stdout + ended.stderr).decode("utf-8", "replace").rstrip()
    if ended.returncode != 0:
        raise ScriptError(
            f"prepare: {job.prepare} ended with exit code {ended.returncode}:\n{output}\n"
            "It is run before the work is planned; repair it, or make by hand what it makes and remove the key."
        )
    if ended.stdout:
        say(ended.stdout.decode("utf-8", "replace").rstrip())


def check_python(job: Job) -> None:
    """Another interpreter has to have an mpibatch of the same version. Raises ScriptError."""
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
