"""A world of ranks started here: `mpiexec` as a child, and what its parent does meanwhile.

The parent and rank 0 speak through a folder: the parent's signals go there, the exit code comes from there.
So no signal need reach the launcher, which would kill its ranks.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mpibatch.errors import EXIT_CODES, EXIT_INTERRUPTED, EXIT_STOPPED, LaunchError, StoppedError, tell
from mpibatch.launch import STARTED, TTY
from mpibatch.runtime.lease import process_started
from mpibatch.runtime.stops import (
    BEGUN_FILE,
    EXIT_CODE_FILE,
    LOCAL_FOLDER,
    PARENT,
    SIGNALS_FILE,
    catch_signals,
)
from mpibatch.runtime.supervisor import interpreter_command

_CALL = "from mpibatch.__main__ import main; raise SystemExit(main())"


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


class _Parent:
    """Signals of this process become lines of a file that rank 0 reads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.interrupted = False

    def install(self) -> None:
        catch_signals(self._pass_on)

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        self.interrupted = self.interrupted or number == signal.SIGINT
        with contextlib.suppress(OSError):  # All has ended a moment ago.
            # Appended, as the next signal may come in the midst of this.
            with open(self._folder / SIGNALS_FILE, "a", encoding="ascii") as file:
                file.write(f"{signal.Signals(number).name}\n")
            if self._count > 2 and self._process is not None:
                os.killpg(self._process.pid, signal.SIGKILL)


def run_world(arguments: Sequence[str], ranks: int, started_at: float) -> int:
    """Run `mpibatch ARGUMENTS` as a world of so many ranks here; the exit code of rank 0."""
    mpiexec = find_mpiexec()
    with tempfile.TemporaryDirectory(prefix="mpibatch-local-") as name:
        folder = Path(name)
        parent = _Parent(folder)
        parent.install()
        command, variables = launcher_command(mpiexec, ranks)
        environment = {
            **os.environ,
            **variables,
            LOCAL_FOLDER: name,
            STARTED: str(started_at),
            PARENT: f"{os.getpid()}:{process_started(os.getpid())}",
        }
        if sys.stderr.isatty():
            environment[TTY] = os.ttyname(sys.stderr.fileno())
        # In a session of its own, so that a terminal's Ctrl-C reaches this process and not the launcher.
        command += [*interpreter_command(None, _CALL), *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
        parent.watch(process)
        returncode = process.wait()
        return _exit_code(folder, command, returncode, parent.interrupted)


def _exit_code(folder: Path, command: list[str], returncode: int, interrupted: bool) -> int:
    try:
        code = int((folder / EXIT_CODE_FILE).read_text())
    except (FileNotFoundError, ValueError):
        if (folder / EXIT_CODE_FILE).exists() and returncode in EXIT_CODES:
            return returncode  # The disk is full, so rank 0 could only say it by its own exit code.
        if not interrupted and not (folder / BEGUN_FILE).exists():
            raise LaunchError(
                f"{command[0]} ended with {returncode} before rank 0 had begun; what it said stands above."
                f" The command was: {shlex.join(command)}"
            ) from None
        tell(
            StoppedError(
                f"the MPI ranks were lost (mpiexec ended with {returncode}) before the run ended."
                " What was finished is kept: start the same command again to continue."
            )
        )
        return EXIT_INTERRUPTED if interrupted else EXIT_STOPPED
    return EXIT_INTERRUPTED if interrupted and code == EXIT_STOPPED else code
