"""A submitted job is followed to its end: over requeues, its successors, and all elements of an array.

`squeue` tells how jobs stand, and a job's log who its successor is: so neither a database of ended jobs is needed,
nor that somebody looked at the right moment. All waiting is done by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from mpibatch.errors import EXIT_COMPLETE, EXIT_STOPPED
from mpibatch.slurm.queue import Seen
from mpibatch.slurm.submit import Submitted

_SUCCESSOR = re.compile(r"^Submitted batch job (\d+)\s*$", re.MULTILINE)
_LOG_END = 64 * 1024
PATIENCE = 3
"""Of who follows a job to its end: Slurm may not know it for a moment."""


class End(msgspec.Struct, frozen=True):
    """How a job, or one element of it, has ended."""

    job: str
    """The last one: the successor, where there were some."""
    code: int | None
    """Exit code of the batch script, which is that of the run; None where it has none, or it is not known."""
    words: str
    element: str = ""
    """Of an array: its number there."""


class _Thread:
    """A job, or an element of an array, and what follows it."""

    def __init__(self, job: str, element: str) -> None:
        self.job = job
        self.element = element
        self.state = ""
        self.starts = 0
        self.missed = 0
        self.end: End | None = None

    @property
    def name(self) -> str:
        return f"{self.job}_{self.element}" if self.element else self.job


class Following:
    """Ask `look` from time to time, until it is true; then `ends` tells."""

    def __init__(
        self,
        submitted: Submitted,
        *,
        queue: Callable[[Sequence[str]], list[Seen] | None],
        log: Callable[[str], Path],
        say: Callable[[str], None],
        patience: int = PATIENCE,
    ) -> None:
        """`log`: the log of a job. What happens to it is said. `patience`: so many looks in a row have to miss a job
        before it is taken for forgotten by Slurm."""
        self._queue = queue
        self._log = log
        self._say = say
        self._patience = patience
        elements = [""] if submitted.elements is None else list(map(str, range(submitted.elements)))
        self._threads = [_Thread(submitted.job, element) for element in elements]
        self._silent = False

    def look(self) -> bool:
        """Whether all has ended."""
        open_ones = [thread for thread in self._threads if thread.end is None]
        seen = self._queue(list(dict.fromkeys(thread.job for thread in open_ones))) if open_ones else []
        if seen is None:
            if not self._silent:
                self._say("Slurm does not answer (squeue): still waiting")
            self._silent = True
            return False
        self._silent = False
        by_name = {one.job: one for one in seen}
        for thread in open_ones:
            self._judge(thread, by_name.get(thread.name))
        return all(thread.end is not None for thread in self._threads)

    def over(self) -> bool:
        """Whether all has ended by now, successors too: looks once for each of them."""
        before: list[str] | None = None
        while not self.look():
            if self.waiting == before:
                return False
            before = self.waiting
        return True

    @property
    def ends(self) -> list[End]:
        return [thread.end for thread in self._threads if thread.end is not None]

    @property
    def waiting(self) -> list[str]:
        """The jobs that have not ended, as `scancel` takes them."""
        return list(dict.fromkeys(thread.job for thread in self._threads if thread.end is None))

    def _judge(self, thread: _Thread, seen: Seen | None) -> None:
        if seen is None:
            thread.missed += 1
            if thread.missed >= self._patience:
                thread.end = End(thread.name, None, "Slurm does not know it any more", thread.element)
            return
        thread.missed = 0
        self._tell(thread, seen)
        if not seen.ended:
            return
        code = seen.exit_code
        successor = self._successor(thread.name) if code == EXIT_STOPPED else None
        if successor is not None:
            self._say(f"job {thread.name} is followed by job {successor}")
            thread.job, thread.state, thread.starts = successor, "", 0
            return
        words = f"exit code {code}" if code is not None else f"Slurm says {seen.state}"
        thread.end = End(thread.name, code, words, thread.element)

    def _tell(self, thread: _Thread, seen: Seen) -> None:
        if seen.starts > thread.starts:
            thread.starts = seen.starts
            times = "once" if seen.starts == 1 else f"{seen.starts} times"
            self._say(f"job {thread.name} was put back into the queue ({times} by now)")
        if seen.state != thread.state and not seen.ended and seen.state != "COMPLETING":
            thread.state = seen.state
            why = f" ({seen.reason})" if seen.state == "PENDING" and seen.reason not in ("", "None") else ""
            self._say(f"job {thread.name} is {seen.state.lower()}{why}")

    def _successor(self, job: str) -> str | None:
        """Who goes on for a job that has ended: `sbatch` has said so in its log, after all else."""
        try:
            with self._log(job).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - _LOG_END))
                end = file.read().decode("utf-8", "replace")
        except OSError:
            return None
        found = _SUCCESSOR.findall(end)
        return found[-1] if found and found[-1] != job.partition("_")[0] else None


def exit_code(ends: Sequence[End], result: Callable[[End], int | None]) -> int:
    """Of all that has ended. `result`: the exit code that the run itself has left since then, if any.

    What has failed comes before what was only stopped, as starting again does not help there.
    """
    codes = [end.code if end.code is not None else result(end) for end in ends]
    failed = [code for code in codes if code not in (EXIT_COMPLETE, EXIT_STOPPED, None)]
    if failed:
        return next(code for code in failed if code is not None)
    return EXIT_COMPLETE if all(code == EXIT_COMPLETE for code in codes) else EXIT_STOPPED
