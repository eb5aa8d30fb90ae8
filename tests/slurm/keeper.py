"""Stops a cluster when its standard input ends: so it is stopped as well where the tests are killed.

`python tests/slurm/keeper.py FOLDER`, started by the tests, which hold the other end.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(folder: str) -> None:
    """Returns when nothing of the cluster in `folder` is left."""
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    from slurm.cluster import Cluster

    print(
        "ready", flush=True
    )  # Before, it has not yet the command line by which tests tell it from leftovers.
    sys.stdin.read()
    Cluster(Path(folder)).stop()


if __name__ == "__main__":
    main(sys.argv[1])
