"""Keys that people bring along from Azure ML's job files, and what they are called here. Pure."""

from __future__ import annotations

from typing import Any

_RENAMED = {
    "max_concurrency_per_instance": "process_count_per_node",
    "processes_per_node": "process_count_per_node",
    "instance_count": "node_count",
    "nodes": "node_count",
    "code": "source_directory",
    "program_arguments": "arguments",
    "args": "arguments",
    "batch_size": "mini_batch_size",
    "chunksize": "mini_batch_size",
    "output_format": "append_row_format",
    "format": "append_row_format",
    "partition_by": "partition_keys",
    "append_row_to": "append_row_file_name",
    "script": "entry_script",
    "timeout": "run_invocation_timeout",
    "input": "inputs",
    "input_data": "inputs",
    "outputs": "output, or side_outputs where the script writes into them",
    "display_name": "name",
    "experiment_name": "name",
    "model": "models",
    "env": "environment_variables",
    "conda": "environment, like environment: {conda: my-env}",
    "conda_file": "environment, like environment: {conda: my-env}",
    "modules": "environment, like environment: {modules: [gcc/12]}, or slurm.modules for the batch script",
    "setup": "environment, like environment: {setup: source site.sh}, or slurm.setup for the batch script",
    "container": "environment, like environment: {container: tools.sif}, or slurm.container for the batch script",
    "image": "environment, like environment: {container: tools.sif}",
    **{
        key: f"slurm.{key}, like slurm: {{{key}: {example}}}"
        for key, example in {
            "partition": "long",
            "account": "physics",
            "qos": "high",
            "time": '"2:00:00"',
            "mem": "16G",
            "constraint": "skylake",
            "gpus_per_node": "2",
            "gpus_per_task": "1",
            "cpus_per_task": "4",
            "mpi": "pmix",
        }.items()
    },
}

_EXPLAINED = {
    "resources": "resources.instance_count is node_count",
    "retry_settings": (
        "max_retries is run_max_try, which counts tries, so one more; timeout is run_invocation_timeout"
    ),
    "task": (
        "task.code is source_directory, task.entry_script is entry_script,"
        " task.program_arguments is arguments, task.append_row_to is append_row_file_name"
    ),
    "input_asset": "each input is an element of inputs",
    "partition_by_size": "mini_batch_size",
    "compute": "where a job runs is up to mpirun or srun; node_count says on how many machines",
    "files": "it belongs into inputs, like inputs: [{files: images/}]",
    "list": "it belongs into inputs, like inputs: [{list: paths.txt}]",
    "csv": "it belongs into inputs, like inputs: [{csv: tables/*.csv}]",
    "jsonl": "it belongs into inputs, like inputs: [{jsonl: tables/*.jsonl}]",
    "parquet": "it belongs into inputs, like inputs: [{parquet: tables/*.parquet}]",
    "hdf5": "it belongs into inputs, like inputs: [{hdf5: tables/*.h5}]",
    "count": "it belongs into inputs, like inputs: [{count: 1000}]",
    "members": 'it belongs into an input, like inputs: [{files: data/*.tar, members: "*.png"}]',
    "as": 'it belongs into an input, like inputs: [{files: data/*.tar, members: "*.png", as: bytes}]',
    "sep": 'of rows it belongs into append_row, like append_row: {sep: ","}, of tables into an input',
    "header": "of rows it belongs into append_row, like append_row: {header: true}, of tables into an input",
    **{
        option: f"it belongs into an input, like inputs: [{{csv: tables/*.csv, {option}: ...}}]"
        for option in ("columns", "dtype", "encoding", "quotechar", "parse_dates", "na_values", "multiline")
    },
    "type": "leave it out",
    "$schema": "leave it out",
}


def key_hint(key: str, value: Any) -> str | None:
    """What to write instead of a key that no job file has, after a semicolon; None if nothing is known."""
    if key == "max_retries":
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
        example = f": run_max_try: {value + 1}" if is_count else ""
        return f"; here it is run_max_try, which counts tries, so retries + 1{example}"
    if key in _RENAMED:
        return f"; here it is {_RENAMED[key]}"
    if key in _EXPLAINED:
        return f"; {_EXPLAINED[key]}"
    return None
