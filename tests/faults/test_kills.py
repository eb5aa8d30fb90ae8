"""The kill matrix: whatever is killed or frozen, whenever, the output is that of an undisturbed run.

Each seed is one scenario, of which all follows. `MPIBATCH_FAULT_SEED=123` runs that one alone, in a bare
`MPIBATCH_FAULT_SEED=123 pytest tests/faults/test_kills.py`; `MPIBATCH_FAULTS=200`, as `make faults` has it, so
many.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from faults.harness import Trial
from faults.scenario import make_scenario
from faults.table import STORIES, WANTED
from faults.truths import Truths

from mpibatch.errors import LaunchError
from mpibatch.local_world import find_mpiexec, is_open_mpi

pytestmark = pytest.mark.mpi


def _family() -> str:
    try:
        return "openmpi" if is_open_mpi(find_mpiexec()) else "mpich"
    except LaunchError:
        return ""


def _seeds(family: str) -> list[int]:
    if alone := os.environ.get("MPIBATCH_FAULT_SEED"):
        return [int(alone)]
    usual = "10" if family == "openmpi" else "30"
    return list(range(int(os.environ.get(WANTED, usual))))


FAMILY = _family()


@pytest.mark.parametrize("seed", _seeds(FAMILY))
def test_killed_whenever_the_output_is_that_of_an_undisturbed_run(
    seed: int, truths: Truths, tmp_path: Path
) -> None:
    scenario = make_scenario(seed, FAMILY)
    STORIES.append(Trial(scenario, truths(scenario.kind), tmp_path).run())
