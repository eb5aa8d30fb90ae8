"""The options of table inputs in a job file: what each takes, and words for what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from mpibatch.core.path_columns import columns_of_paths, path_columns_text
from mpibatch.core.path_keys import check_path_columns
from mpibatch.core.settings import Check, Problems, choice, did_you_mean, flag, nearest, shown
from mpibatch.core.table_dtypes import column_dtype, dtypes
from mpibatch.core.table_hints import foreign_hint, foreign_name, known_elsewhere_hint, own_name
from mpibatch.core.table_values import (
    character,
    character_or_none,
    date_columns,
    encoding_name,
    header_rule,
    or_none,
    plain_text,
    texts,
    unique_names,
)
from mpibatch.core.tables import (
    CsvOptions,
    Hdf5Options,
    JsonlOptions,
    ParquetOptions,
    TableKind,
    TableOptions,
)

OPTIONS: dict[str, dict[str, Check]] = {
    "csv": {
        "header": header_rule,
        "names": or_none(unique_names),
        "sep": character,
        "quotechar": character_or_none,
        "escapechar": character_or_none,
        "encoding": encoding_name,
        "columns": or_none(unique_names),
        "dtype": or_none(dtypes),
        "parse_dates": date_columns,
        "na_values": texts,
        "keep_default_na": flag,
        "decimal": character,
        "thousands": character_or_none,
        "multiline": flag,
        "unpack": flag,
        "path_column": or_none(plain_text),
        "path_columns": or_none(path_columns_text),
    },
    "jsonl": {
        "as": choice("frame", "records"),
        "columns": or_none(unique_names),
        "dtype": or_none(column_dtype),
        "parse_dates": date_columns,
        "unpack": flag,
        "path_column": or_none(plain_text),
        "path_columns": or_none(path_columns_text),
    },
    "parquet": {
        "columns": or_none(unique_names),
        "hive": flag,
        "path_column": or_none(plain_text),
        "path_columns": or_none(path_columns_text),
    },
    "hdf5": {
        "group": plain_text,
        "datasets": or_none(unique_names),
        "as": choice("frame", "arrays"),
        "path_column": or_none(plain_text),
        "path_columns": or_none(path_columns_text),
    },
}
"""By kind and option."""

_STRUCTS: dict[str, Callable[..., TableOptions]] = {
    "csv": CsvOptions,
    "jsonl": JsonlOptions,
    "parquet": ParquetOptions,
    "hdf5": Hdf5Options,
}


def read_options(
    problems: Problems, key: str, kind: TableKind, mapping: Mapping[Any, Any]
) -> TableOptions | None:
    """The options in `mapping`, an element of inputs that stands at `key`; None where some are wrong."""
    found = len(problems.lines)
    given = {name: check for name, check in OPTIONS[kind].items() if name in mapping}
    taken = {name: problems.take(f"{key}.{name}", mapping[name], check) for name, check in given.items()}
    if len(problems.lines) > found:
        return None
    options = _STRUCTS[kind](**{"as_" if name == "as" else name: value for name, value in taken.items()})
    _check_columns(problems, key, options)
    if isinstance(options, CsvOptions):
        _check_csv(problems, key, options)
    if isinstance(options, JsonlOptions):
        _check_jsonl(problems, key, options, mapping)
    return options if len(problems.lines) == found else None


def option_hint(kind: str, option: str, value: Any, owners: Collection[str]) -> str | None:
    """What to write instead of an option that inputs of this kind do not have; None: the nearest legal name.

    `owners`: kinds of other inputs that have it.
    """
    belongs = [*owners, *_owners(option)]
    if belongs:
        return f"; {option} belongs to {', '.join(belongs)}: inputs{known_elsewhere_hint(kind, option)}"
    legal = OPTIONS.get(kind, {})
    hint = foreign_hint(option)
    if hint is not None:
        return hint if (own_name(option) or option) in legal else _of_others(kind, option) or hint
    meant = None if nearest(option, legal) else foreign_name(option)
    if meant is None:
        return None
    own = own_name(meant)
    if own in legal:
        return f"; did you mean {own}?"
    return _of_others(kind, meant) or f"; if {meant} is meant{foreign_hint(meant)}"


def _owners(option: str) -> list[str]:
    return [kind for kind, options in OPTIONS.items() if option in options]


def _of_others(kind: str, option: str) -> str | None:
    """Of another program's option that only inputs of other kinds have here, by another name."""
    own = own_name(option)
    owners = _owners(own) if own is not None else []
    if own is None or not owners:
        return None
    return f"; {own} belongs to {', '.join(owners)}: inputs{known_elsewhere_hint(kind, own)}"


def _check_columns(problems: Problems, key: str, options: TableOptions) -> None:
    """Each column that an option names must be one that is read, where that is known."""
    names = options.names if isinstance(options, CsvOptions) else None
    columns = None if isinstance(options, Hdf5Options) else options.columns
    of_paths = columns_of_paths(options)
    check_path_columns(problems, key, options)
    if names is not None and columns is not None:
        _check_known(problems, f"{key}.columns", columns, [*names, *of_paths], "names")
    if not isinstance(options, CsvOptions | JsonlOptions):
        return
    if columns is not None:
        legal, source = columns, "columns"
    elif names is not None:
        legal, source = [*names, *of_paths], "names"
    else:
        return
    _check_known(problems, f"{key}.parse_dates", options.parse_dates, legal, source)
    if isinstance(options.dtype, dict):
        _check_known(problems, f"{key}.dtype", options.dtype, legal, source)


def _check_known(
    problems: Problems, key: str, used: Collection[str], legal: Collection[str], source: str
) -> None:
    for name in used:
        if name not in legal:
            near = did_you_mean(name, legal)
            problems.add(key, f"names the column {shown(name)}: it is none of {source}{near}")


def _check_csv(problems: Problems, key: str, options: CsvOptions) -> None:
    if options.names is not None and options.header != "none":
        why = f"they are for files without a header, and header is {options.header}: write header: none"
        problems.add(f"{key}.names", f"is {shown(options.names)}: {why}, or leave names out")
    # A comma within a quoted number is no sep, so these are two groups.
    _check_different(problems, key, options, ("sep", "quotechar", "escapechar"))
    _check_different(problems, key, options, ("decimal", "thousands"))


def _check_different(problems: Problems, key: str, options: CsvOptions, names: Collection[str]) -> None:
    roles: dict[str, str] = {}
    for name in names:
        character = getattr(options, name)
        if character is not None and character in roles:
            same = f"so is {roles[character]}; they must be different"
            problems.add(f"{key}.{name}", f"is {shown(character)}: {same}")
        elif character is not None:
            roles[character] = name


def _check_jsonl(problems: Problems, key: str, options: JsonlOptions, mapping: Mapping[Any, Any]) -> None:
    for name in ("dtype", "parse_dates"):
        if options.as_ == "records" and getattr(options, name):
            why = "is for DataFrames, and as: records gives dicts as they are in the file"
            problems.add(f"{key}.{name}", f"is {shown(mapping[name])}: it {why}; leave one of the two out")
