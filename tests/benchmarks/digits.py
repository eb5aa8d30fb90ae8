"""Compares `mpibatch run` with a bare multiprocessing.Pool on the digits example, two workers each.

    python tests/benchmarks/digits.py [--images 10000] [--rounds 3]

Both use the same entry script, images, mini-batches and interpreter, and take turns, in the same run. What is
compared: the whole time of a process, and its processing: for the Pool from the first submission, when both
workers have initialised, until the ordered rows are fsynced; for mpibatch `processing_s` of job_result.json.
Their rows must be the same, byte for byte. Exit code 1 where a target is missed.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from mpibatch.azureml.finder import install
from mpibatch.azureml.tensorflow_v1 import stand_in
from mpibatch.entry import EntryScript
from mpibatch.messages import Surroundings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
WORKERS = 2
MINI_BATCH_SIZE = 5
START_TIMEOUT_S = 120
ROWS = "mnist_outputs.txt"
PROCESSING_RATE_TARGET = 0.95  # mpibatch / Pool, at least
WHOLE_TIME_TARGET = 1.15  # mpibatch / Pool, at most


class Timing(NamedTuple):
    whole_s: float
    processing_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description="mpibatch against multiprocessing.Pool, on digits")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pool", nargs=2, type=Path, metavar=("FOLDER", "OUTPUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pool:
        print(json.dumps({"processing_s": pool_run(*arguments.pool)}))
        return 0
    if arguments.images < 1 or arguments.rounds < 1:
        parser.error("--images and --rounds must be at least 1")
    with tempfile.TemporaryDirectory(prefix="mpibatch-digits-") as folder:
        return compare(Path(folder), arguments.images, arguments.rounds)


def compare(folder: Path, images: int, rounds: int) -> int:
    example = folder / "example"
    copy_example(example, images)
    measure: dict[str, Callable[[Path, Path], Timing]] = {"mpibatch": time_mpibatch, "Pool": time_pool}
    timings: dict[str, list[Timing]] = {name: [] for name in measure}
    print(f"{images} images, {MINI_BATCH_SIZE} a mini-batch, {WORKERS} workers, {os.cpu_count()} cores")
    print(f"{'round':>5}  {'':<8}  {'whole s':>8}  {'processing s':>12}  {'images/s':>9}")
    for number in range(1, rounds + 1):
        # The other one first in each second round, so that neither always finds the caches warm.
        for name in list(measure)[:: 1 if number % 2 else -1]:
            timing = measure[name](example, folder / f"{name}-{number}")
            timings[name].append(timing)
            rate = images / timing.processing_s
            print(f"{number:>5}  {name:<8}  {timing.whole_s:8.2f}  {timing.processing_s:12.3f}  {rate:9.0f}")
        rows = [(folder / f"{name}-{number}" / ROWS).read_bytes() for name in measure]
        if rows[0] != rows[1] or rows[0].count(b"\n") != images:
            raise SystemExit(f"round {number}: the rows of mpibatch and the Pool differ, or some are missing")
    return judge(timings["mpibatch"], timings["Pool"])


def judge(ours: list[Timing], pools: list[Timing]) -> int:
    """Prints the ratios: median, and in brackets each round's; 0 where both targets are met, else 1."""
    rates = [pool.processing_s / our.processing_s for our, pool in zip(ours, pools, strict=True)]
    wholes = [our.whole_s / pool.whole_s for our, pool in zip(ours, pools, strict=True)]
    rate, whole = statistics.median(rates), statistics.median(wholes)
    for what, median, ratios, target, met in (
        ("processing rate", rate, rates, f">= {PROCESSING_RATE_TARGET}", rate >= PROCESSING_RATE_TARGET),
        ("whole time", whole, wholes, f"<= {WHOLE_TIME_TARGET}", whole <= WHOLE_TIME_TARGET),
    ):
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        verdict = "met" if met else "MISSED"
        print(f"{what + ' mpibatch / Pool':<31} {median:.3f} ({each})  target {target}: {verdict}")
    return int(rate < PROCESSING_RATE_TARGET or whole > WHOLE_TIME_TARGET)


def copy_example(example: Path, images: int) -> None:
    """The example, prepared, with `images` images in many/: copies of its own, over and over."""
    shutil.copytree(EXAMPLE, example, ignore=shutil.ignore_patterns("runs", "partial-*", "__pycache__"))
    subprocess.run([sys.executable, "prepare.py"], cwd=example, check=True)
    originals = sorted((example / "data" / "images").iterdir())
    many = example / "many"
    many.mkdir()
    for index in range(images):
        original = originals[index % len(originals)]
        shutil.copyfile(original, many / f"{index:07d}_{original.name}")


def timed(command: list[str], what: str) -> tuple[float, str]:
    """Runs a whole process: its seconds and its stdout."""
    start = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    whole_s = time.perf_counter() - start
    if ended.returncode != 0:
        raise SystemExit(f"{what} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
    return whole_s, ended.stdout


def time_mpibatch(example: Path, output: Path) -> Timing:
    sets = ("inputs.0.files=many/", f"mini_batch_size={MINI_BATCH_SIZE}", f"process_count_per_node={WORKERS}")
    command = [sys.executable, "-m", "mpibatch", "run", str(example / "digits.yaml"), "--output", str(output)]
    whole_s, _ = timed(command + [word for item in sets for word in ("--set", item)], "mpibatch")
    return Timing(whole_s, json.loads((output / "job_result.json").read_text())["processing_s"])


def time_pool(example: Path, output: Path) -> Timing:
    command = [sys.executable, __file__, "--pool", str(example), str(output)]
    whole_s, stdout = timed(command, "the Pool")
    return Timing(whole_s, json.loads(stdout)["processing_s"])


# From here on: what runs in the Pool's own process, and in its workers.

run_of_script: Callable[[list[str]], list[str]]


def pool_run(example: Path, output: Path) -> float:
    """Processes many/ with a Pool and writes the rows in order; the seconds of processing."""
    output.mkdir()
    many = str(example / "many")
    paths = [os.path.join(many, name) for name in sorted(os.listdir(many))]
    mini_batches = [paths[i : i + MINI_BATCH_SIZE] for i in range(0, len(paths), MINI_BATCH_SIZE)]
    # fork starts faster than spawn, and is sound here, where the parent has neither TensorFlow nor threads.
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(WORKERS + 1)
    with context.Pool(WORKERS, start_worker, (example, output, ready)) as pool:
        # The limit, as a Pool replaces a worker whose initializer fails, for ever and without a word.
        ready.wait(START_TIMEOUT_S)
        start = time.perf_counter()
        with open(output / ROWS, "w", encoding="utf-8") as file:
            for rows in pool.imap(process, mini_batches, chunksize=1):
                file.writelines(f"{row}\n" for row in rows)
            file.flush()
            os.fsync(file.fileno())
        return time.perf_counter() - start


def start_worker(example: Path, output: Path, ready: Barrier) -> None:
    """Loads the entry script as mpibatch does: stand-ins and arguments set before the import, stdout in a file."""
    global run_of_script  # noqa: PLW0603  (a Pool's initializer has no other place to leave it)
    log = output / f"{os.getpid()}.stdout.txt"
    sys.stdout = open(log, "w", encoding="utf-8")  # noqa: SIM115  (open until the process ends)
    path = example / "digit_identification.py"
    sys.argv = [str(path)]
    folder = os.fsencode(output)
    EntryScript._settle(
        Surroundings(
            process="process000",
            node="here",
            run="digits",
            log_file=folder + b"/log.txt",
            output_dir=folder,
            metrics_file=folder + b"/metrics.jsonl",
            models={"mnist": os.fsencode(example / "model")},
        )
    )
    install()
    stand_in()
    spec = importlib.util.spec_from_file_location("digit_identification", path)
    assert spec is not None and spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.init()
    run_of_script = script.run
    ready.wait(START_TIMEOUT_S)


def process(mini_batch: list[str]) -> list[str]:
    return run_of_script(mini_batch)


if __name__ == "__main__":
    sys.exit(main())
