"""What it costs that all is made durable: the no-op job with its journal, and without.

    python tests/benchmarks/journal_cost.py [--mini-batches 40000] [--names 10] [--rounds 5]

Mini-batches of names, `run()` gives them back, two workers; `processing_s` of job_result.json, which ends when the
output is durable. Without: rank 0 syncs nothing and writes no record, by a `sitecustomize` in a folder on PYTHONPATH;
the rows are still appended to their segment, as the output is made of them. The two take turns in each round, and
must write the same bytes. The cost is the median of the rounds. Exit code 1 where it is above 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WORKERS = 2
TARGET_PERCENT = 5.0
SCRIPT = "def run(mini_batch):\n    return [path for path in mini_batch]\n"
WITHOUT = """\
import os

if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "0":
    import numpy as np
    from mpibatch.core.history import FIELDS
    from mpibatch.runtime.journal import Journal

    os.fsync = os.fdatasync = lambda fd: None
    Journal.commit = lambda journal, records: np.frombuffer(records, np.dtype(FIELDS))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="the cost of the journal")
    parser.add_argument("--mini-batches", type=int, default=40_000)
    parser.add_argument("--names", type=int, default=10, help="in each mini-batch")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mpibatch-journal-") as folder:
        return compare(Path(folder), arguments.mini_batches, arguments.names, arguments.rounds)


def compare(folder: Path, mini_batches: int, names: int, rounds: int) -> int:
    make_job(folder, mini_batches, names)
    print(f"{mini_batches:,} mini-batches of {names} names, {WORKERS} workers, {os.cpu_count()} cores")
    costs: list[float] = []
    for number in range(1, rounds + 1):
        seconds: dict[bool, float] = {}
        written = set()
        for journal in (True, False) if number % 2 else (False, True):
            output = folder / f"output-{number}-{journal}"
            seconds[journal] = run(folder, output, journal=journal)
            written.add((output / "rows.txt").read_bytes())
        if written != {(folder / "names.txt").read_bytes()}:
            raise SystemExit(f"round {number}: the rows are not the same")
        costs.append(100 * (seconds[True] / seconds[False] - 1))
        print(
            f"{number:>3}  with {mini_batches / seconds[True]:>8,.0f}, without"
            f" {mini_batches / seconds[False]:>8,.0f} mini-batches/s: {costs[-1]:+.1f} %"
        )
    cost = statistics.median(costs)
    verdict = "met" if cost <= TARGET_PERCENT else "MISSED"
    print(f"the journal costs {cost:.1f} %; target <= {TARGET_PERCENT:g} %: {verdict}")
    return int(cost > TARGET_PERCENT)


def make_job(folder: Path, mini_batches: int, names: int) -> None:
    (folder / "names.txt").write_text(
        "".join(f"/data/images/{number:07d}.png\n" for number in range(mini_batches * names))
    )
    (folder / "script.py").write_text(SCRIPT)
    (folder / "job.yaml").write_text(
        "name: journal\nentry_script: script.py\ninputs: [{list: names.txt, check: false}]\n"
        f"mini_batch_size: {names}\nprocess_count_per_node: {WORKERS}\nappend_row_file_name: rows.txt\n"
    )
    (folder / "without").mkdir()
    (folder / "without" / "sitecustomize.py").write_text(WITHOUT)


def run(folder: Path, output: Path, *, journal: bool) -> float:
    """Seconds of processing."""
    home = str(Path(__file__).resolve().parents[2])
    paths = [home, os.environ.get("PYTHONPATH"), *([] if journal else [str(folder / "without")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml"), "--output", str(output)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode != 0:
        raise SystemExit(f"{command} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
    journals = list(output.glob(".mpibatch/*.journal"))
    if (journals[0].stat().st_size > 64) != journal:
        raise SystemExit(f"{journals[0]} is not {'written' if journal else 'left alone'}")
    return float(json.loads((output / "job_result.json").read_text())["processing_s"])


if __name__ == "__main__":
    sys.exit(main())
