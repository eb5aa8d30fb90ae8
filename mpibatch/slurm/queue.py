"""How jobs stand, by `squeue`: it needs no database of ended jobs, but forgets them after some minutes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from mpibatch.errors import LaunchError

ANSWER_S = 60
_FIELDS = "JobArrayID:48 |,State:32 |,exit_code:16 |,RestartCnt:16 |,Reason:96 |"
ENDED = frozenset(
    (
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    )
)
"""States that a job does not leave by itself."""


class Seen(msgspec.Struct, frozen=True):
    """A job, or an element of an array, in the queue."""

    job: str
    """`41`, or `41_3`."""
    state: str
    status: int
    """Of its batch script, as `wait` gives it."""
    starts: int
    """How often it was put back into the queue."""
    reason: str
    """Why it waits."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def exit_code(self) -> int | None:
        """Of its batch script; None where a signal has ended it, or Slurm has."""
        if self.state == "COMPLETED":
            return 0
        return (self.status >> 8) or None if self.state == "FAILED" else None


def look(jobs: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[Seen] | None:
    """What is known of jobs (numbers, of arrays as well); those that are forgotten are not in it. None where Slurm
    does not answer."""
    # Variables that would show something else, or only a part of it.
    kept = {name: value for name, value in environment.items() if not name.startswith("SQUEUE_")}
    try:
        told = subprocess.run(
            ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(jobs)}", f"--Format={_FIELDS}"],
            env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode != 0:
        return [] if "Invalid job id" in told.stderr else None
    return [seen for line in told.stdout.splitlines() if (seen := _seen(line)) is not None]


def cancel(job: str) -> None:
    """Take a job out of the queue, whether it waits or runs. LaunchError where Slurm does not do it."""
    try:
        ended = subprocess.run(
            ["scancel", job],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=ANSWER_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(
            f"scancel {job} cannot be run, or does not answer: {error}. Try again later."
        ) from error
    if ended.returncode != 0 and "Invalid job id" not in ended.stderr:
        raise LaunchError(f"scancel {job} has failed: {ended.stderr.strip()}. Try again later.")


def _seen(line: str) -> Seen | None:
    parts = [part.strip() for part in line.split("|")]
    if len(parts) < 5 or not parts[0]:
        return None
    job, state, status, starts, reason = parts[:5]
    return Seen(job, state, _number(status), _number(starts), reason)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
