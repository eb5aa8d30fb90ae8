"""The command line: arguments in, exit code out."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from mpibatch import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mpibatch")
def cli() -> None:
    """Run a Python entry script over a large input, on one machine or a cluster."""


@cli.command()
@click.argument("job", type=click.Path())
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a key of the job file (dotted, YAML value).",
)
@click.option("--output", type=click.Path(), help="The run folder, in place of the job file's.")
@click.option("--fresh", is_flag=True, help="Throw the run that is in the run folder away and begin anew.")
@click.option(
    "--only-failed",
    is_flag=True,
    help="Try the failed items of a complete run again; their rows take their places in the output.",
)
@click.option("--dry-run", is_flag=True, help="Check the job and the script, and show the plan; run nothing.")
def run(
    job: str, sets: tuple[str, ...], output: str | None, fresh: bool, only_failed: bool, dry_run: bool
) -> None:
    """Run JOB, a YAML file; or go on with it where it stopped.

    Under mpirun or srun this process is a rank of the world that they start. Without them, a job of more
    than one process starts mpiexec here.
    """
    if fresh and only_failed:
        raise click.UsageError(
            "--fresh throws the run away whose failed items --only-failed tries again: leave one out"
        )
    if dry_run:
        from mpibatch.dry_run import dry_run as show

        click.echo(show(job, sets=sets, output=output))
        return
    from mpibatch.start import start

    sys.exit(
        start(job, sets=sets, output=output, fresh=fresh, only_failed=only_failed, started_at=_started_at())
    )


@cli.command()
@click.argument("folder", type=click.Path())
def stop(folder: str) -> None:
    """Ask the run in FOLDER to stop: what is running may finish. Starting it again continues it.

    A second time: what is running is given up.
    """
    from mpibatch.monitor.stop import ask_to_stop

    click.echo(ask_to_stop(Path(folder)))


@cli.command()
@click.argument("folder", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(folder: str, as_json: bool) -> None:
    """Tell how the run in FOLDER stands, from its files alone."""
    from mpibatch.monitor.status import read_status, status_json, status_text

    told = read_status(Path(folder))
    click.echo(status_json(told) if as_json else status_text(told))


def _started_at() -> float:
    """When this command was started, by the clock of `time.monotonic`, also in the ranks of a local world."""
    from mpibatch.launch import STARTED

    return float(os.environ.get(STARTED, time.monotonic()))
