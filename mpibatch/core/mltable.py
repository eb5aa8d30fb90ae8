"""An MLTable file becomes elements of our `inputs`, or a `ConfigError` that says what cannot be had of it. Pure.

Sources: Microsoft's public reference of the MLTable YAML, and the schema in its public package mltable. What our
inputs cannot do is refused, never passed over: rows that a `filter` should have left out would be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from mpibatch.core.azure_paths import below, is_uri, on_this_machine
from mpibatch.core.mltable_columns import There, convert, drop, keep, numbered
from mpibatch.core.mltable_paths import of_tables, path_formats
from mpibatch.core.mltable_reads import KIND_OF, READS
from mpibatch.core.path_columns import names_in, path_columns_text
from mpibatch.core.settings import Problems, Wrong, did_you_mean, shown, text

NAME = "MLTable"
"""Of the file, in the table's folder."""
_KEYS = ("$schema", "type", "paths", "transformations", "metadata", "traits")
_PATH_KINDS = ("file", "folder", "pattern")
_PARTITIONS = "extract_columns_from_partition_format"
_ROWS = "write the rows that are wanted to a file of their own, or let run() pass over the others"
_REFUSED = {
    "filter": _ROWS,
    "take": f"{_ROWS}; for a trial, name a small file by --set",
    "skip": _ROWS,
    "sample": _ROWS,
    "take_random_sample": _ROWS,
    "select_partitions": _ROWS,
    "read_delta_lake": "write the table as Parquet files, and read them by read_parquet",
}
_UNNAMED = "the files are not there yet: columns are numbered from 0, where Azure ML has Column1, Column2"
_COLUMNS: dict[str, Callable[[str | None, dict[str, Any], Any, There], dict[str, Any]]] = {
    "keep_columns": keep,
    "drop_columns": drop,
    "convert_column_types": convert,
}
TRANSFORMATIONS = (*READS, *_COLUMNS, _PARTITIONS, *_REFUSED)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """What an MLTable is to a job."""

    inputs: list[dict[str, Any]]
    """Elements of a job file's `inputs`; paths are relative to what `folder` is relative to."""
    of_rows: bool
    """Items are rows of tables; else files."""
    keys_in_path: list[str] = []
    """Columns that the paths of a table's files give."""
    left_out: list[str] = []
    """Keys of the file that mean nothing here."""


class ColumnsReader(Protocol):
    """The columns of the first of the files (relative to what the table's folder is relative to), or None."""

    def __call__(self, kind: str, options: Mapping[str, Any], files: Sequence[str]) -> list[str] | None: ...


def _no_files(kind: str, options: Mapping[str, Any], files: Sequence[str]) -> None:
    return None


class _State(msgspec.Struct):
    """What is known after some transformations."""

    paths: list[str]
    columns: ColumnsReader
    kind: str | None = None
    """Of our table inputs; None: a list of files."""
    options: dict[str, Any] = {}
    partition_format: str | None = None
    left_out: list[str] = []


def read_mltable(
    file: str,
    mapping: Mapping[Any, Any],
    folder: str,
    partition_keys: Sequence[str],
    columns: ColumnsReader = _no_files,
) -> Table:
    """`file`: the MLTable's name, for messages. `folder`: its folder, which its paths are relative to."""
    problems = Problems(file)
    problems.unknown_keys("", mapping, _KEYS)
    paths = _paths(problems, mapping.get("paths"), folder)
    left_out = [key for key in ("metadata", "traits") if mapping.get(key)]
    state = _State(paths=paths, columns=columns, left_out=left_out)
    for key, name, value in _steps(problems, mapping.get("transformations")):
        problems.take(key, value, partial(_transformed, state=state, name=name, key=key))
    table = problems.take(
        f"transformations: {_PARTITIONS}",
        state.partition_format,
        lambda _: _table(state, paths, partition_keys),
    )
    problems.stop()
    result: Table = table
    return result


def _paths(problems: Problems, value: Any, folder: str) -> list[str]:
    """Globs, folders with a slash at the end, and files."""
    if not (isinstance(value, list | tuple) and value):
        problems.add("paths", f"is {shown(value)}: must be a list, like [{{file: ./data.csv}}]")
        return []
    read = [
        problems.take(f"paths.{number}", one, lambda one: _path(one, folder))
        for number, one in enumerate(value)
    ]
    return [one for one in read if one is not None]


def _path(value: Any, folder: str) -> str:
    if not (isinstance(value, Mapping) and len(value) == 1):
        raise Wrong(f"must be a mapping with one of {', '.join(_PATH_KINDS)}, like {{file: ./data.csv}}")
    ((kind, path),) = value.items()
    if kind not in _PATH_KINDS:
        raise Wrong(
            f"there is no {shown(kind)}{did_you_mean(kind, _PATH_KINDS)}; legal are {', '.join(_PATH_KINDS)}"
        )
    if is_uri(path):
        raise Wrong(
            "data in a workspace or on the network cannot be reached from here: copy them, and write the path"
        )
    whole = below(folder, on_this_machine(text(path)))
    if kind != "folder":
        return whole
    within = _contains(whole, folder)
    # The MLTable itself, which has no ending, is no data.
    return f"{whole.rstrip('/')}/" + ("**/*.*" if within else "")


def _contains(folder: str, other: str) -> bool:
    upper, lower = ([part for part in one.split("/") if part not in ("", ".")] for one in (folder, other))
    return ".." not in lower[len(upper) :] and lower[: len(upper)] == upper


def _steps(problems: Problems, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Key, name and value of each transformation."""
    if value is None:
        return
    if not isinstance(value, list | tuple):
        problems.add("transformations", f"is {shown(value)}: must be a list, like [{{read_delimited: {{}}}}]")
        return
    for number, one in enumerate(value):
        if isinstance(one, str):
            yield f"transformations.{number}", one, None
        elif isinstance(one, Mapping) and len(one) == 1:
            ((name, inside),) = one.items()
            yield f"transformations.{number}", str(name), inside
        else:
            what = "must be a name, or a mapping with one, like {read_delimited: {header: no_header}}"
            if isinstance(one, Mapping) and None in one.values():
                what += "; options of a transformation stand deeper than its name"
            problems.add(f"transformations.{number}", f"is {shown(one)}: {what}")


def _transformed(value: Any, *, state: _State, name: str, key: str) -> None:
    """Changes `state`; raises `Wrong`."""
    if name in READS:
        if state.kind is not None:
            raise Wrong(f"{name}: there is a read transformation already: a table has one")
        # Before what may be wrong in it, so that what follows is not taken for wrong as well.
        state.kind = KIND_OF[name]
        read = READS[name](value)
        state.options = read.options
        state.left_out += [f"{key}.{name}.{option}" for option in read.left_out]
        if read.options.get("header") == "none":
            _name_columns(state, f"{key}.{name}.header")
    elif name in _COLUMNS:
        if state.kind is None:
            raise Wrong(
                f"{name} is for tables: put a read transformation, like read_delimited, in front of it"
            )
        change = partial(_converted, state=state) if name == "convert_column_types" else _COLUMNS[name]
        try:
            state.options = change(state.kind, state.options, value, partial(_columns, state))
        except Wrong as wrong:
            raise Wrong(f"{name}: {wrong}") from None
    elif name == _PARTITIONS:
        if state.partition_format is not None:
            raise Wrong(f"{_PARTITIONS}: there is one already: write all columns into one partition_format")
        state.partition_format = _format(value)
        if "columns" in state.options:  # Those that were kept before; the format's come to them.
            more = names_in(state.partition_format)
            state.options = {
                **state.options,
                "columns": list(dict.fromkeys([*state.options["columns"], *more])),
            }
    elif name in _REFUSED:
        raise Wrong(f"{name} cannot be done here: {_REFUSED[name]}")
    else:
        near = did_you_mean(name, TRANSFORMATIONS)
        raise Wrong(f"there is no transformation {shown(name)}{near}; legal are {', '.join(TRANSFORMATIONS)}")


def _own_columns(state: _State) -> Sequence[str] | None:
    """Those that the files have; None: not known."""
    names: list[str] | None = state.options.get("names")
    return names or state.columns(str(state.kind), state.options, state.paths)


def _columns(state: _State) -> Sequence[str] | None:
    """Those that the files have, and their paths so far, in the order in which they come."""
    there = _own_columns(state)
    first = [state.options["path_column"]] if "path_column" in state.options else []
    return None if there is None else [*first, *there, *names_in(state.partition_format)]


def _converted(
    kind: str | None, options: dict[str, Any], value: Any, there: There, *, state: _State
) -> dict[str, Any]:
    """Columns of paths keep the types that their format gives, but where `value` names them."""
    of_paths = {options.get("path_column"), *names_in(state.partition_format)}
    kept = options.get("columns")
    own = [name for name in kept or [] if name not in of_paths]
    changed = convert(kind, {**options, "columns": own}, value, partial(_own_columns, state))
    del changed["columns"]
    return changed if kept is None else {**changed, "columns": kept}


def _name_columns(state: _State, key: str) -> None:
    """Of files without a header: by their first record."""
    first = state.columns("csv", state.options, state.paths)
    if first is None:
        state.left_out.append(f"{key} ({_UNNAMED})")
    else:
        state.options = {**state.options, "names": numbered(len(first))}


def _format(value: Any) -> str:
    said = value.get("partition_format") if isinstance(value, Mapping) else value
    if isinstance(value, Mapping) and set(value) - {"partition_format"}:
        raise Wrong(f"{_PARTITIONS}: {shown(value)} has more than a partition_format, the one key there is")
    if not isinstance(said, str):
        raise Wrong(f"{_PARTITIONS} needs a partition_format, like {{year}}/{{month}}.csv")
    try:
        return path_columns_text(said)
    except Wrong as wrong:
        raise Wrong(f"{_PARTITIONS}: {wrong}") from None


def _table(state: _State, paths: list[str], partition_keys: Sequence[str]) -> Table:
    if state.kind is not None:
        options = state.options
        if state.partition_format is not None:
            options = of_tables(state.kind, options, state.partition_format)
        return Table(
            inputs=[{state.kind: _one_or_all(paths), **options}],
            of_rows=True,
            keys_in_path=list(names_in(options.get("path_columns"))),
            left_out=state.left_out,
        )
    if partition_keys and state.partition_format is not None:
        paths = path_formats(paths, state.partition_format)
    left_out = [*state.left_out]
    if not partition_keys and state.partition_format is not None:
        left_out.append(f"transformations: {_PARTITIONS} (no partition_keys name its columns)")
    return Table(inputs=[{"files": _one_or_all(paths)}], of_rows=False, left_out=left_out)


def _one_or_all(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths
