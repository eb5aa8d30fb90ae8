"""An MLTable's `partition_format`: columns that stand in the paths of files. Pure.

Of files they are our path formats, of Parquet files the folders `key=value`; what else there is, is refused. The
format is the end of each path, from the folder of the first column on.
"""

from __future__ import annotations

import re

from mpibatch.core.settings import Wrong, shown

_FIELD = re.compile(r"\{([^{}]*)\}")
_HIVE = re.compile(r"([^={}]+)=\{([^{}]*)\}")
_GLOB = "*?["


def unpartitioned(kind: str, partition_format: str) -> list[str]:
    """The columns, of a table whose files have them in their paths; raises `Wrong` where that cannot be."""
    _fields(partition_format)
    if kind != "parquet":
        raise Wrong(
            f"columns from the paths of {'CSV' if kind == 'csv' else 'JSON lines'} files cannot be had: write them"
            " into the files, or as Parquet in folders like year=2020/; without a read transformation the items are"
            " files, and partition_keys name such columns"
        )
    *folders, _ = _components(partition_format)
    keys: list[str] = []
    for part in folders:
        found = _HIVE.fullmatch(part)
        if found is not None and found[1] == found[2]:
            keys.append(found[1])
        elif _FIELD.search(part):
            raise Wrong(
                f"{shown(part)}: columns from paths of Parquet files are read of folders like year={{year}}"
            )
    if len(keys) != len(_fields(partition_format)):
        raise Wrong(
            "columns from paths of Parquet files are read of folders like year={year}, not of file names"
        )
    return keys


def path_formats(paths: list[str], partition_format: str) -> list[str]:
    """Our path formats of files."""
    _fields(partition_format)
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


def _fields(partition_format: str) -> list[str]:
    names = list(dict.fromkeys(_FIELD.findall(partition_format)))
    if not names:
        raise Wrong("a partition_format has a column in it, like {year}/{month}.csv")
    for name in names:
        if ":" in name:
            raise Wrong(
                f"{{{name}}}: dates cannot be put together of a path: write a column for each part, like"
                " {year}/{month}/{day}"
            )
    return names
