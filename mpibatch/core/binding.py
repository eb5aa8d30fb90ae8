"""Which devices and CPUs each worker's processor gets (CONTRACT section 5). Pure: what ranks see is an argument.

Rules, for the workers of one node:

1. Those that see the same devices divide them: one each (or as many as `gpus` says), in their order. One that
   nobody shares with keeps what it sees, as its launcher, or nobody, has given it that. So do workers that their
   launcher has given devices of their own under equal names, as where each sees its own as 0.
2. Workers for whom no device is left see none; with `gpus: share` they begin again with the first one.
3. Those that may use the same CPUs divide them into sets, whole cores each. Sets of one CPU are none: a processor
   could not get away from a supervisor that works there. Then, as with more workers than cores, only the number of
   threads is limited. A worker that nobody shares CPUs with keeps them; one alone on its node is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from mpibatch.core.cpu_lists import cores_of, cpu_list
from mpibatch.core.settings import LARGEST, Wrong, shown

Gpus = int | Literal["share", "none"]
"""What the key `gpus` takes: devices for each worker; one for several where they are too few; hands off."""

CUDA, ROCR, ZE = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
HIP, ORDINAL = "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"
DEVICE_VARIABLES = (CUDA, ROCR, HIP, ZE, ORDINAL)
_WITHIN_ROCR = (HIP, ORDINAL)
"""Count the devices that ROCR leaves, so the one that is left is number 0."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
"""The first is heeded by OpenMP and all BLAS libraries, numexpr, PyTorch and Arrow, where their own are not set.
TensorFlow has one of its own only."""
_FEWEST_BOUND = 2
_NONE = {"", "-1", "nodevfiles", "none", "void"}


class Devices(msgspec.Struct, frozen=True):
    """What a variable lets a rank see, by number, UUID or name."""

    variable: str
    names: list[str]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank sees of its node."""

    devices: list[Devices] = []
    """The one that counts comes first. Empty: no variable says, and no device was found."""
    devices_per_task: int | None = None
    """How many the launcher says it gives to each rank."""
    cores: str = ""
    """The CPUs that it may use, by core, near ones together: `0,64 1,65`. Empty: unknown."""

    @property
    def seen(self) -> tuple[str, ...]:
        return tuple(self.devices[0].names) if self.devices else ()


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's processors get."""

    variables: dict[str, str] = {}
    """Of devices, in place of what the rank has."""
    devices: list[str] | None = None
    """Those it sees; None: not known, or nothing to do with us."""
    cpus: list[int] = []
    """To be bound to; empty: all that its rank may use."""
    threads: int | None = None
    """For libraries, where nobody has said; None: up to them."""
    usable: str = ""
    """The CPUs that it has in the end, as a list like `0-3`."""

    @property
    def defaults(self) -> dict[str, str]:
        """Variables that count only where nobody has set them."""
        return {} if self.threads is None else dict.fromkeys(THREAD_VARIABLES, str(self.threads))

    def words(self) -> str:
        """For people, to stand at the end of a line: `device 1, CPUs 2-3 (bound), 2 threads`."""
        match self.devices:
            case None:
                device = ""
            case []:
                device = "no device"
            case [one]:
                device = f"device {one}"
            case several:
                device = f"devices {', '.join(several)}"
        cpus = f"CPUs {self.usable}" + (" (bound)" if self.cpus else "") if self.usable else ""
        threads = "" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        return ", ".join(filter(None, (device, cpus, threads)))


class Seat(msgspec.Struct, frozen=True):
    """A worker on its node: who it is for `bind`, and what it sees."""

    worker: int
    node: int
    host: str
    view: View


class Bindings(msgspec.Struct, frozen=True):
    of: dict[int, Binding]
    """By worker."""
    warnings: list[str]


def bind(seats: Sequence[Seat], *, gpus: Gpus | None, cpus: bool, variables: Mapping[str, str]) -> Bindings:
    """What all workers get. `seats` in the order of ranks; `cpus`: whether CPUs are our business; `variables`: what
    the job itself sets, which wins."""
    by_node: dict[int, list[Seat]] = {}
    for seat in seats:
        by_node.setdefault(seat.node, []).append(seat)
    of: dict[int, Binding] = {}
    without: list[tuple[str, int, int, int]] = []
    own = any(name in variables for name in DEVICE_VARIABLES)
    for node in by_node.values():
        devices = {} if own or gpus == "none" else _devices_of(node, gpus)
        lacking = sum(chosen is not None and not chosen for chosen in devices.values())
        if lacking and any(seat.view.seen for seat in node):
            without.append(
                (node[0].host, len(node), len({one for seat in node for one in seat.view.seen}), lacking)
            )
        for seat, (bound, threads) in zip(node, _cpus_of(node) if cpus else [([], None)] * len(node)):
            of[seat.worker] = _binding(seat.view, devices.get(seat.worker), bound, threads)
    return Bindings(of, _warnings(without, gpus))


def _binding(view: View, chosen: list[int] | None, bound: list[int], threads: int | None) -> Binding:
    seen = list(view.seen) if view.devices else None
    usable = cpu_list(bound or [cpu for core in cores_of(view.cores) for cpu in core])
    if chosen is None:
        return Binding(devices=seen, cpus=bound, threads=threads, usable=usable)
    return Binding(
        variables=_narrowed(view.devices, chosen),
        devices=[view.seen[index] for index in chosen],
        cpus=bound,
        threads=threads,
        usable=usable,
    )


def _devices_of(node: Sequence[Seat], gpus: Gpus | None) -> dict[int, list[int] | None]:
    """Which of the devices that it sees each worker gets, by number among them; None: it keeps all."""
    groups: dict[tuple[str, ...], list[Seat]] = {}
    for seat in node:
        groups.setdefault(seat.view.seen, []).append(seat)
    chosen: dict[int, list[int] | None] = {}
    for seen, group in groups.items():
        given = all(seat.view.devices_per_task == len(seen) for seat in group)
        for index, seat in enumerate(group):
            if not seen or given or (len(group) == 1 and not isinstance(gpus, int)):
                chosen[seat.worker] = None
                continue
            # Where workers see different devices it was the launcher that has placed several at one.
            shares = gpus == "share" or (len(groups) > 1 and gpus is None)
            chosen[seat.worker] = _share(index, len(seen), gpus if isinstance(gpus, int) else 1, shares)
    return chosen


def _share(index: int, there: int, each: int, shares: bool) -> list[int]:
    if shares:
        return [index % there]
    first = index * each
    return list(range(first, first + each)) if first + each <= there else []


def _narrowed(devices: Sequence[Devices], chosen: Sequence[int]) -> dict[str, str]:
    """Each variable with what was chosen of its own names, which stand in one order in all of them."""
    given = {one.variable: one.names for one in devices}
    narrowed = {
        variable: ",".join(names[index] for index in chosen if index < len(names))
        for variable, names in given.items()
    }
    inner = next((given[name] for name in _WITHIN_ROCR if name in given), None)
    if ROCR in given and inner is not None:
        outer = given[ROCR]
        # Slurm sets all alike; else the inner ones count within the outer one.
        counted = inner != outer and all(name.isdigit() and int(name) < len(outer) for name in inner)
        within = [int(inner[i]) if counted and i < len(inner) else i for i in chosen]
        narrowed[ROCR] = ",".join(outer[index] for index in within if index < len(outer))
        numbers = ",".join(map(str, range(len(chosen))))
        narrowed |= {name: numbers for name in _WITHIN_ROCR if name in given}
    return narrowed


def _cpus_of(node: Sequence[Seat]) -> Iterable[tuple[list[int], int | None]]:
    """(CPUs to be bound to, threads) of each worker of a node, in their order."""
    if len(node) == 1:
        return [([], None)]
    groups: dict[str, list[Seat]] = {}
    for seat in node:
        groups.setdefault(seat.view.cores, []).append(seat)
    return [
        _part(cores_of(seat.view.cores), groups[seat.view.cores].index(seat), len(groups[seat.view.cores]))
        for seat in node
    ]


def _part(cores: Sequence[Sequence[int]], index: int, parts: int) -> tuple[list[int], int | None]:
    cpus = sum(map(len, cores))
    if not cpus:
        return [], None
    if parts == 1:
        return [], cpus
    mine, *others = (
        [cpu for core in cores[i * len(cores) // parts : (i + 1) * len(cores) // parts] for cpu in core]
        for i in (index, *range(parts))
    )
    if min(map(len, others)) < _FEWEST_BOUND:
        return [], max(1, cpus // parts)
    return mine, len(mine)


def _warnings(without: Sequence[tuple[str, int, int, int]], gpus: Gpus | None) -> list[str]:
    if not without:
        return []
    host, workers, devices, lacking = without[0]
    others = f" (and on {len(without) - 1} more nodes some do)" if len(without) > 1 else ""
    each = f", {gpus} for each (gpus)" if isinstance(gpus, int) and gpus > 1 else ""
    there = f"{devices} device" + "s" * (devices != 1)
    who = "1 worker goes" if lacking == 1 else f"{lacking} workers go"
    return [
        f"{host} has {workers} workers and {there}{each}: {who} without{others}. With gpus: share they share them;"
        " with fewer processes (process_count_per_node) each has its own; gpus: none leaves devices to the script."
    ]


# What variables and keys say


def read_devices(environment: Mapping[str, str]) -> list[Devices]:
    """What the variables say that are set; a list ends where one stands that means none."""
    return [
        Devices(name, _names(environment[name]))
        for name in DEVICE_VARIABLES
        if environment.get(name) is not None
    ]


def _names(value: str) -> list[str]:
    names: list[str] = []
    for name in map(str.strip, value.split(",")):
        if name.lower() in _NONE:
            break
        names.append(name)
    return names


def given_per_task(environment: Mapping[str, str]) -> int | None:
    """How many devices srun gives to each task by itself; None where it does not."""
    if "SLURM_NTASKS_PER_GPU" in environment:
        return 1
    number = environment.get("SLURM_GPUS_PER_TASK", "").rpartition(":")[2]
    return int(number) if number.isdigit() and int(number) else None


def read_gpus(value: Any) -> Gpus:
    """The check of the key `gpus`."""
    match value:
        case "share" | "none":
            return "share" if value == "share" else "none"
        case False | 0:
            return "none"
        case int() if value is not True and 0 < value <= LARGEST:
            return value
        case str() if value.isdigit():
            raise Wrong(f"write {value} without quotes")
        case _:
            raise Wrong(
                "must be how many devices each worker gets (a whole number), share (several workers use one where"
                f" they are too few) or none (devices are left to the script), not {shown(value)}"
            )
