"""The keys of a job file, and what each simple one takes. Pure."""

from __future__ import annotations

import re
from typing import Any

from mpibatch.core.binding import read_gpus
from mpibatch.core.grants import MOST_CONCURRENT
from mpibatch.core.row_keys import FORMATS
from mpibatch.core.settings import Check, Wrong, choice, flag, number, plain_list, shown, text, whole_number

_A_YEAR_S = 365 * 24 * 3600


def _variable_names(value: Any) -> list[str]:
    names = [text(element) for element in plain_list(value)]
    for name in names:
        if not re.fullmatch(r"[^=*]+\*?", name):
            raise Wrong(f"{shown(name)} must be a variable's name, or the start of names and *, like OMPI_*")
    return names


SIMPLE: dict[str, Check] = {
    "output_action": choice("append_row", "summary_only"),
    "append_row_format": choice(*FORMATS),
    "add_input_key": flag,
    "order": choice("input", "completion"),
    "error_threshold": whole_number(-1, of="items that may fail; -1 ignores all"),
    "allowed_failed_percent": number(0, 100, "percent of the mini-batches"),
    "run_invocation_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "run_max_try": whole_number(1, of="tries"),
    "init_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "shutdown_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "finalize_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "isolate_failures": flag,
    "straggler_copies": flag,
    "progress_update_timeout": number(0, _A_YEAR_S, "seconds", above=True),
    "heartbeat_timeout": number(1, _A_YEAR_S, "seconds"),
    "max_restarts": whole_number(0, 1000, "restarts"),
    "time_limit": number(0, _A_YEAR_S, "seconds", above=True),
    "drain_margin": number(0, _A_YEAR_S, "seconds"),
    "term_grace_s": number(0, _A_YEAR_S, "seconds"),
    "process_count_per_node": whole_number(1, 65_536, "processes"),
    "node_count": whole_number(1, 1_000_000, "machines"),
    "concurrency": whole_number(1, MOST_CONCURRENT, "mini-batches in one processor at a time"),
    "logging_level": choice("WARNING", "INFO", "DEBUG"),
    "allow_reuse": flag,
    "gpus": read_gpus,
    "cpus": choice("bind", "none"),
    "tensorflow_v1": flag,
    "environment_keep": _variable_names,
}
ALIASES = ("mini_batch_error_threshold", "allowed_failed_count")
MINI_BATCHES_THAT_FAIL = whole_number(-1, of="mini-batches that may fail; -1 ignores all")
LEGAL_KEYS = (
    *("name", "entry_script", "source_directory", "prepare", "arguments", "inputs", "side_inputs", "models"),
    "side_outputs",
    *("mini_batch_size", "partition_keys", "shuffle", "output", "append_row_file_name", "append_row"),
    "copy_output_to",
    *(*ALIASES, "retry_backoff", "environment", "environment_variables", "python", "slurm", "array", *SIMPLE),
)
MAY_BE_EMPTY = frozenset(LEGAL_KEYS) - {
    *("entry_script", "mini_batch_size", "output_action", "append_row_file_name", "order", "error_threshold"),
    *("run_invocation_timeout", "run_max_try", "init_timeout", "shutdown_timeout", "term_grace_s"),
    *("logging_level", "allow_reuse", "append_row_format", "shuffle", "straggler_copies", "max_restarts"),
    *("heartbeat_timeout", "drain_margin", "cpus", "finalize_timeout"),
}
"""Keys whose line may end after the colon, which means the same as leaving it out."""
