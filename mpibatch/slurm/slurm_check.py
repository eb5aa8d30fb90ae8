"""What Slurm says of itself, for `mpibatch doctor`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from mpibatch.core.findings import Finding, fine, warning

ANSWER_S = 20


def slurm_findings() -> list[Finding]:
    """Its version and partitions, whether jobs may be requeued; that it does not answer, if so."""
    if shutil.which("sinfo") is None:
        return [fine("Slurm", "its commands are not found: jobs are run here, or by mpirun")]
    version, _ = _ask("sinfo", "--version")
    partitions, trouble = _ask("sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G")
    if trouble:
        return [
            warning(
                "Slurm",
                f"{version or 'its commands are here'}, but it does not answer: {trouble}",
                "On a machine that is no part of a cluster that is as it should be; else see SLURM_CONF, slurmctld.",
            )
        ]
    findings = [fine("Slurm", "\n".join([_job(version), *_partitions(partitions)]))]
    config, _ = _ask("scontrol", "show", "config")
    requeue = re.search(r"^JobRequeue\s*=\s*(\d+)", config, re.MULTILINE)
    if requeue is None:
        return findings
    if requeue[1] == "1":
        return [*findings, fine("requeue", "jobs may be requeued (JobRequeue=1)")]
    return [
        *findings,
        fine(
            "requeue",
            "jobs are not requeued (JobRequeue=0) unless they ask for it; scripts submit a successor",
        ),
    ]


def _job(version: str) -> str:
    number = os.environ.get("SLURM_JOB_ID")
    return f"{version}, within job {number}" if number else version


def _partitions(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        name, state, limit, nodes, cpus, memory, gres = (line.split("|") + [""] * 7)[:7]
        gpus = f", {gres}" if gres not in ("", "(null)") else ""
        default = " (default)" if name.endswith("*") else ""
        lines.append(
            f"partition {name.rstrip('*')}{default}: {state}, time limit {limit}, {nodes} nodes of {cpus} CPUs and"
            f" {memory} MB{gpus}"
        )
    return lines


def _ask(*command: str) -> tuple[str, str]:
    """What it says, and what went wrong, if anything."""
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines()
        return "", lines[-1] if lines else f"{command[0]} ended with exit code {ended.returncode}"
    return ended.stdout.strip(), ""
