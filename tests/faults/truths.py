"""What an undisturbed run leaves, with which all others are compared."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import support
from faults.kinds import FOLDER, KEYS, KINDS, Kind

from mpibatch.runtime.run_folder import RunFolder


@dataclass(frozen=True)
class Truth:
    """What an undisturbed run leaves."""

    job: Path
    output: bytes
    failed: frozenset[tuple[str, str]]
    counts: dict[str, Any]
    elapsed_s: float


def undisturbed(kind: Kind, folder: Path) -> Truth:
    """Make the inputs and the job of a kind in `folder`, and run it once."""
    folder.mkdir(parents=True)
    files = kind.items if kind.name == "files" else 0
    job = support.make_job(
        folder, kind.script, items=files, name=f"faults-{kind.name}", append_row_file_name=kind.rows_file,
        **{**KEYS, **kind.keys},
    )  # fmt: skip
    kind.write_inputs(folder / "data")
    output = folder / "truth"
    began = time.monotonic()
    ended = support.mpibatch(
        "run", job, "--output", output, "--set", "process_count_per_node=1",
        env=support.environment(**kind.variables, **{FOLDER: str(folder)}),
    )  # fmt: skip
    assert ended.returncode == 0, support.words(ended)
    counts = counted(output)
    _adds_up(counts, kind, _rows_in(output / kind.rows_file))
    content = (output / kind.rows_file).read_bytes()
    return Truth(job, content, failures(output), counts, time.monotonic() - began)


def counted(output: Path) -> dict[str, Any]:
    """What of `job_result.json` no fault may change."""
    told = support.result(output)
    mini_batches = {name: told["mini_batches"][name] for name in ("total", "succeeded", "failed")}
    return {"items": told["items"], "mini_batches": mini_batches, "rows": told["rows"]}


def failures(output: Path) -> frozenset[tuple[str, str]]:
    """Items by whatever tells which they are, and the type of their error."""
    told = []
    for line in support.failed_items(output):
        which = {key: line[key] for key in line.keys() - {"attempts", "error", "worker", "log"}}
        told.append((json.dumps(which, sort_keys=True), line["error"]["type"]))
    assert len(told) == len(set(told)), f"an item has failed twice: {told}"
    return frozenset(told)


def is_right(output: Path, kind: Kind, truth: Truth) -> None:
    """What a run that was disturbed, and is complete, has to have left; and no more."""
    folder, rows = RunFolder(output), output / kind.rows_file
    assert rows.read_bytes() == truth.output, f"{rows} differs from an undisturbed run's"
    assert failures(output) == truth.failed
    assert counted(output) == truth.counts
    told = support.result(output)
    assert (told["verdict"], told["exit_code"], told["output"]) == ("complete", 0, str(rows))
    left = list(output.rglob("*.partial"))
    left += [place for place in (folder.lease, folder.private / "new", folder.stop) if place.exists()]
    assert not left, f"left in the run folder: {left}"


def _adds_up(counts: dict[str, Any], kind: Kind, rows: int) -> None:
    items, mini_batches = counts["items"], counts["mini_batches"]
    assert items["total"] == kind.items == items["succeeded"] + items["failed"]
    assert mini_batches["total"] == mini_batches["succeeded"] + mini_batches["failed"]
    # All kinds give a row for an item.
    assert counts["rows"] == items["succeeded"] == rows
    assert items["failed"] > 0


def _rows_in(file: Path) -> int:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(file).num_rows)
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        import csv

        return len(list(csv.reader(text.splitlines(keepends=True)))) - 1
    # Each value of these tables has one newline in its quotes.
    return text.count("\n") // (2 if '"' in text else 1)


Truths = Callable[[str], Truth]


@pytest.fixture(scope="session")
def truths(tmp_path_factory: pytest.TempPathFactory) -> Truths:
    """The truth of a kind of job, made when it is first asked for."""
    made: dict[str, Truth] = {}
    folder = tmp_path_factory.mktemp("kinds")

    def truth_of(name: str) -> Truth:
        if name not in made:
            made[name] = undisturbed(KINDS[name], folder / f"{name}-{time.monotonic_ns()}")
        return made[name]

    return truth_of
