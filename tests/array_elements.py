"""Elements of a job array as processes of their own, one after the other, and the run that is not divided."""

from __future__ import annotations

from pathlib import Path

import support
from support import mpibatch


def element(job: Path, share: str, *more: object, code: int = 0, **variables: str) -> str:
    """Start one share, to its end; what it has said."""
    ended = mpibatch("run", job, "--share", share, *more, env=support.environment(**variables))
    assert ended.returncode == code, support.words(ended)
    return ended.stdout + ended.stderr


def all_elements(job: Path, shares: int, *more: object) -> None:
    for number in range(shares):
        element(job, f"{number}/{shares}", *more)


def merge(output: Path, *, code: int) -> str:
    ended = mpibatch("merge", output)
    assert ended.returncode == code, support.words(ended)
    return ended.stdout + ended.stderr


def plain(job: Path) -> Path:
    """The folder of a run that is not divided."""
    output = job.parent / "plain"
    ended = mpibatch("run", job, "--output", output)
    assert ended.returncode == 0, support.words(ended)
    return output
