"""The job file's key `array`: whether and how the elements of a job array share the plan. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mpibatch.core.settings import Check, Problems, choice, shown, whole_number
from mpibatch.core.shares import MOST_SHARES

_EXAMPLE = "{elements: 10, at_once: 4, merge: auto}"
_FIELDS: dict[str, Check] = {
    "elements": whole_number(1, MOST_SHARES, "elements"),
    "at_once": whole_number(1, MOST_SHARES, "elements"),
    "merge": choice("auto", "manual"),
}


class ArrayKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at `array`, checked."""

    elements: int | None = None
    """None: as many as the batch system has started."""
    at_once: int | None = None
    """How many of them may run at a time; None: all."""
    merge: Literal["auto", "manual"] = "auto"
    """`auto`: the element that is the last to be complete makes the output."""
    off: bool = False
    """`array: false`: in a job array each element runs the whole job."""


def read_array(problems: Problems, value: Any) -> ArrayKeys:
    """`value` is a number of elements, false, or a mapping."""
    if value is False:
        return ArrayKeys(off=True)
    if isinstance(value, int) and not isinstance(value, bool):
        return ArrayKeys(elements=problems.take("array", value, _FIELDS["elements"]))
    if isinstance(value, bool | str | float | list):
        problems.add(
            "array",
            f"is {shown(value)}: must be a number of elements, like 10, a mapping, like {_EXAMPLE}, or false, where"
            " each element of a job array is to run the whole job",
        )
        return ArrayKeys()
    fields = problems.mapping("array", value, _EXAMPLE)
    problems.unknown_keys("array.", fields, _FIELDS)
    taken = {
        name: problems.take(f"array.{name}", fields[name], check)
        for name, check in _FIELDS.items()
        if name in fields
    }
    if "at_once" in taken and taken.get("elements") is None and "elements" not in fields:
        problems.add(
            "array.at_once",
            f"is {shown(fields['at_once'])}, but array.elements is missing: say how many there are, like"
            f" {_EXAMPLE}; of an array that you start yourself sbatch limits them, like --array=0-9%4",
        )
    return ArrayKeys(**{name: value for name, value in taken.items() if value is not None})
