"""The digits example, by the real command line, in a copy of its folder so that the checkout stays clean."""

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

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
IMAGE_COUNT = 1797
ROWS = "mnist_outputs.txt"

MISSING = [name for name in ("tensorflow", "PIL", "sklearn") if importlib.util.find_spec(name) is None]
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


def read_rows(output: Path) -> pd.DataFrame:
    return pd.read_csv(output / ROWS, delimiter=":", header=None)


def read_result(output: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / "job_result.json").read_text())
    return result


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the example without what it makes, and the run folder of its first run: (folder, output)."""
    assert not MISSING, f"on CI the examples must run, but these are not installed: {', '.join(MISSING)}"
    tmp_path = tmp_path_factory.mktemp("digits")
    folder, output = tmp_path / "example", tmp_path / "output"
    shutil.copytree(
        EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "model", "runs", "partial-*", "__pycache__")
    )
    ended = mpibatch_run(folder / "digits.yaml", output)
    assert ended.returncode == 0, words(ended)
    return folder, output


def test_each_digit_has_its_row_in_input_order(first_run: tuple[Path, Path]) -> None:
    folder, output = first_run
    images = sorted(path.name for path in (folder / "data" / "images").iterdir())
    assert len(images) == IMAGE_COUNT

    rows = read_rows(output)
    assert rows.shape == (IMAGE_COUNT, 2)
    assert rows[0].tolist() == images

    # The label is the digit after the index: 0000_7.png is a seven.
    labels = [int(name[5]) for name in images]
    right = sum(label == digit for label, digit in zip(labels, rows[1].tolist(), strict=True))
    assert right / IMAGE_COUNT >= 0.95


def test_the_result_accounts_for_each_image(first_run: tuple[Path, Path]) -> None:
    _, output = first_run
    result = read_result(output)
    assert result["verdict"] == "complete"
    assert result["items"] == {"total": IMAGE_COUNT, "succeeded": IMAGE_COUNT, "failed": 0}
    assert result["rows"] == IMAGE_COUNT


def test_a_second_start_reuses_the_finished_run(first_run: tuple[Path, Path]) -> None:
    folder, output = first_run
    before, sessions = (output / ROWS).stat(), read_result(output)["sessions"]

    ended = mpibatch_run(folder / "digits.yaml", output)

    assert ended.returncode == 0, words(ended)
    after = (output / ROWS).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), words(ended)
    assert read_result(output)["sessions"] == sessions, words(ended)


def test_a_rerun_with_one_image_gives_one_row(first_run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = first_run
    image = sorted((folder / "data" / "images").iterdir())[0]
    one = ["--set", "mini_batch_size=1", "--set", f"inputs.0.files=data/images/{image.name}"]

    ended = mpibatch_run(folder / "digits.yaml", tmp_path / "one", *one)

    assert ended.returncode == 0, words(ended)
    rows = read_rows(tmp_path / "one")
    assert rows[0].tolist() == [image.name]
    assert rows[1].tolist() == [int(image.name[5])]


def test_prepare_repairs_what_is_missing_and_then_does_nothing(
    first_run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "example"
    shutil.copytree(first_run[0], folder)
    prepare, image = folder / "prepare.py", folder / "data" / "images" / "0007_7.png"
    index = folder / "model" / "mnist-tf.model.index"
    whole = image.read_bytes(), index.read_bytes()
    image.write_bytes(b"")
    index.unlink()

    repair = subprocess.run([sys.executable, str(prepare)], capture_output=True, text=True, check=False)
    assert repair.returncode == 0, words(repair)
    assert (image.read_bytes(), index.read_bytes()) == whole
    assert not list(folder.rglob("partial-*"))

    script = (
        f"import runpy, sys; runpy.run_path({str(prepare)!r}, run_name='__main__');"
        "sys.exit('numpy was imported, so something heavy was' if 'numpy' in sys.modules else 0)"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert again.returncode == 0, words(again)
    assert again.stdout == ""
