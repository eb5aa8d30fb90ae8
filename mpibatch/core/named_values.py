"""The job file's keys that are mappings from a name to a path or a text. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpibatch.core.arguments import argument_text
from mpibatch.core.places import Places
from mpibatch.core.settings import Check, Problems, printable, shown, text

PLACE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[1-9][0-9]*)?")
"""As registries of models allow, and perhaps a version."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_named_values(problems: Problems, given: Mapping[Any, Any], places: Places) -> dict[str, Any]:
    """Those that are given, by key. Paths are absolute; a value that is wrong is None."""

    def path(value: Any) -> str:
        return places.absolute(text(value))

    readers: dict[str, tuple[str, re.Pattern[str], Check]] = {
        "side_inputs": ("{labels: labels.txt}", PLACE_NAME, path),
        "models": ("{digits: model/, digits/2: new/}", _MODEL_NAME, path),
        "environment_variables": ("{OMP_NUM_THREADS: 1}", _VARIABLE, argument_text),
    }
    return {key: _read(problems, key, given[key], *how) for key, how in readers.items() if key in given}


def _read(
    problems: Problems, key: str, value: Any, example: str, names: re.Pattern[str], check: Check
) -> dict[str, str]:
    taken: dict[str, str] = {}
    for name, one in problems.mapping(key, value, example).items():
        if isinstance(name, str) and names.fullmatch(name):
            taken[name] = problems.take(f"{key}.{printable(name)}", one, check)
        else:
            problems.add(f"{key}.{shown(name)}", f"is {shown(one)}: no legal name; legal is {names.pattern}")
    return taken


def placeholders(values: Mapping[str, Any]) -> dict[str, str]:
    """What `${...}` may name in arguments, and its value. `values`: the job's keys, as far as they are right."""
    named = {"job_dir": values["job_dir"]}
    for key in ("side_inputs", "models", "side_outputs"):
        named |= {f"{key}.{name}": path or "" for name, path in values.get(key, {}).items()}
    return named
