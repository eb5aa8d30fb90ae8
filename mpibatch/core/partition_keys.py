"""The job file's `partition_keys` and `shuffle`: mini-batches by key instead of by size. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.path_format import absolute_format, parse
from mpibatch.core.places import Places
from mpibatch.core.settings import Problems, Wrong, did_you_mean, flag, shown
from mpibatch.core.table_values import unique_names

_EXAMPLE = "data/{user}/{season}.wav"


def read_partition_keys(problems: Problems, given: Mapping[Any, Any], *, of_tables: bool) -> list[str]:
    """The keys; none where there are none or they are wrong."""
    keys: list[str] = []
    if "partition_keys" in given:
        keys = problems.take("partition_keys", given["partition_keys"], unique_names) or []
        if "mini_batch_size" in given:
            why = "cannot stand beside partition_keys, which say how items are put together: leave one out"
            problems.add("mini_batch_size", f"is {shown(given['mini_batch_size'])}: it {why}")
    if problems.take("shuffle", given.get("shuffle", False), flag):
        if "partition_keys" not in given:
            problems.add("shuffle", "is true: it sorts tables by their partition_keys, and there are none")
        elif not of_tables:
            why = "it is for tables; files of equal keys are put together wherever they are"
            problems.add("shuffle", f"is true: {why}, so leave it out")
    return keys


def read_path_format(
    problems: Problems, key: str, path: str, partition_keys: list[str], places: Places
) -> str | None:
    """The absolute path format, where it has all the keys as fields."""

    def read(path: str) -> str:
        fields = parse(path).fields
        if not fields:
            raise Wrong(f"with partition_keys it must be a path with a field for each, like {_EXAMPLE}")
        for name in partition_keys:
            if name not in fields:
                has = ", ".join(f"{{{field}}}" for field in fields)
                near = did_you_mean(name, fields)
                raise Wrong(f"it has no field {{{name}}}, which partition_keys names; it has {has}{near}")
        return absolute_format(path, places)

    absolute: str | None = problems.take(key, path, read)
    return absolute
