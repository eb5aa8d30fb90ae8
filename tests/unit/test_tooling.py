"""Ruff and mypy, so that one command holds them; they need the packages of the dev extra."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECKED = ("mpibatch", "tests")


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", *CHECKED), ("ruff", "format", "--check", *CHECKED), ("mypy",)],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_the_code_is_as_the_tools_want_it(command: tuple[str, ...]) -> None:
    if importlib.util.find_spec(command[0]) is None:
        reason = f"{command[0]} is not installed: pip install -e '.[dev]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
