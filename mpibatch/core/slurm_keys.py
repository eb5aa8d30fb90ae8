"""The job file's key `slurm`: what the batch script asks of Slurm, and what it does on the way. Pure.

Within `slurm` YAML's numbers stay text, as they are written: YAML takes `time: 1:30:00` for the number 5400.
Whether a partition or an account exists is for `sbatch` to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from mpibatch.core.settings import Check, Problems, Wrong, choice, plain_list, shown, text
from mpibatch.core.shell_lines import Container

EXAMPLE = '{partition: long, time: "2:00:00", mem: 16G}'
CONTAINER_EXAMPLE = "{image: tools.sif, options: [--bind, /data]}"
EXTRA_EXAMPLE = '{mail_type: END, exclusive: true} or ["--mail-type=END", --exclusive]'
Signal = Literal["USR1", "USR2", "TERM", "INT", "HUP"]
SIGNALS: tuple[Signal, ...] = ("USR2", "USR1", "TERM", "INT", "HUP")
LONGEST_SIGNAL_S = 65_535
"""What `sbatch --signal` takes at most."""

_TIME = re.compile(r"\d+|\d+:\d+|\d+:\d+:\d+|\d+-\d+|\d+-\d+:\d+|\d+-\d+:\d+:\d+")
_MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)
_GPUS = re.compile(r"([A-Za-z0-9_.-]+:)?[1-9]\d{0,5}")
_NAME = re.compile(r"[^\s]+")
_OPTION = re.compile(r"-[A-Za-z]|--[a-z][a-z0-9-]*")
_OURS = {
    "--array": "the key array",
    "--job-name": "the key name",
    "--nodes": "the key node_count",
    "--ntasks-per-node": "the key process_count_per_node",
    "--signal": "slurm.signal",
}
"""Options that the script sets from other keys, which would contradict each other."""


class SlurmKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What stands below `slurm`, checked. None: Slurm's own default, or that of the site."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | None = None
    """As `sbatch --time` takes it."""
    mem: str | None = None
    """For each node, as `sbatch --mem` takes it."""
    gpus_per_node: str | None = None
    """A number, or kind:number."""
    gpus_per_task: str | None = None
    cpus_per_task: int | None = None
    constraint: str | None = None
    modules: list[str] = []
    setup: str = ""
    """Shell lines, after the modules are loaded."""
    container: Container | None = None
    mpi: str | None = None
    """What `srun --mpi` takes; None: the site's default."""
    signal: Signal = "USR2"
    """Comes before the end of the wall time."""
    signal_s: int | None = None
    """So many seconds before it; None: `drain_margin`."""
    max_requeues: int = 20
    """How often the job may be put back into the queue, or followed by another one, until it is complete."""
    extra: list[str] = []
    """Further options of `sbatch`, one an element, each as it stands after `#SBATCH`."""


def read_slurm(problems: Problems, value: Any) -> dict[str, Any]:
    """The fields of `SlurmKeys` that `value`, of the key `slurm`, gives; what is empty is left out."""
    given = problems.mapping("slurm", value, EXAMPLE)
    problems.unknown_keys("slurm.", given, LEGAL_SLURM_KEYS, _hint)
    read: dict[str, Any] = {}
    for name, check in _CHECKS.items():
        if given.get(name) is not None:
            taken = problems.take(f"slurm.{name}", given[name], check)
            if taken is not None:
                read[name] = taken
    seconds = read.pop("signal", (None, None))
    read |= {name: one for name, one in zip(("signal", "signal_s"), seconds) if one is not None}
    if "gpus_per_node" in read and "gpus_per_task" in read:
        both = f"{shown(given['gpus_per_node'])} and {shown(given['gpus_per_task'])}"
        problems.add(
            "slurm.gpus_per_node", f"and slurm.gpus_per_task say the same thing twice ({both}): leave one out"
        )
    return read


def _hint(key: str, value: Any) -> str | None:
    known = {
        "nodes": "node_count, beside slurm",
        "ntasks_per_node": "process_count_per_node, beside slurm",
        "ntasks": "node_count and process_count_per_node, beside slurm",
        "array": "array, beside slurm",
        "job_name": "name, beside slurm",
        "gres": "gpus_per_node (or extra: {gres: ...})",
        "gpus": "gpus_per_node or gpus_per_task",
        "memory": "mem",
        "walltime": "time",
        "time_limit": "time",
        "nice": "extra: {nice: ...}",
    }
    return f"; here it is {known[key]}" if key in known else None


# What each key takes


def line(value: Any) -> str:
    """Text that is one line, as an option or a command has to be."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)  # Of a mapping that no YAML was read for.
    taken = text(value)
    if any(ord(character) < 32 or ord(character) == 127 for character in taken):
        raise Wrong("must be one line, without tabs and other control characters")
    return taken


def _matching(pattern: re.Pattern[str], legal: str) -> Check:
    def check(value: Any) -> str:
        taken = line(value).strip()
        if pattern.fullmatch(taken):
            return taken
        raise Wrong(legal)

    return check


def _time(value: Any) -> str:
    taken = line(value).strip()
    if taken.upper() in ("INFINITE", "UNLIMITED"):
        return taken
    if not taken.isascii() or not _TIME.fullmatch(taken):
        raise Wrong(
            "must be minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or"
            ' days-hours:minutes:seconds, like 90, "1:30:00" or 2-12'
        )
    if not any(int(part[:9]) for part in re.split("[-:]", taken)):
        raise Wrong("must be longer than nothing")
    return taken


def seconds_of(time: str) -> int | None:
    """A checked `slurm.time` in seconds; None where it has no end. Source: man sbatch, --time."""
    if time.upper() in ("INFINITE", "UNLIMITED"):
        return None
    days, dash, clock = time.rpartition("-")
    parts = [int(part[:9]) for part in clock.split(":")]
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return ((int(days[:9] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def wall_time_warnings(keys: SlurmKeys, drain_margin_s: float) -> list[str]:
    """That the signal before the end would come as soon as the job has begun, so that hardly anything is done."""
    wall_s = seconds_of(keys.time) if keys.time is not None else None
    before_s = drain_margin_s if keys.signal_s is None else keys.signal_s
    if wall_s is None or before_s < wall_s:
        return []
    key = "drain_margin" if keys.signal_s is None else "slurm.signal"
    return [
        f"slurm.time: {keys.time} is {wall_s} s, and {key} stops the run {before_s:g} s before the end, which is at"
        " once: hardly anything is done before the job is put back into the queue. Make slurm.time longer, or"
        f" {key} shorter (it should still be longer than a mini-batch takes)"
    ]


def _count(least: int, most: int, of: str) -> Check:
    def check(value: Any) -> int:
        taken = line(value).strip()
        if re.fullmatch(r"[0-9]{1,9}", taken) and least <= int(taken) <= most:
            return int(taken)
        raise Wrong(f"must be a whole number from {least} to {most} ({of})")

    return check


def _lines_of_shell(value: Any) -> str:
    elements = value if isinstance(value, list | tuple) else [value]
    lines = [text(element).replace("\r\n", "\n").strip("\n") for element in elements]
    if any("\r" in one for one in lines):
        raise Wrong("must not contain a carriage return, which a shell takes for a part of the word")
    return "\n".join(lines)


def _names(value: Any) -> list[str]:
    elements = plain_list(value) if not isinstance(value, str) else value.split()
    return [
        _matching(_NAME, "must be a list of module names, like [gcc/12, openmpi]")(one) for one in elements
    ]


def _container(value: Any) -> Container:
    if isinstance(value, str):
        return Container(image=line(value))
    if not isinstance(value, Mapping) or not {"image"} <= set(value) <= {"image", "command", "options"}:
        raise Wrong(f"must be an image, or a mapping like {CONTAINER_EXAMPLE}")
    options = value.get("options")
    return Container(
        image=line(value["image"]),
        command=line(value.get("command") or "apptainer"),
        options=[line(one) for one in plain_list([] if options is None else options)],
    )


def _signal(value: Any) -> tuple[str, int | None]:
    name, at, seconds = line(value).strip().partition("@")
    name = name.upper().removeprefix("B:").removeprefix("SIG")
    check = choice(*SIGNALS)
    if not at:
        return check(name), None
    return check(name), _count(0, LONGEST_SIGNAL_S, "seconds before the end of the wall time")(seconds)


def _extra(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        elements = [_option_of(line(name), one) for name, one in value.items()]
    else:
        if not isinstance(value, list | tuple):
            raise Wrong(f"must be options of sbatch, as a mapping or a list, like {EXTRA_EXAMPLE}")
        elements = [line(one).strip().removeprefix("#SBATCH").strip() for one in value]
    for element in elements:
        name = re.split(r"[=\s]", element, maxsplit=1)[0]
        if not _OPTION.fullmatch(name):
            raise Wrong(
                f"{shown(element)} is no option of sbatch: each must begin so, like --reservation=exam"
            )
        if name in _OURS:
            raise Wrong(f"{name} is {_OURS[name]}: say it there, and leave it out here")
    return elements


def _option_of(name: str, value: Any) -> str:
    option = "--" + name.lstrip("-").replace("_", "-")
    if value is None or value is True or value in ("true", "yes"):
        return option
    return f"{option}={for_sbatch(line(value))}"


def for_sbatch(value: str) -> str:
    """`value` as a part of a `#SBATCH` line: what Slurm reads there becomes `value` again.

    Slurm's own rules (get_argument in its sbatch): single and double quotes group, a backslash takes the next
    character as it is, within both, and # begins a comment. A line with the word hetjob or packjob in it begins
    another job: a backslash hides that.
    """
    value = re.sub(r"([\\\"])", r"\\\1", value)
    value = re.sub(r"(?i)(het|pack)(job)", r"\1\\\2", value)
    return value if re.fullmatch(r"[A-Za-z0-9_@%+=:,./\[\]*&|-]*", value) else f'"{value}"'


_CHECKS: dict[str, Check] = {
    "partition": _matching(_NAME, "must be a partition's name, or several with commas and no spaces"),
    "account": _matching(_NAME, "must be an account's name"),
    "qos": _matching(_NAME, "must be the name of a quality of service"),
    "time": _time,
    "mem": _matching(
        _MEMORY, "must be megabytes, or a number with K, M, G or T, like 16G; 0 is all of a node"
    ),
    "gpus_per_node": _matching(_GPUS, "must be a number, or kind:number, like 2 or a100:2"),
    "gpus_per_task": _matching(_GPUS, "must be a number, or kind:number, like 1 or a100:1"),
    "cpus_per_task": _count(1, 65_536, "processors for each process"),
    "constraint": line,
    "modules": _names,
    "setup": _lines_of_shell,
    "container": _container,
    "mpi": _matching(_NAME, "must be a kind that srun --mpi=list shows, like pmix or pmi2"),
    "signal": _signal,
    "max_requeues": _count(0, 1000, "times"),
    "extra": _extra,
}
LEGAL_SLURM_KEYS = tuple(_CHECKS)
LISTS = ("modules", "setup", "extra")
"""What may be a list; `--set` takes it so."""
