"""`mpibatch stop`: asks through the run folder, so it works from any machine that sees it."""

from __future__ import annotations

from pathlib import Path

from mpibatch.errors import RunFolderError
from mpibatch.monitor.array_status import ArrayStatus, read_array
from mpibatch.monitor.figures import counted
from mpibatch.monitor.pipeline_status import read_pipeline
from mpibatch.monitor.status import State, read_status
from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.stops import AT_ONCE


def ask_to_stop(folder: Path) -> str:
    """Ask the run in `folder` to stop, the second time to give up what is running; what was done, in words.

    RunFolderError if no run is going on there.
    """
    pipeline = read_pipeline(folder)
    if pipeline is not None:
        return _ask(
            folder,
            pipeline.state,
            "pipeline",
            "what its step has running may finish, and no other step begins",
        )
    array = read_array(folder)
    if array is not None:
        return _stop_all(folder, array)
    return _ask(folder, read_status(folder).state, "run", "what is running may finish")


def _ask(folder: Path, state: State, what: str, first: str) -> str:
    """`what`: a run or a pipeline; `first`: what happens the first time."""
    if state != "running":
        raise RunFolderError(
            f"nothing is running in {folder}: its {what} has {state}. There is nothing to stop."
        )
    stop = RunFolder(folder).stop
    again = stop.exists()
    with storing(str(stop)):
        write_whole(stop, (AT_ONCE if again else "drain").encode())
    if again:
        return f"asked the {what} in {folder} to give up what is running and to stop at once"
    return f"asked the {what} in {folder} to stop: {first} (a second time: it is given up)"


def _stop_all(folder: Path, array: ArrayStatus) -> str:
    """Ask all elements of a job array that are running."""
    running = [one.number for one in array.shares if one.state == "running"]
    if not running:
        raise RunFolderError(
            f"nothing is running in {folder}: no element of its job array is. There is nothing to stop."
        )
    whole = RunFolder(folder)
    for number in running:
        ask_to_stop(share_folder(whole, number).root)
    return (
        f"asked {counted(len(running), 'element')} of the array in {folder} to stop, as `mpibatch stop` does with one"
        " run. Elements that wait in a queue begin all the same, unless they are cancelled there."
    )
