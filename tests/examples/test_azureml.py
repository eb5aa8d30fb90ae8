"""The azureml example: a pipeline as Azure ML takes it, by the real command line, in a copy of its folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mpibatch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "azureml"
IRIS_COUNT = 150

pytestmark = [
    pytest.mark.examples,
    pytest.mark.skipif(
        importlib.util.find_spec("sklearn") is None and os.environ.get("CI") != "true",
        reason="not installed: scikit-learn (pip install 'mpibatch[examples]')",
    ),
]


def run(*words: object, folder: Path) -> str:
    command = [sys.executable, "-m", "mpibatch", *map(str, words)]
    home = str(Path(mpibatch.__file__).parents[1])  # As the folder is another one than the tests'.
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": home},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("azureml") / "example"
    shutil.copytree(
        EXAMPLE, folder, ignore=shutil.ignore_patterns("data", "runs", "partial-*", "__pycache__")
    )
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, timeout=120)
    run("run", "pipeline.yml", folder=folder)
    return folder


def test_each_iris_is_named_in_order_and_counted(example: Path) -> None:
    score, count = (example / "runs" / "irises" / step for step in ("score", "count"))
    parts = sorted((example / "data").glob("*.csv"))
    species = [line.rpartition(",")[2] for part in parts for line in part.read_text().splitlines()[1:]]
    rows = [row.split(" ") for row in (score / "named.txt").read_text().splitlines()]
    assert [row[1] for row in rows] == species
    right = sum(named == true for named, true in rows)
    assert right / IRIS_COUNT >= 0.9

    counts = [row.replace(",", "").split() for row in (count / "counts.txt").read_text().splitlines()]
    files = sorted(path.name for path in (score / "per_batch").iterdir())
    assert [words[0] for words in counts] == [f"{name}:" for name in files]
    assert sum(int(words[1]) for words in counts) == IRIS_COUNT
    assert sum(int(words[3]) for words in counts) == right


def test_what_the_script_logs_is_kept(example: Path) -> None:
    score = example / "runs" / "irises" / "score"
    metrics = [json.loads(line) for line in (score / "metrics.jsonl").read_text().splitlines()]
    assert sorted(one["mini_batch"] for one in metrics) == list(
        range(len(list((score / "per_batch").iterdir())))
    )
    assert {one["name"] for one in metrics} == {"right"}
    logs = list(score.glob("logs/user/entry_script_log/*/*.log.txt"))
    # Of each that has worked: one may have done all before the other was ready.
    assert any("rows of mini-batches go to" in log.read_text() for log in logs)


def test_the_converted_pipeline_is_the_same_and_reused(example: Path) -> None:
    (example / "ours.yaml").write_text(run("convert", "pipeline.yml", folder=example))
    before = (example / "runs" / "irises" / "score" / "named.txt").stat().st_mtime_ns
    assert "reused" in run("run", "ours.yaml", folder=example)
    assert (example / "runs" / "irises" / "score" / "named.txt").stat().st_mtime_ns == before
