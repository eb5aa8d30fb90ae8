"""A run is started as a process of its own that lives on when the caller, a notebook perhaps, is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import mpibatch
from mpibatch.api.run_home import Keeper, RunHome, boot_id
from mpibatch.core.launcher_variables import PROMISES, of_one_rank
from mpibatch.errors import LaunchError
from mpibatch.launch import promised
from mpibatch.runtime.lease import process_started

_STARTER = """\
import os, sys
folder, script, *command = sys.argv[1:]
pid = os.fork()
if pid:
    print(pid, flush=True)
    os._exit(0)
os.setsid()
log = os.open(os.path.join(folder, "log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
for fd, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
    os.dup2(fd, target)
os.closerange(3, 20)
os.execv("/bin/sh", ["sh", "-c", script, folder, *command])
"""
"""An interpreter of its own forks, as that is not for a process with threads; and nobody here has to wait for its
child."""

_KEEPER = """\
trap : TERM INT HUP USR2
"$@"
echo $? >"$0/exit_code.partial" && mv "$0/exit_code.partial" "$0/exit_code"
"""
"""A shell, as small as can be. Signals to its group ask the command to stop; it itself waits, with traps, which
unlike ignored signals the command does not inherit."""


def start(home: RunHome, *, slurm: bool) -> Keeper:
    """Start the pipeline of `home`, detached. LaunchError where this process is one of several ranks."""
    size = promised(os.environ)
    if size not in (None, 1):
        raise LaunchError(
            f"pipelines are submitted by one process, and this is a rank of a launcher that has started"
            f" {size or 'several'}: call it without mpirun or srun"
        )
    verb = ["submit", "--wait"] if slurm else ["run"]
    command = [sys.executable, "-m", "mpibatch", *verb, str(home.pipeline_file)]
    # Of an earlier start of the same run.
    for file in (home.exit_code_file, home.cancelled):
        file.unlink(missing_ok=True)
    log_from = home.log.stat().st_size if home.log.exists() else 0
    try:
        told = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _STARTER, str(home.folder), _KEEPER, *command],
            env=_environment(), cwd=home.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise LaunchError(f"the run {home.id} cannot be started: {error}. Try again.") from error
    pid = int(told)
    return Keeper(
        pid=pid,
        started=process_started(pid),
        host=socket.gethostname(),
        boot_id=boot_id(),
        log_from=log_from,
    )


def _environment() -> dict[str, str]:
    """This process's, so that mpibatch is found; without what says that this is the one rank of a launcher."""
    home = str(Path(mpibatch.__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH")
    kept = {
        name: value for name, value in os.environ.items() if not of_one_rank(name) and name not in PROMISES
    }
    return {**kept, "PYTHONPATH": f"{paths}{os.pathsep}{home}" if paths else home}
