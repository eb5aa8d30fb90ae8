"""Literals of inputs in Azure ML's v2 YAML against what their declaration says: type, enum, min, max. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.core.settings import Wrong, did_you_mean, shown

LITERAL_TYPES = ("string", "integer", "number", "boolean")
_FLAGS = ("true", "false")


def check_literal(value: str | float | bool, spec: Mapping[Any, Any]) -> None:
    """`spec`: of the input, as a component or the input itself declares it. Raises `Wrong`."""
    kind = spec.get("type")
    kind = kind.lower() if isinstance(kind, str) else None
    if kind == "boolean" and not isinstance(value, bool) and str(value).lower() not in _FLAGS:
        raise Wrong(f"its type is boolean, and {shown(value)} is neither true nor false")
    if kind in ("integer", "number"):
        number = _number(value, whole=kind == "integer")
        if number is None:
            raise Wrong(f"its type is {kind}, and {shown(value)} is no {_WHAT[kind]}")
        _check_range(number, spec)
    enum = spec.get("enum")
    if isinstance(enum, list | tuple) and enum and str(value) not in (words := [str(one) for one in enum]):
        raise Wrong(f"{shown(value)} is none of its enum: {', '.join(words)}{did_you_mean(value, words)}")


_WHAT = {"integer": "whole number", "number": "number"}


def _check_range(number: float, spec: Mapping[Any, Any]) -> None:
    for key, is_beyond, words in (("min", float.__lt__, "less"), ("max", float.__gt__, "more")):
        limit = _number(spec.get(key), whole=False)
        if limit is not None and is_beyond(float(number), float(limit)):
            raise Wrong(f"{shown(number)} is {words} than its {key}, {shown(spec[key])}")


def _number(value: Any, *, whole: bool) -> float | None:
    """Numbers may stand in quotes. None: it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return int(value) if whole and not isinstance(value, float) else _float(value, whole)
    except (ValueError, OverflowError):
        return None


def _float(value: str | float, whole: bool) -> float | None:
    number = float(value)
    return number if not whole or number.is_integer() else None
