"""Where the processors of one worker live: a scratch folder each, their logs, and the guardian over them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile

from mpibatch.messages import WorkerSetup
from mpibatch.runtime.deaths import Death
from mpibatch.runtime.guardian import Guardian
from mpibatch.runtime.supervisor import Child, interpreter_command, processor_environment

_CALL = "from mpibatch.runtime.processor import main; raise SystemExit(main({fd}, {clock}))"


class Quarters:
    """One processor at a time: `start`, later `bury`. `leave` at the end, in order."""

    def __init__(self, setup: WorkerSetup) -> None:
        """OSError where there is no place for scratch, or no process to be had."""
        self._setup = setup
        self.unwritable = ""
        """Why what processors print is lost, if it is: their log files cannot be made."""
        self._stdout_file = self._log_file(setup.stdout_file)
        self._stderr_file = self._log_file(setup.stderr_file)
        with contextlib.suppress(OSError):  # Whoever writes there makes do without.
            os.makedirs(os.path.dirname(setup.processor.error_file), exist_ok=True)
        self._scratch = tempfile.mkdtemp(prefix=f"mpibatch-{os.getpid()}-")
        self.started = 0
        """Processors, so far."""
        self._folder = ""
        try:
            self._guardian = Guardian(self._scratch, setup.lost_file)
        except OSError:
            shutil.rmtree(self._scratch, ignore_errors=True)
            raise

    def _log_file(self, file: bytes) -> str:
        """The file, once it can be appended to; else where nothing is kept, as no run depends on its logs."""
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "ab"):
                return os.fsdecode(file)
        except OSError as error:
            self.unwritable = f"{os.fsdecode(file)}: {error.strerror}"
            return os.devnull

    def start(self) -> Child:
        """A processor that has been told what it is. OSError where it cannot be started."""
        setup = self._setup
        self._folder = os.path.join(self._scratch, f"{setup.processor.name}-{self.started}")
        variables = {name: os.fsdecode(value) for name, value in setup.environment.items()}
        os.mkdir(self._folder)
        child = Child(
            interpreter_command(os.fsdecode(setup.python) if setup.python else None, _CALL),
            environment=processor_environment(setup.environment_keep, variables),
            cwd=self._folder,
            stdout_file=self._stdout_file,
            stderr_file=self._stderr_file,
        )
        self.started += 1
        self._guardian.watch(child.pid)
        child.send(setup.processor)
        return child

    def bury(self, child: Child) -> Death:
        """After it has ended."""
        child.kill()  # What it has left.
        # Before it is reaped, so that the guardian never holds a number that is somebody else's by now.
        self._guardian.watch(0)
        death = child.bury()
        child.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return death

    def leave(self) -> None:
        """Nothing of it is left, and nobody is lost."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._guardian.dismiss()
