"""Who owns a run folder: a lease file, renewed while its owner lives, besides a file lock.

The lock (`lockf`) decides at once where it works, on one host always. The lease decides between hosts whose
file system does not carry locks: its owner is dead if it was on this host and its process is gone, or if
the lease was not renewed for `LEASE_S` while we watched. What the clocks of the wall say decides nothing. A session's
number, claimed by creating its journal, is the last fence (`journal`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import socket
import threading
import time
from collections.abc import Callable

import msgspec

from mpibatch.errors import RunFolderError, StoppedError
from mpibatch.runtime.files import storing, write_whole
from mpibatch.runtime.run_folder import RunFolder

RENEW_S = 5.0
LEASE_S = 30.0
LOOK_S = 0.5
DYING_S = 5.0
"""How long a start waits for an owner on this host that may be about to end."""


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`lease.json`."""

    host: str
    boot_id: str
    pid: int
    started: int
    """Start of the process in clock ticks since boot, as its number may be used again."""
    slurm_job: str | None
    renewed: float
    """Seconds since the epoch, by the owner's clock: others only look whether it changes."""
    session: int

    def same_owner(self, other: LeaseRecord) -> bool:
        return (self.host, self.boot_id, self.pid, self.started) == (
            other.host, other.boot_id, other.pid, other.started,
        )  # fmt: skip


def process_started(pid: int) -> int | None:
    """When a process of this host started, in clock ticks since boot; None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Lease:
    """Held from `acquire` to `release`, and meanwhile renewed by a thread of its own: planning, a slow disk and
    finalising may each take longer than a lease lasts. `check` it before what only the owner may write.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._lock_fd = -1
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._over = threading.Event()
        self._writing = threading.Lock()
        self._lost: Exception | None = None
        self._written_at = 0.0
        self._record = LeaseRecord(
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid=os.getpid(),
            started=process_started(os.getpid()) or 0,
            slurm_job=os.environ.get("SLURM_JOB_ID"),
            renewed=time.time(),
            session=0,
        )

    def acquire(self, say: Callable[[str], None]) -> bool:
        """Become the owner, waiting for a dying one; `.mpibatch` must exist. RunFolderError if it is alive. Returns
        whether there was one at first, that has ended meanwhile."""
        deadline = time.monotonic() + DYING_S
        told = False
        while not (self._try_lock() and self._owner_is_gone(say)):
            self._unlock()
            if time.monotonic() > deadline:
                raise self._in_use()
            if not told:
                told = True
                say(f"the run folder is in use by {self._user()}; waiting up to {DYING_S:g} s for its end")
            time.sleep(0.1)
        try:
            self._write(0, durable=True)
        except BaseException:
            self._unlock()
            raise
        self._thread.start()
        return told

    def set_session(self, session: int) -> None:
        """Write the lease, now with the number of this session. StoppedError as of `renew`."""
        self._renew(session, durable=True)

    def renew(self) -> None:
        """Say that we are alive. StoppedError if somebody else has taken the run over."""
        self._renew(self._record.session, durable=False)

    def check(self) -> None:
        """Raises what has ended the renewals, if anything has: StoppedError, or StorageError. If we stood still for
        so long that we may have been taken for dead, it looks first."""
        if self._lost is None and _elapsed() - self._written_at > LEASE_S / 2:
            self.renew()
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                self.renew()
            except Exception as error:  # Whoever asks `check` raises it.
                self._lost = error
                return

    def _renew(self, session: int, *, durable: bool) -> None:
        with self._writing:
            owner = self._read()
            if owner is None or not owner.same_owner(self._record):
                who = _words(owner) if owner else "its lease is gone"
                raise StoppedError(
                    f"another start has taken over the run folder {self._folder.root} ({who}):"
                    " this one stops, and what it finished is kept."
                )
            self._write(session, durable=durable)

    def _write(self, session: int, *, durable: bool) -> None:
        self._record = msgspec.structs.replace(self._record, session=session, renewed=time.time())
        with storing(str(self._folder.lease)):
            write_whole(self._folder.lease, msgspec.json.encode(self._record), durable=durable)
        self._written_at = _elapsed()

    def release(self) -> None:
        """Give the run folder up, in order."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(DYING_S)  # Not for ever: a dead disk may hold it.
        owner = self._read()
        if owner is not None and owner.same_owner(self._record):
            with contextlib.suppress(OSError):  # Its process ends now: the next start sees that as well.
                self._folder.lease.unlink()
        self._unlock()

    def _try_lock(self) -> bool:
        with storing(str(self._folder.lock)):
            self._lock_fd = os.open(self._folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # ENOLCK, ENOSYS: no locks on this file system, so the lease has to do.
            return error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _read(self) -> LeaseRecord | None:
        try:
            return msgspec.json.decode(self._folder.lease.read_bytes(), type=LeaseRecord)
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _owner_is_gone(self, say: Callable[[str], None]) -> bool:
        owner = self._read()
        if owner is None:
            return True
        if owner.host == self._record.host and owner.boot_id == self._record.boot_id:
            return process_started(owner.pid) != owner.started
        if owner.host == self._record.host:
            return True  # It was before this host's last start.
        say(
            f"the run folder was last used by {_words(owner)}; waiting up to {LEASE_S:g} s to see whether it is alive"
        )
        return self._outwait(owner)

    def _outwait(self, owner: LeaseRecord) -> bool:
        """Whether the lease stays unrenewed for its whole time, in looks: so a time in which we ourselves stood
        still counts as one."""
        for _ in range(math.ceil(LEASE_S / LOOK_S)):
            time.sleep(LOOK_S)
            now = self._read()
            if now is None:
                return True
            if now.renewed != owner.renewed or not now.same_owner(owner):
                return False
        return True

    def _user(self) -> str:
        owner = self._read()
        return _words(owner) if owner else "another start"

    def _in_use(self) -> RunFolderError:
        return RunFolderError(
            f"the run folder {self._folder.root} is in use by {self._user()}."
            f" Wait for it (mpibatch status {self._folder.root}), stop it (mpibatch stop {self._folder.root}),"
            " or choose another folder with --output."
        )


def _elapsed() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps, as those of others do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _words(owner: LeaseRecord) -> str:
    job = f", Slurm job {owner.slurm_job}" if owner.slurm_job else ""
    return f"process {owner.pid} on {owner.host}{job}"
