"""Azure ML's v2 YAML: how it is told from a job file, its keys, and which of them mean nothing here. Pure.

Sources: Microsoft's public references of the YAML of parallel jobs, components and pipelines, and the schemas in its
public SDK.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

from mpibatch.core.job_keys import LEGAL_KEYS, MINI_BATCHES_THAT_FAIL, SIMPLE
from mpibatch.core.settings import Check, Problems, Wrong, printable, shown
from mpibatch.errors import ConfigError

Form = Literal["job", "pipeline"]

CUTTING = ("input_data", "mini_batch_size", "partition_keys")
PARALLEL_KEYS = (
    *("type", "inputs", "outputs", *CUTTING, "resources", "max_concurrency_per_instance", "logging_level"),
    *("error_threshold", "mini_batch_error_threshold", "retry_settings", "environment_variables", "task"),
    "is_deterministic",
)
"""Of a job, a component or a step."""
DESCRIBING = (
    "$schema",
    "name",
    "display_name",
    "experiment_name",
    "description",
    "tags",
    "version",
    "properties",
)
"""What any file may have."""
WITHOUT_MEANING = (
    *("experiment_name", "description", "tags", "version", "properties", "compute", "identity", "services"),
    *(
        "comment",
        "limits",
        "queue_settings",
        "id",
        "creation_context",
        "status",
        "log_files",
        "auto_delete_setting",
    ),
)
JOB_KEYS = (*PARALLEL_KEYS, *dict.fromkeys((*DESCRIBING, *WITHOUT_MEANING)))
STEP_KEYS = (*JOB_KEYS, "component")
PIPELINE_KEYS = (
    "type",
    "inputs",
    "outputs",
    "jobs",
    "settings",
    *dict.fromkeys((*DESCRIBING, *WITHOUT_MEANING)),
)
TASK_KEYS = ("type", "code", "entry_script", "program_arguments", "append_row_to", "environment", "model")

_OWN_ENVIRONMENT = "what scripts import has to be installed here, or named by --set environment.conda=NAME"
_OTHER_TYPES = ("command", "sweep", "spark", "automl", "import", "data_transfer", "finetuning")
_INSTEAD = {"entry_script": "task.entry_script", "program_arguments": "task.program_arguments", "code": "task.code",
            "append_row_to": "task.append_row_to", "instance_count": "resources.instance_count",
            "max_retries": "retry_settings.max_retries", "timeout": "retry_settings.timeout"}  # fmt: skip


class Simple(NamedTuple):
    """A key that is one of ours by another name, or the same."""

    own: str
    check: Check


def _as_number(check: Check) -> Check:
    """Azure ML takes numbers in quotes as well."""

    def checked(value: Any) -> Any:
        return check(int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value) else value)

    return checked


def _level(value: Any) -> Any:
    if not isinstance(value, str):
        return SIMPLE["logging_level"](value)
    return SIMPLE["logging_level"]({"WARN": "WARNING"}.get(value.upper(), value.upper()))


SIMPLE_KEYS = {
    "max_concurrency_per_instance": Simple(
        "process_count_per_node", _as_number(SIMPLE["process_count_per_node"])
    ),
    "logging_level": Simple("logging_level", _level),
    "error_threshold": Simple("error_threshold", _as_number(SIMPLE["error_threshold"])),
    "mini_batch_error_threshold": Simple("mini_batch_error_threshold", _as_number(MINI_BATCHES_THAT_FAIL)),
    "is_deterministic": Simple("allow_reuse", SIMPLE["allow_reuse"]),
}
INSTANCE_COUNT = Simple("node_count", _as_number(SIMPLE["node_count"]))


def _seconds(value: Any) -> int | float:
    seconds: float = _as_number(SIMPLE["run_invocation_timeout"])(value)
    return int(seconds) if seconds.is_integer() else seconds


TIMEOUT = Simple("run_invocation_timeout", _seconds)


def max_retries(value: Any) -> int:
    """Retries, so one fewer than `run_max_try`."""
    try:
        tries: int = _as_number(SIMPLE["run_max_try"])(_one_more(value))
    except Wrong:
        raise Wrong("must be a whole number of retries, from 0") from None
    return tries


def _one_more(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\d{1,18}", value):
        value = int(value)
    return value + 1 if isinstance(value, int) and not isinstance(value, bool) else value


class Notes:
    """What is wrong in a file, and which of its keys mean nothing here."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.left_out: list[str] = []
        self.of_environment = False
        """Whether what scripts import is said in the file, which is left out as well."""

    def leave_out(
        self, prefix: str, mapping: Mapping[Any, Any], keys: Collection[str] = WITHOUT_MEANING
    ) -> None:
        """`prefix`: of the mapping's keys, like `jobs.score.`"""
        self.left_out += [f"{prefix}{key}" for key in mapping if key in keys]

    def remark(self) -> list[str]:
        """The one sentence, or none."""
        if not self.left_out:
            return []
        instead = f"; {_OWN_ENVIRONMENT}" if self.of_environment else ""
        return [f"left out, as they mean nothing here: {', '.join(dict.fromkeys(self.left_out))}{instead}"]


def form_of(mapping: Mapping[Any, Any], file: str) -> Form | None:
    """None: a file of our own. Raises `ConfigError` where it is another kind of Azure ML's."""
    kind, schema = mapping.get("type"), mapping.get("$schema")
    of_azure = isinstance(schema, str) and "azureml" in schema
    if kind == "pipeline" or (of_azure and "jobs" in mapping):
        return "pipeline"
    if kind == "parallel" or ("task" in mapping and "input_data" in mapping):
        return "job"
    if kind in _OTHER_TYPES or of_azure:
        what = f"type {shown(kind)}" if kind is not None else f"$schema {shown(schema)}"
        raise ConfigError(
            f"{printable(file)}: is a file of Azure ML of {what}: mpibatch runs type: parallel, and type: pipeline"
            " whose steps are parallel ones; other jobs are started by hand, or by a line of a batch script"
        )
    return None


def azure_hint(key: str, value: Any) -> str | None:
    """What to write instead of a key that the file must not have; None: its nearest name."""
    if key in _INSTEAD:
        return f"; it is {_INSTEAD[key]}"
    if key == "component":
        return "; give mpibatch the component's own file instead, with what it binds by --set inputs.x=VALUE"
    if key in LEGAL_KEYS:
        return (
            f"; it is a key of mpibatch's own job files: give it by --set {key}=..., or see mpibatch convert"
        )
    return None
