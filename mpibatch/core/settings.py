"""Reading settings one by one: what a value must be, and words for what is wrong with it. Pure.

A check takes a value as YAML or JSON gives it and returns the value to use, or raises `Wrong` with what
is legal. `Problems` collects what is wrong in one file, so that a person sees all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from mpibatch.errors import ConfigError

Check = Callable[[Any], Any]

LARGEST = 2**31 - 1
_SHOWN_LENGTH = 80
_SHOWN_ELEMENTS = 4
_SHOWN_BITS = 128


class Wrong(Exception):
    """A value is not what its key takes. The text says what is legal, and what to write instead."""


class Problems:
    """What is wrong in one file; `stop` raises it all as one `ConfigError`."""

    def __init__(self, file: str, set_keys: Collection[str] = ()) -> None:
        """`set_keys`: dotted keys that came from `--set`, not from the file; the message tells."""
        self.file = file
        self.lines: list[str] = []
        self._set_keys = set_keys

    def add(self, key: str, text: str) -> None:
        source = " (from --set)" if any(_overlap(key, other) for other in self._set_keys) else ""
        self.lines.append(f"{key}{source} {text}")

    def take(self, key: str, value: Any, check: Check) -> Any:
        """The checked value; None, and a problem more, where the check refuses it."""
        try:
            return check(value)
        except Wrong as wrong:
            self.add(key, f"is {shown(value)}: {wrong}")
            return None

    def mapping(self, key: str, value: Any, example: str) -> Mapping[Any, Any]:
        """The value if it is a mapping; an empty one, and a problem more, if not."""
        if isinstance(value, Mapping):
            return value
        self.add(key, f"is {shown(value)}: must be a mapping, like {example}")
        return {}

    def unknown_keys(
        self,
        prefix: str,
        mapping: Mapping[Any, Any],
        legal: Collection[str],
        hint: Callable[[str, Any], str | None] = lambda key, value: None,
    ) -> None:
        """A problem for each key that is not legal; `hint(key, value)` may know more than its nearest."""
        unknown = [key for key in mapping if not (isinstance(key, str) and key in legal)]
        for key in unknown:
            name = key if isinstance(key, str) and key.isprintable() else shown(key)
            advice = (hint(key, mapping[key]) if isinstance(key, str) else None) or did_you_mean(key, legal)
            ending = f"\n  legal keys: {', '.join(legal)}" if key is unknown[-1] else ""
            self.add(prefix + name, f"is {shown(mapping[key])}: there is no such key{advice}{ending}")

    def stop(self) -> None:
        """Raises `ConfigError` if anything is wrong."""
        if len(self.lines) == 1:
            raise ConfigError(f"{self.file}: {self.lines[0]}")
        if self.lines:
            listed = "\n".join(f"- {line}" for line in self.lines)
            raise ConfigError(f"{self.file}: {len(self.lines)} things are wrong\n{listed}")


def _overlap(key: str, other: str) -> bool:
    return key == other or key.startswith(other + ".") or other.startswith(key + ".")


def shown(value: Any) -> str:
    """A value as a message shows it: much as YAML would write it, on one line, cut where it is long.

    Looks at the first elements of a list or mapping only, and never deeper than that: YAML's anchors
    make values that are endless, or exponential, when followed.
    """
    if isinstance(value, Mapping):
        pairs = [f"{_scalar(key)}: {_inner(value[key])}" for key in _first(value)]
        return "{" + ", ".join(pairs + _rest(len(value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([_inner(element) for element in _first(value)] + _rest(len(value))) + "]"
    return _scalar(value)


def _first(values: Iterable[Any]) -> list[Any]:
    return [value for value, _ in zip(values, range(_SHOWN_ELEMENTS))]


def _rest(length: int) -> list[str]:
    return ["..."] if length > _SHOWN_ELEMENTS else []


def _inner(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{...}"
    return "[...]" if isinstance(value, list | tuple) else _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{printable(value)}"'
        # Python refuses to write numbers of more than 4,300 digits.
        case int() if value.bit_length() > _SHOWN_BITS:
            return f"a whole number of {value.bit_length()} bits"
        case int() | float():
            return str(value)
        case bytes():
            return f"binary data of {len(value)} bytes"
        case _:
            return f"a {type(value).__name__}"


def printable(text: str) -> str:
    """Text on one line that any terminal can show, cut in the middle where it is long."""
    if len(text) > _SHOWN_LENGTH:
        text = f"{text[: _SHOWN_LENGTH // 2]}...{text[-_SHOWN_LENGTH // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: Any, legal: Iterable[str]) -> str | None:
    """The legal name that is most like `name`, whatever its case; None where none is near."""
    if not isinstance(name, str) or len(name) > _SHOWN_LENGTH:
        return None
    import difflib

    by_lower = {one.lower(): one for one in legal}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    found = found or difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: Any, legal: Iterable[str]) -> str:
    """`; did you mean x?`, or nothing."""
    near = nearest(name, legal)
    return f"; did you mean {near}?" if near else ""


def text(value: Any) -> str:
    """Text that is not empty and that a file name, an argument or a variable can hold."""
    match value:
        case str() if not value:
            raise Wrong("must not be empty")
        case str():
            return encodable(value)
        case bool():
            raise Wrong("must be text; YAML takes yes, no, on, off for true and false: put it in quotes")
        case int() | float():
            raise Wrong("must be text: put it in quotes")
        case _:
            raise Wrong("must be text")


def encodable(value: str) -> str:
    if "\0" in value:
        raise Wrong("must not contain a NUL character")
    try:
        # What os.fsencode does: file names that are not UTF-8 are text with surrogates.
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Wrong("contains half a surrogate pair, which is no character") from None
    return value


def flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise Wrong("must be true or false")


def choice(*legal: str) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, str) and value in legal:
            return value
        raise Wrong(f"must be one of {', '.join(legal)}{did_you_mean(value, legal)}")

    return check


def whole_number(least: int, most: int = LARGEST, of: str = "") -> Check:
    """`of`: what the number counts, for the message."""

    def check(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        raise Wrong(f"must be a whole number from {least} to {most}{of and f' ({of})'}{_unquoted(value)}")

    return check


def number(least: float, most: float, of: str, *, above: bool = False) -> Check:
    """`of`: the unit. `above`: `least` itself is not legal."""

    def check(value: Any) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and least <= value <= most and not (above and value == least):
            return float(value)
        lowest = f"above {least:g} and at most" if above else f"from {least:g} to"
        raise Wrong(f"must be a number of {of}, {lowest} {most:.12g}{_unquoted(value)}")

    return check


def _unquoted(value: Any) -> str:
    """What to write instead of a number in quotes or with a unit."""
    found = (
        re.fullmatch(r"\s*([-+]?\d{1,18}(?:\.\d{1,18})?)\s*([a-z%]*)\s*", value.lower())
        if isinstance(value, str)
        else None
    )
    if found is None:
        return ""
    return f"; write {found[1]} without quotes" + (" and without a unit" if found[2] else "")


def plain_list(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise Wrong("must be a list")
