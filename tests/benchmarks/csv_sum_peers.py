"""The work of csv_sum.py, and its peers: each adds up the same table in a process of its own.

    python tests/benchmarks/csv_sum_peers.py {Pool,Ray,Dask,Spark} TABLE WARM OUTPUT

TABLE and WARM are folders of CSV files, the second one small: it is processed first, so that what a peer starts
and imports is not timed. Its rows go to OUTPUT; the last line printed is JSON: the seconds and the peer's version.

This file is the entry script of mpibatch too. It needs no mpibatch, as the peers may have another environment.
"""

from __future__ import annotations

import importlib
import io
import json
import mmap
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

WORKERS = 2
MINI_BATCH = 2**20
"""Bytes."""
NUMBERS = ["quantity", "stock", "code", "width", "height", "depth", "weight", "price"]
"""Those that are added up: three of whole numbers, five of floats."""
COLUMNS = ["id", *NUMBERS, "name"]


def run(mini_batch: pd.DataFrame) -> pd.DataFrame:
    """The work: of mpibatch as its entry script, and of all peers."""
    import pandas as pd

    return pd.DataFrame({"id": mini_batch["id"], "sum": mini_batch[NUMBERS].sum(axis=1)})


def main() -> None:
    name, *folders = sys.argv[1:]
    table, warm, output = map(Path, folders)
    print(json.dumps(PEERS[name](table, warm, output)))


class Timing(NamedTuple):
    seconds: float
    version: str


def timed(work: Callable[[Path, Path], object], table: Path, warm: Path, output: Path) -> float:
    """Has `work(table, output)` done, after a small one; its seconds."""
    with tempfile.TemporaryDirectory(prefix="warm-", dir=output.parent) as elsewhere:
        work(warm, Path(elsewhere) / "rows")
    start = time.perf_counter()
    work(table, output)
    return time.perf_counter() - start


# multiprocessing.Pool


class Range(NamedTuple):
    """Records of a file, without its header."""

    path: Path
    header: bytes
    start: int
    stop: int


def pool(table: Path, warm: Path, output: Path) -> Timing:
    """Where to cut is found before, as mpibatch's survey has no counterpart here."""
    ranges = {folder: list(cut(folder)) for folder in (table, warm)}
    with multiprocessing.get_context("fork").Pool(WORKERS) as workers:

        def work(folder: Path, place: Path) -> None:
            place.mkdir(exist_ok=True)
            with open(place / "rows.txt", "w", encoding="utf-8") as file:
                file.writelines(workers.imap(process, ranges[folder], chunksize=1))
                file.flush()
                os.fsync(file.fileno())

        return Timing(timed(work, table, warm, output), sys.version.split()[0])


def cut(folder: Path) -> Iterator[Range]:
    """The ranges of all files: the records that begin in each cell of a grid, as mpibatch has them."""
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(b"\n") + 1
            header = content[:start]
            for cell in range(MINI_BATCH, len(content) + MINI_BATCH, MINI_BATCH):
                found = content.find(b"\n", max(start, cell) - 1) + 1
                stop = found or len(content)
                if stop > start:
                    yield Range(path, header, start, stop)
                start = stop


def process(part: Range) -> str:
    import pandas as pd

    with open(part.path, "rb") as file:
        content = os.pread(file.fileno(), part.stop - part.start, part.start)
    rows = run(pd.read_csv(io.BytesIO(part.header + content)))
    return rows.to_csv(sep=" ", header=False, index=False)


# Frameworks. Their rows go to files of CSV in a folder, a file a partition, in whatever order.


def ray_data(table: Path, warm: Path, output: Path) -> Timing:
    ray: Any = importlib.import_module("ray")
    data: Any = importlib.import_module("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, _temp_dir=scratch)

        def work(folder: Path, place: Path) -> None:
            data.read_csv(str(folder)).map_batches(run, batch_format="pandas").write_csv(str(place))

        seconds = timed(work, table, warm, output)
        ray.shutdown()
    return Timing(seconds, ray.__version__)


def dask(table: Path, warm: Path, output: Path) -> Timing:
    dask: Any = importlib.import_module("dask")
    frames: Any = importlib.import_module("dask.dataframe")
    distributed: Any = importlib.import_module("distributed")

    def work(folder: Path, place: Path) -> None:
        rows = frames.read_csv(str(folder / "*.csv"), blocksize=MINI_BATCH).map_partitions(
            run, meta={"id": "int64", "sum": "float64"}
        )
        rows.to_csv(str(place / "*.csv"), index=False)

    with (
        tempfile.TemporaryDirectory(prefix="dask-") as scratch,
        dask.config.set({"temporary-directory": scratch}),
        distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        return Timing(timed(work, table, warm, output), dask.__version__)


def spark(table: Path, warm: Path, output: Path) -> Timing:
    pyspark: Any = importlib.import_module("pyspark")
    sql: Any = importlib.import_module("pyspark.sql")
    whole = ["id", *NUMBERS[:3]]
    kinds = {column: "long" if column in whole else "double" for column in COLUMNS} | {"name": "string"}
    schema = ", ".join(f"{column} {kind}" for column, kind in kinds.items())

    def run_all(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        return map(run, batches)

    def work(folder: Path, place: Path) -> None:
        read = session.read.csv(str(folder), header=True, schema=schema)
        read.mapInPandas(run_all, "id long, sum double").write.csv(str(place), header=True)

    os.environ["PYSPARK_PYTHON"] = sys.executable  # Else its workers take the first python3 of the PATH.
    session = (
        sql.SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false").getOrCreate()
    )
    seconds = timed(work, table, warm, output)
    session.stop()
    return Timing(seconds, pyspark.__version__)


PEERS: dict[str, Callable[[Path, Path, Path], Timing]] = {
    "Pool": pool,
    "Ray": ray_data,
    "Dask": dask,
    "Spark": spark,
}


if __name__ == "__main__":
    main()
