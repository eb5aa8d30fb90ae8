"""A batch script is kept beside the run folder, and handed to `sbatch`: the job's number, or an error in words.

The folder beside it is `.NAME.slurm`: the run folder itself has to be empty until its run begins, and inputs leave
hidden entries out. In it are the script, the logs of its jobs, and which job was the last to be submitted.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mpibatch.core.launcher_variables import of_one_rank
from mpibatch.core.settings import printable
from mpibatch.errors import ConfigError, LaunchError
from mpibatch.runtime.files import storing, write_whole
from mpibatch.slurm.refusals import refusal
from mpibatch.slurm.script import BatchScript

ANSWER_S = 300
"""`sbatch` itself asks a busy controller again and again."""
_UNREACHABLE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection refused|zero bytes were transmitted"
    r"|cannot stat file|unable to process configuration|munge|protocol authentication|communication connection",
    re.IGNORECASE,
)


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of the last submission."""

    job: str
    """Its number."""
    elements: int | None
    """Of an array; None where it is none."""


class Beside:
    """Where all of it lies, for one run folder."""

    def __init__(self, run_folder: str) -> None:
        parent, name = os.path.split(run_folder)
        self.folder = Path(parent) / f".{name}.slurm"
        self.script = self.folder / "batch.sh"
        self._record = self.folder / "submitted.json"

    def log_pattern(self, *, array: bool) -> str:
        """The log as `sbatch --output` takes it: a per cent sign of its own is written twice.

        A backslash as well, and then Slurm puts no numbers in: all jobs have one log.
        """
        folder = str(self.folder)
        if "\\" in folder:
            return folder.replace("\\", "\\\\") + "/batch.log"
        return f"{folder.replace('%', '%%')}/{'%A_%a' if array else '%j'}.log"

    def log(self, job: str) -> Path:
        """Of a job, or of an element of an array (`41_3`)."""
        return self.folder / ("batch.log" if "\\" in str(self.folder) else f"{job}.log")

    def write_script(self, text: str) -> None:
        """StorageError where the folder cannot be written."""
        with storing(str(self.script)):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.script, text.encode("utf-8", "surrogateescape"))
            self.script.chmod(0o755)

    def last(self) -> Submitted | None:
        """The last job that was submitted from here."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Submitted)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def keep(self, submitted: Submitted) -> None:
        with storing(str(self._record)):
            write_whole(self._record, msgspec.json.encode(submitted))


def printed(text: str) -> str:
    """A path, whole, as a terminal can show it: people copy it."""
    return text.encode("utf-8", "backslashreplace").decode()


def submitted_words(run_folder: str) -> str | None:
    """Of a run folder in which no run has begun: that a job was submitted for it; None if none was."""
    beside = Beside(os.path.abspath(run_folder))
    last = beside.last()
    if last is None:
        return None
    log = beside.log(last.job if last.elements is None else f"{last.job}_0")
    return (
        f"no run has begun in {printed(run_folder)} yet, and Slurm job {last.job} was submitted for it: squeue"
        f" --jobs={last.job} tells whether it waits, scancel {last.job} takes it back. If it is not there any"
        f" more, it has ended before a run began: its log is {printed(str(log))}"
    )


def for_a_new_job(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that a new job may inherit, also where this is a part of another one: `sbatch` passes all on, and
    what the old job says of itself, the new one's `srun` would take for its own options."""
    kept = {name: value for name, value in environment.items() if not of_one_rank(name)}
    if "SLURM_JOB_ID" not in environment:
        return kept
    return {
        name: value for name, value in kept.items() if not name.startswith("SLURM") or name == "SLURM_CONF"
    }


def submit(
    script: BatchScript, file: Path, say: Callable[[str], None], environment: Mapping[str, str] = os.environ
) -> str:
    """The number of the new job, whose script lies at `file`. What `sbatch` says besides is said.

    ConfigError where Slurm does not take it, LaunchError where there is no Slurm, or it does not answer.
    """
    variables = for_a_new_job(environment)
    try:
        ended = subprocess.run(
            ["sbatch", "--parsable", str(file)],
            env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace",
            timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise LaunchError(
            "there is no sbatch on this machine, so nothing was submitted. Do this on a login node of the cluster, or"
            " load the module that has Slurm's commands; mpibatch run starts the job here. The script is kept:"
            f" {printed(str(file))}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"sbatch cannot be run, or does not answer: {error}. Try again later.") from error
    if ended.returncode != 0:
        raise _refused(ended.stderr.strip() or ended.stdout.strip(), script, file, variables)
    if ended.stderr.strip():
        say(ended.stderr.strip())
    number = ended.stdout.strip().splitlines()[-1].partition(";")[0] if ended.stdout.strip() else ""
    if not number.isdigit():
        raise LaunchError(
            f"sbatch has not said which number the job has, but: {printable(ended.stdout)}. squeue shows whether"
            " there is one."
        )
    return number


def _refused(
    said: str, script: BatchScript, file: Path, environment: Mapping[str, str]
) -> ConfigError | LaunchError:
    kept = f"Nothing was submitted. The script is kept: {printed(str(file))}"
    if _UNREACHABLE.search(said):
        lines = "\n".join(f"  {line}" for line in said.splitlines())
        return LaunchError(
            f"Slurm cannot be reached:\n{lines}\nThat is no fault of the job: try again later, or where squeue"
            f" answers. {kept}"
        )
    return ConfigError(f"{refusal(said, script.text, script.sources, environment)}\n{kept}")
