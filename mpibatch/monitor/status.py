"""`mpibatch status`: how a run stands, from the files of its folder alone, on any machine that sees them."""

from __future__ import annotations

import difflib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

import msgspec

from mpibatch.errors import RunFolderError, StorageError
from mpibatch.monitor.figures import counted, duration, percent, rate, shown
from mpibatch.monitor.summary import (
    first_cause_words,
    going_on_words,
    items_words,
    output_words,
    time_words,
    verdict_words,
)
from mpibatch.results import JobResult, Snapshot
from mpibatch.runtime.lease import LeaseRecord, process_started
from mpibatch.runtime.run_folder import RunFolder

SILENT_S = 60.0
"""A lease of another machine that was not renewed for so long has lost its owner. Longer than the lease
itself, as clocks differ and a network file system may show what was there some seconds ago."""

T = TypeVar("T")
State = Literal["running", "ended", "dead"]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """How far the survey of the inputs is. There may be several in one start, as one asks what another has found."""

    total: int
    """Parts that the inputs are looked at in."""
    surveyed: int
    age_s: float
    """Seconds since this was written."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `mpibatch status --json` prints; keys are never renamed, only added."""

    folder: str
    """Absolute path of the run folder."""
    state: State
    """`running`: its owner lives. `ended`: the last session has left its result. `dead`: it has left none."""
    session: int
    """Number of the last session; a start gets its number when its plan is made."""
    owner: LeaseRecord | None
    """Who has, or of a dead run had, the run; None where the session gave it back."""
    progress: Snapshot | None
    """The last session's; None before its first."""
    progress_age_s: float | None
    """Seconds since `progress` was written; 0 where the clocks of two machines disagree."""
    survey: Survey | None
    """While a start has the workers look at its inputs, before its session begins."""
    result: JobResult | None
    """The last one; of an earlier session while `state` is `running` or `dead`."""
    failed_items: str | None
    """Absolute path of failed_items.jsonl, once it exists."""
    logs: str
    """Absolute path of the folder of logs."""


def read_status(folder: Path, *, clock: Callable[[], float] = time.time) -> Status:
    """The run's state now. `clock`: seconds since the epoch.

    Raises RunFolderError where there is no run, StorageError where a file of it cannot be read.
    """
    status = _read_once(folder, clock)
    if status is None or status.state == "dead":
        # The run may have ended, or the next one started, between the reading of one file and the next.
        status = _read_once(folder, clock)
    if status is None:
        _refuse(folder)
    return status


def _read_once(folder: Path, clock: Callable[[], float]) -> Status | None:
    # The lease first: a session leaves its result before it gives the lease back.
    files = RunFolder(folder)
    lease = read_lease(files)
    progress = _read(files.progress, Snapshot)
    result = _read(files.result, JobResult)
    # The journals too: where the disk was full, a session may have left nothing but its (empty) journal.
    sessions = files.sessions()
    sessions += [lease.session] if lease else []
    sessions += [progress.session] if progress else []
    sessions += [result.sessions] if result else []
    if not sessions:
        return None
    session = max(sessions)
    now = clock()
    state = _state(lease, result, session, now)
    starting = state == "running" and lease is not None and not lease.session
    if progress is not None and (starting or progress.session != session):
        progress = None
    return Status(
        folder=_text(folder),
        state=state,
        session=session,
        owner=lease,
        progress=progress,
        progress_age_s=None if progress is None else max(0.0, now - progress.written_at),
        survey=_survey(files, lease, now) if starting and lease is not None else None,
        result=result,
        failed_items=_text(files.failed_items) if files.failed_items.exists() else None,
        logs=_text(files.logs),
    )


def _state(lease: LeaseRecord | None, result: JobResult | None, session: int, now: float) -> State:
    alive = lives(lease, now)
    # Before the result is looked at: a start that has no number yet follows a session that has ended.
    if alive and lease is not None and not lease.session:
        return "running"
    # Also where the owner lives, saying goodbye to its workers.
    if result is not None and result.sessions == session:
        return "ended"
    return "running" if alive else "dead"


def _survey(files: RunFolder, owner: LeaseRecord, now: float) -> Survey | None:
    """Of this owner: what an earlier start has left of a survey is none of it."""
    found = [_read(RunFolder(folder).progress, Snapshot) for folder in files.survey.glob("survey-*")]
    own = [one for one in found if one is not None and (one.host, one.pid) == (owner.host, owner.pid)]
    if not own:
        return None
    last = max(own, key=lambda one: one.written_at)
    parts = last.mini_batches
    return Survey(
        total=parts.total,
        surveyed=parts.succeeded + parts.failed,
        age_s=max(0.0, now - last.written_at),
    )


def _read(path: Path, kind: type[T]) -> T | None:
    """The struct in the file; None where there is no file."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{shown(str(path))} cannot be read: {error.strerror or error}") from error
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        what = (
            f"its {len(data):,} bytes are not what mpibatch writes there: {error}" if data else "it is empty"
        )
        raise StorageError(
            f"{shown(str(path))} is damaged, or is not of mpibatch: {what}. "
            "mpibatch writes such files whole, so the storage lost it or another program wrote it. "
            "If the run is not going on, move the file away and start the run's command again."
        ) from error


def _text(path: Path) -> str:
    """An absolute path as JSON can hold it: bytes that are not UTF-8 as `\\xff`."""
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "backslashreplace")


def read_lease(folder: RunFolder) -> LeaseRecord | None:
    """Who has the run, or a pipeline; None where nobody has. StorageError where it cannot be read."""
    return _read(folder.lease, LeaseRecord)


def lives(lease: LeaseRecord | None, now: float) -> bool:
    """Whether whoever holds the lease does. `now`: seconds since the epoch."""
    if lease is None:
        return False
    if lease.host != socket.gethostname():
        return now - lease.renewed < SILENT_S
    return lease.boot_id == _boot_id() and process_started(lease.pid) == lease.started


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return None


def _refuse(folder: Path) -> NoReturn:
    where = shown(str(folder))
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "does not exist"
        near = difflib.get_close_matches(folder.name, _names(folder.parent), n=1)
        hint = f" Did you mean {shown(str(folder.parent / near[0]))}?" if near else ""
        raise RunFolderError(f"there is no run at {where}: it {what}.{hint}{_HOW}")
    runs = [name for name in _names(folder) if RunFolder(folder / name).private.is_dir()]
    hint = f" Below it there are runs: {', '.join(shown(name) for name in runs[:5])}." if runs else ""
    raise RunFolderError(f"there is no run in {where}: no session has started in it.{hint}{_HOW}")


_HOW = " Name the run folder: `output` of the job file, or what was given as --output."


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def status_json(status: msgspec.Struct) -> str:
    """The struct as indented JSON. NaN and infinities stand as null."""
    return msgspec.json.format(msgspec.json.encode(status), indent=2).decode()


def status_text(status: Status) -> str:
    """The same for people, in lines."""
    match status.state:
        case "running":
            rows = _running_rows(status)
        case "ended":
            rows = _ended_rows(status)
        case "dead":
            rows = _dead_rows(status)
    if status.failed_items is not None:
        rows.append(("failed items", shown(status.failed_items)))
    rows.append(("logs", shown(status.logs)))
    return "\n".join(f"{label:<14}{words}" for label, words in rows)


Rows = list[tuple[str, str]]


def _running_rows(status: Status) -> Rows:
    starting = status.owner is not None and not status.owner.session
    after = f" after session {status.session}" if status.session else ""
    which = f"a start{after}" if starting else f"session {status.session}"
    rows: Rows = [("run", shown(status.folder)), ("state", f"running: {which}{_owner(status)}")]
    if status.survey is not None:
        done = f"{status.survey.surveyed:,} of {status.survey.total:,} parts"
        return [*rows, ("progress", f"surveying the inputs: {done}, {duration(status.survey.age_s)} ago")]
    if status.progress is None:
        return [*rows, ("progress", "none yet: the session is starting")]
    progress = status.progress
    ready = f"{progress.workers_ready:,} of {progress.workers:,} ready"
    rows += [("workers", f"{ready}, {counted(progress.in_flight, 'attempt')} in flight"), *_counts(progress)]
    speed = f"{rate(progress.mini_batches_per_s, 'mini-batches')}, {rate(progress.rows_per_s, 'rows')}"
    left = "unknown yet" if progress.remaining_s is None else duration(progress.remaining_s)
    rows += [("rate", speed), ("remaining", left), ("elapsed", duration(progress.elapsed_s))]
    return [*rows, ("as of", f"{duration(status.progress_age_s or 0.0)} ago")]


def _ended_rows(status: Status) -> Rows:
    result = status.result
    assert result is not None, "an ended run has a result"
    rows: Rows = [
        ("run", shown(status.folder)),
        ("state", f"ended, session {status.session}"),
        ("verdict", verdict_words(result)),
        ("items", items_words(result)),
        ("output", output_words(result)),
        ("time", time_words(result)),
    ]
    if result.verdict != "complete":
        rows += [("first cause", first_cause_words(result)), ("to go on", going_on_words(result))]
    return rows


def _dead_rows(status: Status) -> Rows:
    gone = "its start was broken off"
    if status.session:
        gone = f"session {status.session} has left no result and is gone"
    rows: Rows = [("run", shown(status.folder)), ("state", f"dead: {gone}{_owner(status)}")]
    if status.progress is not None:
        age = duration(status.progress_age_s or 0.0)
        rows += [*_counts(status.progress), ("as of", f"{age} ago")]
    return [*rows, ("to go on", "start the same command again: what was finished is kept")]


def _owner(status: Status) -> str:
    owner = status.owner
    if owner is None:
        return ""
    job = f", Slurm job {shown(str(owner.slurm_job))}" if owner.slurm_job not in (None, "") else ""
    return f" (process {owner.pid} on {shown(owner.host)}{job})"


def _counts(progress: Snapshot) -> Rows:
    items, batches = progress.items, progress.mini_batches
    done = batches.succeeded + batches.failed - progress.half_failed
    tried = f" ({progress.half_failed:,} of them still tried in pieces)" if progress.half_failed else ""
    ended = f"{done:,} of {batches.total:,} ({percent(done, batches.total)})"
    return [
        (
            "mini-batches",
            f"{ended}, {batches.failed:,} failed{tried}, {counted(batches.attempts, 'attempt')}",
        ),
        ("items", f"{items.total:,}: {items.succeeded:,} succeeded, {items.failed:,} failed"),
        ("rows", f"{progress.rows:,}{'; finalize() is running' if progress.finalizing else ''}"),
    ]
