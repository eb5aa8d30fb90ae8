"""An MLTable's `partition_format`: columns that stand in the paths of files. Pure.

Of tables they are our `path_columns`, of files our path formats. The format is the end of each path, from the folder
of the first column on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mpibatch.core.path_columns import path_columns_text
from mpibatch.core.settings import Wrong, shown

_FIELD = re.compile(r"\{([^{}]*)\}")
_GLOB = "*?["


def of_tables(kind: str, options: Mapping[str, Any], partition_format: str) -> dict[str, Any]:
    """The options of a table input with the format's columns; raises `Wrong` where it is not legal."""
    told = {"path_columns": path_columns_text(partition_format)}
    # Folders like year=2020/ would give the same columns twice.
    return {**options, **told, **({"hive": False} if kind == "parquet" else {})}


def path_formats(paths: list[str], partition_format: str) -> list[str]:
    """Our path formats of files; raises `Wrong` where they cannot be."""
    path_columns_text(partition_format)
    if times := [name for name in _FIELD.findall(partition_format) if ":" in name]:
        raise Wrong(
            f"{{{times[0]}}}: keys of files are text, and no times: write a column for each part, like"
            " {year}/{month}/{day}"
        )
    return [_with_format(path, partition_format) for path in paths]


def _with_format(path: str, partition_format: str) -> str:
    parts = _components(path)
    wanted = _components(partition_format)
    root = "/" if path.startswith("/") else ""
    literal = next((n for n, part in enumerate(parts) if any(c in part for c in _GLOB)), None)
    if path.endswith("/"):
        base = [*parts, "**"]
    elif "**" in parts and literal is not None:
        base = [*parts[:literal], "**"]
    elif len(parts) >= len(wanted):
        base = parts[: len(parts) - len(wanted)]
    else:
        raise Wrong(f"the path {shown(path)} has fewer parts than the partition_format")
    return root + "/".join([*(part.replace("{", "{{").replace("}", "}}") for part in base), *wanted])


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
