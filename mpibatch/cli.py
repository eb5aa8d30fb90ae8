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
@click.option(
    "--share",
    metavar="K/N",
    help="Do share K (from 0) of N only, as an element of a job array; Slurm's arrays tell by themselves.",
)
@click.option("--dry-run", is_flag=True, help="Check the job and the script, and show the plan; run nothing.")
def run(
    job: str,
    sets: tuple[str, ...],
    output: str | None,
    fresh: bool,
    only_failed: bool,
    share: str | None,
    dry_run: bool,
) -> None:
    """Run JOB, a YAML file of a job or a pipeline; or go on with it where it stopped.

    Under mpirun or srun this process is a rank of the world that they start. Without them, a job of more
    than one process starts mpiexec here.
    """
    if fresh and only_failed:
        raise click.UsageError(
            "--fresh throws the run away whose failed items --only-failed tries again: leave one out"
        )
    if dry_run:
        from mpibatch.dry_run import dry_run as show

        click.echo(show(job, sets=sets, output=output, share=share))
        return
    from mpibatch.start import start

    sys.exit(
        start(
            job,
            sets=sets,
            output=output,
            fresh=fresh,
            only_failed=only_failed,
            share=share,
            started_at=_started_at(),
        )
    )


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
@click.option("--only-failed", is_flag=True, help="Try the failed items of a complete run again.")
@click.option("--dry-run", is_flag=True, help="Print the batch script; submit nothing.")
@click.option("--wait", is_flag=True, help="Follow the job to its end, and end with the run's exit code.")
def submit(
    job: str,
    sets: tuple[str, ...],
    output: str | None,
    fresh: bool,
    only_failed: bool,
    dry_run: bool,
    wait: bool,
) -> None:
    """Submit JOB, a YAML file, to Slurm: writes its batch script and calls sbatch.

    The job sees to it by itself that it comes to its end, also beyond the wall time.
    """
    if fresh and only_failed:
        raise click.UsageError(
            "--fresh throws the run away whose failed items --only-failed tries again: leave one out"
        )
    if dry_run and wait:
        raise click.UsageError("--dry-run submits nothing that --wait could wait for: leave one out")
    from mpibatch.submission import Wanted, script_text, submit_job

    wanted = Wanted(job, sets, output, fresh, only_failed)
    if dry_run:
        # Bytes, as paths may be no UTF-8; and nothing but the script.
        click.echo(script_text(wanted).encode("utf-8", "surrogateescape"), nl=False)
        return
    sys.exit(submit_job(wanted, wait=wait))


@cli.command()
@click.argument("folder", type=click.Path())
def stop(folder: str) -> None:
    """Ask the run in FOLDER to stop: what is running may finish. Starting it again continues it.

    A second time: what is running is given up.
    """
    from mpibatch.monitor.stop import ask_to_stop

    _refuse_unbegun(folder)
    click.echo(ask_to_stop(Path(folder)))


@cli.command()
@click.argument("folder", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(folder: str, as_json: bool) -> None:
    """Tell how the run in FOLDER stands, from its files alone."""
    from mpibatch.monitor.array_status import array_text, read_array
    from mpibatch.monitor.pipeline_status import pipeline_text, read_pipeline
    from mpibatch.monitor.status import read_status, status_json, status_text

    _refuse_unbegun(folder)
    pipeline = read_pipeline(Path(folder))
    if pipeline is not None:
        click.echo(status_json(pipeline) if as_json else pipeline_text(pipeline))
        return
    array = read_array(Path(folder))
    if array is not None:
        click.echo(status_json(array) if as_json else array_text(array))
        return
    told = read_status(Path(folder))
    click.echo(status_json(told) if as_json else status_text(told))


@cli.command()
@click.argument("job", type=click.Path(), required=False)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Replace a key of the job file.")
@click.option("--output", type=click.Path(), help="The run folder to look at, in place of the job file's.")
@click.option("--processes", type=click.IntRange(1), help="Show what so many workers of a node would get.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def doctor(
    job: str | None, sets: tuple[str, ...], output: str | None, processes: int | None, as_json: bool
) -> None:
    """Tell what is here (MPI, Slurm, devices, CPUs, storage), and what is wrong. It runs nothing.

    Under srun or mpirun it shows what each rank gets. Ends with 2 where something is wrong.
    """
    from mpibatch.doctor import doctor as look

    text, code = look(job, sets=sets, output=output, processes=processes, json=as_json)
    if text:
        click.echo(text)
    sys.exit(code)


@cli.command()
@click.argument("file", type=click.Path())
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Replace a key of FILE, as for run.")
def convert(file: str, sets: tuple[str, ...]) -> None:
    """Print what FILE, an Azure ML YAML file, is as a job or pipeline file of mpibatch's own.

    Paths in it are relative to the folder of FILE. run, submit and doctor take FILE itself as well.
    """
    from mpibatch.runtime.conversion import converted

    # Bytes, as paths may be no UTF-8.
    click.echo(converted(file, sets=sets).encode("utf-8", "surrogateescape"), nl=False)


@cli.command()
@click.argument("folder", type=click.Path())
def merge(folder: str) -> None:
    """Make the output of all shares of the job array in FOLDER, which have to be complete."""
    from mpibatch.merge import merge as merge_all

    words, code = merge_all(Path(folder), lambda text: click.echo(text, err=True))
    click.echo(words)
    sys.exit(code)


def _refuse_unbegun(folder: str) -> None:
    """RunFolderError where a job was submitted for this run folder, and has not made it yet."""
    if os.path.lexists(folder):
        return
    from mpibatch.errors import RunFolderError
    from mpibatch.slurm.submit import submitted_words

    words = submitted_words(folder)
    if words is not None:
        raise RunFolderError(words)


def _started_at() -> float:
    """When this command was started, by the clock of `time.monotonic`, also in the ranks of a local world."""
    from mpibatch.launch import STARTED

    return float(os.environ.get(STARTED, time.monotonic()))
