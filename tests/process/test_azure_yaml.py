"""Azure ML's YAML files as they are, by the real command line: jobs, tables, a pipeline, and `convert`."""

from __future__ import annotations

import textwrap
from pathlib import Path

import support

SCORE = """
    import argparse, os
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--notes")
    args, _ = parser.parse_known_args()
    def run(mini_batch):
        word = open(os.path.join(args.model, "word")).read()
        names = [os.path.basename(path) for path in mini_batch]
        for name in names:
            open(os.path.join(args.notes, name), "w").close()
        return [f"{name} {word} {os.environ['COLOUR']}" for name in names]
"""
JOB = """\
$schema: https://azuremlschemas.azureedge.net/latest/parallelJob.schema.json
type: parallel
display_name: Score images
compute: azureml:cpu-cluster
inputs:
  images: {type: uri_folder, path: ./images, mode: ro_mount}
  model: {type: uri_folder, path: "azureml:model:1"}
outputs:
  rows: {type: uri_file, path: ./out/rows.txt, mode: rw_mount}
  notes: {type: uri_folder}
input_data: ${{inputs.images}}
mini_batch_size: "2"
retry_settings: {max_retries: 1, timeout: 60}
environment_variables: {COLOUR: red}
task:
  type: run_function
  code: ./src
  entry_script: score.py
  program_arguments: >-
    --model ${{inputs.model}}
    --notes ${{outputs.notes}}
  append_row_to: ${{outputs.rows}}
  environment: azureml:an-environment:1
"""
ROWS = [f"{number}.png word red" for number in range(5)]


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))


def make(folder: Path, yaml: str, script: str = SCORE) -> Path:
    write(folder / "src" / "score.py", script)
    write(folder / "model" / "word", "word")
    for number in range(5):
        write(folder / "images" / f"{number}.png", "x")
    (folder / "azure.yml").write_text(yaml)
    return folder / "azure.yml"


def test_machines_that_only_a_launcher_reaches_are_told_of_and_it_runs_here(tmp_path: Path) -> None:
    make(tmp_path, JOB.replace("azureml:model:1", "./model"))
    pipeline = "type: pipeline\njobs:\n  one:\n" + textwrap.indent(
        JOB.replace("azureml:model:1", "./model")
        + "resources: {instance_count: 3}\nmax_concurrency_per_instance: 2\n",
        "    ",
    ).replace("    $schema", "    # $schema")
    (tmp_path / "azure.yml").write_text(pipeline)
    ended = support.mpibatch("run", tmp_path / "azure.yml")
    assert ended.returncode == 0, support.words(ended)
    assert "instance_count is 3" in ended.stderr and "runs here, in 2 processes" in ended.stderr
    assert (tmp_path / "out" / "rows.txt").read_text().splitlines() == ROWS
    ours = support.mpibatch("convert", tmp_path / "azure.yml").stdout
    (tmp_path / "ours.yaml").write_text(ours)
    refused = support.mpibatch("run", tmp_path / "ours.yaml")  # In a file of our own it is what was wanted.
    assert refused.returncode == 2 and "needs a launcher that reaches other machines" in refused.stderr


def test_a_job_runs_as_it_is_and_what_convert_prints_is_the_same_job(tmp_path: Path) -> None:
    file = make(tmp_path, JOB)
    refused = support.mpibatch("run", file)
    assert refused.returncode == 2
    assert "--set inputs.model.path=PATH" in refused.stderr
    assert not (tmp_path / "runs").exists()
    sets = ("--set", "inputs.model.path=model")
    ended = support.mpibatch("run", file, *sets)
    assert ended.returncode == 0, support.words(ended)
    told = [line for line in ended.stderr.splitlines() if "left out" in line]
    (only,) = told
    assert "compute" in only
    assert "task.environment" in only
    output = tmp_path / "runs" / "score-images"
    assert support.rows(output) == ROWS
    assert (tmp_path / "out" / "rows.txt").read_text().splitlines() == ROWS
    assert len(list((output / "notes").iterdir())) == 5
    printed = support.mpibatch("convert", file, *sets)
    assert printed.returncode == 0, support.words(printed)
    (tmp_path / "own.yaml").write_text(printed.stdout)
    again = support.mpibatch("run", tmp_path / "own.yaml")
    assert again.returncode == 0, support.words(again)
    assert "is reused" in again.stdout, support.words(again)


def test_it_is_looked_at_before_it_is_run(tmp_path: Path) -> None:
    file = make(tmp_path, JOB.replace("azureml:model:1", "./model"))
    shown = support.mpibatch("run", file, "--dry-run")
    assert shown.returncode == 0, support.words(shown)
    assert "warning: left out, as they mean nothing here: " in shown.stdout
    assert "mini-batches 3 of up to 2 files" in shown.stdout
    script = support.mpibatch("submit", file, "--dry-run", "--set", "slurm.partition=long")
    assert script.returncode == 0, support.words(script)
    assert "#SBATCH --partition=long" in script.stdout


TABLE = """\
type: parallel
inputs: {table: {type: mltable, path: ./table, mode: direct}}
outputs: {rows: {type: uri_file, path: sums.csv}}
input_data: ${{inputs.table}}
partition_keys: [store]
mini_batch_size: 10kb
task: {type: run_function, code: src, entry_script: score.py, append_row_to: "${{outputs.rows}}"}
"""
MLTABLE = """\
$schema: https://azuremlschemas.azureedge.net/latest/MLTable.schema.json
type: mltable
paths:
  - folder: ./
transformations:
  - read_delimited: {delimiter: ";", header: all_files_same_headers, encoding: utf8}
  - keep_columns: [store, amount]
  - convert_column_types: [{columns: amount, column_type: float}]
"""
SUM = """
    def run(mini_batch, context):
        assert list(mini_batch.columns) == ["store", "amount"]
        key = context.partition_key_value["store"]
        return [f"{key} {len(mini_batch)} {mini_batch.amount.sum()}"] * len(mini_batch)
"""


def test_a_table(tmp_path: Path) -> None:
    file = make(tmp_path, TABLE, SUM)
    write(tmp_path / "table" / "MLTable", MLTABLE)
    write(tmp_path / "table" / "1.csv", "day;store;amount\n1;a;1\n1;b;2\n2;a;3\n")
    write(tmp_path / "table" / "2.csv", "day;store;amount\n3;b;4\n")
    ended = support.mpibatch("run", file)
    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "sums.csv").read_text().splitlines() == ["a 2 4.0"] * 2 + ["b 2 6.0"] * 2
    assert "mini_batch_size (partition_keys win)" in ended.stderr


FILES_BY_KEY = """\
paths: [{pattern: ./*/*.txt}]
transformations:
  - extract_columns_from_partition_format: {partition_format: "{store}/{day}.txt"}
"""
NAMES = """
    import os
    def run(mini_batch, context):
        days = [os.path.basename(path)[:-4] for path in mini_batch]
        return [f"{context.partition_key_value['store']} {day} of {len(days)}" for day in days]
"""


def test_files_by_keys_in_their_paths(tmp_path: Path) -> None:
    file = make(tmp_path, TABLE, NAMES)
    write(tmp_path / "table" / "MLTable", FILES_BY_KEY)
    for name in ("a/mon", "a/tue", "b/mon"):
        write(tmp_path / "table" / f"{name}.txt", "x")
    ended = support.mpibatch("run", file)
    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "sums.csv").read_text().splitlines() == ["a mon of 2", "a tue of 2", "b mon of 1"]


TABLE_BY_KEY = """\
paths: [{pattern: ./*/*/*/*.csv}]
transformations:
  - read_delimited: {delimiter: ";"}
  - extract_columns_from_partition_format: {partition_format: "/{store}/{month:yyyy/MM}/sales.csv"}
  - drop_columns: [day]
"""
SUM_OF_MONTHS = """
    def run(mini_batch, context):
        assert list(mini_batch.columns) == ["amount", "store", "month"]
        months = sorted(set(mini_batch["month"].dt.strftime("%B")))
        return [f"{context.partition_key_value['store']} {months} {mini_batch.amount.sum()}"]
"""


def test_a_table_by_keys_in_its_paths(tmp_path: Path) -> None:
    file = make(tmp_path, TABLE, SUM_OF_MONTHS)
    write(tmp_path / "table" / "MLTable", TABLE_BY_KEY)
    for place in ("a/2020/01", "a/2020/02", "b/2020/01"):
        write(tmp_path / "table" / place / "sales.csv", "day;amount\n1;2\n2;3\n")
    ended = support.mpibatch("run", file)
    assert ended.returncode == 0, support.words(ended)
    wanted = ["a ['February', 'January'] 10", "b ['January'] 5"]
    assert (tmp_path / "sums.csv").read_text().splitlines() == wanted
    converted = support.mpibatch("convert", file)
    assert "path_columns: /{store}/{month:yyyy/MM}/sales.csv" in converted.stdout
    assert "shuffle" not in converted.stdout


PIPELINE = """\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
display_name: Two steps
settings: {default_compute: "azureml:cpu-cluster"}
inputs:
  images: {type: uri_folder, path: ./images}
outputs:
  counts: {type: uri_file, path: out/counts.txt}
jobs:
  prepare:
    type: command
    command: echo
  score_images:
    type: parallel
    component: ./src/score.yml
    inputs: {images: "${{parent.inputs.images}}"}
    mini_batch_size: "3"
  count:
    type: parallel
    inputs:
      notes: {type: uri_folder, path: "${{parent.jobs.score_images.outputs.notes}}"}
      rows: ${{parent.jobs.score_images.outputs.rows}}
    outputs: {counts: "${{parent.outputs.counts}}"}
    input_data: ${{inputs.notes}}
    task:
      type: run_function
      code: src
      entry_script: count.py
      program_arguments: --rows ${{inputs.rows}}
      append_row_to: ${{outputs.counts}}
"""
COMPONENT = """\
type: parallel
name: score
version: 1
inputs:
  images: {type: uri_folder}
  model: {type: uri_folder, default: ./model}
outputs: {rows: {type: uri_file}, notes: {type: uri_folder}}
input_data: ${{inputs.images}}
environment_variables: {COLOUR: red}
task:
  type: run_function
  code: .
  entry_script: score.py
  program_arguments: --model ${{inputs.model}} --notes ${{outputs.notes}}
  append_row_to: ${{outputs.rows}}
"""
COUNT = """
    import os, sys
    rows = open(sys.argv[sys.argv.index("--rows") + 1]).read().splitlines()
    def run(mini_batch):
        return [next(row for row in rows if row.startswith(os.path.basename(path))).upper() for path in mini_batch]
"""


def test_a_pipeline(tmp_path: Path) -> None:
    file = make(tmp_path, PIPELINE)
    write(tmp_path / "src" / "score.yml", COMPONENT)
    write(tmp_path / "src" / "count.py", COUNT)
    refused = support.mpibatch("run", file)
    assert refused.returncode == 2
    assert "--set jobs.prepare=null" in refused.stderr
    sets = ("--set", "jobs.prepare=null")
    ended = support.mpibatch("run", file, *sets)
    assert ended.returncode == 0, support.words(ended)
    assert (tmp_path / "out" / "counts.txt").read_text().splitlines() == [row.upper() for row in ROWS]
    assert len([line for line in ended.stderr.splitlines() if "left out, as" in line]) == 1
    printed = support.mpibatch("convert", file, *sets)
    (tmp_path / "own.yaml").write_text(printed.stdout)
    again = support.mpibatch("run", tmp_path / "own.yaml")
    assert again.returncode == 0, support.words(again)
    assert again.stdout.count("reused") == 2, support.words(again)
