"""A mapping, as YAML gives it, becomes a `Job`, or a `ConfigError` that names all that is wrong. Pure.

Rules: no file is looked at and no environment read (what is needed of them comes as arguments), so the
same mapping always gives the same job; unknown keys are refused; each default stands once, in `Job`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import msgspec

from mpibatch.core.argument_settings import WITH_DATA, argument_settings, rank_mini_batches, without_data
from mpibatch.core.arguments import read_arguments, suspicious_arguments
from mpibatch.core.array_keys import ArrayKeys, read_array
from mpibatch.core.binding import Gpus
from mpibatch.core.environment_keys import Environment, read_environment
from mpibatch.core.fault_keys import read_faults
from mpibatch.core.job_inputs import ArchiveInput, CountInput, FilesInput, JobInput, ListInput, are_tables
from mpibatch.core.job_keys import ALIASES, LEGAL_KEYS, MAY_BE_EMPTY, MINI_BATCHES_THAT_FAIL, SIMPLE
from mpibatch.core.job_name import read_name
from mpibatch.core.key_hints import key_hint
from mpibatch.core.mini_batch_size import DEFAULT_TABLE_SIZE, read_file_count, read_table_size, size_warnings
from mpibatch.core.named_values import placeholders, read_named_values
from mpibatch.core.output_copy import read_copy
from mpibatch.core.parallel import check_concurrency
from mpibatch.core.partition_keys import read_partition_keys
from mpibatch.core.places import Places, contains, unchanged
from mpibatch.core.read_inputs import read_inputs
from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.core.row_keys import read_rows
from mpibatch.core.sets import apply_sets
from mpibatch.core.settings import Problems, printable, shown, text
from mpibatch.core.side_outputs import read_side_outputs
from mpibatch.core.slurm_keys import SlurmKeys, read_slurm
from mpibatch.core.tables import ByRows, BySize, TableInput
from mpibatch.errors import ConfigError

__all__ = [
    "ArchiveInput",
    "FilesInput",
    "Job",
    "ListInput",
    "TableInput",
    "apply_sets",
    "job_warnings",
    "parse_job",
]

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the user describes in a job file, checked, and with all paths absolute."""

    job_file: str
    job_dir: str
    name: str
    entry_script: str
    """Absolute path of the file, or a dotted module name where `entry_is_module`."""
    entry_is_module: bool = False
    source_directory: str | None = None
    """Goes on `sys.path` first. Never None where `entry_is_module`."""
    prepare: str | None = None
    """A Python file that is run once, before the plan is made."""
    arguments: list[str] = []
    """Placeholders are filled in."""
    inputs: list[JobInput]
    """All files and lists, or all archives, or all tables, or all counts."""
    keys_ignored: list[str] = []
    """The job file has these, and its arguments ask for mini-batches without data."""
    side_inputs: dict[str, str] = {}
    models: dict[str, str] = {}
    side_outputs: dict[str, str] = {}
    """Folders that the script writes into."""
    mini_batch_size: int = 10
    """Files, members of archives, or numbers."""
    table_size: BySize | ByRows | None = None
    """What `mini_batch_size` says for tables; None where items are no rows."""
    partition_keys: list[str] = []
    """Where there are any, a mini-batch is what has equal keys, and sizes mean nothing."""
    shuffle: bool = False
    """Rows of equal partition keys may be scattered over a table: they are sorted first."""
    output: str
    """The run folder, absolute."""
    output_action: Literal["append_row", "summary_only"] = "append_row"
    append_row_format: Literal["text", "csv", "jsonl", "parquet", "hdf5"] = "text"
    append_row_file_name: str = "parallel_run_step.txt"
    copy_output_to: str | None = None
    """A file, absolute, that is a copy of the rows once the run is complete."""
    append_row: dict[str, Any] = {}
    """`to_csv` keywords of the job file only: see `runtime.jobfile.row_settings` for those in force."""
    add_input_key: bool = False
    """Each row begins with the input and row that it is from; unset it is on for hdf5."""
    order: Literal["input", "completion"] = "input"
    error_threshold: int = -1
    mini_batch_error_threshold: int | None = None
    allowed_failed_percent: float | None = None
    run_invocation_timeout: float = 60.0
    run_max_try: int = 3
    retry_backoff: RetryBackoff | None = None
    """None: what has failed is tried again at once."""
    isolate_failures: bool = True
    """A mini-batch that has used its tries is bisected until the items are found that fail."""
    straggler_copies: bool = False
    """Idle workers get copies of what runs longest: for scripts without side effects."""
    progress_update_timeout: float | None = None
    """Seconds without a finished mini-batch, or a heartbeat of the script, after which the run stops."""
    heartbeat_timeout: float = 60.0
    """Seconds of silence after which a rank is taken for lost."""
    max_restarts: int = 3
    """How often a world that was started here is started again after it was lost."""
    time_limit: float | None = None
    """Seconds of wall time from the start, where no batch system knows."""
    drain_margin: float = 120.0
    """Seconds before the end of the wall time from which on nothing new starts."""
    init_timeout: float = 600.0
    shutdown_timeout: float = 30.0
    """Seconds that `shutdown()` may take."""
    finalize_timeout: float = 3600.0
    """Seconds that `finalize()` may take."""
    term_grace_s: float = 20.0
    process_count_per_node: int | None = None
    node_count: int | None = None
    concurrency: int = 1
    """Mini-batches that run in one processor at a time, where `run()` is async."""
    logging_level: Literal["WARNING", "INFO", "DEBUG"] = "INFO"
    allow_reuse: bool = True
    gpus: Gpus | None = None
    """None: one device for each worker, as long as there are some."""
    cpus: Literal["bind", "none"] = "bind"
    """Whether processors get CPUs and a number of threads of their own, where the launcher has not seen to it."""
    environment_variables: dict[str, str] = {}
    environment_keep: list[str] = []
    """Launcher's variables (names or `PREFIX_*`) that processors keep."""
    python: str | None = None
    """Interpreter of the processors, absolute; None: this one, or what `environment` says."""
    tensorflow_v1: bool = False
    """`import tensorflow` gives scripts `tensorflow.compat.v1`."""
    environment: Environment = Environment()
    """What is made around the processors' interpreter."""
    slurm: SlurmKeys = SlurmKeys()
    """For the batch script."""
    array: ArrayKeys | None = None
    """None: elements of a job array share the plan, and a start that is in none does all of it."""
    site: str | None = None
    """The site's profile that gave defaults, if there is one."""
    site_keys: list[str] = []
    """Dotted keys that came from it."""
    remarks: list[str] = []
    """What people should be told of the file that the job file was made of."""


def parse_job(
    mapping: Mapping[Any, Any],
    *,
    job_file: str,
    output: str | None = None,
    expand: Callable[[str], str] = unchanged,
    is_file: Callable[[str], bool] = lambda path: False,
    set_keys: Collection[str] = (),
) -> Job:
    """The job that the mapping of `job_file` (an absolute path) describes.

    `output`, absolute, replaces the job file's. `expand` makes `~/x` absolute. `is_file` tells
    `pkg.main`, a module, from a file of that name; that the script exists is for the caller to see.
    `set_keys`: dotted keys that came from the command line. Raises `ConfigError`.
    """
    file = job_file.rpartition("/")[2]
    problems = Problems(printable(file), set_keys)
    places = Places(job_dir=job_file.rpartition("/")[0] or "/", expand=expand)
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{problems.file}: is {shown(mapping)}: a job file is a mapping of keys to values")
    given = {key: value for key, value in mapping.items() if value is not None or key not in MAY_BE_EMPTY}
    problems.unknown_keys("", given, LEGAL_KEYS, key_hint)

    values: dict[str, Any] = {"job_file": job_file, "job_dir": places.job_dir}
    if count := rank_mini_batches(problems, given):
        values["keys_ignored"] = [key for key in WITH_DATA if key in given]
        given = without_data(given, count)
    for key, check in SIMPLE.items():
        if key in given:
            values[key] = problems.take(key, given[key], check)
    values |= read_rows(problems, given, values)
    values |= read_faults(problems, given, values)
    values |= _error_threshold(problems, given)
    values |= _entry(problems, given, places, is_file)
    values |= _paths(problems, given, places)
    values["name"] = read_name(problems, given, file)
    values |= _inputs(problems, given, places)
    check_concurrency(problems, values)
    values |= read_named_values(problems, given, places)
    if "environment" in given:
        values |= read_environment(problems, given["environment"], values.get("python"), places)
    if "array" in given:
        values["array"] = read_array(problems, given["array"])
    if "slurm" in given:
        values["slurm"] = SlurmKeys(**read_slurm(problems, given["slurm"]))
    values["output"] = _output(problems, values, output)
    if "side_outputs" in given:
        values["side_outputs"] = read_side_outputs(problems, given, values, places)
    values["arguments"] = read_arguments(problems, given.get("arguments", []), placeholders(values))
    values |= argument_settings(problems, values["arguments"], values, set_keys)
    values |= read_copy(problems, given, values, places)
    problems.stop()
    return Job(**values)


def job_warnings(job: Job) -> list[str]:
    """What is legal in a job and yet looks like a mistake."""
    warnings = [*job.remarks, *suspicious_arguments(job.arguments)]
    if job.keys_ignored:
        what = "argument --rank_mini_batch_count: mini-batches have no data, so that these keys are not read"
        warnings.append(f"{what}: {', '.join(job.keys_ignored)}")
    if job.table_size is not None and not job.partition_keys:
        warnings += size_warnings(job.table_size)
    for one in job.inputs:
        folders = [] if isinstance(one, ListInput | CountInput) else one.files
        warnings += [
            f"the run folder {printable(job.output)} is inside the input {printable(folder)}:"
            " a run with another --output takes its files for items"
            for folder in folders
            if contains(folder, job.output)
        ]
    return warnings


def _error_threshold(problems: Problems, given: Mapping[Any, Any]) -> dict[str, Any]:
    keys = [key for key in ALIASES if key in given]
    if len(keys) == 2:
        both = " and ".join(f"{key}: {shown(given[key])}" for key in keys)
        problems.add(keys[0], f"and {keys[1]} are two names of one thing: leave one out of {both}")
    taken = [problems.take(key, given[key], MINI_BATCHES_THAT_FAIL) for key in keys]
    return {ALIASES[0]: taken[0]} if taken else {}


def _entry(
    problems: Problems, given: Mapping[Any, Any], places: Places, is_file: Callable[[str], bool]
) -> dict[str, Any]:
    folder = None
    if "source_directory" in given:
        named = problems.take("source_directory", given["source_directory"], text)
        folder = places.absolute(named) if named is not None else None
    if "entry_script" not in given:
        problems.add("entry_script", "is missing: name the Python file that has run(mini_batch)")
        return {}
    script = problems.take("entry_script", given["entry_script"], text)
    if script is None:
        return {}
    file = places.absolute(script, folder)
    if script.endswith(".py") or not _MODULE.fullmatch(script) or is_file(file):
        return {"entry_script": file, "entry_is_module": False, "source_directory": folder}
    # A module has to be importable from somewhere: from where a file would be looked for.
    return {"entry_script": script, "entry_is_module": True, "source_directory": folder or places.job_dir}


def _paths(problems: Problems, given: Mapping[Any, Any], places: Places) -> dict[str, Any]:
    keys = [key for key in ("prepare", "output", "python") if key in given]
    taken = {key: problems.take(key, given[key], text) for key in keys}
    return {key: places.absolute(path) for key, path in taken.items() if path is not None}


def _inputs(problems: Problems, given: Mapping[Any, Any], places: Places) -> dict[str, Any]:
    """The inputs, and how they are cut."""
    of_tables = are_tables(given.get("inputs"))
    read: dict[str, Any] = {"table_size": DEFAULT_TABLE_SIZE} if of_tables else {}
    if "mini_batch_size" in given and "partition_keys" not in given:
        field, check = ("table_size", read_table_size) if of_tables else ("mini_batch_size", read_file_count)
        read[field] = problems.take("mini_batch_size", given["mini_batch_size"], check)
    keys = read_partition_keys(problems, given, of_tables=of_tables)
    if "inputs" in given:
        read["inputs"] = read_inputs(problems, given["inputs"], places, keys)
    else:
        problems.add("inputs", "is missing: say where items come from, like [{files: images/}]")
    return read | {"partition_keys": keys, "shuffle": bool(given.get("shuffle"))}


def _output(problems: Problems, values: Mapping[str, Any], output: str | None) -> str:
    folder: str = output or values.get("output") or f"{values['job_dir']}/runs/{values['name']}"
    if contains(folder, values["job_dir"]):
        problems.add(
            "output", f"is {shown(folder)}: must be a folder of its own, not that of the job file or above it"
        )
    return folder
