"""Who has been silent, and which attempt is over its time. Pure: `now` is an argument, in seconds."""

from __future__ import annotations


class Liveness:
    """Remembers when each worker was last heard of; each has a lease of `silence_s`."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._heard: dict[int, float] = {}

    def heard(self, worker: int, now: float) -> None:
        """`worker` spoke; from now on it is watched."""
        self._heard[worker] = now

    def forget(self, worker: int) -> None:
        """`worker` has left in order, or is lost already."""
        self._heard.pop(worker, None)

    def silent(self, now: float) -> list[int]:
        """The watched workers whose lease has run out."""
        limit = now - self._silence_s
        return [worker for worker, heard in self._heard.items() if heard < limit]

    def extend(self, stall_s: float) -> None:
        """We ourselves stood still: what came meanwhile has not been read yet, so nobody is late."""
        for worker in self._heard:
            self._heard[worker] += stall_s


class OverTime:
    """Judges one processor's clock, which is read from memory that another process writes.

    A read may be torn: number of one attempt, start of another. So an attempt is over time only
    when the same reading was seen twice.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_ns = timeout_s * 1e9  # A float, so that infinity is a timeout too.
        self._suspect: tuple[int, int] | None = None

    def judge(self, attempt: int, started_ns: int, now_ns: int) -> bool:
        """True once `attempt` (0: none is running) has been seen twice to be over its time."""
        if attempt == 0 or now_ns - started_ns <= self._timeout_ns:
            self._suspect = None
            return False
        reading = (attempt, started_ns)
        if self._suspect == reading:
            self._suspect = None
            return True
        self._suspect = reading
        return False
