"""The folder through which the parent that started a world here and rank 0 speak: its files, and rank 0's side.

The parent's signals go there, the exit code comes from there. So no signal need reach the launcher, which would
kill its ranks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

from mpibatch.runtime.lease import process_started

LOCAL_FOLDER = "MPIBATCH_LOCAL"
"""Variable: the folder."""
PARENT = "MPIBATCH_PARENT"
"""Variable: that parent, as "process id:start"."""
SIGNALS_FILE = "signals"
"""The names of the signals that the parent got, one a line."""
BEGUN_FILE = "begun"
"""Rank 0 has begun, so that what goes wrong from now on is no fault of the launcher."""
SESSION_FILE = "session"
"""The run is prepared: from now on it is to be continued, and not to be begun anew."""
BEAT_FILE = "beat"
"""Rank 0, as "process id:start"; touched each second while it lives."""
EXIT_CODE_FILE = "exit_code"
END_FILE = "MPIBATCH_END_FILE"
"""Variable: the file in which rank 0 tells a batch script how it ended, as a launcher's own exit code may be that of
another rank, or of what killed it. One line: `begun`, then `session`, at last the exit code and why."""

BEAT_S = 1.0


def parents_signals() -> Path | None:
    """The file with the signals that the parent got; None if no parent started this world here."""
    local = os.environ.get(LOCAL_FOLDER)
    return Path(local) / SIGNALS_FILE if local else None


def parent_has_died() -> bool:
    """Whether a parent started this world here and is no more."""
    pid, _, started = os.environ.get(PARENT, "").partition(":")
    return bool(pid) and process_started(int(pid)) != int(started)


def tell_parent(name: str, content: str = "") -> bool:
    """Leave a file for the parent, if one started this world: whether it is there. If the parent has died,
    its folder is removed."""
    local = os.environ.get(LOCAL_FOLDER)
    if not local:
        return False
    try:
        (Path(local) / name).write_text(content)
        told = True
    except OSError:  # A full disk, and the parent sees less.
        told = False
    if parent_has_died():
        shutil.rmtree(local, ignore_errors=True)
    return told


def tell_batch(line: str) -> None:
    """Tell the batch script, if one wants to know. If this cannot be written, it takes rank 0 for lost."""
    file = os.environ.get(END_FILE)
    if file:
        with contextlib.suppress(OSError):
            Path(file).write_text(f"{line}\n")


def tell_batch_code(code: int) -> None:
    """Tell the batch script the exit code, unless it stands there already, with why."""
    file = os.environ.get(END_FILE)
    if file:
        with contextlib.suppress(OSError):
            if Path(file).read_text().split()[:1] == [str(code)]:
                return
        tell_batch(str(code))


def beat() -> None:
    """Show the parent from now on that this process, rank 0, is not frozen: in a thread, as the main one may be
    in a long read. Without a parent nothing is done."""
    local = os.environ.get(LOCAL_FOLDER)
    if local and tell_parent(BEAT_FILE, f"{os.getpid()}:{process_started(os.getpid())}"):
        threading.Thread(target=_beat, args=(Path(local) / BEAT_FILE,), name="beat", daemon=True).start()


def _beat(file: Path) -> None:
    while True:
        time.sleep(BEAT_S)
        try:
            os.utime(file)
        except OSError:  # The parent is gone with its folder; who looks for it will see that.
            return
