"""Where a step runs: on this machine, or in a job of Slurm."""

from __future__ import annotations

import json
from typing import Any

from mpibatch.api.refusals import ApiError
from mpibatch.core.settings import Problems, shown
from mpibatch.core.slurm_keys import read_slurm

LOCAL = "local"


class SlurmCompute:
    """`SlurmCompute(partition="long", time="2:00:00")`: pipelines are submitted to Slurm.

    The names are those of the key `slurm` of a job file; they are checked here.
    """

    def __init__(
        self, partition: str | None = None, account: str | None = None, time: str | int | None = None, *,
        name: str = "slurm", **keys: Any,
    ) -> None:  # fmt: skip
        self.name = name
        given = {"partition": partition, "account": account, "time": time, **keys}
        self._keys = {key: value for key, value in given.items() if value is not None}
        problems = Problems("SlurmCompute")
        read_slurm(problems, self._keys)
        problems.stop()

    def job_keys(self) -> dict[str, Any]:
        """What stands below `slurm` in a job file."""
        return dict(self._keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlurmCompute) and self._keys == other._keys

    def __hash__(self) -> int:
        return hash(json.dumps(self._keys, sort_keys=True, default=str))

    def __repr__(self) -> str:
        return f"SlurmCompute({', '.join(f'{key}={value!r}' for key, value in self._keys.items())})"


def compute_of(target: Any) -> SlurmCompute | None:
    """None: this machine. Raises ApiError where it is neither that nor Slurm."""
    if target is None or isinstance(target, SlurmCompute):
        return target
    if getattr(target, "name", target) == LOCAL:
        return None
    raise ApiError(
        f"compute_target is {shown(target) if isinstance(target, str) else repr(target)}: must be None or"
        ' "local" for this machine, or SlurmCompute(partition=..., time=...) for a cluster'
    )
