"""Rows of a DataFrame as text: time of ours against pandas' `to_csv`, in one run.

    python tests/benchmarks/frame_text.py [rows]

Each case is what a mini-batch of about 1 MB of CSV gives; the best of some repetitions counts, ours and theirs
in turn. Before it is timed, the texts are compared.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mpibatch.outputs.csv_rows import CsvEncoder
from mpibatch.outputs.encoding import ItemKeys
from mpibatch.outputs.frame_text import FrameText
from mpibatch.outputs.jsonl_rows import JsonlEncoder

REPEAT = 15
TEXT: dict[str, Any] = {"sep": " ", "header": False, "index": False}


def cases(rows: int) -> dict[str, pd.DataFrame]:
    chance = np.random.default_rng(1)
    numbers = chance.normal(size=(rows, 8))
    names = np.array([f"image_{number}.png" for number in range(rows)], object)
    return {
        "sum and number": pd.DataFrame({"sum": numbers.sum(axis=1), "id": np.arange(rows)}),
        "eight numbers": pd.DataFrame(numbers, columns=list("abcdefgh")),
        "float32 and number": pd.DataFrame({"x": numbers[:, 0].astype(np.float32), "id": np.arange(rows)}),
        "name and class": pd.DataFrame(
            {"name": names, "class": pd.Categorical(np.where(numbers[:, 0] > 0, "a", "b"))}
        ),
        "times": pd.DataFrame(
            {"t": pd.date_range("2024-01-01", periods=rows, freq="s"), "id": np.arange(rows)}
        ),
        "a tenth missing": pd.DataFrame(
            {"x": np.where(numbers[:, 0] < -1.28, np.nan, numbers[:, 1]), "y": numbers[:, 2]}
        ),
    }


def in_turn(*calls: Callable[[], object]) -> list[float]:
    """Best milliseconds of each."""
    best = [float("inf")] * len(calls)
    for _ in range(REPEAT):
        for number, call in enumerate(calls):
            started = time.perf_counter()
            call()
            best[number] = min(best[number], time.perf_counter() - started)
    return [seconds * 1e3 for seconds in best]


def keys() -> ItemKeys:
    raise AssertionError


def measured(name: str, frame: pd.DataFrame) -> None:
    ours, csv, jsonl = FrameText(TEXT), CsvEncoder({}, False), JsonlEncoder(False)
    assert "".join(ours.parts(frame)) == frame.to_csv(**TEXT), name
    theirs_ms, ours_ms, csv_ms, jsonl_ms, json_ms = in_turn(
        lambda: frame.to_csv(**TEXT),
        lambda: ours.parts(frame),
        lambda: csv.encode(frame, len(frame), keys),
        lambda: jsonl.encode(frame, len(frame), keys),
        lambda: frame.to_json(orient="records", lines=True, date_format="iso"),
    )
    print(f"{name:20}{theirs_ms:9.2f}{ours_ms:9.2f}{theirs_ms / ours_ms:7.1f}", end="")
    print(f"{csv_ms:12.2f}{jsonl_ms:9.2f}{json_ms:9.2f}")


def main(rows: int) -> None:
    print(f"{rows:,} rows; milliseconds")
    print(f"{'':20}{'to_csv':>9}{'ours':>9}{'ratio':>7}{'csv format':>12}{'jsonl':>9}{'to_json':>9}")
    for name, frame in cases(rows).items():
        measured(name, frame)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
