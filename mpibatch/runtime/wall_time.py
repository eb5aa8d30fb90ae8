"""When this job's time is up: Slurm knows, or the job says how long it may take.

Slurm is asked in a thread, as its controller may be slow to answer and a run does not wait for that. What was
learnt by the wall clock is turned into this process's own clock at once: whoever sets the former changes nothing.
"""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

ANSWER_S = 20.0
"""How long Slurm may take to answer."""
MOST_SAFETY_S = 15.0
"""Before the end what is in flight is given up, so that what has been finished can be committed."""


class WallTime:
    """Ask `left` as often as wanted. `margin_s`: so much before the end nothing new starts."""

    def __init__(
        self,
        *,
        margin_s: float,
        started_at: float,
        limit_s: float | None,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`limit_s` from `started_at` on holds where Slurm knows nothing."""
        self._clock = clock
        self._wall_clock = wall_clock
        self._wanted_margin_s = margin_s
        self._begun_at = clock()
        self.margin_s = margin_s
        self._asking: threading.Thread | None = None
        self._end: float | None = None
        self._set(started_at + limit_s if limit_s is not None else None)
        told = environment.get("SLURM_JOB_END_TIME", "")
        if told.isdigit():
            self._set_by_wall_clock(float(told))
        elif "SLURM_JOB_ID" in environment and shutil.which("squeue", path=environment.get("PATH")):
            self._asking = threading.Thread(
                target=self._ask_slurm, args=(dict(environment),), name="squeue", daemon=True
            )
            self._asking.start()

    def left(self, now: float) -> float | None:
        """Seconds until the end at `now`, by `clock`; None: there is none, or none is known yet."""
        return self._end - now if self._end is not None else None

    def ask(self, now: float) -> tuple[str, bool] | None:
        """Why to stop, and whether at once; None as long as there is time."""
        left = self.left(now)
        if left is None or left >= self.margin_s:
            return None
        reason = f"less than {self.margin_s:.3g} s of the wall time are left (drain_margin)"
        return reason, left < min(MOST_SAFETY_S, self.margin_s / 4)

    def settle(self) -> None:
        """Wait until Slurm has answered, or will not."""
        if self._asking is not None:
            self._asking.join()

    def _set(self, end: float | None) -> None:
        # A start that has less than the margin would do nothing, and so would each that follows it.
        left = end - self._begun_at if end is not None else None
        if left is not None and left <= self._wanted_margin_s:
            self.margin_s = max(0.0, left / 2)
        else:
            self.margin_s = self._wanted_margin_s
        self._end = end

    def _set_by_wall_clock(self, end: float) -> None:
        self._set(self._clock() + end - self._wall_clock())

    def _ask_slurm(self, environment: Mapping[str, str]) -> None:
        array, element = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        # By its own number the last element of an array is the whole array.
        job = f"{array}_{element}" if array and element else environment["SLURM_JOB_ID"]
        try:
            told = subprocess.run(
                ["squeue", "-h", "-j", job, "-o", "%e"], capture_output=True, text=True, errors="replace",
                check=True, stdin=subprocess.DEVNULL, timeout=ANSWER_S,
                env={**environment, "SLURM_TIME_FORMAT": "standard"},
            ).stdout.strip()  # fmt: skip
            end = datetime.datetime.fromisoformat(told).timestamp()
        except (OSError, subprocess.SubprocessError, ValueError):
            return  # It has none, or does not say: the job's own limit holds, if there is one.
        self._set_by_wall_clock(end)
