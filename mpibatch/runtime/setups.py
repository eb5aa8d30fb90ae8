"""What each worker is told before its first mini-batch."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mpibatch
from mpibatch.core.config import Job
from mpibatch.core.job_inputs import FilesInput, ListInput
from mpibatch.core.mini_batch_size import as_argument
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import InputSpec, ProcessorSpec, Surroundings, WorkerSetup
from mpibatch.runtime.environments import script_of
from mpibatch.runtime.jobfile import row_settings
from mpibatch.runtime.planner import Plan
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.table_plan import TablePlan

MODEL_DIR = "AZUREML_MODEL_DIR"
"""The variable that names the folder of links to the job's models."""
MOST_HEARTBEAT_S = 5.0
HEARTBEATS = 6
"""Within the time after which a silent worker is lost."""


def process_name(place: WorkerPlace) -> str:
    """process000, process001, ... on each node."""
    return f"process{place.local_index:03d}"


def node_name(place: WorkerPlace) -> str:
    """The folder of a node's logs."""
    return place.host.replace("/", "_")


def log_files(folder: RunFolder, place: WorkerPlace) -> dict[str, Any]:
    """The log files of a worker, as in CONTRACT section 6, and its name for people."""
    node, process = node_name(place), process_name(place)
    user = folder.logs.absolute() / "user"
    return {
        "name": f"{process} on {node}",
        "stdout": str(user / "stdout" / node / f"{process}.stdout.txt"),
        "stderr": str(user / "stderr" / node / f"{process}.stderr.txt"),
        "errors": str(user / "error" / node / f"{process}.txt"),
        "sys": str(folder.logs.absolute() / "sys" / "node" / node / f"{place.rank}.txt"),
    }


def input_specs(plan: Plan) -> list[InputSpec]:
    """What processors need to read the inputs by themselves; nothing for files and numbers."""
    if not isinstance(plan, TablePlan):
        return []
    return [InputSpec(kind=one.kind, options=dict(one.options), setup=one.setup) for one in plan.tables]


def downloads(job: Job) -> list[int]:
    """Numbers of the inputs whose files processors copy to scratch first."""
    return [
        number
        for number, one in enumerate(job.inputs)
        if isinstance(one, FilesInput | ListInput) and one.mode == "download"
    ]


def worker_setups(
    job: Job,
    folder: RunFolder,
    places: Mapping[int, WorkerPlace],
    *,
    inputs: list[InputSpec],
    notices: Path,
) -> dict[int, WorkerSetup]:
    """By worker. `notices`: the folder in which guardians tell of workers that have died."""
    append_row = row_settings(job) if job.output_action == "append_row" else {}
    on_node = Counter(place.node for place in places.values())
    return {
        number: _worker_setup(job, folder, place, append_row, inputs, notices, on_node[place.node])
        for number, place in places.items()
    }


def _worker_setup(
    job: Job,
    folder: RunFolder,
    place: WorkerPlace,
    append_row: dict[str, Any],
    inputs: list[InputSpec],
    notices: Path,
    processors_here: int,
) -> WorkerSetup:
    logs = log_files(folder, place)
    output = job.output  # Also in a share of an array: what scripts store by themselves goes into one place.
    binding = place.binding
    environment = {**binding.variables, **job.environment_variables, "AZUREML_BI_OUTPUT_PATH": output}
    if job.models:
        environment[MODEL_DIR] = str(folder.models.absolute())
    return WorkerSetup(
        worker=place.worker,
        processor=ProcessorSpec(
            name=process_name(place),
            script=os.fsencode(job.entry_script),
            is_module=job.entry_is_module,
            source_directory=None if job.source_directory is None else os.fsencode(job.source_directory),
            argv=[os.fsencode(argument) for argument in (*_system_arguments(job), *job.arguments)],
            output_action=job.output_action,
            append_row=append_row,
            append_row_format=job.append_row_format,
            add_input_key=bool(job.add_input_key),
            downloads=downloads(job),
            inputs=inputs,
            datasets=[os.fsencode(one.text) for one in job.inputs],
            error_file=os.fsencode(logs["errors"]),
            concurrency=job.concurrency,
            run_timeout_s=job.run_invocation_timeout,
            tensorflow_v1=job.tensorflow_v1,
            surroundings=_surroundings(job, folder, place),
            version=mpibatch.__version__,
        ),
        python=None if job.python is None else os.fsencode(job.python),
        environment_script=os.fsencode(script_of(job)),
        environment={name: os.fsencode(value) for name, value in environment.items()},
        environment_defaults=binding.defaults,
        cpus=binding.cpus,
        binding=binding.words(),
        environment_keep=job.environment_keep,
        stdout_file=os.fsencode(logs["stdout"]),
        stderr_file=os.fsencode(logs["stderr"]),
        log_file=os.fsencode(logs["sys"]),
        logging_level=job.logging_level,
        run_invocation_timeout_s=job.run_invocation_timeout,
        init_timeout_s=job.init_timeout,
        kill_grace_s=job.shutdown_timeout,
        heartbeat_s=min(MOST_HEARTBEAT_S, job.heartbeat_timeout / HEARTBEATS),
        silence_s=job.heartbeat_timeout,
        processors_here=processors_here,
        lost_file=os.fsencode(notices.absolute() / str(place.worker)),
    )


def _surroundings(job: Job, folder: RunFolder, place: WorkerPlace) -> Surroundings:
    def encoded(paths: Mapping[str, str]) -> dict[str, bytes]:
        return {name: os.fsencode(path) for name, path in paths.items()}

    node, process = node_name(place), process_name(place)
    log = folder.logs.absolute() / "user" / "entry_script_log" / node / f"{process}.log.txt"
    return Surroundings(
        process=process,
        node=node,
        run=job.name,
        log_file=os.fsencode(log),
        output_dir=os.fsencode(job.output),
        metrics_file=os.fsencode(folder.own_metrics.absolute() / f"{node}.{process}.jsonl"),
        logging_level=job.logging_level,
        models=encoded(job.models),
        side_inputs=encoded(job.side_inputs),
        side_outputs=encoded(job.side_outputs),
    )


def _system_arguments(job: Job) -> list[str]:
    """What the reference passes before the user's arguments (CONTRACT section 1), but for what argparse would take
    for one of these, shortened: `--output` where there is an `--output_dir`."""
    words = _all_system_arguments(job)
    theirs = [argument.partition("=")[0] for argument in job.arguments]
    return [
        word
        for name, value in zip(words[::2], words[1::2])
        if not any(other.startswith(name) and other != name for other in theirs)
        for word in (name, value)
    ]


def _all_system_arguments(job: Job) -> list[str]:
    return [
        *_mini_batch_size(job),
        "--process_count_per_node", str(job.process_count_per_node or 1),
        "--node_count", str(job.node_count or 1),
        "--error_threshold", str(job.error_threshold),
        "--run_invocation_timeout", f"{job.run_invocation_timeout:g}",
        "--run_max_try", str(job.run_max_try),
        "--output_action", job.output_action,
        "--append_row_file_name", job.append_row_file_name,
        "--logging_level", job.logging_level,
        "--output", job.output,
        *_where_set(job),
    ]  # fmt: skip


def _where_set(job: Job) -> list[str]:
    """Those that the reference passes only where the job has set them."""
    settings: dict[str, float | None] = {
        "--allowed_failed_count": job.mini_batch_error_threshold,
        "--allowed_failed_percent": job.allowed_failed_percent,
        "--progress_update_timeout": job.progress_update_timeout,
    }
    given = [
        word for name, value in settings.items() if value is not None for word in (name, f"{value:.12g}")
    ]
    return [*given, "--partition_keys", json.dumps(job.partition_keys)] if job.partition_keys else given


def _mini_batch_size(job: Job) -> list[str]:
    """Nothing where mini-batches are of partition keys, as they have no size then."""
    if job.partition_keys:
        return []
    size = str(job.mini_batch_size) if job.table_size is None else as_argument(job.table_size)
    return ["--mini_batch_size", size]
