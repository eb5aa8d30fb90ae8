"""Where a submitted pipeline's run lies: `<workspace>/runs/<experiment>/<run id>/`, and what is kept there.

pipeline.yaml      the pipeline, as a file of our own (JSON, which is YAML)
submission.json    how it was submitted, for whoever asks for the run later
log.txt            what `mpibatch run` (or `submit --wait`) has printed
exit_code          with which it ended; not there as long as it goes on
cancelled          there if it was asked to stop
pipeline/          the pipeline's own folder; steps that may be reused lie in `<experiment>/steps/`
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mpibatch.api.refusals import NotFoundError
from mpibatch.api.step_jobs import Made
from mpibatch.api.wiring import WorkspaceFolder
from mpibatch.core.settings import did_you_mean, shown
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.run_folder import RunFolder

FORMAT = 1
STEPS = "steps"
"""Beside the runs of an experiment: run folders of steps, which several runs may use one after another."""


class StepPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a submission."""

    name: str
    folder: str
    """Its run folder."""
    outputs: list[Made] = []


class Keeper(msgspec.Struct, frozen=True, kw_only=True):
    """The process that waits for the end of the run, and notes its exit code."""

    pid: int
    started: int | None
    """As the kernel counts; None: it had ended at once."""
    host: str
    boot_id: str
    log_from: int = 0
    """Bytes of the log that earlier starts of the run have left."""

    def lives(self) -> bool | None:
        """None: it is of another machine, so that nobody here can tell."""
        if self.host != socket.gethostname() or self.boot_id != boot_id():
            return None if self.host != socket.gethostname() else False
        return self.started is not None and process_started(self.pid) == self.started


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """`submission.json`."""

    format: int
    experiment: str
    id: str
    description: str = ""
    tags: dict[str, str] = {}
    submitted_at: float
    """Seconds since the epoch."""
    parameters: dict[str, str] = {}
    """As they were given, for people."""
    steps: list[StepPlace]
    """In the order in which they run."""
    slurm: bool
    keeper: Keeper | None = None


class RunHome:
    """Names and small files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipeline_file = folder / "pipeline.yaml"
        self.submission_file = folder / "submission.json"
        self.log = folder / "log.txt"
        self.exit_code_file = folder / "exit_code"
        self.cancelled = folder / "cancelled"
        self.pipeline = RunFolder(folder / "pipeline")

    @property
    def id(self) -> str:
        return self.folder.name

    def save(self, submission: Submission) -> None:
        with storing(str(self.submission_file)):
            write_whole(self.submission_file, msgspec.json.format(msgspec.json.encode(submission), indent=2))

    def submission(self) -> Submission:
        try:
            return msgspec.json.decode(self.submission_file.read_bytes(), type=Submission)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotFoundError(f"{self.submission_file} is damaged or is no run's: {error}") from None

    def exit_code(self) -> int | None:
        """None as long as the run goes on, or where nobody was left to note it."""
        try:
            return int(self.exit_code_file.read_text())
        except (OSError, ValueError):
            return None


def new_home(workspace: WorkspaceFolder, experiment: str) -> RunHome:
    """A folder of its own for a run that is to be submitted."""
    above = experiment_folder(workspace, experiment)
    while True:
        folder = above / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        with storing(str(folder)):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
        return RunHome(folder)


def experiment_folder(workspace: WorkspaceFolder, experiment: str) -> Path:
    return Path(workspace.folder) / "runs" / experiment


def homes(workspace: WorkspaceFolder, experiment: str) -> Iterator[RunHome]:
    """Of all runs of the experiment, the latest first."""
    folder = experiment_folder(workspace, experiment)
    names = os.listdir(folder) if folder.is_dir() else []
    there = [
        home for name in names if name != STEPS and (home := RunHome(folder / name)).submission_file.exists()
    ]
    yield from sorted(there, key=lambda home: home.submission().submitted_at, reverse=True)


def find_home(workspace: WorkspaceFolder, run_id: str, experiment: str | None = None) -> RunHome:
    """Raises NotFoundError, with the nearest."""
    runs = Path(workspace.folder) / "runs"
    experiments = (
        [experiment] if experiment is not None else sorted(os.listdir(runs)) if runs.is_dir() else []
    )
    there = {home.id: home for one in experiments for home in homes(workspace, one)}
    if run_id not in there:
        where = f"experiment {experiment}" if experiment is not None else f"the workspace {workspace.folder}"
        raise NotFoundError(
            f"{where} has no run {shown(run_id)}{did_you_mean(run_id, there)};"
            " Experiment(workspace, name).get_runs() gives those that are there"
        )
    return there[run_id]


def boot_id() -> str:
    """Which start of this machine it is."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
