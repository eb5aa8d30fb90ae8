"""CPUs as text: the kernel's lists (`0-3,8`), and cores of a rank (`0,64 1,65`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def cpu_list(cpus: Iterable[int]) -> str:
    """As the kernel writes it: `0-3,8`."""
    parts: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if parts and parts[-1][1] == cpu - 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def read_cpu_list(text: str) -> list[int]:
    """What the kernel wrote; what makes no sense is left out."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return sorted(cpus)


def cores_of(text: str) -> list[list[int]]:
    """Of a text that `cores_text` has made."""
    return [[int(cpu) for cpu in core.split(",")] for core in text.split()]


def cores_text(
    usable: Iterable[int], siblings: Mapping[int, Sequence[int]], nodes: Sequence[Sequence[int]]
) -> str:
    """The usable CPUs by core, the cores of a memory node together.

    `siblings`: CPUs of the core of each; one that is not named is a core by itself. `nodes`: the CPUs of each.
    """
    left = set(usable)
    node_of = {cpu: number for number, cpus in enumerate(nodes) for cpu in cpus}
    cores = []
    for cpu in sorted(left):
        if cpu in left:
            core = sorted(left & {cpu, *siblings.get(cpu, ())})
            left -= set(core)
            cores.append(core)
    cores.sort(key=lambda core: (node_of.get(core[0], 0), core[0]))
    return " ".join(",".join(map(str, core)) for core in cores)
