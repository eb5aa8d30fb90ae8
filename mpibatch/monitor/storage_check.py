"""Whether a run folder's file system does what runs rely on: tried out there, in a folder that is removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from mpibatch.core.findings import Finding, fine, warning, wrong
from mpibatch.monitor.mounts import read_mount
from mpibatch.runtime.files import sync_folder, write_whole
from mpibatch.runtime.memory import gibibytes

AREA = "run folder"
SLOW_SYNC_S = 1.0
LITTLE_BYTES = 1 << 30
LOCK_S = 30
_TRIED_BYTES = 1 << 20
_ELSEWHERE = "Choose another folder with --output (or output: in the job file)."
_TRY_LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    raise SystemExit(3)
"""


def check_run_folder(folder: Path, *, several_nodes: bool) -> list[Finding]:
    """`folder` need not exist; nothing of it is left that was not there. `several_nodes`: the job asks for them."""
    there = existing(folder)
    mount = read_mount(str(there))
    findings = [fine(AREA, f"{folder}, on {mount.words()}")]
    if several_nodes and mount.reach in ("local", "memory"):
        findings.append(
            wrong(AREA, f"the job asks for several nodes, but {folder} is on {mount.words()}", _ELSEWHERE)
        )
    elif mount.reach == "memory":
        findings.append(
            warning(AREA, f"{folder} is on {mount.words()}: all is lost when that restarts", _ELSEWHERE)
        )
    try:
        with scratch_in(there) as scratch:
            for tried in (_sync, _rename, _link, _lock):
                findings.append(_tried(tried, scratch))
    except OSError as error:
        findings.append(
            wrong(AREA, f"nothing can be written to {there}: {error.strerror or error}", _ELSEWHERE)
        )
        return findings
    free = shutil.disk_usage(there).free
    if free < LITTLE_BYTES:
        findings.append(warning(AREA, f"only {gibibytes(free)} are free there", _ELSEWHERE))
    return findings


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    path = folder.absolute()
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


@contextlib.contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A folder in it that is removed afterwards."""
    name = tempfile.mkdtemp(prefix=".mpibatch-doctor-", dir=folder)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def _tried(what: Callable[[Path], Finding], scratch: Path) -> Finding:
    try:
        return what(scratch)
    except OSError as error:
        name = what.__name__.strip("_")
        return wrong(AREA, f"{name} fails there: {error.strerror or error}", _ELSEWHERE)


def _sync(scratch: Path) -> Finding:
    began = time.monotonic()
    with open(scratch / "synced", "wb") as file:
        file.write(bytes(_TRIED_BYTES))
        file.flush()
        os.fsync(file.fileno())
    sync_folder(scratch)
    took_s = time.monotonic() - began
    if took_s > SLOW_SYNC_S:
        return warning(
            AREA, f"fsync is slow: {took_s:.1f} s for 1 MiB, and runs need one each second", _ELSEWHERE
        )
    return fine(AREA, f"fsync works ({1000 * took_s:.1f} ms for 1 MiB)")


def _rename(scratch: Path) -> Finding:
    target = scratch / "renamed"
    for content in (b"old", b"new"):
        write_whole(target, content, durable=False)
    if target.read_bytes() != b"new":
        return wrong(AREA, "a file that was renamed over another one has the other's content", _ELSEWHERE)
    return fine(AREA, "files can be renamed over each other")


def _link(scratch: Path) -> Finding:
    """Of several elements of an array, one publishes the plan: the first whose link is made."""
    first, second, name = scratch / "first", scratch / "second", scratch / "name"
    for file in (first, second):
        file.touch()
    try:
        os.link(first, name)
    except OSError as error:
        words = f"no hard links there ({error.strerror}), which job arrays need"
        return warning(AREA, words, "Run without array, or elsewhere.")
    with contextlib.suppress(FileExistsError):
        os.link(second, name)
        return wrong(
            AREA, "a link replaces what is there, so that two starts can overwrite each other", _ELSEWHERE
        )
    return fine(AREA, "hard links work")


def _lock(scratch: Path) -> Finding:
    """Between two processes: one alone gets every lock."""
    path = scratch / "lock"
    with open(path, "w+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            return _no_locks(f"it has none ({error.strerror})")
        if not excluded(path):
            return _no_locks("two processes got the same one")
    return fine(AREA, "locks work between processes of this machine")


def excluded(path: Path) -> bool:
    """Whether another process, started here, cannot get a lock of this file."""
    ended = subprocess.run(
        [sys.executable, "-c", _TRY_LOCK, str(path)], stdin=subprocess.DEVNULL, capture_output=True,
        timeout=LOCK_S, check=False,
    )  # fmt: skip
    return ended.returncode == 3


def _no_locks(how: str) -> Finding:
    return warning(
        AREA,
        f"its file system does not carry locks: {how}",
        "Runs are still kept apart, by a lease: a start after a lost one waits up to half a minute.",
    )
