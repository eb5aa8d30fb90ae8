"""The keys of a job file, and what each simple one takes. Pure."""

from __future__ import annotations

import re
from typing import Any

from mpibatch.core.settings import Check, Wrong, choice, flag, number, plain_list, shown, text, whole_number

RESERVED_NAMES = ("failed_items.jsonl", "job_result.json", "logs", ".mpibatch")
"""What a run folder holds besides the rows."""

_BINARY_ENDINGS = (
    ".parquet",
    ".h5",
    ".hdf5",
    ".feather",
    ".arrow",
    ".npy",
    ".npz",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
    ".zip",
)
_A_YEAR_S = 365 * 24 * 3600


def _file_count(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*\d+\s*", value):
        raise Wrong("for files it is a count of files, a whole number from 1: bytes and rows are for tables")
    return whole_number(1, of="files in a mini-batch")(value)


def _file_name(value: Any) -> str:
    name: str = text(value)
    if "/" in name or "\\" in name:
        raise Wrong("must be a file name without a path: the folder is set by output")
    if name in RESERVED_NAMES or name in (".", ".."):
        raise Wrong(f"must be another name: a run folder has its own {', '.join(RESERVED_NAMES)}")
    if name.lower().endswith(_BINARY_ENDINGS):
        raise Wrong(
            "this version writes text, uncompressed: the name must not promise another format, like x.txt"
        )
    if len(name.encode("utf-8", "surrogateescape")) > 200:
        raise Wrong("must not be longer than 200 bytes")
    return name


def _variable_names(value: Any) -> list[str]:
    names = [text(element) for element in plain_list(value)]
    for name in names:
        if not re.fullmatch(r"[^=*]+\*?", name):
            raise Wrong(f"{shown(name)} must be a variable's name, or the start of names and *, like OMPI_*")
    return names


SIMPLE: dict[str, Check] = {
    "mini_batch_size": _file_count,
    "output_action": choice("append_row", "summary_only"),
    "append_row_file_name": _file_name,
    "order": choice("input", "completion"),
    "error_threshold": whole_number(-1, of="items that may fail; -1 ignores all"),
    "allowed_failed_percent": number(0, 100, "percent of the mini-batches"),
    "run_invocation_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "run_max_try": whole_number(1, of="tries"),
    "init_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "shutdown_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "term_grace_s": number(0, _A_YEAR_S, "seconds"),
    "process_count_per_node": whole_number(1, 65_536, "processes"),
    "node_count": whole_number(1, 1_000_000, "machines"),
    "logging_level": choice("WARNING", "INFO", "DEBUG"),
    "allow_reuse": flag,
    "environment_keep": _variable_names,
}
ALIASES = ("mini_batch_error_threshold", "allowed_failed_count")
LEGAL_KEYS = (
    *("name", "entry_script", "source_directory", "prepare", "arguments", "inputs", "side_inputs", "models"),
    *("output", "append_row", *ALIASES, "environment_variables", "python", *SIMPLE),
)
MAY_BE_EMPTY = frozenset(LEGAL_KEYS) - {
    *("entry_script", "mini_batch_size", "output_action", "append_row_file_name", "order", "error_threshold"),
    *("run_invocation_timeout", "run_max_try", "init_timeout", "shutdown_timeout", "term_grace_s"),
    *("logging_level", "allow_reuse"),
}
"""Keys whose line may end after the colon, which means the same as leaving it out."""
