"""What the reference scripts in the folder slurm/ have to be. `python tests/reference_scripts.py` writes them."""

from __future__ import annotations

from pathlib import Path

from mpibatch.runtime.jobfile import load_job
from mpibatch.slurm.script import batch_script, program, seen_from

FOLDER = Path(__file__).parent.parent / "slurm"


def job_files() -> list[Path]:
    return sorted(FOLDER.glob("*.yaml"))


def expected(job_file: Path) -> str:
    """What `mpibatch submit JOB --dry-run` prints for a job file, called in its folder."""
    job, folder = load_job(job_file), str(job_file.parent)
    command = [*program(job, None), "run", job_file.name]
    return batch_script(job, command=command, run_folder=seen_from(folder, job.output), folder=folder).text


if __name__ == "__main__":
    for one in job_files():
        script = one.with_suffix(".sh")
        script.write_text(expected(one))
        print(script)
