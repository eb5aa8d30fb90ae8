"""Which MPI is loaded, by its own words, and which `--mpi` of srun fits it."""

from __future__ import annotations

import pytest

from mpibatch.core.mpi_kinds import (
    Family,
    dies_of_pmix,
    fitting_plugin,
    library_words,
    listed_plugins,
    mpi_family,
    usual_plugin,
)

MPICH = "MPICH Version:      5.0.2\nMPICH Release date: Fri Sep 25 20:45:26 UTC 2026\nMPICH Device: ch4:ofi\n"
OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11, Sep 16, 2026\0"
INTEL = "Intel(R) MPI Library 2021.9 for Linux* OS\n\0"
CRAY = "MPI VERSION    : CRAY MPICH version 8.1.27.26 (ANL base 3.4a2)\nMPI BUILD INFO : Wed Aug 09\n"
MVAPICH = (
    "MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date : Wed March 02\nMVAPICH2 Device : ch3:mrail\n"
)


@pytest.mark.parametrize(
    ("said", "family", "words"),
    [
        (MPICH, "MPICH", "MPICH 5.0.2"),
        (OPEN_MPI, "Open MPI", "Open MPI v5.0.11"),
        (INTEL, "Intel MPI", "Intel(R) MPI Library 2021.9 for Linux* OS"),
        (CRAY, "Cray MPICH", "CRAY MPICH version 8.1.27.26 (ANL base 3.4a2)"),
        (MVAPICH, "MVAPICH", "MVAPICH2 2.3.7"),
        ("IBM Spectrum MPI v10.4", "Open MPI", "IBM Spectrum MPI v10.4"),
        ("HPE MPT 2.25", "unknown", "HPE MPT 2.25"),
        ("", "unknown", ""),
    ],
)
def test_families(said: str, family: Family, words: str) -> None:
    assert (mpi_family(said), library_words(said)) == (family, words)


NOW = """MPI plugin types are...
	pmix
	none
	cray_shasta
	pmi2
specific pmix plugin versions available: pmix_v4,pmix_v5
"""
BEFORE = "srun: MPI types are...\nsrun: pmi2\nsrun: none\nsrun: openmpi\n"


@pytest.mark.parametrize(
    ("text", "plugins"),
    [
        (NOW, ["pmix", "none", "cray_shasta", "pmi2", "pmix_v4", "pmix_v5"]),
        (BEFORE, ["pmi2", "none", "openmpi"]),
        ("", []),
        ("srun: error: no partition\n", []),
    ],
)
def test_what_srun_lists(text: str, plugins: list[str]) -> None:
    assert listed_plugins(text) == plugins


@pytest.mark.parametrize(
    ("family", "plugins", "fits"),
    [
        ("MPICH", ["pmix", "pmi2"], "pmi2"),
        ("MPICH", ["none", "pmix_v4"], "pmix_v4"),
        ("MPICH", ["none"], None),
        ("Intel MPI", ["none", "pmi2"], "pmi2"),
        ("MVAPICH", ["pmix", "pmi2"], "pmi2"),
        ("Open MPI", ["pmi2", "pmix", "pmix_v4"], "pmix"),
        ("Open MPI", ["pmi2", "pmix_v3"], "pmix_v3"),
        ("Open MPI", ["pmi2", "none"], None),
        ("Cray MPICH", ["pmi2", "cray_shasta"], "cray_shasta"),
        ("Cray MPICH", ["pmi2"], "pmi2"),
        ("unknown", ["pmi2", "pmix"], None),
    ],
)
def test_what_fits(family: Family, plugins: list[str], fits: str | None) -> None:
    assert fitting_plugin(family, plugins) == fits


def test_what_usually_fits() -> None:
    assert (usual_plugin("MPICH"), usual_plugin("Open MPI"), usual_plugin("unknown")) == (
        "pmi2",
        "pmix",
        None,
    )


@pytest.mark.parametrize(
    ("said", "environment", "loaded", "dies"),
    [
        (MPICH, {"PMIX_NAMESPACE"}, "/lib/libmpi.so.12", True),
        (MPICH, {"PMIX_NAMESPACE"}, "/lib/libmpi.so.12 /lib/libpmix.so.2", False),
        (MPICH, {"PMIX_NAMESPACE"}, "", False),  # Not known here.
        (MPICH, {"PMIX_NAMESPACE", "PMI_FD"}, "/lib/libmpi.so.12", False),
        (MPICH, {"PMI_FD"}, "/lib/libmpi.so.12", False),
        (OPEN_MPI, {"PMIX_NAMESPACE"}, "/lib/libmpi.so.40", False),
    ],
)
def test_what_ends_the_process(said: str, environment: set[str], loaded: str, *, dies: bool) -> None:
    assert dies_of_pmix(said, environment, loaded) == dies
