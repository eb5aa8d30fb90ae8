"""Which ranks work: layouts (ranks' nodes in order) against what the job asks for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.ranks import Place, Roles, Sighting, WorkerPlace, assign, find_places


def places(nodes: str) -> list[Place]:
    """One digit a rank: its node."""
    return [Place(rank, int(node), f"host{node}") for rank, node in enumerate(nodes)]


def shown(roles: Roles) -> str:
    """`rank:local index` of each worker."""
    return " ".join(f"{worker.rank}:{worker.local_index}" for worker in roles.workers)


SILENT = [
    # nodes of the ranks, processes a node, nodes: workers
    ("0", None, None, "0:0"),
    ("0", 1, 1, "0:0"),
    ("0", 1, None, "0:0"),
    ("0", None, 1, "0:0"),
    # Unset keys follow the launcher: rank 0 works too.
    ("000", None, None, "0:0 1:1 2:2"),
    ("0011", None, None, "0:0 1:1 2:0 3:1"),
    ("0101", None, None, "0:0 1:0 2:1 3:1"),
    ("0011", None, 2, "0:0 1:1 2:0 3:1"),
    # World size W: rank 0 works too.
    ("00", 2, 1, "0:0 1:1"),
    ("0011", 2, 2, "0:0 1:1 2:0 3:1"),
    ("0011", 2, None, "0:0 1:1 2:0 3:1"),
    # World size W + 1: rank 0 only coordinates and is left out of the local index.
    ("00", 1, 1, "1:0"),
    ("000", 2, 1, "1:0 2:1"),
    ("000", 2, None, "1:0 2:1"),
    ("00011", 2, 2, "1:0 2:1 3:0 4:1"),
    ("00101", 2, 2, "1:0 2:0 3:1 4:1"),
    ("0123", 1, 3, "1:0 2:0 3:0"),
]


@pytest.mark.parametrize(("nodes", "per_node", "node_count", "workers"), SILENT)
def test_worlds_that_fit(nodes: str, per_node: int | None, node_count: int | None, workers: str) -> None:
    roles = assign(places(nodes), per_node, node_count)
    assert shown(roles) == workers
    assert roles.coordinator_only == (not workers.startswith("0:"))
    assert (roles.idle, roles.warnings) == ([], [])
    assert [worker.worker for worker in roles.workers] == list(range(len(roles.workers)))


LOUD = [
    # More than it asks for: rank 0 only coordinates.
    ("0000", 1, 1, "1:0", [2, 3], ["4 ranks", "2 ranks (2, 3) stay idle"]),
    ("0000", 2, 1, "1:0 2:1", [3], ["4 ranks", "rank 3 stays idle"]),
    ("000111", 1, 2, "1:0 3:0", [2, 4, 5], ["3 ranks (2, 4, 5) stay idle"]),
    ("000111", 2, 1, "1:0 2:1", [3, 4, 5], ["3 ranks (3, 4, 5) stay idle"]),
    ("000111222", 2, None, "1:0 2:1 3:0 4:1 6:0 7:1", [5, 8], ["2 ranks (5, 8) stay idle"]),
    ("0" * 20, 2, 1, "1:0 2:1", list(range(3, 20)), ["17 ranks (3, 4, 5, 6, 7, 8, 9, 10, ...) stay idle"]),
    # ... unless a node has no rank to spare for a coordinator.
    ("001122", 2, 2, "0:0 1:1 2:0 3:1", [4, 5], ["2 ranks (4, 5) stay idle"]),
    ("0122", 1, 2, "0:0 1:0", [2, 3], ["2 ranks (2, 3) stay idle"]),
    # The first nodes, though the key of the processes is unset: what is there works.
    ("0011", None, 1, "0:0 1:1", [2, 3], ["2 ranks (2, 3) stay idle"]),
    # Fewer than it asks for: all work.
    ("0", 4, 1, "0:0", [], ["asks for 4 workers", "allow for 1"]),
    ("000", 4, 1, "0:0 1:1 2:2", [], ["asks for 4 workers", "allow for 3"]),
    ("0011", 1, 5, "0:0 1:1 2:0 3:1", [], ["asks for 5 workers", "allow for 4"]),
    ("0011", None, 3, "0:0 1:1 2:0 3:1", [], ["asks for 3 nodes", "gave 2"]),
    # As many as it asks for, but not where.
    ("0001", 2, 2, "0:0 1:1 2:2 3:0", [], ["host0 has 3 workers", "process_count_per_node is 2"]),
    ("00111", 2, 2, "1:0 2:0 3:1 4:2", [], ["host1 has 3 workers", "process_count_per_node is 2"]),
]


@pytest.mark.parametrize(("nodes", "per_node", "node_count", "workers", "idle", "words"), LOUD)
def test_worlds_that_do_not_fit(
    nodes: str, per_node: int | None, node_count: int | None, workers: str, idle: list[int], words: list[str]
) -> None:
    roles = assign(places(nodes), per_node, node_count)
    assert (shown(roles), roles.idle) == (workers, idle)
    assert roles.coordinator_only == (not workers.startswith("0:"))
    (warning,) = roles.warnings
    for word in words:
        assert word in warning


def test_too_few_on_a_node_and_too_many_elsewhere_are_two_warnings() -> None:
    roles = assign(places("0111111"), 2, 2)
    assert shown(roles) == "0:0 1:0 2:1"
    assert roles.idle == [3, 4, 5, 6]
    assert len(roles.warnings) == 2
    assert "asks for 4 workers" in roles.warnings[0]
    assert "stay idle" in roles.warnings[1]


def test_a_worker_knows_where_it_is() -> None:
    roles = assign(places("07"), 1, 2)
    assert roles.workers == [
        WorkerPlace(worker=0, rank=0, node=0, local_index=0, host="host0"),
        WorkerPlace(worker=1, rank=1, node=7, local_index=0, host="host7"),
    ]


count = st.none() | st.integers(1, 5)


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=14), count, count)
def test_every_world_has_workers_and_each_rank_one_role(
    nodes: list[int], per_node: int | None, node_count: int | None
) -> None:
    world = [Place(rank, node, f"h{node}") for rank, node in enumerate(nodes)]
    roles = assign(world, per_node, node_count)
    ranks = [worker.rank for worker in roles.workers]
    assert ranks == sorted(ranks)
    assert ranks
    assert roles.coordinator_only == (0 not in ranks)
    assert sorted([*ranks, *roles.idle, *([0] if roles.coordinator_only else [])]) == list(range(len(nodes)))
    assert all(world[worker.rank] == Place(worker.rank, worker.node, worker.host) for worker in roles.workers)
    for node in nodes:
        here = [worker.local_index for worker in roles.workers if worker.node == node]
        assert here == list(range(len(here)))
    if per_node is not None:
        assert len(ranks) <= per_node * (node_count or len(set(nodes)))
    assert bool(roles.idle) <= any("idle" in warning for warning in roles.warnings)


def seen(memory: int, task: str = "", tasks: str = "", node: str = "", name: str = "") -> Sighting:
    return Sighting(memory, f"machine{memory}", task, tasks, node, name)


SIGHTINGS = [
    # Without Slurm, what shares memory is a node.
    ([seen(0), seen(0), seen(2)], [(0, "machine0"), (0, "machine0"), (2, "machine2")]),
    # srun has started each of them: nodes are Slurm's, also on one machine.
    (
        [seen(0, "0", "3", "0", "n1"), seen(0, "1", "3", "1", "n2"), seen(0, "2", "3", "0", "n1")],
        [(0, "n1"), (1, "n2"), (0, "n1")],
    ),
    # mpirun hands the variables of the batch shell to all.
    ([seen(0, "0", "2", "0", "n1"), seen(1, "0", "2", "0", "n1")], [(0, "machine0"), (1, "machine1")]),
    # mpirun in a step of srun, which has started one task a node.
    ([seen(0, "0", "2", "0", "n1"), seen(0, "0", "2", "0", "n1"), seen(2, "1", "2", "1", "n2"),
      seen(2, "1", "2", "1", "n2")], [(0, "machine0"), (0, "machine0"), (2, "machine2"), (2, "machine2")]),
    # A rank without a word of Slurm.
    ([seen(0, "0", "2", "0", "n1"), seen(0, "1", "2")], [(0, "machine0"), (0, "machine0")]),
]  # fmt: skip


@pytest.mark.parametrize(("sightings", "expected"), SIGHTINGS)
def test_nodes_are_what_shares_memory_or_what_slurm_says(
    sightings: list[Sighting], expected: list[tuple[int, str]]
) -> None:
    assert find_places(sightings) == [Place(rank, node, host) for rank, (node, host) in enumerate(expected)]
