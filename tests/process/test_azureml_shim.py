"""Scripts written for Azure ML, as they are, in real processors: what they import, log and put aside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from pathlib import Path
from typing import Any

import support
from array_elements import all_elements
from support import Started, kill, make_job, mpibatch, notes, result, rows, words

import mpibatch as package

SCRIPT = """
import argparse, os
from azureml.core import Dataset, Run, Workspace
from azureml.core.model import Model
from azureml_user.parallel_run import EntryScript


def init():
    global logger, model, run_context
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_name", required=True)
    args, _ = parser.parse_known_args()
    logger = EntryScript().logger
    logger.info("init() is called.")
    with open(Model.get_model_path(args.model_name)) as file:
        model = file.read()
    run_context = Run.get_context()
    run_context.tag("kind", "scoring")


def run(mini_batch):
    logger.debug(f"{os.path.basename(mini_batch[0])} of {EntryScript().agent_name}")
    labels = os.listdir(run_context.input_datasets["labels"])
    run_context.log("items", len(mini_batch))
    run_context.parent.log_row("seen", first=os.path.basename(mini_batch[0]))
    name = os.path.basename(mini_batch[0])
    with open(os.path.join(EntryScript().log_dir, f"{EntryScript().agent_name}_own.txt"), "a") as file:
        file.write(name + "\\n")
    run_context.upload_file(f"outputs/{name}", mini_batch[0])
    if name == "item003":
        raise ValueError("not this one")
    return [f"{name} {model} {labels} {run_context.experiment.name}"] * len(mini_batch)


def shutdown():
    run_context.log("ended", 1)
"""


def job_in(folder: Path, script: str, **keys: Any) -> Path:
    (folder / "labels").mkdir()
    (folder / "labels" / "a.txt").touch()
    (folder / "model.txt").write_text("weights")
    keys = {"models": {"digits/2": "model.txt"}, "side_inputs": {"labels": "labels"}, **keys}
    return make_job(folder, script, arguments=["--model_name", "digits"], name="scoring", **keys)


def metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_script_as_it_is_in_two_processors(tmp_path: Path) -> None:
    job = job_in(tmp_path, SCRIPT, process_count_per_node=2, logging_level="DEBUG", run_max_try=2)
    ended = mpibatch("run", job, ranks=3)
    assert ended.returncode == 0, words(ended)
    output = tmp_path / "output"
    names = [f"item{number:03d}" for number in (0, 1, 2, 4, 5)]
    assert rows(output) == [f"{name} weights ['a.txt'] scoring" for name in names]
    assert sorted(os.listdir(output / "artifacts/outputs")) == sorted([*names, "item003"])
    lines = metrics(output)
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    # The one that fails has been tried twice, and what it has logged stays.
    items = [line["mini_batch"] for line in lines if line["name"] == "items"]
    assert sorted(items) == [0, 1, 2, 3, 3, 4, 5]
    assert {(line["value"], line["run"]) for line in lines if line["name"] == "items"} == {(1, "scoring")}
    assert {line["run"] for line in lines if line["name"] == "seen"} == {"scoring-parent"}
    # Maybe one: where the other has done all before it was ready.
    ran = {line["process"] for line in lines if line["name"] == "items"}
    assert ran <= {line["process"] for line in lines if line["name"] == "ended"}
    assert {line["tag"] for line in lines if line["name"] == "kind"} == {"scoring"}
    assert {line["mini_batch"] for line in lines if line["name"] in ("ended", "kind")} == {None}
    own = list((output / "logs/user/entry_script_log").rglob("*_own.txt"))
    assert sum(len(file.read_text().split()) for file in own) == 7
    logs = list((output / "logs/user/entry_script_log").rglob("process*.log.txt"))
    assert sum("|INFO|process00" in file.read_text() for file in logs) >= len(ran)
    assert sum(file.read_text().count("|DEBUG|") for file in logs) == 7


STOPPED = (
    support.NOTE
    + """
from azureml.core import Run

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    Run.get_context().log(name, os.getpid())
    note(f"{name} {os.getpid()}")
    if name >= "item002":
        gate()
    return [name]
"""
)


def test_what_was_logged_stays_when_a_processor_is_killed_and_the_run_is_stopped(tmp_path: Path) -> None:
    job = make_job(tmp_path, STOPPED, items=4, run_max_try=2, isolate_failures=False)
    output = tmp_path / "output"
    with Started(tmp_path, "run", job) as started:
        started.wait_until(lambda: len(notes(tmp_path)) == 3, "item002 is at the gate")
        kill(int(notes(tmp_path)[2].split()[1]))
        started.wait_until(lambda: len(notes(tmp_path)) == 4, "another processor goes on")
        assert mpibatch("stop", output).returncode == 0
        started.wait_to_say("stopping")
        support.open_gate(tmp_path)
        assert started.wait_to_end() == 75
    before = [line["name"] for line in metrics(output)]
    assert before == [line.split()[0] for line in notes(tmp_path)], "also that of the one who was killed"
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    told = [line["name"] for line in metrics(output)]
    assert told[:4] == before, "those of the session before are kept"
    assert sorted(told) == ["item000", "item001", "item002", "item002", "item003"]
    assert result(output)["sessions"] == 2
    (tmp_path / "script.py").write_text("def run(mini_batch): return mini_batch")
    again = mpibatch("run", job, "--fresh")
    assert again.returncode == 0, words(again)
    assert not (output / "metrics.jsonl").exists()


ASYNC = """
import asyncio
from azureml.core import Run

async def run(mini_batch):
    run_context = Run.get_context()
    await asyncio.sleep(0)
    run_context.log("item", int(mini_batch[0][-1]))
    return ["x"]
"""


def test_mini_batches_that_run_together_log_under_their_own_numbers(tmp_path: Path) -> None:
    job = make_job(tmp_path, ASYNC, items=6, concurrency=4)
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    assert sorted((line["mini_batch"], line["value"]) for line in metrics(tmp_path / "output")) == [
        (number, number) for number in range(6)
    ]


LOGS = """
from azureml.core import Run

def run(mini_batch):
    Run.get_context().log("item", int(mini_batch[0][-1]))
    return ["x"]
"""


def test_of_an_array_all_that_was_logged_is_in_one_file(tmp_path: Path) -> None:
    job = make_job(tmp_path, LOGS, items=4)
    all_elements(job, 2)
    assert [line["value"] for line in metrics(tmp_path / "output")] == [0, 2, 1, 3]


REFUSED = """
from azureml.core import Workspace

def init():
    Workspace.from_config()

def run(mini_batch):
    return mini_batch
"""


def test_what_needs_azure_is_the_first_cause_in_words(tmp_path: Path) -> None:
    ended = mpibatch("run", make_job(tmp_path, REFUSED))
    assert ended.returncode == 4, words(ended)
    cause = result(tmp_path / "output")["first_cause"]["error"]
    assert (
        "NeedsAzure: Workspace.from_config needs Azure, and mpibatch stands in for azureml-core here" in cause
    )
    assert "give the script paths and settings by arguments" in cause


UNKNOWN = """
from azureml.core import Model

def init():
    Model.get_model_path("digitz")

def run(mini_batch):
    return mini_batch
"""


def test_an_unknown_model_is_told_with_those_there_are(tmp_path: Path) -> None:
    ended = mpibatch("run", job_in(tmp_path, UNKNOWN))
    assert ended.returncode == 4, words(ended)
    cause = result(tmp_path / "output")["first_cause"]["error"]
    assert "UnknownModel: model digitz is none of the job's: it has digits/2 (is digits/2 meant?)" in cause


REAL = """
import azureml.core
from azureml.core import Run
from azureml_user.parallel_run import EntryScript

def run(mini_batch):
    return [f"{azureml.core.__file__} {Run.get_context()} {EntryScript().agent_name}"]
"""


def test_a_real_package_in_the_script_s_interpreter_wins(tmp_path: Path) -> None:
    folder = tmp_path / "ve"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    core = packages / "azureml" / "core" / "__init__.py"
    core.parent.mkdir(parents=True)
    core.write_text("class Run:\n    @staticmethod\n    def get_context(): return 'real'\n")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "here.pth").write_text("\n".join([*here, str(Path(package.__file__).parents[1])]))
    job = make_job(tmp_path, REAL, items=1, python=str(folder / "bin" / "python"))
    ended = mpibatch("run", job)
    assert ended.returncode == 0, words(ended)
    assert rows(tmp_path / "output") == [f"{core} real process000"]


def test_scripts_can_be_tested_at_home(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "from azureml_user.parallel_run import EntryScript\n" + textwrap.dedent(HOME)
    )
    here = Path(package.__file__).parent
    paths = os.pathsep.join([str(here.parent), str(here / "azureml")])  # Where an installed one has them.
    ended = subprocess.run(
        [sys.executable, "-c", "import script; script.init(); print(script.run([1, 2]))"],
        cwd=tmp_path, env=support.environment(PYTHONPATH=paths), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, words(ended)
    assert ended.stdout == f"['process000', '{tmp_path}/mpibatch_outputs']\n"
    assert ended.stderr.endswith("|INFO|process000|two\n")


HOME = """
def init():
    global script
    script = EntryScript()
    script.logger.debug("one")
    script.logger.info("two")

def run(mini_batch):
    script.heartbeat()
    return [script.agent_name, script.output_dir]
"""
