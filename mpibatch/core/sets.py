"""`--set key=value` on the mapping of a job file: dotted keys, list elements by number. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpibatch.core.job_inputs import KINDS, PATH_KINDS
from mpibatch.core.settings import printable, shown
from mpibatch.core.slurm_keys import LISTS as SLURM_LISTS
from mpibatch.errors import ConfigError

_LISTS = ("members",)
"""Besides paths, what may be one text or a list of them, and is a glob."""
_CHARACTERS = ("sep", "quotechar", "escapechar", "decimal", "thousands")
_AZURE_KEYS = (
    *("inputs.*.path", "outputs.*.path", "task.code", "task.entry_script", "task.program_arguments"),
    "component",
)
"""Of Azure ML's files, which `--set` changes before they are translated."""
_TEXT_KEYS = (
    "name",
    "entry_script",
    "source_directory",
    "prepare",
    "output",
    "output_action",
    "append_row_format",
    "append_row_file_name",
    "order",
    "logging_level",
    "python",
    *(f"inputs.*.{name}" for name in (*PATH_KINDS, *_LISTS, *_CHARACTERS, "as", "encoding", "group")),
    *(f"inputs.*.{name}.*" for name in (*PATH_KINDS, *_LISTS, "names", "columns", "dtype", "datasets")),
    *(f"inputs.*.{name}.*" for name in ("parse_dates", "na_values")),
    *_AZURE_KEYS,
    "partition_keys.*",
    "side_inputs.*",
    "models.*",
    "environment_keep.*",
    "append_row.sep",
    "append_row.na_rep",
    "append_row.float_format",
    "append_row.columns.*",
    "append_row.quotechar",
    "append_row.escapechar",
    "append_row.lineterminator",
    "append_row.date_format",
    "append_row.decimal",
)
_MAPPINGS = ("slurm.extra", "slurm.container", "environment.container")
"""What may be text or a list, and is a mapping as well."""
_VERBATIM_KEYS = ("arguments", "environment", "environment_variables", "slurm")
"""Whatever is in them is text, as it is written."""
_SAME = {
    "mini_batch_error_threshold": "allowed_failed_count",
    "allowed_failed_count": "mini_batch_error_threshold",
}


def takes_text(key: str) -> bool:
    """Whether what stands at the dotted `key` is text, so that `--set` needs no quotes around it."""
    parts = key.split(".")
    if parts[0] in _VERBATIM_KEYS and len(parts) == 2:
        return True
    return any(_matches(parts, pattern.split(".")) for pattern in _TEXT_KEYS)


def takes_list(key: str) -> bool:
    """Whether text at `key` that begins with [ is a list of texts."""
    parts = key.split(".")
    if parts[0] == "slurm":
        return len(parts) == 2 and parts[1] in SLURM_LISTS
    if parts[0] == "environment":
        return parts[1:] in (["modules"], ["setup"], ["container", "options"])
    return (
        len(parts) == 3 and parts[0] == "inputs" and parts[2] in (*PATH_KINDS, *_LISTS) and parts[2] != "list"
    )


def takes_mapping(key: str) -> bool:
    """Whether text at `key` that begins with { is a mapping."""
    return key in _MAPPINGS


def _matches(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(one in ("*", part) for part, one in zip(parts, pattern))


def is_verbatim(key: str) -> bool:
    """Whether numbers, yes and no at `key` and below stay text, spelled as in the file."""
    return key.partition(".")[0] in _VERBATIM_KEYS


def apply_sets(mapping: Mapping[Any, Any], sets: Sequence[tuple[str, Any]]) -> dict[Any, Any]:
    """A copy of `mapping` with each (dotted key, value) set, in that order.

    A list's length as number appends; another kind of input replaces the whole element, so that the
    options of the former kind do not stay behind; what is missing on the way is made. Raises
    `ConfigError`, which names the `--set`, where a key leads nowhere.
    """
    changed: Any = dict(mapping)
    for key, value in sets:
        parts = key.split(".")
        if not all(parts):
            raise ConfigError(
                f"--set {printable(key)}: a key is names and numbers joined by single dots, like inputs.0.files"
            )
        if len(parts) == 1:
            # Two names of one thing: the command line's replaces the file's.
            changed.pop(_SAME.get(key), None)
        changed = _with(changed, parts, value, key)
    result: dict[Any, Any] = changed
    return result


def _with(container: Any, parts: list[str], value: Any, key: str) -> Any:
    """A copy of `container` with the value at `parts`; `key` is the whole key, for messages."""
    if not parts:
        return value
    done = key.split(".")[: -len(parts)]
    if container is None:
        container = [] if parts[0].isdecimal() else {}
    if isinstance(container, Mapping):
        return _with_key(container, parts, value, key)
    if isinstance(container, list | tuple):
        return _with_element(list(container), parts, value, key)
    where = printable(".".join(done))
    raise ConfigError(
        f"--set {printable(key)}: {where} is {shown(container)}, which has nothing below it; set {where} itself"
    )


def _with_key(container: Mapping[Any, Any], parts: list[str], value: Any, key: str) -> dict[Any, Any]:
    name, rest = parts[0], parts[1:]
    copy = dict(container)
    done = key.split(".")[: -len(parts)]
    is_element_of_inputs = len(done) == 2 and done[0] == "inputs"
    if is_element_of_inputs and name in KINDS and name not in copy:
        copy = {}
    copy[name] = _with(copy.get(name), rest, value, key)
    return copy


def _with_element(container: list[Any], parts: list[str], value: Any, key: str) -> list[Any]:
    length = len(container)
    where = printable(".".join(key.split(".")[: -len(parts)]))
    # A number of many digits is no number of an element; int() would even refuse thousands of them.
    index = int(parts[0]) if parts[0].isascii() and parts[0].isdecimal() and len(parts[0]) < 10 else -1
    if not 0 <= index <= length:
        have = f"has {length} element{'s' * (length != 1)}" + (f", 0 to {length - 1}" if length else "")
        raise ConfigError(
            f"--set {printable(key)}: {where} {have}; {printable(parts[0])} is none of them; {length} appends one"
        )
    if index == length:
        container.append(None)
    container[index] = _with(container[index], parts[1:], value, key)
    return container
