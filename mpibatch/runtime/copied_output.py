"""`copy_output_to` on the disk: whether a copy can be put there, and a copy that is missing put there again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mpibatch.core.config import Job
from mpibatch.core.output_copy import KEY
from mpibatch.core.settings import Problems, shown
from mpibatch.outputs.delivery import copy_whole
from mpibatch.runtime.files import storing
from mpibatch.runtime.side_outputs import no_place_for


def check_copy_target(problems: Problems, job: Job) -> None:
    """What is there, or above it, must let a file be put there: else adds a problem."""
    path = job.copy_output_to
    if path is None:
        return
    if os.path.isdir(path):
        problems.add(KEY, f"is {shown(path)}: that is a folder; name the file in it")
    elif (why := no_place_for(path)) is not None:
        problems.add(KEY, f"is {shown(path)}: {why}")


def copy_again(copy_to: str | None, output: Path | None, say: Callable[[str], None]) -> None:
    """Of a finished run, whose rows are in `output`: the copy, if it is missing."""
    if copy_to is None or output is None or os.path.lexists(copy_to):
        return
    with storing(copy_to):
        copy_whole(output, Path(copy_to), of=output)
    say(f"the copy of the rows was missing: {copy_to} is made again")
