"""Keyword arguments of pandas' `DataFrame.to_csv` that a job may set for its rows. Pure."""

from __future__ import annotations

from typing import Any

from mpibatch.core.settings import (
    Check,
    Problems,
    Wrong,
    flag,
    plain_list,
    shown,
    text,
    whole_number,
)

DEFAULTS: dict[str, Any] = {"sep": " ", "header": False, "index": False}
"""Rows of a DataFrame as Azure ML writes them (CONTRACT section 3)."""
CSV_DEFAULTS: dict[str, Any] = {"sep": ",", "header": True, "index": False}
"""The same for append_row_format: csv."""

REFUSED = {
    "path_or_buf": "rows go to append_row_file_name",
    "mode": "rows are put together by mpibatch",
    "compression": "rows are put together by mpibatch, uncompressed",
    "encoding": "rows are UTF-8",
    "chunksize": "rows are put together by mpibatch",
    "storage_options": "rows go to the run folder",
}


def _some_text(value: Any) -> str:
    checked = text(value)
    if any("\ud800" <= c <= "\udfff" for c in checked):
        raise Wrong("must be UTF-8, as the rows are")
    return checked


def _any_text(value: Any) -> str:
    return "" if isinstance(value, str) and not value else _some_text(value)


def _character(value: Any) -> str:
    if isinstance(value, str) and len(value) == 1:
        return _some_text(value)
    raise Wrong('must be one character; a tab is "\\t" in double quotes')


def _separator(value: Any) -> str:
    if value in ("\n", "\r"):
        raise Wrong("must not be the end of a line")
    return _character(value)


def _line_end(value: Any) -> str:
    if value in ("\n", "\r\n"):
        return str(value)
    raise Wrong(r'must be "\n" or "\r\n"')


def _names(value: Any) -> list[str]:
    return [_any_text(element) for element in plain_list(value)]


def _header(value: Any) -> bool | list[str]:
    if isinstance(value, bool):
        return value
    if isinstance(value, list | tuple):
        return _names(value)
    raise Wrong("must be true, false or a list of names")


def _index_label(value: Any) -> str | bool | list[str]:
    if value is False:
        return False
    return _names(value) if isinstance(value, list | tuple) else _any_text(value)


KEYWORDS: dict[str, Check] = {
    "sep": _separator,
    "header": _header,
    "index": flag,
    "na_rep": _any_text,
    "float_format": _some_text,
    "columns": _names,
    "index_label": _index_label,
    "quoting": whole_number(0, 3, "as in Python's csv module"),
    "quotechar": _character,
    "doublequote": flag,
    "escapechar": _character,
    "lineterminator": _line_end,
    "date_format": _some_text,
    "decimal": _character,
    "errors": _some_text,
}


def read_to_csv(problems: Problems, key: str, value: Any) -> dict[str, Any]:
    """The keywords in the mapping `value`, which stands at the dotted `key`; no defaults are added."""
    mapping = problems.mapping(key, value, '{sep: ",", header: true}')
    read: dict[str, Any] = {}
    legal: list[str] = [*KEYWORDS, *(name for name in REFUSED if name in mapping)]
    problems.unknown_keys(f"{key}.", mapping, legal, _hint)
    for name, given in mapping.items():
        if name in REFUSED:
            problems.add(f"{key}.{name}", f"is {shown(given)}: cannot be set, as {REFUSED[name]}")
        elif name in KEYWORDS:
            read[name] = problems.take(f"{key}.{name}", given, KEYWORDS[name])
    return read


def _hint(key: str, value: Any) -> str | None:
    renamed = {"line_terminator": "lineterminator", "separator": "sep", "delimiter": "sep"}
    return f"; did you mean {renamed[key]}?" if key in renamed else None
