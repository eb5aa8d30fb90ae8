"""A pipeline for tests: `first` hands on names of files, `second` reads them as a table."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import support
import yaml

NOTE = """
import os, sys, time

FOLDER = sys.argv[sys.argv.index("--in") + 1].removeprefix("folder:")

def note(text):
    with open(os.path.join(FOLDER, "notes"), "a") as file:
        file.write(text + "\\n")

def gate():
    while not os.path.exists(os.path.join(FOLDER, "gate")):
        time.sleep(0.005)
"""
"""As in `support`, without an argument that names the file: as that changes, no run would be reused."""
FIRST = (
    NOTE
    + """
def run(mini_batch):
    note(f"first {os.path.basename(mini_batch[0])}")
    return [os.path.basename(path)[4:] + ",1" for path in mini_batch]
"""
)
SECOND = (
    NOTE
    + """
def run(table):
    note(f"second {len(table)}")
    return [f"{a} and {b}" for a, b in zip(table.iloc[:, 0], table.iloc[:, 1])]
"""
)
GATED_SECOND = SECOND.replace(
    "    return", "    if table.iloc[0, 0] >= 2:\n        gate()\n    time.sleep(0.02)\n    return"
)
"""Done with two rows, singly, it stands at the gate."""
ITEMS = 12
NAMES = [f"{number:03d}" for number in range(ITEMS)]
ROWS = [f"{number} and 1" for number in range(ITEMS)]


def make_pipeline(
    folder: Path, first: str = FIRST, second: str = SECOND, steps: dict[str, Any] | None = None, **keys: Any
) -> Path:
    """Its file, in `folder`; its own folder is `output`. `steps`: more keys for a step, or more steps."""
    support.make_job(folder, first, items=len(NAMES))
    (folder / "job.yaml").unlink()
    # In a folder of its own: what lies beside a script counts as part of it.
    (folder / "two").mkdir()
    (folder / "two" / "second.py").write_text(textwrap.dedent(second))
    made: dict[str, dict[str, Any]] = {
        # In the wrong order: it is the data that counts.
        "second": {
            "entry_script": "two/second.py",
            "inputs": [{"csv": "${steps.first.output}", "header": "none"}],
            "mini_batch_size": "1 rows",
        },
        "first": {"entry_script": "script.py", "inputs": [{"files": "data/"}], "mini_batch_size": 1},
    }
    for name, more in (steps or {}).items():
        made[name] = {**made.get(name, {}), **more}
    pipeline = {
        "name": "test-pipeline",
        "output": "output",
        "append_row_file_name": "rows.txt",
        "arguments": ["--in", "folder:${job_dir}"],
        "steps": made,
        **keys,
    }
    file = folder / "pipeline.yaml"
    file.write_text(yaml.safe_dump(pipeline))
    return file


def pipeline_result(output: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((output / "pipeline_result.json").read_text())
    return told


def states(output: Path) -> dict[str, str]:
    return {name: step["state"] for name, step in pipeline_result(output)["steps"].items()}


def work_of(folder: Path) -> list[str]:
    """What the scripts have noted since the last call, in order of name."""
    told = sorted(support.notes(folder))
    (folder / "notes").unlink(missing_ok=True)
    return told


ALL_FIRST = [f"first item{name}" for name in NAMES]
ALL_SECOND = ["second 1"] * len(NAMES)
