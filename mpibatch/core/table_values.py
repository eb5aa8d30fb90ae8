"""Values of table options in a job file, one by one: what each must be. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any

from mpibatch.core.settings import Check, Wrong, choice, did_you_mean, shown, text

_ENCODINGS = (
    "utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "ascii", "cp1250", "cp1251", "iso-8859-1",
    "iso-8859-15", "utf-32", "utf-16-le", "utf-16-be", "shift_jis", "euc_jp", "euc_kr", "gb18030", "gbk",
    "big5", "koi8-r", "mac_roman",
)  # fmt: skip
"""The usual ones, to find what was meant by a name that Python does not know."""


def plain_text(value: Any) -> str:
    """Text that is UTF-8: as a message carries it, and as tables have it."""
    checked = text(value)
    if any("\ud800" <= c <= "\udfff" for c in checked):
        raise Wrong("must be UTF-8")
    return checked


def unique_names(value: Any) -> list[str]:
    """A list of texts, or one."""
    if not isinstance(value, list | tuple):
        return [plain_text(value)]
    if not value:
        raise Wrong("must name at least one; for none leave it out")
    names = [_element(element) for element in value]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise Wrong(f"{shown(name)} stands twice")
    return names


def _element(value: Any) -> str:
    try:
        return plain_text(value)
    except Wrong as wrong:
        raise Wrong(f"{shown(value)} in it {wrong}") from None


def header_rule(value: Any) -> str:
    if value is True or (value == 0 and not isinstance(value, bool)):
        raise Wrong("write all, where each file begins with the same header (or first, none, each)")
    if value is False or value is None:
        raise Wrong("write none, where files have no header (or all, first, each)")
    header: str = choice("all", "first", "none", "each")(value)
    return header


def character(value: Any) -> str:
    """One that pandas' fast parser takes: of ASCII, so that it is one byte."""
    if value == "tab":
        return "\t"
    if value == "\\t":
        raise Wrong(r'that is two characters, \ and t: write tab, or "\t" in double quotes')
    if not isinstance(value, str) or len(value) != 1:
        raise Wrong("must be one character, in quotes; a tab is the word tab")
    if not value.isascii() or value in "\n\r\0":
        raise Wrong("must be a character of ASCII, and not the end of a line")
    return value


def character_or_none(value: Any) -> str | None:
    return None if value is None or value == "none" else character(value)


def encoding_name(value: Any) -> str:
    name = plain_text(value)
    try:
        codecs.lookup(name)
        "a".encode(name)  # Refuses what is no encoding of text, like base64.
    except (LookupError, ValueError):
        usual = ", ".join(_ENCODINGS[:5])
        raise Wrong(
            f"must be an encoding that Python knows, like {usual}{did_you_mean(name, _ENCODINGS)}"
        ) from None
    return name


def texts(value: Any) -> list[str]:
    """A list of texts that may be empty, or one text."""
    elements = value if isinstance(value, list | tuple) else [value]
    return ["" if isinstance(element, str) and not element else _element(element) for element in elements]


def date_columns(value: Any) -> list[str]:
    if isinstance(value, bool | Mapping):
        raise Wrong("must be a list of the columns that hold dates, like [day, hour]")
    return unique_names(value) if value not in ([], ()) else []


def or_none(check: Check) -> Check:
    """For options of which nothing is the same as leaving them out."""
    return lambda value: None if value is None else check(value)
