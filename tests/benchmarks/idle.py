"""CPU that the ranks use while all processors sleep in `run()`: nothing may spin.

    python tests/benchmarks/idle.py [--workers 2] [--seconds 5]

A world of workers + 1 ranks: rank 0 only coordinates. Prints user and system time of each rank over the
interval, as a share of one core. Exit code 1 where rank 0 misses its target.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mpibatch.local_world import find_mpiexec, launcher_command

TARGET = 0.03  # of a core
SCRIPT = """
import os, sys, time

def run(mini_batch):
    open(os.path.join(sys.argv[-1], str(os.getpid())), "w").close()
    time.sleep(1000)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="CPU of idle ranks")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpibatch-idle-") as name:
        folder = Path(name)
        asleep = folder / "asleep"
        asleep.mkdir()
        (folder / "script.py").write_text(SCRIPT)
        (folder / "names.txt").write_text("".join(f"/{number}\n" for number in range(100)))
        (folder / "job.yaml").write_text(
            "name: idle-job\nentry_script: script.py\ninputs: [{list: names.txt, check: false}]\nmini_batch_size: 1\n"
            f"process_count_per_node: {arguments.workers}\noutput: output\nrun_invocation_timeout: 1000\n"
            f'arguments: ["{asleep}"]\n'
        )
        command, variables = launcher_command(find_mpiexec(), arguments.workers + 1)
        command += [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml")]
        with subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL
        ) as launcher:
            try:
                while len(os.listdir(asleep)) < arguments.workers:
                    if launcher.poll() is not None:
                        raise SystemExit(f"the run ended with {launcher.returncode}")
                    time.sleep(0.1)
                return measure(ranks_of(str(folder / "job.yaml")), arguments.seconds)
            finally:
                if launcher.poll() is None:
                    (folder / "output" / ".mpibatch" / "stop").write_text("now")
                    launcher.wait()


def ranks_of(job: str) -> dict[int, int]:
    """Process ids of the ranks that run a job file, by rank."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                variables = Path(entry.path, "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if job.encode() in words and b"mpiexec" not in words[0]:
                for variable in variables:
                    name, _, value = variable.partition(b"=")
                    if name in (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK"):
                        found[int(value)] = int(entry.name)
    return found


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(ranks: dict[int, int], seconds: float) -> int:
    time.sleep(1.0)  # What starting leaves to do.
    before = {rank: cpu_s(pid) for rank, pid in ranks.items()}
    time.sleep(seconds)
    shares = {rank: (cpu_s(pid) - before[rank]) / seconds for rank, pid in ranks.items()}
    for rank, share in sorted(shares.items()):
        print(f"rank {rank} {'(coordinator)' if rank == 0 else '(worker)':<14} {share:.1%} of a core")
    print(f"target for rank 0 <= {TARGET:.0%}: {'met' if shares[0] <= TARGET else 'MISSED'}")
    return int(shares[0] > TARGET)


if __name__ == "__main__":
    sys.exit(main())
