"""Which MPI is loaded, and which `--mpi` of srun fits it.

Pure: what the library says of itself and what `srun --mpi=list` prints are arguments. A plugin that does not
fit starts N worlds of size 1, without a word from Slurm or MPI.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Literal, assert_never

Family = Literal["Cray MPICH", "Intel MPI", "MVAPICH", "MPICH", "Open MPI", "unknown"]

_SIGNS: tuple[tuple[str, Family], ...] = (
    ("cray mpich", "Cray MPICH"),
    ("intel(r) mpi", "Intel MPI"),
    ("mvapich", "MVAPICH"),
    ("open mpi", "Open MPI"),
    ("spectrum mpi", "Open MPI"),  # IBM's, made from it.
    ("mpich", "MPICH"),
)
"""Words of `MPI_Get_library_version`. Those derived from MPICH come before it, as they name it as well."""


def mpi_family(library_version: str) -> Family:
    """By what `MPI_Get_library_version` says."""
    said = library_version.lower()
    return next((family for sign, family in _SIGNS if sign in said), "unknown")


def dies_of_pmix(library_version: str, environment: Container[str], loaded: str) -> bool:
    """Whether `MPI_Init` would end the process: a new MPICH does, with many words, where it was built without
    PMIx and is started by it. `loaded`: the names of the loaded libraries, one of which is PMIx where it has it."""
    started_by_pmix = "PMIX_NAMESPACE" in environment and "PMI_FD" not in environment
    return (
        started_by_pmix
        and mpi_family(library_version) == "MPICH"
        and bool(loaded)
        and "libpmix" not in loaded
    )


def library_words(library_version: str) -> str:
    """What it says in one line, without fill: `MPICH 5.0.2`, `Open MPI v5.0.11`."""
    line = library_version.strip("\0 \n").partition("\n")[0].partition(", package:")[0]
    line = re.sub(r"^MPI VERSION\s*:\s*", "", line)
    return re.sub(r"\s+Version\s*:\s*", " ", line)


def listed_plugins(text: str) -> list[str]:
    """What `srun --mpi=list` names, in its order. Old versions say it on stderr, each line with `srun: `."""
    found: list[str] = []
    for line in text.splitlines():
        words, colon, names = line.strip().removeprefix("srun:").strip().partition(":")
        if colon and words.startswith("specific pmix plugin"):
            found += [name.strip() for name in names.split(",")]
        elif words and not colon and len(words.split()) == 1:
            found.append(words)
    return list(dict.fromkeys(filter(None, found)))


def fitting_plugin(family: Family, plugins: Sequence[str]) -> str | None:
    """The best of `plugins` for this MPI; None if none fits, or the MPI is not known."""
    return next((name for wanted in _wanted(family) for name in plugins if _is(name, wanted)), None)


def usual_plugin(family: Family) -> str | None:
    """What fits where it is not known which plugins there are."""
    return next(iter(_wanted(family)), None)


def _wanted(family: Family) -> tuple[str, ...]:
    """The best first. Open MPI 5 speaks PMIx only; an MPICH may have been built with it."""
    match family:
        case "Cray MPICH":
            return ("cray_shasta", "pmi2")
        case "Intel MPI" | "MVAPICH" | "MPICH":
            return ("pmi2", "pmix")
        case "Open MPI":
            return ("pmix",)
        case "unknown":
            return ()
        case _:
            assert_never(family)


def _is(name: str, wanted: str) -> bool:
    """`pmix_v4` is a `pmix`. The plain name comes first in Slurm's list, or is not in it."""
    return name == wanted or (wanted == "pmix" and name.startswith("pmix_v"))
