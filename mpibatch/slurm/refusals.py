"""What Slurm says of a job that it does not take, and the keys of the job that this is about.

Slurm's words are those of its own commands, seen with 22.05: they name an option, or what is wrong with it. What is
not known here is told as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_SIZES = (
    "--nodes",
    "--ntasks-per-node",
    "--cpus-per-task",
    "--mem",
    "--gpus-per-node",
    "--gpus-per-task",
    "--constraint",
    "--partition",
)
_GPUS = ("--gpus-per-node", "--gpus-per-task", "--gres")
_LIMITS = ("--qos", "--account", "--partition", "--time", "--nodes")
_ABOUT: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"policy", _LIMITS),
    (r"account or account/partition", ("--account", "--partition")),
    (r"invalid account", ("--account",)),
    (r"invalid qos", ("--qos",)),
    (r"(user's group|user) not permitted to use this partition", ("--partition", "--account")),
    (r"partition (name|specified)|no partition|required partition", ("--partition",)),
    (r"feature specification", ("--constraint",)),
    (r"generic resource|gres", _GPUS),
    (r"memory (specification|required)", ("--mem",)),
    (r"time limit|time specification", ("--time",)),
    (r"node count", ("--nodes", "--partition")),
    (r"node configuration is not available|more processors requested|partition configuration", _SIZES),
    (r"job array", ("--array",)),
    (r"node name", ("--nodelist", "--exclude")),
    (r"reservation", ("--reservation",)),
    (r"license", ("--licenses",)),
    (r"limit", _LIMITS),
)
"""Words of `sbatch` (without regard to case), and the options they may be about."""
_WAITS_FOR_EVER = {
    "PartitionConfig": ("--time", "--nodes", "--ntasks-per-node", "--cpus-per-task", "--partition"),
    "PartitionTimeLimit": ("--time", "--partition"),
    "PartitionNodeLimit": ("--nodes", "--partition"),
    "BadConstraints": _SIZES,
    "AccountNotAllowed": ("--account", "--partition"),
    "QOSNotAllowed": ("--qos", "--partition"),
    "InvalidAccount": ("--account",),
    "InvalidQOS": ("--qos",),
    "QOSMaxWallDurationPerJobLimit": ("--time", "--qos"),
    "AssocMaxWallDurationPerJobLimit": ("--time", "--account"),
}
"""Reasons of a waiting job that do not pass by themselves, and what they are about."""


def refusal(said: str, script: str, sources: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """What `sbatch` has said, in its own words, and below it each key that this may be about, with its value."""
    lines = [line for line in said.splitlines() if line.strip()]
    keys = _keys(_options_in(said), script, sources, environment)
    words = "\n".join(["Slurm does not take the job:", *(f"  {line}" for line in lines)])
    if not lines:
        words += " it does not say why."
    return f"{words}\n{keys}" if keys else words


def waits_for_ever(reason: str, script: str, sources: Mapping[str, str]) -> str | None:
    """Words for a job that waits for what will not come; None where `reason` may pass."""
    options = _WAITS_FOR_EVER.get(reason)
    if options is None:
        return None
    return (
        f"Slurm has taken the job, but does not start it ({reason}): it asks for more than the partition has."
        f"\n{_keys(options, script, sources, {})}".rstrip()
    )


def _options_in(said: str) -> tuple[str, ...]:
    """The options that are named; else those that the words are about."""
    named = re.findall(r"--[a-z][a-z-]+", said)
    if named:
        return tuple(dict.fromkeys(named))
    # The first that fits in the order above, of all lines: a general line follows a special one.
    return next((options for words, options in _ABOUT if re.search(words, said, re.IGNORECASE)), ())


def _keys(
    options: tuple[str, ...], script: str, sources: Mapping[str, str], environment: Mapping[str, str]
) -> str:
    lines = []
    for option in options:
        variable = f"SBATCH_{option.removeprefix('--').replace('-', '_').upper()}"
        if variable in environment:
            lines.append(f"  the variable {variable}: {environment[variable]} (it wins over the job's own)")
        elif option in sources:
            lines.append(f"  {sources[option]}: {_value(option, script)}".rstrip(": "))
    if not lines:
        return ""
    return "\n".join(["What was asked for, and may be changed (job file, or --set):", *lines])


def _value(option: str, script: str) -> str:
    found = re.search(rf"^#SBATCH {re.escape(option)}[= ]?(.*)$", script, re.MULTILINE)
    return found[1] if found else ""
