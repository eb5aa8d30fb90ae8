"""A world of ranks started here: `mpiexec` as a child, and what its parent does meanwhile.

The parent and rank 0 speak through a folder (`runtime.local_folder`). Once a second the parent looks whether rank 0
is frozen, and whether anything of the world stays when it has ended.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from mpibatch.errors import EXIT_CODES, LaunchError
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.local_folder import BEAT_FILE, BEGUN_FILE, EXIT_CODE_FILE, SESSION_FILE
from mpibatch.runtime.local_processes import end_world, is_frozen, processes_of

LOOK_S = 1.0
MOST_LOOKS_AT_LAUNCHER = 5
"""So many looks long the launcher may live on without rank 0, or with no rank that ends."""
MOST_LOOKS_AT_ENDING = 75
"""So many looks long ranks may take to end after rank 0 has told its exit code. More than they wait for each
other (`worker_rank.PART_S`, `DISMISS_S`)."""


def find_mpiexec() -> str:
    """The `mpiexec` of this environment, else of the PATH. LaunchError if there is none."""
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.is_file() else shutil.which("mpiexec") or shutil.which("mpirun")
    if found is None:
        raise LaunchError(
            "the job asks for more than one process, which needs MPI, and there is no mpiexec here. Install one:"
            ' pip install "mpibatch[mpich]"; or load the site\'s MPI module; or set process_count_per_node: 1.'
        )
    return found


def is_open_mpi(mpiexec: str) -> bool:
    """Which family an `mpiexec` is of, as they differ in their options."""
    folder = Path(mpiexec).resolve().parent
    if (folder / "mpiexec.hydra").exists() or "hydra" in Path(mpiexec).resolve().name:
        return False
    if (folder / "prterun").exists() or (folder / "orterun").exists():
        return True
    told = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, check=False)
    return "open mpi" in (told.stdout + told.stderr).lower() or "openrte" in told.stdout.lower()


def launcher_command(mpiexec: str, ranks: int) -> tuple[list[str], dict[str, str]]:
    """The command that starts so many ranks here, and the variables it needs."""
    if not is_open_mpi(mpiexec):
        return [mpiexec, "-n", str(ranks)], {}
    # Unbound, as processors inherit the binding; oversubscribed, as ranks sleep while processors work.
    command = [mpiexec, "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
    as_root = (
        {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.getuid() == 0 else {}
    )
    return command, as_root


class WorldEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a world ended."""

    code: int | None
    """The exit code that rank 0 told; None: the world was lost."""
    how: str
    """What ended it, in words."""
    begun: bool
    """Rank 0 had begun, so that the launcher works."""
    in_session: bool
    """The run was prepared: now it can be continued."""


class World:
    """Started at once; `wait` for its end. `folder` is the one that its ranks know of.

    `patience_s`: after so many seconds without a sign of rank 0, counted in looks, it is frozen. So the time in
    which the whole machine stood still does not count.
    """

    def __init__(
        self, command: Sequence[str], environment: dict[str, str], folder: Path, patience_s: float
    ) -> None:
        self._folder = folder
        self._patience_s = patience_s
        self._over = threading.Event()
        self._why = ""
        self._beat: tuple[str, int] | None = None
        self._looks = {"silent": 0, "dead": 0, "ending": 0}
        # In a session of its own, so that a terminal's Ctrl-C reaches this process and not the launcher.
        self._launcher = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )

    def wait(self) -> WorldEnd:
        """Until the launcher has ended; then nothing of the world is left."""
        watch = threading.Thread(target=self._keep_watch, name="watch", daemon=True)
        watch.start()
        returncode = self._launcher.wait()
        self._over.set()
        watch.join()
        end_world(str(self._folder))
        return WorldEnd(
            code=self._told(returncode),
            how=self._why or f"mpiexec ended with {returncode}",
            begun=(self._folder / BEGUN_FILE).exists(),
            in_session=(self._folder / SESSION_FILE).exists(),
        )

    def kill(self) -> None:
        """All of it, now; `wait` returns soon."""
        self._launcher.kill()

    def _told(self, returncode: int) -> int | None:
        file = self._folder / EXIT_CODE_FILE
        try:
            return int(file.read_text())
        except (FileNotFoundError, ValueError):
            # There and empty: the disk is full, so rank 0 could only say it by its own exit code.
            return returncode if file.exists() and returncode in EXIT_CODES else None

    def _keep_watch(self) -> None:
        while not self._over.wait(LOOK_S):
            why = self._ending() if (self._folder / EXIT_CODE_FILE).exists() else self._running()
            if why:
                self._why = why
                self.kill()
                return

    def _running(self) -> str:
        """Why the world has to be killed now; nothing, if it need not."""
        file = self._folder / BEAT_FILE
        try:
            told, touched = file.read_text(), file.stat().st_mtime_ns
        except OSError:  # Not begun; or rank 0 had no room to tell.
            return ""
        pid, _, started = told.partition(":")
        if not started:
            return ""
        alive = process_started(int(pid)) == int(started)
        if self._seen_too_often("dead", not alive, MOST_LOOKS_AT_LAUNCHER):
            return "rank 0 has died, and mpiexec lived on"
        same = self._beat == (told, touched)
        self._beat = (told, touched)
        if self._seen_too_often("silent", same, round(self._patience_s / LOOK_S)):
            return f"rank 0 was frozen for {self._patience_s:g} s, and has been killed"
        return ""

    def _ending(self) -> str:
        self._looks["ending"] += 1
        looks = self._looks["ending"]
        if looks < MOST_LOOKS_AT_LAUNCHER:
            return ""
        stuck = is_frozen(self._launcher.pid) or not any(
            found.is_rank for found in processes_of(str(self._folder))
        )
        return "ranks did not end, and have been killed" if stuck or looks > MOST_LOOKS_AT_ENDING else ""

    def _seen_too_often(self, what: str, seen: bool, most: int) -> bool:
        self._looks[what] = self._looks[what] + 1 if seen else 0
        return self._looks[what] >= max(1, most)
