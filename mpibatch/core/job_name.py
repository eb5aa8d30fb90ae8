"""The job's name: given, or made of the job file's. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpibatch.core.settings import Problems, Wrong, shown, text

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME_RULE = "must be 3 to 32 of a-z, 0-9 and -, the first a letter, the last not -"


def read_name(problems: Problems, given: Mapping[Any, Any], file: str) -> str | None:
    """`file`: the job file's name without its folder."""
    if "name" in given:
        name: str | None = problems.take("name", given["name"], legal_name)
        return name
    stem = file.rpartition(".")[0] or file
    made = made_legal(stem)
    if made is None:
        problems.add("name", f"is missing, and none can be made of {shown(file)}: {_NAME_RULE}")
    return made


def legal_name(value: Any) -> str:
    name: str = text(value)
    if 3 <= len(name) <= 32 and _NAME.fullmatch(name):
        return name
    made = made_legal(name)
    raise Wrong(_NAME_RULE + (f", like {made}" if made else ""))


def made_legal(name: str) -> str | None:
    made = re.sub(r"[^a-z0-9]+", "-", name.lower())
    made = re.sub(r"^[^a-z]+", "", made)[:32].strip("-")
    return made if len(made) >= 3 else None
