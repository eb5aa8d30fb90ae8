"""Which ranks work, and as what. Pure: where the ranks are is an argument.

Rules, for W = node_count x process_count_per_node workers:

1. A world of W + 1 ranks: rank 0 only coordinates, all others work. A world of W: rank 0 works too.
2. A key that the job leaves unset follows the launcher.
3. A larger world: rank 0 only coordinates, the first ranks of the first nodes work, the others stay idle.
4. A smaller world: all ranks work, rank 0 too.
5. Workers are numbered in the order of ranks; a rank 0 that only coordinates counts nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from mpibatch.core.binding import Binding, Gpus, Seat, View, bind


class Place(msgspec.Struct, frozen=True):
    """Where a rank is. Ranks that share memory have the same `node`."""

    rank: int
    node: int
    host: str
    view: View = View()


class Sighting(msgspec.Struct, frozen=True):
    """What a rank sees of where it is."""

    shares_memory_with: int
    """The first of the ranks that it shares memory with."""
    host: str
    slurm_task: str
    """Number of the task that srun started, and how many there are, as its variables say; empty without."""
    slurm_tasks: str
    slurm_node: str
    slurm_name: str
    view: View = View()


def find_places(sightings: Sequence[Sighting]) -> list[Place]:
    """Where all ranks are, from what each sees, in their order.

    A node is what shares memory; but Slurm's nodes where srun has started each rank itself, as several of them
    may be on one machine. Ranks that something else has started may have their variables from another task.
    """
    by_slurm = all(
        one.slurm_task == str(rank)
        and one.slurm_tasks == str(len(sightings))
        and one.slurm_node
        and one.slurm_name
        for rank, one in enumerate(sightings)
    )
    if not by_slurm:
        return [Place(rank, one.shares_memory_with, one.host, one.view) for rank, one in enumerate(sightings)]
    first = {one.slurm_node: rank for rank, one in reversed(list(enumerate(sightings)))}
    return [
        Place(rank, first[one.slurm_node], one.slurm_name, one.view) for rank, one in enumerate(sightings)
    ]


class WorkerPlace(msgspec.Struct, frozen=True):
    worker: int
    """Number of the worker in this session, from 0."""
    rank: int
    node: int
    local_index: int
    """Number among the workers of its node, from 0: which device it gets, and its processor's name."""
    host: str
    binding: Binding = Binding()


class Roles(msgspec.Struct, frozen=True):
    workers: list[WorkerPlace]
    coordinator_only: bool
    """Rank 0 supervises no processor."""
    idle: list[int]
    """Ranks that have nothing to do."""
    warnings: list[str]


def assign(places: Sequence[Place], process_count_per_node: int | None, node_count: int | None) -> Roles:
    """Roles for a world whose ranks are at `places`, from rank 0 on; each count is at least 1 if set."""
    nodes = list(dict.fromkeys(place.node for place in places))
    if process_count_per_node is None:
        return _by_launcher(places, nodes, node_count)
    wanted = process_count_per_node * (len(nodes) if node_count is None else node_count)
    if len(places) <= wanted + 1:
        coordinator_only = len(places) == wanted + 1
        working = places[1:] if coordinator_only else places
        return _roles(places, working, _uneven(working, wanted, process_count_per_node))
    chosen = nodes[:node_count]
    working = _first_of_each(places[1:], chosen, process_count_per_node)
    if len(working) < wanted:
        # Rank 0 may stand where a worker would be, as on a node that has no rank to spare.
        with_rank_0 = _first_of_each(places, chosen, process_count_per_node)
        working = with_rank_0 if len(with_rank_0) > len(working) else working
    return _roles(places, working, _too_few(len(working), wanted))


def bound(
    roles: Roles,
    places: Sequence[Place],
    *,
    gpus: Gpus | None,
    cpus: bool,
    variables: Mapping[str, str],
) -> Roles:
    """The same roles, each worker with what its processors get: see `binding.bind`."""
    seats = [
        Seat(worker.worker, worker.node, worker.host, places[worker.rank].view) for worker in roles.workers
    ]
    bindings = bind(seats, gpus=gpus, cpus=cpus, variables=variables)
    workers = [
        msgspec.structs.replace(worker, binding=bindings.of[worker.worker]) for worker in roles.workers
    ]
    return msgspec.structs.replace(roles, workers=workers, warnings=[*roles.warnings, *bindings.warnings])


def _by_launcher(places: Sequence[Place], nodes: list[int], node_count: int | None) -> Roles:
    """As many workers a node as it has ranks: rank 0 works too."""
    if node_count is None:
        return _roles(places, places, [])
    chosen = set(nodes[:node_count])
    working = [place for place in places if place.node in chosen]
    warnings = []
    if len(nodes) < node_count:
        warnings.append(
            f"The job asks for {node_count} nodes (node_count), but the launcher gave {len(nodes)}:"
            " fewer workers than that work."
        )
    return _roles(places, working, warnings)


def _first_of_each(places: Sequence[Place], nodes: Sequence[int], most: int) -> list[Place]:
    """The first `most` ranks of each of these nodes, in the order of ranks."""
    taken = dict.fromkeys(nodes, 0)
    working = []
    for place in places:
        if place.node in taken and taken[place.node] < most:
            taken[place.node] += 1
            working.append(place)
    return working


def _too_few(workers: int, wanted: int) -> list[str]:
    if workers >= wanted:
        return []
    return [
        f"The job asks for {wanted} workers (node_count x process_count_per_node), but the launcher's ranks"
        f" allow for {workers}: fewer work."
    ]


def _uneven(working: Sequence[Place], wanted: int, per_node: int) -> list[str]:
    """Warn of too few workers, else of a node that has more than the job says."""
    node, most = Counter(place.node for place in working).most_common(1)[0]
    if len(working) < wanted or most <= per_node:
        return _too_few(len(working), wanted)
    host = next(place.host for place in working if place.node == node)
    return [
        f"{host} has {most} workers, process_count_per_node is {per_node}: the launcher placed the ranks so."
        " They share the devices and the memory of that node."
    ]


def _roles(places: Sequence[Place], working: Sequence[Place], warnings: list[str]) -> Roles:
    on_node: Counter[int] = Counter()
    workers = []
    for number, place in enumerate(working):
        workers.append(WorkerPlace(number, place.rank, place.node, on_node[place.node], place.host))
        on_node[place.node] += 1
    works = {place.rank for place in working}
    idle = [place.rank for place in places[1:] if place.rank not in works]
    if idle:
        warnings = [
            *warnings,
            f"The launcher started {len(places)} ranks, more than this job has a use for:"
            f" {_ranks(idle)} idle. {len(workers)} work.",
        ]
    return Roles(workers, 0 not in works, idle, warnings)


def _ranks(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"rank {numbers[0]} stays"
    shown = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"{len(numbers)} ranks ({shown}) stay"
