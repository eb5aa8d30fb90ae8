"""The iris example, by the real command line, in a copy of its folder so that the checkout stays clean."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "iris"
IRIS_COUNT = 150
PART_COUNT = 3
MINI_BATCH_COUNT = 9
"""Of 20, 20 and 10 rows of each file."""
ROWS = "species.csv"

MISSING = [name for name in ("joblib", "sklearn") if importlib.util.find_spec(name) is None]
ON_CI = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.examples,
    pytest.mark.skipif(
        bool(MISSING) and not ON_CI,
        reason=f"not installed: {', '.join(MISSING)} (pip install 'mpibatch[examples]')",
    ),
]


def mpibatch_run(job: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mpibatch", "run", str(job), "--output", str(output), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def words(ended: subprocess.CompletedProcess[str]) -> str:
    """What a failed assertion should show of a process."""
    return f"exit code {ended.returncode}\n--- stdout\n{ended.stdout}\n--- stderr\n{ended.stderr}"


def read_table(folder: Path) -> pd.DataFrame:
    """All irises in the order of the input."""
    parts = sorted((folder / "data").iterdir())
    assert [part.name for part in parts] == [f"part-{number}.csv" for number in range(PART_COUNT)]
    return pd.concat([pd.read_csv(part) for part in parts], ignore_index=True)


def read_result(output: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / "job_result.json").read_text())
    return result


def files_and_times(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What is in the folders that prepare.py makes."""
    made = [path for name in ("data", "model") for path in (folder / name).rglob("*")]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in made}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the example without what it makes, and the run folder of its first run: (folder, output)."""
    assert not MISSING, f"on CI the examples must run, but these are not installed: {', '.join(MISSING)}"
    tmp_path = tmp_path_factory.mktemp("iris")
    folder, output = tmp_path / "example", tmp_path / "output"
    shutil.copytree(
        EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "model", "runs", "partial-*", "__pycache__")
    )
    ended = mpibatch_run(folder / "iris.yaml", output)
    assert ended.returncode == 0, words(ended)
    return folder, output


def test_each_iris_has_its_row_in_input_order_below_one_header(first_run: tuple[Path, Path]) -> None:
    folder, output = first_run
    table = read_table(folder)
    # Neither the numbers nor the species stand in an order that another order of the rows could keep.
    assert sorted(table["id"]) == list(range(IRIS_COUNT))
    assert not table["id"].is_monotonic_increasing

    lines = (output / ROWS).read_text().splitlines()
    assert lines[0] == "id,species,probability"
    assert lines.count(lines[0]) == 1
    assert [int(line.split(",")[0]) for line in lines[1:]] == table["id"].tolist()


def test_the_species_are_right(first_run: tuple[Path, Path]) -> None:
    folder, output = first_run
    rows = pd.read_csv(output / ROWS)
    assert (rows["species"].to_numpy() == read_table(folder)["species"].to_numpy()).mean() >= 0.95
    assert rows["probability"].between(1 / 3, 1).all()


def test_the_result_accounts_for_each_row(first_run: tuple[Path, Path]) -> None:
    _, output = first_run
    result = read_result(output)
    assert result["verdict"] == "complete"
    assert result["items"] == {"total": IRIS_COUNT, "succeeded": IRIS_COUNT, "failed": 0}
    assert result["mini_batches"] == {
        "total": MINI_BATCH_COUNT,
        "succeeded": MINI_BATCH_COUNT,
        "failed": 0,
        "attempts": MINI_BATCH_COUNT,
    }
    assert result["rows"] == IRIS_COUNT


def test_run_gets_the_rows_of_one_file(first_run: tuple[Path, Path]) -> None:
    _, output = first_run
    printed = [path.read_text() for path in (output / "logs" / "user" / "stdout").rglob("*.txt")]
    sizes = [line.split()[-2] for text in printed for line in text.splitlines() if "run method start" in line]
    assert sorted(sizes) == sorted(["20", "20", "10"] * PART_COUNT)


def test_mini_batches_of_bytes_give_the_same_rows_as_parquet(
    first_run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, output = first_run
    other = {
        "append_row_format": "parquet",
        "append_row_file_name": "species.parquet",
        "mini_batch_size": "300B",
    }
    sets = [word for key, value in other.items() for word in ("--set", f"{key}={value}")]

    ended = mpibatch_run(folder / "iris.yaml", tmp_path / "parquet", *sets)

    assert ended.returncode == 0, words(ended)
    assert read_result(tmp_path / "parquet")["mini_batches"]["total"] > MINI_BATCH_COUNT
    rows = pd.read_parquet(tmp_path / "parquet" / "species.parquet")
    pd.testing.assert_frame_equal(rows, pd.read_csv(output / ROWS))


def test_a_second_start_reuses_the_finished_run(first_run: tuple[Path, Path]) -> None:
    folder, output = first_run
    before, sessions = (output / ROWS).stat(), read_result(output)["sessions"]

    ended = mpibatch_run(folder / "iris.yaml", output)

    assert ended.returncode == 0, words(ended)
    after = (output / ROWS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), words(ended)
    assert read_result(output)["sessions"] == sessions, words(ended)


def test_prepare_repairs_what_is_missing_and_then_does_nothing(
    first_run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "example"
    shutil.copytree(first_run[0], folder)
    prepare = folder / "prepare.py"
    whole = files_and_times(folder)
    (folder / "data" / "part-1.csv").write_bytes(b"")
    (folder / "model" / "iris.joblib").unlink()

    repair = subprocess.run([sys.executable, str(prepare)], capture_output=True, text=True, check=False)
    assert repair.returncode == 0, words(repair)
    repaired = files_and_times(folder)
    assert {name: content for name, (_, content) in repaired.items()} == {
        name: content for name, (_, content) in whole.items()
    }
    # What was there stays as it is, with its time, so that a run that read it can be continued.
    assert {name for name in whole if repaired[name] != whole[name]} == {"part-1.csv", "iris.joblib"}

    script = (
        f"import runpy, sys; runpy.run_path({str(prepare)!r}, run_name='__main__');"
        "sys.exit('numpy was imported, so something heavy was' if 'numpy' in sys.modules else 0)"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert again.returncode == 0, words(again)
    assert again.stdout == ""
