"""One cluster for all tests of this folder, started when the first asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm.cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster(temporary_folder: Path) -> Iterator[Cluster]:
    """Four idle nodes. Without Slurm the tests are left out, but never where CI is set.

    Its daemons are there before a test begins, so they are not what the test has left; tasks of jobs are, as
    they have the tests' own folder for temporary files in their environment.
    """
    why = missing()
    if why and os.environ.get("CI"):
        pytest.fail(why, pytrace=False)
    if why:
        pytest.skip(why)
    started = Cluster.started()
    keeper = [sys.executable, str(Path(__file__).with_name("keeper.py")), str(started.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(keeper, stdin=pipe, stdout=pipe, start_new_session=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield started
        process.stdin.close()
        assert process.wait(60) == 0
