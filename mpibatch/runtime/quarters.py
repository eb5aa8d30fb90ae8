"""Where the processors of one worker live: a scratch folder each, their logs, and the guardian over them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import msgspec

from mpibatch.core.environment_script import being_made
from mpibatch.messages import WorkerSetup
from mpibatch.runtime.deaths import Death
from mpibatch.runtime.guardian import Guardian
from mpibatch.runtime.supervisor import Child, interpreter_command, processor_environment, shell_command

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
        self.unbound = ""
        """Why the last one is not bound to its CPUs, if it is not."""
        self._folder = ""
        self._script = os.path.join(self._scratch, "environment.sh")
        self._state = os.path.join(self._scratch, "environment")
        """What of the environment is being made, as long as it is."""
        try:
            if setup.environment_script:
                with open(self._script, "wb") as file:
                    file.write(setup.environment_script)
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
        defaults = {name: v for name, v in setup.environment_defaults.items() if name not in os.environ}
        variables = {name: os.fsdecode(value) for name, value in setup.environment.items()}
        os.mkdir(self._folder)
        with self._on_its_cpus():
            child = Child(
                self._command(),
                environment=processor_environment(setup.environment_keep, defaults | variables),
                cwd=self._folder,
                stdout_file=self._stdout_file,
                stderr_file=self._stderr_file,
                waits=bool(setup.environment_script),
            )
        self.started += 1
        self._guardian.watch(child.pid)
        child.let_go()
        child.send(setup.processor)
        return child

    @contextlib.contextmanager
    def _on_its_cpus(self) -> Iterator[None]:
        """What is started meanwhile is bound, as it inherits that from this thread: later, it would have threads."""
        self.unbound = ""
        if not self._setup.cpus:
            yield
            return
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, self._setup.cpus)
        except OSError as error:  # They may have been taken away meanwhile.
            self.unbound = str(error)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # As well: a child that is there must not be lost by that.
                os.sched_setaffinity(0, before)

    def _command(self) -> list[str]:
        if self._setup.environment_script:
            return shell_command(self._script, self._state, _CALL)
        return interpreter_command(os.fsdecode(self._setup.python) if self._setup.python else None, _CALL)

    def bury(self, child: Child) -> Death:
        """After it has ended."""
        child.kill()  # What it has left.
        # Before it is reaped, so that the guardian never holds a number that is somebody else's by now.
        self._guardian.watch(0)
        death = child.bury()
        child.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._setup.environment_script:
            death = msgspec.structs.replace(death, unmade=self._unmade())
        return death

    def _unmade(self) -> str:
        """What of its environment was being made when it ended; empty if all was made."""
        try:
            with open(self._state, "rb") as file:
                state = file.read()
        except OSError:
            return ""
        return being_made(os.fsdecode(self._setup.environment_script), os.fsdecode(state))

    def leave(self) -> None:
        """Nothing of it is left, and nobody is lost."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._guardian.dismiss()
