"""The notebook is executed from its first cell to its last, in a copy of its folder, and its results looked at."""

from __future__ import annotations

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
import support

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "notebook"
IMAGE_COUNT = 300
ROWS = "mnist_outputs.txt"

MISSING = [
    name for name in ("PIL", "sklearn", "nbclient", "ipykernel") if importlib.util.find_spec(name) is None
]
ON_CI = os.environ.get("CI") == "true"

pytestmark = [
    pytest.mark.examples,
    pytest.mark.skipif(
        bool(MISSING) and not ON_CI,
        reason=f"not installed: {', '.join(MISSING)} (pip install 'mpibatch[examples,dev]')",
    ),
]


EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read("parallel_run.ipynb", as_version=4)
nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
nbformat.write(notebook, "executed.ipynb")
"""


def execute(folder: Path) -> list[Any]:
    """The notebook's cells with their outputs, by a kernel that finds mpibatch as this interpreter does."""
    # Jupyter keeps files of its own in the home folder.
    variables = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter")}
    environment = support.from_anywhere() | variables
    ended = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, support.words(ended)
    return cells_of(folder / "executed.ipynb")


def cells_of(notebook: Path) -> list[Any]:
    cells: list[Any] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def text_of(cell: Any) -> str:
    """What it has printed and shown."""
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
    return "".join(line for lines in shown for line in lines)


def test_the_notebook_runs_and_predicts(tmp_path: Path) -> None:
    assert not MISSING, f"on CI the examples must run, but these are not installed: {', '.join(MISSING)}"
    folder = tmp_path / "example"
    made = shutil.ignore_patterns("data", "model", "workspace", "__pycache__", ".ipynb_checkpoints")
    shutil.copytree(EXAMPLE, folder, ignore=made)

    told = [text_of(cell) for cell in execute(folder)]

    assert any(f"Prediction has {IMAGE_COUNT} rows" in text for text in told), told
    images = sorted(path.name for path in (folder / "data" / "mnist").iterdir())
    outputs = sorted((folder / "workspace").rglob(ROWS), key=lambda file: file.stat().st_size)
    assert len(outputs) == 2, [str(file) for file in outputs]
    one, all_of_them = (pd.read_csv(file, delimiter=":", header=None) for file in outputs)
    assert all_of_them[0].tolist() == images
    assert one[0].tolist() == ["0.png"]
    labels = pd.read_csv(folder / "data" / "labels.csv").set_index("Filename")["Digit"]
    right = [labels[name] == digit for name, digit in zip(all_of_them[0], all_of_them[1], strict=True)]
    assert sum(right) / IMAGE_COUNT >= 0.85
    assert "bytes" in told[-1]


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in cells_of(EXAMPLE / "parallel_run.ipynb"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
