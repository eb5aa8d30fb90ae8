"""`mpibatch stop`: asks through the run folder, so it works from any machine that sees it."""

from __future__ import annotations

from pathlib import Path

from mpibatch.errors import RunFolderError
from mpibatch.monitor.status import read_status
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.stops import AT_ONCE


def ask_to_stop(folder: Path) -> str:
    """Ask the run in `folder` to stop, the second time to give up what is running; what was done, in words.

    RunFolderError if no run is going on there.
    """
    state = read_status(folder).state
    if state != "running":
        raise RunFolderError(
            f"nothing is running in {folder}: its run has {state}. There is nothing to stop."
        )
    stop = RunFolder(folder).stop
    again = stop.exists()
    with storing(str(stop)):
        write_whole(stop, (AT_ONCE if again else "drain").encode())
    if again:
        return f"asked the run in {folder} to give up what is running and to stop at once"
    return f"asked the run in {folder} to stop: what is running may finish (a second time: it is given up)"
