"""Columns that the paths of a table's files give: `path_columns: "{shop}/{day:yyyy/MM/dd}/*.csv"`. Pure.

The text is the end of each path. A field is text; one with a form of yyyy, MM, dd, HH, mm and ss is a time, whose
parts may stand in several folders. Source: `partition_format` of Azure ML's datasets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import count
from typing import Any

from mpibatch.core.path_format import FIELD, PathFormat, parse
from mpibatch.core.settings import Wrong, shown, text
from mpibatch.core.tables import TableOptions

_TIME = re.compile(r"\{\{|\}\}|\{([^{}:]*):([^{}]*)\}")
"""A time; or braces that are meant literally, which are passed over."""
_PARTS = {"yyyy": "0001", "MM": "01", "dd": "01", "HH": "00", "mm": "00", "ss": "00"}
"""Those of a time, each of so many digits, and what they are where the form has none."""
_PART = re.compile("|".join(_PARTS))
_BETWEEN = re.compile(r"[-_. /T]*")
"""What may stand between the parts of a time."""


class PathColumns:
    """The columns of paths; made by `path_columns`."""

    __slots__ = ("_format", "_times", "names", "times")

    def __init__(self, path_format: PathFormat, times: Mapping[str, tuple[list[str], str]]) -> None:
        self._format = path_format
        self._times = times
        """Of each time, the fields that it is put together of, and its form."""
        self.times = frozenset(times)
        """Columns that are times."""
        names: dict[str, None] = {}
        owners = {field: name for name, (fields, _) in times.items() for field in fields}
        for field in path_format.fields:
            names[owners.get(field, field)] = None
        self.names = tuple(names)
        """In the order of their first appearance."""

    def values(self, path: bytes) -> dict[str, str] | None:
        """Those of an absolute path; None where it does not end as the text says.

        Times are as in ISO 8601, `2020-01-05T00:00:00`; whether there is such a day is not looked at.
        """
        found = self._format.match(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for name in self.names:
            value = self._time(name, found) if name in self._times else found[name]
            if value is None:
                return None
            values[name] = value
        return values

    def _time(self, name: str, found: Mapping[str, str]) -> str | None:
        """None where the same part, like the year, stands there twice and differs."""
        fields, form = self._times[name]
        said = "/".join(found[field] for field in fields)
        parts: dict[str, str] = {}
        for part in _PART.finditer(form):
            digits = said[part.start() : part.end()]  # The form and what it stands for are equally long.
            if parts.setdefault(part[0], digits) != digits:
                return None
        return "{yyyy}-{MM}-{dd}T{HH}:{mm}:{ss}".format_map(_PARTS | parts)


@lru_cache(maxsize=64)
def path_columns(said: str) -> PathColumns:
    """Raises `Wrong`, in words for a job file, where the text is not legal."""
    times: dict[str, tuple[list[str], str]] = {}
    shapes: dict[str, str] = {}
    free = (field for field in map("time {}".format, count()) if f"{{{field}}}" not in said)

    def parted(match: re.Match[str]) -> str:
        name, form = match[1], match[2]
        if name is None:
            return match[0]
        if name in times:
            raise Wrong(
                f"{{{name}:{form}}}: a time stands in a path once; give the others names of their own"
            )
        pieces = [_shape(name, form, piece) for piece in form.split("/")]
        fields = [next(free) for _ in pieces]
        shapes.update(zip(fields, pieces))
        times[name] = fields, form
        _check_name(name, said)
        return "/".join(f"{{{field}}}" for field in fields)

    whole = _TIME.sub(parted, said)
    plain = parse("/**/" + whole.strip("/"), shapes)
    if not plain.fields:
        raise Wrong('has no column in it: write the end of the paths, like "{year}/{month}.csv"')
    if twice := [name for name in times if name in plain.fields]:
        raise Wrong(f"{{{twice[0]}}} is a time and a text: give them different names")
    return PathColumns(plain, times)


def path_columns_text(value: Any) -> str:
    """The value of the key `path_columns`, checked."""
    said = text(value)
    if said.endswith("/"):
        raise Wrong("ends with a slash: write the files' names as well, like {year}/*.csv")
    path_columns(said)
    _, brace, behind = said.partition("{")
    if brace and "**" in behind.split("/"):
        raise Wrong("has ** behind a column, which could be any folder then: write a * for each folder")
    return said


def names_in(said: str | None) -> tuple[str, ...]:
    """The columns that a checked text gives; none of None."""
    return path_columns(said).names if said is not None else ()


def columns_of_paths(options: TableOptions) -> tuple[str, ...]:
    """Columns that do not stand in the files, in order: `path_column`, and those of `path_columns`."""
    first = () if options.path_column is None else (options.path_column,)
    return first + names_in(options.path_columns)


def _shape(name: str, form: str, piece: str) -> str:
    """The regular expression of one component's part of a time."""
    shape, at = "", 0
    for part in _PART.finditer(piece):
        between = piece[at : part.start()]
        _check_between(name, form, between)
        shape += re.escape(between) + f"[0-9]{{{len(part[0])}}}"
        at = part.end()
    _check_between(name, form, piece[at:])
    if not shape:
        raise _no_form(name, form)
    if "yyyy" not in form:
        raise Wrong(
            f"{{{name}:{form}}}: a time has a year, yyyy; write other numbers as text, like {{{name}}}"
        )
    return shape + re.escape(piece[at:])


def _check_between(name: str, form: str, between: str) -> None:
    if not _BETWEEN.fullmatch(between):
        raise _no_form(name, form)


def _no_form(name: str, form: str) -> Wrong:
    return Wrong(
        f"{{{name}:{form}}}: the form of a time has {', '.join(_PARTS)} with -, _, . or / between them,"
        " like {day:yyyy/MM/dd}"
    )


def _check_name(name: str, said: str) -> None:
    if not FIELD.fullmatch(name):
        raise Wrong(f"{{{name}: ...}} in {shown(said)}: a name is of letters, digits, _, - and spaces")
