"""How near to the ideal rate many workers come that sleep: what dispatch and supervision cost when it matters.

    python tests/benchmarks/sleepers.py [--workers 64] [--mini-batches 10000] [--sleep 0.02] [--rounds 3]

Each mini-batch sleeps, once for a fixed time and once for times drawn from a log-normal distribution with
sigma 1 and the same mean. The ideal is the sum of all sleeps over the number of workers: no overhead and a
perfect balance. Start-up is left out: `processing_s` of job_result.json, and all workers are ready before the
first mini-batch ends. Exit code 1 where a target is missed.
"""

from __future__ import annotations

import argparse
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
        shares = [measure(sleeps, arguments.workers) for _ in range(arguments.rounds)]
        median = statistics.median(shares)
        verdict = "met" if median >= target else "MISSED"
        missed += median < target
        each = ", ".join(f"{share:.3f}" for share in shares)
        print(f"{what:<11} {median:.3f} of the ideal rate ({each})  target >= {target}: {verdict}")
    return int(missed > 0)


def measure(sleeps: list[float], workers: int) -> float:
    """The ideal time over the time it took."""
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
        return sum(sleeps) / workers / float(result["processing_s"])


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    sys.exit(main())
