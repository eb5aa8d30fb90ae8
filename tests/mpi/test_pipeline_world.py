"""A pipeline in one world of ranks: each step takes the ranks that it has a use for, one step after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import support
from pipelines import (
    ALL_FIRST,
    ALL_SECOND,
    FIRST,
    GATED_SECOND,
    ROWS,
    make_pipeline,
    pipeline_result,
    states,
    work_of,
)

from mpibatch.local_world import launcher_command

pytestmark = pytest.mark.mpi


class World(NamedTuple):
    ranks: int
    sizes: tuple[int | None, int | None]
    """process_count_per_node of the two steps."""
    working: tuple[list[int], list[int]]
    """Ranks that supervise a processor in each."""


WORLDS = [
    World(1, (1, None), ([0], [0])),
    World(2, (1, 2), ([1], [0, 1])),
    World(3, (3, 2), ([0, 1, 2], [1, 2])),
    World(3, (1, None), ([1], [0, 1, 2])),
]


@pytest.mark.parametrize("world", WORLDS, ids=[f"n{world.ranks}-{world.sizes}" for world in WORLDS])
def test_steps_of_different_sizes(world: World, tmp_path: Path) -> None:
    first, second = ({"process_count_per_node": size} if size else {} for size in world.sizes)
    file = make_pipeline(tmp_path, steps={"first": first, "second": second})

    ended = support.mpibatch("run", file, ranks=world.ranks)

    assert ended.returncode == 0, support.words(ended)
    assert support.rows(tmp_path / "output" / "second") == ROWS
    assert work_of(tmp_path) == ALL_FIRST + ALL_SECOND
    assert ended.stdout.count("step first: complete") == 1, support.words(ended)
    for step, ranks in zip(("first", "second"), world.working):
        logs = (tmp_path / "output" / step / "logs/sys/node").rglob("*.txt")
        assert sorted(int(file.stem) for file in logs) == ranks, step

    again = support.mpibatch("run", file, ranks=world.ranks)

    assert again.returncode == 0, support.words(again)
    assert (work_of(tmp_path), states(tmp_path / "output")) == ([], {"first": "reused", "second": "reused"})


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_exit_code_of_the_step_that_ends_it(ranks: int, tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, second="def run(table): raise ValueError('no good')", run_max_try=1)

    ended = support.mpibatch("run", file, ranks=ranks)

    assert ended.returncode == 3, support.words(ended)
    assert re.search("^first cause  step second: ValueError: no good", ended.stdout, re.MULTILINE)
    assert pipeline_result(tmp_path / "output")["exit_code"] == 3


def test_an_error_before_the_second_step(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path)
    file.write_text(file.read_text().replace("${steps.first.output}", "${steps.first.folder}/nothing/*.csv"))

    ended = support.mpibatch("run", file, ranks=3)

    assert ended.returncode == 2, support.words(ended)
    assert "mpibatch: step second: " in ended.stderr
    assert states(tmp_path / "output") == {"first": "complete", "second": "failed"}


def test_the_world_is_killed_in_the_second_step(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, second=GATED_SECOND)
    journal = tmp_path / "output/second/.mpibatch/session-0001.journal"
    with support.Started(tmp_path, "run", file, ranks=3) as started:
        started.wait_until(
            lambda: support.notes(tmp_path).count("second 1") >= 3 and journal.stat().st_size > 150,
            "two rows of the second step are safe",
        )
        support.kill_all(support.ranks_with(str(file)).values())
        started.wait_to_end()
    support.wait_until(lambda: not support.processes_with(str(file)), "all of it is gone")
    work_of(tmp_path)
    support.open_gate(tmp_path)

    ended = support.mpibatch("run", file, ranks=2)

    assert ended.returncode == 0, support.words(ended)
    assert states(tmp_path / "output") == {"first": "reused", "second": "complete"}
    assert support.rows(tmp_path / "output" / "second") == ROWS
    assert set(work_of(tmp_path)) == {"second 1"}


def test_mpibatch_stop(tmp_path: Path) -> None:
    file = make_pipeline(tmp_path, second=GATED_SECOND)
    with support.Started(tmp_path, "run", file, ranks=3) as started:
        started.wait_until(
            lambda: support.notes(tmp_path).count("second 1") >= 3, "the second step is at work"
        )
        assert support.mpibatch("stop", tmp_path / "output").returncode == 0
        started.wait_to_say("stopping (asked to by ")
        support.open_gate(tmp_path)
        assert started.wait_to_end() == 75, started.said
    assert pipeline_result(tmp_path / "output")["verdict"] == "stopped"


@pytest.mark.open_mpi  # MPICH's mpiexec ends all when a rank dies.
def test_a_rank_that_dies_in_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other steps go on without it, and the end is told as that of a job is."""

    def command(mpiexec: str, ranks: int) -> tuple[list[str], dict[str, str]]:
        words, variables = launcher_command(mpiexec, ranks)
        return [words[0], "--with-ft", "ulfm", *words[1:]], variables

    monkeypatch.setattr(support, "launcher_command", command)
    first = FIRST.replace(
        "    return", "    if os.path.basename(mini_batch[0]) >= 'item002':\n        gate()\n    return"
    )
    file = make_pipeline(tmp_path, first=first, process_count_per_node=3)
    with support.Started(tmp_path, "run", file, ranks=4) as started:
        started.wait_until(lambda: len(support.notes(tmp_path)) >= 3, "the first step is at work")
        support.kill(support.ranks_with(str(file))[2])
        started.wait_to_say("rank 2 on")
        support.open_gate(tmp_path)
        assert started.wait_to_end() == 0, started.said
    assert support.rows(tmp_path / "output" / "second") == ROWS
    logs = (tmp_path / "output/second/logs/sys/node").rglob("*.txt")
    assert sorted(int(file.stem) for file in logs) == [1, 3], started.said
    assert started.said.count("rank 2 on") == 1, f"it is not waited for again\n{started.said}"
    assert "Traceback" not in started.said, started.said
