"""How near to the ideal rate many workers come that sleep: what dispatch and supervision cost when it matters.

    python tests/benchmarks/sleepers.py [--workers 64] [--mini-batches 10000] [--sleep 0.02] [--rounds 3]

Each mini-batch sleeps, once for a fixed time and once for times drawn from a log-normal distribution with
sigma 1 and the same mean. The ideal is what a scheduler without any overhead reaches that does not know the times
either: each mini-batch, in order, begins on the worker that is free first. Beside it stands the share of a
perfect balance (the sum of all sleeps over the number of workers), which with drawn times nobody can reach: the
last long ones begin when they begin. Start-up is left out: `processing_s` of job_result.json, and all workers
are ready before the first mini-batch ends. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIXED_TARGET = 0.95
LOG_NORMAL_TARGET = 0.93
SCRIPT = """
import os, sys, time

def init():
    # All begin at the same moment, once all are there, so that start-up is left out.
    folder, workers = sys.argv[-2], int(sys.argv[-1])
    open(os.path.join(folder, str(os.getpid())), "w").close()
    while len(os.listdir(folder)) < workers:
        time.sleep(0.05)
    go, mine = folder + "-go", f"{folder}-{os.getpid()}"
    with open(mine, "w") as file:
        file.write(str(time.monotonic() + 0.5))
    try:
        os.link(mine, go)  # Of the first one that sees all.
    except FileExistsError:
        pass
    with open(go) as file:
        begin = float(file.read())
    time.sleep(max(0.0, begin - time.monotonic()))

def run(mini_batch):
    time.sleep(float(mini_batch[0].rpartition("-")[2]))
    return mini_batch
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="efficiency with many sleeping workers")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--mini-batches", type=int, default=10_000)
    parser.add_argument("--sleep", type=float, default=0.02)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    random.seed(1)
    count, mean = arguments.mini_batches, arguments.sleep
    fixed = [mean] * count
    # The mean of a log-normal is exp(mu + sigma^2 / 2).
    drawn = [random.lognormvariate(math.log(mean) - 0.5, 1.0) for _ in range(count)]
    missed = 0
    for what, sleeps, target in (("fixed", fixed, FIXED_TARGET), ("log-normal", drawn, LOG_NORMAL_TARGET)):
        seconds = [measure(sleeps, arguments.workers) for _ in range(arguments.rounds)]
        ideal_s = without_overhead(sleeps, arguments.workers)
        shares = [ideal_s / one for one in seconds]
        median = statistics.median(shares)
        balance = sum(sleeps) / arguments.workers / statistics.median(seconds)
        verdict = "met" if median >= target else "MISSED"
        missed += median < target
        each = ", ".join(f"{share:.3f}" for share in shares)
        print(f"{what:<11} {median:.3f} of the ideal rate ({each})  target >= {target}: {verdict}")
        best = sum(sleeps) / arguments.workers / ideal_s
        print(f"{'':<11} {balance:.3f} of a perfect balance; the ideal has {best:.3f}")
    return int(missed > 0)


def without_overhead(sleeps: list[float], workers: int) -> float:
    """Seconds that it takes if nothing costs any time but the sleeps."""
    free_at = [0.0] * workers
    for sleep in sleeps:
        heapq.heapreplace(free_at, free_at[0] + sleep)
    return max(free_at)


def measure(sleeps: list[float], workers: int) -> float:
    """Seconds of processing."""
    with tempfile.TemporaryDirectory(prefix="mpibatch-sleepers-") as name:
        folder = Path(name)
        (folder / "ready").mkdir()
        (folder / "script.py").write_text(SCRIPT)
        (folder / "names.txt").write_text(
            "".join(f"/{n:07d}-{sleep:.6f}\n" for n, sleep in enumerate(sleeps))
        )
        (folder / "job.yaml").write_text(
            "name: sleepers\nentry_script: script.py\ninputs: [{list: names.txt, check: false}]\n"
            f"mini_batch_size: 1\nprocess_count_per_node: {workers}\noutput: output\n"
            f'arguments: ["{folder / "ready"}", "{workers}"]\n'
        )
        command = [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"mpibatch ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
        result = json.loads((folder / "output" / "job_result.json").read_text())
        assert result["items"]["succeeded"] == len(sleeps)
        return float(result["processing_s"])


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    sys.exit(main())
