"""Types of Parquet columns as text: spelled as pyarrow spells them, taken apart, promoted. Pure.

One difference: the names of a struct's fields stand in quotes, `struct<"a": int64, "b": string>`, as
they may hold anything.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from mpibatch.core.promotion import Unpromotable, number

MISSING = "missing"
"""A column of doubles in which each value is missing: pandas has these where it knows nothing of a column. It
goes with all types, and is one of doubles if nothing else comes."""
_UNITS = ("s", "ms", "us", "ns")
_TIME_OF_UNIT = {"s": "time32", "ms": "time32", "us": "time64", "ns": "time64"}
_NUMPY_NAMES = {"halffloat": "float16", "float": "float32", "double": "float64"}
_ARROW_NAMES = {name: spelled for spelled, name in _NUMPY_NAMES.items()}
_LARGE = {"string": "large_string", "binary": "large_binary", "list": "large_list"}
_WITH_UNIT = re.compile(r"(timestamp|duration|time)(?:32|64)?\[(s|ms|us|ns)(?:, tz=(.+))?\]")
_DECIMAL = re.compile(r"decimal(\d+)\((\d+), (-?\d+)\)")
_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}
"""Of decimals, by their bits."""
_NESTED = re.compile(r"(list|large_list|fixed_size_list|struct|map)<(.*)>(?:\[(\d+)\])?", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[<\[(]|[>\])]|, |: ')


class Nested(NamedTuple):
    """A type that is made of types."""

    kind: str
    """list, large_list, fixed_size_list, struct or map."""
    fields: tuple[tuple[str, str], ...]
    """Names and types; of a map: of its key and its value."""
    size: int = 0
    """Of a fixed_size_list."""


def spell(nested: Nested) -> str:
    """The text of it; `take_apart` undoes it."""
    if nested.kind == "map":
        inner = ", ".join(type_ for _, type_ in nested.fields)
    elif nested.kind == "struct":
        inner = ", ".join(f"{_quoted(name)}: {type_}" for name, type_ in nested.fields)
    else:
        inner = f"item: {nested.fields[0][1]}"
    return f"{nested.kind}<{inner}>" + (f"[{nested.size}]" if nested.kind == "fixed_size_list" else "")


def take_apart(type_: str) -> Nested | None:
    """What a nested type is made of; None for all others."""
    found = _NESTED.fullmatch(type_)
    if found is None:
        return None
    kind, inner, size = found.groups()
    fields = tuple(_field(kind, text) for text in _split(inner)) if inner else ()
    if kind == "map":
        fields = (("key", fields[0][1]), ("value", fields[1][1]))
    return Nested(kind, fields, int(size or 0))


def _split(inner: str) -> list[str]:
    """At the commas that stand in no brackets and no quotes."""
    texts, start, depth = [], 0, 0
    for token in _TOKEN.finditer(inner):
        if token[0] in "<[(":
            depth += 1
        elif token[0] in ">])":
            depth -= 1
        elif token[0] == ", " and depth == 0:
            texts.append(inner[start : token.start()])
            start = token.end()
    return [*texts, inner[start:]]


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _field(kind: str, text: str) -> tuple[str, str]:
    if kind == "struct":
        name = _TOKEN.match(text)
        assert name is not None, text
        return msgspec.json.decode(name[0], type=str), text[name.end() + len(": ") :]
    return ("item", text.removeprefix("item: ")) if kind != "map" else ("", text)


def promote(one: str, other: str) -> str:
    """The smallest type that holds the values of both. Raises `Unpromotable`."""
    if one == other:
        return one
    for unknown in ("null", MISSING):
        if unknown in (one, other):
            return other if one == unknown else one
    mine, yours = take_apart(one), take_apart(other)
    if mine is not None and yours is not None:
        return spell(_nested(mine, yours))
    if _LARGE.get(one) == other or _LARGE.get(other) == one:
        return _LARGE.get(one, one)
    for rule in (_decimal, _in_time):
        found = rule(one, other)
        if found is not None:
            return found
    merged = number(_NUMPY_NAMES.get(one, one), _NUMPY_NAMES.get(other, other))
    return _ARROW_NAMES.get(merged, merged)


def _nested(one: Nested, other: Nested) -> Nested:
    names = [name for name, _ in one.fields]
    if names != [name for name, _ in other.fields]:
        raise Unpromotable("the fields differ")
    if {one.kind, other.kind} == {"list", "large_list"}:
        kind = "large_list"
    elif one.kind != other.kind or one.size != other.size:
        raise Unpromotable
    else:
        kind = one.kind
    types = [promote(a, b) for (_, a), (_, b) in zip(one.fields, other.fields, strict=True)]
    return Nested(kind, tuple(zip(names, types, strict=True)), one.size)


def _decimal(one: str, other: str) -> str | None:
    """Wide enough for the digits before the point and those after it."""
    mine, yours = _DECIMAL.fullmatch(one), _DECIMAL.fullmatch(other)
    if mine is None or yours is None:
        return None
    scale = max(int(mine[3]), int(yours[3]))
    precision = scale + max(int(mine[2]) - int(mine[3]), int(yours[2]) - int(yours[3]))
    bits = [n for n in _DIGITS if n >= max(int(mine[1]), int(yours[1])) and precision <= _DIGITS[n]]
    if not bits:
        raise Unpromotable(f"together they need {precision} digits; {_DIGITS[256]} are possible")
    return f"decimal{bits[0]}({precision}, {scale})"


def _in_time(one: str, other: str) -> str | None:
    """Dates become timestamps without a time zone, coarse units fine ones."""
    for date, moment in ((one, other), (other, one)):
        if date == "date32[day]" and moment.startswith("timestamp[") and "tz=" not in moment:
            return moment
    mine, yours = _WITH_UNIT.fullmatch(one), _WITH_UNIT.fullmatch(other)
    if mine is None or yours is None or mine[1] != yours[1]:
        return None
    if mine[3] != yours[3]:
        raise Unpromotable("the time zones differ")
    unit = max(mine[2], yours[2], key=_UNITS.index)
    kind = _TIME_OF_UNIT[unit] if mine[1] == "time" else mine[1]
    return f"{kind}[{unit}, tz={mine[3]}]" if mine[3] else f"{kind}[{unit}]"
