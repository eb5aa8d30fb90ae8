"""What entry scripts written for Azure ML do, each habit in a script of its own, run by the real command line.

The habits are those of Microsoft's public samples of ParallelRunStep, parallel jobs and batch deployments.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support


def nothing_more(folder: Path) -> None:
    """All that is to be seen is in the rows."""


class Habit(msgspec.Struct, frozen=True):
    """A script and what comes of it. `items`: files item000 and so on, whose contents are their numbers."""

    script: str
    rows: list[str] | None
    """None: the run has no rows file."""
    keys: dict[str, Any] = {}
    files: dict[str, str] = {}
    """Besides the script, by path below the job's folder."""
    items: int = 4
    check: Callable[[Path], None] = nothing_more
    """Gets the job's folder after the run."""


TWO_TABLES = {"tables/a.csv": "name,x\nann,1\nbob b,2\n", "tables/b.csv": "name,x\ncid,3\n"}


def written_files(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "output" / "written").iterdir()) == ["item000", "item001"]
    assert (folder / "output" / "written" / "item001").read_text() == "copied: 1\n"


def appended_lines(folder: Path) -> None:
    lines = (folder / "output" / "scores.jsonl").read_text().splitlines()
    assert sorted(lines) == ['{"file":"item000","score":0}', '{"file":"item001","score":1}']


def trained(folder: Path) -> None:
    found = sorted((folder / "trained").glob("*/*"))
    assert [path.read_text() for path in found] == ["3 rows", "1 rows"], found
    assert support.result(folder / "output")["verdict"] == "complete"


def told(folder: Path) -> None:
    lines = (folder / "output" / "metrics.jsonl").read_text().splitlines()
    assert [(one["name"], one["value"]) for one in map(json.loads, lines)] == [("files", 2)] * 2


def said(words: str, where: str) -> Callable[[Path], None]:
    def check(folder: Path) -> None:
        logs = (folder / "output" / "logs" / "user" / where).rglob("*.txt")
        assert any(words in log.read_text() for log in logs), [log.read_text() for log in logs]

    return check


HABITS = {
    "a model found by AZUREML_MODEL_DIR and a glob, globals, environment printed": Habit(
        """
        import glob, os, pickle

        def init():
            global model
            for name, value in os.environ.items():
                print(name, value)
            with open(glob.glob(os.environ["AZUREML_MODEL_DIR"] + "/*/*.pkl")[-1], "rb") as file:
                model = pickle.load(file)
            assert os.listdir(os.environ["AZUREML_MODEL_DIR"]) == ["net"]
            assert glob.glob(os.environ["AZUREML_MODEL_DIR"] + "/*/")[0].endswith("/net/")

        def run(mini_batch):
            return ["{}: {}".format(os.path.basename(path), model["bias"]) for path in mini_batch]
        """,
        [f"item00{n}: 7" for n in range(4)],
        {"models": {"mine": "net/"}, "mini_batch_size": 3},
        {"net/model.pkl": "(dVbias\nI7\ns."},
        check=said("AZUREML_BI_OUTPUT_PATH ", "stdout"),
    ),
    "arguments parsed while it is imported, siblings imported, modules below folders": Habit(
        """
        import argparse
        import logging
        from pathlib import Path
        from typing import List

        from helpers.text import tidy
        from beside import PREFIX

        logger = logging.getLogger("azureml.scoring")
        parser = argparse.ArgumentParser(allow_abbrev=False, description="ParallelRunStep Agent")
        parser.add_argument("--factor", type=int, default=1)
        parser.add_argument("--drop_cols", type=str)
        args, unknown_args = parser.parse_known_args()

        def init() -> None:
            logger.warning("init() with %d", args.factor)

        def run(mini_batch: List[str]) -> List[str]:
            return [PREFIX + tidy(Path(path).stem) * args.factor for path in mini_batch]
        """,
        [f"> ITEM00{n}ITEM00{n}" for n in range(4)],
        {
            "source_directory": "code",
            "entry_script": "jobs/main.py",
            "arguments": ["--factor", 2, "--drop_cols", "a,b"],
        },
        {
            "code/helpers/__init__.py": "",
            "code/helpers/text.py": "def tidy(text):\n    return text.upper()\n",
            "code/jobs/beside.py": "PREFIX = '> '\n",
        },
        check=said("init() with 2", "stderr"),
    ),
    "a decorated run": Habit(
        """
        import functools, os, time

        def timed(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                start = time.time()
                result = function(*args, **kwargs)
                print("took", time.time() - start)
                return result
            return wrapper

        @timed
        def init():
            global ready
            ready = True

        @timed
        def run(mini_batch):
            return [os.path.basename(path) for path in mini_batch if ready]
        """,
        [f"item00{n}" for n in range(4)],
        check=said("took", "stdout"),
    ),
    "a generator": Habit(
        """
        def run(mini_batch):
            for path in mini_batch:
                with open(path) as file:
                    yield int(file.read()) ** 2
        """,
        ["0", "1", "4", "9"],
        {"mini_batch_size": 3},
    ),
    "two parameters, and the keys of the partition": Habit(
        """
        import os

        def run(mini_batch, mini_batch_context):
            key = mini_batch_context.partition_key_value
            print(f"partition_key_value = {key}, dataset = {mini_batch_context.dataset}")
            total = sum(os.path.getsize(path) for path in mini_batch)
            return [",".join(str(x) for x in (os.path.basename(path), key["user"], total)) for path in mini_batch]
        """,
        ["1.wav,ann,5", "2.wav,ann,5", "1.wav,bob,1"],
        {
            "inputs": [{"files": "songs/{user}/{song}.wav"}],
            "partition_keys": ["user"],
            "mini_batch_size": None,
        },
        {"songs/ann/1.wav": "ab", "songs/ann/2.wav": "abc", "songs/bob/1.wav": "a"},
        items=0,
        check=said("partition_key_value = {'user': 'bob'}", "stdout"),
    ),
    "a table changed in place, strings with spaces, columns dropped": Habit(
        """
        def run(input_data):
            num_rows, num_cols = input_data.shape
            input_data["total"] = input_data["x"].sum()
            result = input_data.drop(input_data.columns[3:], axis=1)
            result["kind"] = ["a kind"] * num_rows
            return result
        """,
        ['ann 1 3 "a kind"', '"bob b" 2 3 "a kind"', 'cid 3 3 "a kind"'],
        {"inputs": [{"csv": "tables/*.csv"}], "mini_batch_size": "1MB"},
        TWO_TABLES,
        items=0,
    ),
    "a settings file beside the script, and a header asked for by argument": Habit(
        """
        def run(mini_batch):
            return mini_batch[mini_batch["x"] < 3]
        """,
        ["name,x", "ann,1", "bob b,2"],
        {
            "inputs": [{"csv": "tables/*.csv"}],
            "mini_batch_size": "1MB",
            "arguments": ["--append_row_dataframe_header", "True", "--error_threshold", "1"],
        },
        {
            **TWO_TABLES,
            "parallel_run_step.settings.json": '{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}',
        },
        items=0,
    ),
    "files of tables read in run() and put together": Habit(
        """
        import os
        import pandas as pd

        def run(mini_batch):
            print(f"run method start: {__file__}, run({len(mini_batch)} files)")
            data = pd.concat(map(lambda path: pd.read_csv(path).assign(file=os.path.basename(path)), mini_batch))
            pred = pd.DataFrame(data["x"].values * 2, columns=["pred"])
            return pd.concat([data.reset_index(drop=True), pred], axis=1)
        """,
        ["ann 1 a.csv 2", '"bob b" 2 a.csv 4', "cid 3 b.csv 6"],
        {"inputs": [{"files": "tables/"}], "mini_batch_size": 10},
        TWO_TABLES,
        items=0,
    ),
    "dictionaries and lists made a DataFrame, with strings that hold the separator": Habit(
        """
        import os
        import numpy as np
        import pandas as pd

        def run(mini_batch):
            results = []
            for path in mini_batch:
                results.append({"file": os.path.basename(path), "class": np.int64(3), "text": "so it is"})
            return pd.DataFrame(results)
        """,
        [f'item00{n} 3 "so it is"' for n in range(4)],
    ),
    "numpy results, as arrays and as elements of tuples": Habit(
        """
        import numpy as np

        def run(mini_batch):
            numbers = np.array([int(open(path).read()) for path in mini_batch])
            if len(mini_batch) == 1:
                return [("one", str(numbers[0]))]
            return numbers * 2
        """,
        ["0", "2", "4", "('one', '3')"],
        {"mini_batch_size": 3},
    ),
    "the mini-batch itself returned, after files were written to a folder given by argument": Habit(
        """
        import argparse, os, shutil
        from pathlib import Path

        def init():
            global output
            parser = argparse.ArgumentParser()
            parser.add_argument("--output_path", type=str, default=0)
            parser.add_argument("--output_kind", type=str, default="text")
            args, _ = parser.parse_known_args()
            output = Path(args.output_path)
            print("exists", output.exists())
            assert output.exists()

        def run(mini_batch):
            for path in mini_batch:
                shutil.copy(path, Path.cwd())  # The working folder is this process's own.
                (output / Path(path).name).write_text("copied: " + open(Path(path).name).read())
            return mini_batch
        """,
        None,
        {
            "side_outputs": {"written": None},
            "arguments": ["--output_path", "${side_outputs.written}"],
            "output_action": "summary_only",
        },
        items=2,
        check=written_files,
    ),
    "lines appended to one file in AZUREML_BI_OUTPUT_PATH": Habit(
        """
        import os
        import numpy as np
        import pandas as pd

        def init():
            global output_file
            output_file = os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], "scores.jsonl")

        def run(mini_batch):
            if mini_batch:
                results = [pd.DataFrame({"file": np.repeat(os.path.basename(path), 1), "score": int(path[-1])})
                           for path in mini_batch]
                pd.concat(results, axis="rows").to_json(output_file, orient="records", mode="a", lines=True)
            return mini_batch
        """,
        None,
        {"output_action": "summary_only"},
        items=2,
        check=appended_lines,
    ),
    "a model trained for each partition, and [] returned": Habit(
        """
        import argparse, os

        def init():
            global model_folder, orders
            parser = argparse.ArgumentParser()
            parser.add_argument("--lagging_orders", type=str)
            parser.add_argument("--model_folder", type=str)
            parser.add_argument("--partition_keys", type=str)
            args, _ = parser.parse_known_args()
            model_folder, orders = args.model_folder, [int(i) for i in args.lagging_orders.split(",")]
            assert args.partition_keys == "mine", args

        def run(input_data, mini_batch_context):
            folder = os.path.join(model_folder, *[str(i) for i in mini_batch_context.partition_key_value.values()])
            if not os.path.exists(folder):
                os.makedirs(folder)
            with open(os.path.join(folder, "model"), "w") as file:
                file.write(f"{len(input_data)} rows")
            return []
        """,
        None,
        {
            "inputs": [{"csv": "sales.csv"}],
            "partition_keys": ["store"],
            "mini_batch_size": None,
            "side_outputs": {"models": "trained"},
            "arguments": [
                *("--lagging_orders", "1,2", "--model_folder", "${side_outputs.models}"),
                *("--partition_keys", "mine", "--error_threshold", "-1"),
            ],
            "output_action": "summary_only",
        },
        {"sales.csv": "store,n\n1,5\n1,6\n1,7\n2,8\n"},
        items=0,
        check=trained,
    ),
    "a parameter sweep without inputs, whose tasks are told apart by task_id": Habit(
        """
        import random

        def run(mini_batch):
            random.seed(mini_batch.task_id)
            return [f"task {mini_batch.task_id} of {len(mini_batch)}"]
        """,
        [f"task {n} of 1" for n in range(3)],
        {"arguments": ["--rank_mini_batch_count", 3], "inputs": None, "mini_batch_size": None},
        items=0,
    ),
    "a logger of EntryScript, a model asked for by a name that is an argument": Habit(
        """
        import argparse
        import os
        import pickle

        from azureml.core.model import Model
        from azureml_user.parallel_run import EntryScript

        def init():
            global model
            entry_script = EntryScript()
            entry_script.logger.info("init() is called in %s", entry_script.agent_name)
            parser = argparse.ArgumentParser(description="Model serving")
            parser.add_argument("--model_name", dest="model_name", required=True)
            args, unknown_args = parser.parse_known_args()
            with open(Model.get_model_path(args.model_name), "rb") as file:
                model = pickle.load(file)

        def run(input_data):
            logger = EntryScript().logger
            logger.info("run() is called with: {}.".format(input_data))
            result = input_data.drop(input_data.columns[1:], axis=1)
            result["variety"] = input_data["x"] + model["bias"]
            return result
        """,
        ["ann 8", '"bob b" 9', "cid 10"],
        {
            "inputs": [{"csv": "tables/*.csv"}],
            "mini_batch_size": "1MB",
            "models": {"iris": "net/model.pkl"},
            "arguments": ["--model_name", "iris"],
        },
        {**TWO_TABLES, "net/model.pkl": "(dVbias\nI7\ns."},
        items=0,
        check=said("run() is called with: ", "entry_script_log"),
    ),
    "the run asked for at import, and told numbers": Habit(
        """
        import os
        from azureml.core import Dataset, Model, Run, Workspace

        current_run = None

        def init():
            global current_run
            current_run = Run.get_context()
            print("in", current_run.experiment.name)

        def run(mini_batch):
            current_run.log("files", len(mini_batch))
            return [os.path.basename(path) for path in mini_batch]
        """,
        [f"item00{n}" for n in range(4)],
        {"mini_batch_size": 2},
        check=told,
    ),
}


@pytest.mark.parametrize("name", HABITS)
def test_a_habit(name: str, tmp_path: Path) -> None:
    habit = HABITS[name]
    for path, content in habit.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    keys = {"arguments": [], **habit.keys}
    job = support.make_job(tmp_path, habit.script, items=habit.items, **keys)
    _without_empty(job)
    if "entry_script" in keys:
        script = tmp_path / keys["source_directory"] / keys["entry_script"]
        script.write_text(textwrap.dedent(habit.script))
    ended = support.mpibatch("run", job)
    assert ended.returncode == 0, support.words(ended)
    assert "warning" not in ended.stderr
    if habit.rows is not None:
        assert support.rows(tmp_path / "output") == habit.rows
    else:
        assert not (tmp_path / "output" / "rows.txt").exists()
    habit.check(tmp_path)


def _without_empty(job: Path) -> None:
    """Leaves out the keys that are empty, which `make_job` would have filled in."""
    lines = job.read_text().splitlines(keepends=True)
    job.write_text("".join(line for line in lines if not line.endswith(": null\n") or line.startswith(" ")))
