"""Times short commands as whole processes, against what issue and README promise.

    python tests/benchmarks/startup.py [--rounds 7]

`mpibatch --help`; a run of ten no-op mini-batches with one worker (no MPI) and with two under the local mpiexec.
Prints the median and the fastest of the rounds, and what a bare interpreter takes beside it. Exit code 1
where a median misses its target.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = "def run(mini_batch):\n    return mini_batch\n"
JOB = (
    "name: startup\nentry_script: script.py\ninputs: [{list: names.txt, check: false}]\nmini_batch_size: 10\n"
    "output: output\n"
)


def main() -> int:
    parser = argparse.ArgumentParser(description="how fast mpibatch starts")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    command = Path(sys.executable).parent / "mpibatch"
    if not command.exists():
        parser.error(
            f"{command} is not there: pip install . first (an installed package is what users start)"
        )
    with tempfile.TemporaryDirectory(prefix="mpibatch-startup-") as name:
        folder = Path(name)
        (folder / "names.txt").write_text("".join(f"/data/{number}\n" for number in range(100)))
        (folder / "script.py").write_text(SCRIPT)
        (folder / "job.yaml").write_text(JOB)
        run = [str(command), "run", str(folder / "job.yaml")]
        rows: list[tuple[str, list[str], float | None]] = [
            ("python -c pass", [sys.executable, "-c", "pass"], None),
            ("mpibatch --help", [str(command), "--help"], 0.15),
            ("10 mini-batches, 1 worker", run, 0.6),
            ("10 mini-batches, 2 workers", [*run, "--set", "process_count_per_node=2"], 1.2),
        ]
        return (
            sum(measure(what, words, target, folder / "output", rounds) for what, words, target in rows) and 1
        )


def measure(what: str, command: list[str], target: float | None, output: Path, rounds: int) -> int:
    """Prints one row; 1 if its target is missed."""
    seconds = []
    for _ in range(rounds):
        shutil.rmtree(output, ignore_errors=True)
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=output.parent)
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    missed = target is not None and median > target
    verdict = "" if target is None else f"  target <= {target} s: {'MISSED' if missed else 'met'}"
    print(f"{what:<28} median {median:.3f} s, fastest {min(seconds):.3f} s{verdict}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
