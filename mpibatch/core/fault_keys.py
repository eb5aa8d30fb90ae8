"""The job file's keys for what fails and may recover: `retry_backoff`, `isolate_failures`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.retry_backoff import RetryBackoff
from mpibatch.core.settings import Check, Problems, flag, number, shown

_A_DAY_S = 24 * 3600
_EXAMPLE = "{initial: 1, factor: 2, max: 60, jitter: true}"
_FIELDS: dict[str, Check] = {
    "initial": number(0, _A_DAY_S, "seconds"),
    "factor": number(1, 1000, "times"),
    "max": number(0, _A_DAY_S, "seconds"),
    "jitter": flag,
}


def read_faults(problems: Problems, given: Mapping[Any, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`: the simple keys, as far as they are given: a key that is wrong is None in it."""
    read: dict[str, Any] = {}
    if values.get("isolate_failures") is None:
        # Who stores output by itself may store that of an item twice, which bisection makes likely. And what has
        # equal keys belongs together: half of it gives another sum, or another model.
        stores = values.get("output_action") == "summary_only"
        read["isolate_failures"] = not stores and not given.get("partition_keys")
    if "retry_backoff" in given:
        read["retry_backoff"] = _retry_backoff(problems, given["retry_backoff"])
    return read


def _retry_backoff(problems: Problems, value: Any) -> RetryBackoff:
    taken: dict[str, Any] = {}
    fields = problems.mapping("retry_backoff", value, _EXAMPLE)
    problems.unknown_keys("retry_backoff.", fields, _FIELDS)
    for name, check in _FIELDS.items():
        if name in fields:
            taken[name] = problems.take(f"retry_backoff.{name}", fields[name], check)
    known = RetryBackoff(**{name: value for name, value in taken.items() if value is not None})
    if known.initial > known.max and "initial" in taken:
        problems.add(
            "retry_backoff.initial", f"is {shown(known.initial)}: above max, which is {shown(known.max)}"
        )
    return known
