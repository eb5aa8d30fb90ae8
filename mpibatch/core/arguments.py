"""The job file's `arguments`: placeholders filled in, and words on those that look like a mistake. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mpibatch.core.argument_settings import RANK_MINI_BATCHES, SETTINGS
from mpibatch.core.settings import Problems, Wrong, did_you_mean, printable, text

HEADER_ARGUMENT = "--append_row_dataframe_header"
"""Sets how rows are written: see `runtime.jobfile.row_settings`."""

_EFFECTIVE = (HEADER_ARGUMENT[2:], RANK_MINI_BATCHES, *SETTINGS)
"""What sets something where it stands among the job's arguments."""
_JOB_KEYS = (
    "mini_batch_size",
    "process_count_per_node",
    "node_count",
    "logging_level",
    "run_invocation_timeout",
    "run_max_try",
    "output_action",
    "append_row_file_name",
)
"""Arguments that Azure ML makes of the job's settings, and refuses among a job's own: they have keys."""
_WITHOUT_MEANING = (
    "task_overhead_timeout",
    "first_task_creation_timeout",
    "resource_monitor_interval",
    "copy_logs_to_parent",
    "push_metrics_to_parent",
    "metrics_name_prefix",
)
"""What Azure ML takes as arguments, and has no meaning here."""
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
    """A warning for each argument that is a system one, or nearly one, and sets nothing; one for all those of Azure
    ML that have no meaning here."""
    names = [argument.partition("=")[0] for argument in arguments]
    without = dict.fromkeys(name for name in names if _plain(name) in _WITHOUT_MEANING)
    warnings = [f"arguments that set nothing here: {', '.join(without)}"] if without else []
    return [*warnings, *(warning for warning in map(_suspicion, names) if warning is not None)]


def _plain(argument: str) -> str:
    return argument[2:].replace("-", "_") if argument.startswith("--") else ""


def _suspicion(argument: str) -> str | None:
    name = _plain(argument)
    if not name or argument[2:] in _EFFECTIVE or name in _WITHOUT_MEANING:
        return None
    if name in _JOB_KEYS:
        return f"argument {argument} is given to the script only: to set it, use the job file's key {name}"
    near = _near_system_name(name)
    if near is None:
        return None
    name = printable(argument)
    return f"argument {name} is given to the script only; it is nearly the system's --{near}: mistyped?"


def _near_system_name(name: str) -> str | None:
    if len(name) > 80:
        return None
    import difflib

    system = (*_EFFECTIVE, *_JOB_KEYS, *_WITHOUT_MEANING)
    found = difflib.get_close_matches(name, system, n=1, cutoff=_NEARLY)
    return found[0] if found else None
