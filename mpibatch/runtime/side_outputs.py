"""`side_outputs` on the disk: folders that scripts write into."""

from __future__ import annotations

import os

from mpibatch.core.config import Job
from mpibatch.core.settings import Problems, shown
from mpibatch.core.side_outputs import KEY
from mpibatch.runtime.files import storing


def check_side_outputs(problems: Problems, job: Job) -> None:
    """Adds a problem for each that is there and is no folder."""
    for name, folder in job.side_outputs.items():
        if os.path.lexists(folder) and not os.path.isdir(folder):
            problems.add(f"{KEY}.{name}", f"is {shown(folder)}: there is something else than a folder")
        elif not os.path.lexists(folder) and (why := no_place_for(folder)) is not None:
            problems.add(f"{KEY}.{name}", f"is {shown(folder)}: {why}")


def no_place_for(path: str) -> str | None:
    """Why nothing can be made at `path`, where there is nothing yet, in words."""
    above = os.path.dirname(path)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        return f"{shown(above)} is no folder"
    return None if os.access(above, os.W_OK | os.X_OK) else f"you may not write into {shown(above)}"


def make_side_outputs(job: Job) -> None:
    """Before the first processor starts. Raises StorageError."""
    for name, folder in job.side_outputs.items():
        with storing(f"the folder {folder} ({KEY}.{name})"):
            os.makedirs(folder, exist_ok=True)
