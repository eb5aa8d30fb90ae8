"""The job file's `arguments`: placeholders filled in, and words on those that look like a mistake. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mpibatch.core.settings import Problems, Wrong, did_you_mean, printable, text

HEADER_ARGUMENT = "--append_row_dataframe_header"
"""The one system argument that works when it is given among the job's arguments."""

_JOB_KEYS = (
    "mini_batch_size",
    "process_count_per_node",
    "node_count",
    "logging_level",
    "error_threshold",
    "mini_batch_error_threshold",
    "allowed_failed_count",
    "allowed_failed_percent",
    "run_invocation_timeout",
    "run_max_try",
    "output_action",
    "append_row_file_name",
)
_WITHOUT_MEANING = (
    "progress_update_timeout",
    "task_overhead_timeout",
    "first_task_creation_timeout",
    "resource_monitor_interval",
    "copy_logs_to_parent",
)
"""What Azure ML takes as arguments, and this version does not."""
_NEARLY = 0.88
"""How alike two names must be, of 1, for a mistyped one."""

_PLACEHOLDER = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)", re.DOTALL)


def argument_text(value: Any) -> str:
    """Text stays; numbers, true and false become what Python's `str` makes of them: `5`, `0.001`, `True`.

    `runtime.jobfile` hands over numbers, yes and no as they are written in the file.
    """
    match value:
        case str() if not value:
            return value
        case bool() | float():
            return str(value)
        case int() if value.bit_length() <= 128:
            return str(value)
        case None:
            raise Wrong('must be text or a number; empty text is ""')
        case str():
            return text(value)
        case _:
            raise Wrong("must be text or a number, each word an element of its own")


def filled_in(argument: str, values: Mapping[str, str]) -> str:
    """`${name}` replaced by its value, `$${` by `${`."""

    def value_of(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        if found[1] in values and found[2]:
            return values[found[1]]
        legal = ", ".join(f"${{{name}}}" for name in values)
        what = f"${{{printable(found[1])}}} stands for nothing" if found[2] else "${ has no closing }"
        literal = "; write $${ for a literal ${"
        raise Wrong(f"{what}{did_you_mean(found[1], values)}; legal are {legal}{literal}")

    return _PLACEHOLDER.sub(value_of, argument)


def read_arguments(problems: Problems, value: Any, values: Mapping[str, str]) -> list[str]:
    """`values`: what the placeholders stand for, by name."""

    def read(element: Any) -> str:
        return filled_in(argument_text(element), values)

    def is_list(value: Any) -> list[Any]:
        if isinstance(value, list | tuple):
            return list(value)
        raise Wrong('must be a list, each word an element of its own, like [--model, "${job_dir}/model"]')

    elements = problems.take("arguments", value, is_list) or []
    read_ones = [problems.take(f"arguments.{i}", element, read) for i, element in enumerate(elements)]
    return [one for one in read_ones if one is not None]


def suspicious_arguments(arguments: Sequence[str]) -> list[str]:
    """A warning for each argument that is a system one, or nearly one: it sets nothing."""
    warnings = [_suspicion(argument.partition("=")[0]) for argument in arguments]
    return [warning for warning in warnings if warning is not None]


def _suspicion(argument: str) -> str | None:
    if not argument.startswith("--") or argument == HEADER_ARGUMENT:
        return None
    name = argument[2:].replace("-", "_")
    if name in _JOB_KEYS:
        return f"argument {argument} is given to the script only: to set it, use the job file's key {name}"
    if name in _WITHOUT_MEANING:
        return f"argument {argument} is given to the script only: it sets nothing in this version"
    near = _near_system_name(name)
    if near is None:
        return None
    name = printable(argument)
    return f"argument {name} is given to the script only; it is nearly the system's --{near}: mistyped?"


def _near_system_name(name: str) -> str | None:
    if len(name) > 80:
        return None
    import difflib

    system = (HEADER_ARGUMENT[2:], *_JOB_KEYS, *_WITHOUT_MEANING)
    found = difflib.get_close_matches(name, system, n=1, cutoff=_NEARLY)
    return found[0] if found else None
