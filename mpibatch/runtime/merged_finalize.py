"""`finalize()` over the merged rows of a job array: no share calls it, who merges them does."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import WorkerSetup
from mpibatch.outputs.assemble import Assembly
from mpibatch.outputs.held import HeldOutput, UnfitOutput
from mpibatch.runtime.finalizer import FinalizeFailed, Finalizer, finalize_setup
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.script_check import may_finalize
from mpibatch.runtime.setups import MODEL_DIR, worker_setups

_LOGS_OF = "merge"
"""In place of a host, as nobody knows which one will merge."""


class FinalizeBy(msgspec.Struct, frozen=True, kw_only=True):
    """How to call it, without the job file, which whoever merges need not have."""

    setup: WorkerSetup
    timeout_s: float
    tries: int


def finalize_by(job: Job, whole: RunFolder, share: RunFolder) -> FinalizeBy | None:
    """What the merging of this job's shares, in the folder `whole`, needs; None: the script has no `finalize()`.
    `share`: that of this element, which has the links to the models."""
    if not may_finalize(job):
        return None
    place = WorkerPlace(worker=0, rank=0, node=0, local_index=0, host=_LOGS_OF)
    (setup,) = worker_setups(job, whole, {0: place}, inputs=[], notices=whole.lost).values()
    if job.models:  # Each session links them in its own folder.
        environment = setup.environment | {MODEL_DIR: os.fsencode(share.models.absolute())}
        setup = msgspec.structs.replace(setup, environment=environment)
    return FinalizeBy(setup=setup, timeout_s=job.finalize_timeout, tries=job.run_max_try)


def complete_finalized(
    by: FinalizeBy,
    assembly: Assembly,
    held: HeldOutput,
    fence: Callable[[], None],
    say: Callable[[str], None],
) -> FinalizeFailed | None:
    """Complete the assembly by way of `held`, where `finalize()` has the rows; how that failed, if it did each time.
    `fence` raises when the merging is not ours any more, or is to stop."""

    def take() -> None:
        fence()
        assembly.again()
        assembly.assemble()
        held.take(assembly.partial)

    try:
        take()
        failed = call_finalize(by, held, assembly.delivery.final.parent, fence, say, take)
        if failed is None:
            fence()
            held.deliver(assembly.delivery)
        return failed
    finally:
        held.clear()


def call_finalize(
    by: FinalizeBy,
    held: HeldOutput | None,
    home: Path,
    fence: Callable[[], None],
    say: Callable[[str], None],
    take: Callable[[], None] = lambda: None,
) -> FinalizeFailed | None:
    """Call it until it succeeds; how it failed, if it did each time. `held`: has the rows, which `take` makes whole
    again; None: the script stores its own output. `home`: the folder of the output."""
    setup = finalize_setup(by.setup, None if held is None else str(held.file.absolute()))
    failed: FinalizeFailed | None = None
    for number in range(1, by.tries + 1):
        if failed is not None and held is not None and not held.untouched():
            take()
        failed = _try(setup, by.timeout_s, held, home, fence, say)
        if failed is None:
            return None
        say(f"warning: {failed.words} (try {number} of {by.tries}, log {failed.log})")
    return failed


def _try(
    setup: WorkerSetup,
    timeout_s: float,
    held: HeldOutput | None,
    home: Path,
    fence: Callable[[], None],
    say: Callable[[str], None],
) -> FinalizeFailed | None:
    host = socket.gethostname()
    try:
        one = Finalizer(setup, timeout_s=timeout_s, host=host, say=say)
    except OSError as error:
        return FinalizeFailed(f"a processor for finalize() cannot be started on {host}: {error}", str(home))
    one.run(fence)
    if one.failed is not None or held is None:
        return one.failed
    try:
        held.check(home)
    except UnfitOutput as error:
        return FinalizeFailed(str(error), one.log_file)
    return None
