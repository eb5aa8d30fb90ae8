"""A cluster to try things out on: `python tests/slurm/by_hand.py up`, and `down`. See `make slurm-up`."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path("/tmp/mpibatch-slurm")
"""One at a time, so that `down` finds it."""


def main(words: list[str]) -> int:
    """The exit code. On stdout what a shell evaluates; all else on stderr."""
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
    from slurm.cluster import Cluster, missing

    why = missing()
    if words not in (["up"], ["down"]) or why:
        print(why or "say up or down", file=sys.stderr)
        return 2
    cluster = Cluster(FOLDER)
    if words == ["down"]:
        cluster.stop()
        return 0
    if FOLDER.exists() and not cluster.states():  # What a restart of the machine has left.
        cluster.stop()
    if not FOLDER.exists():
        FOLDER.mkdir()
        Cluster.started(FOLDER)
    print(f"export SLURM_CONF={cluster.conf}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
