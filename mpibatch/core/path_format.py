"""Path formats: globs with fields, like `data/{user}/{season}/*.wav`, of which files are the keys. Pure.

A field stands for one or more characters of one component; the same field twice, for the same text twice.
Where there are several ways to share a component out, earlier fields take as little as they can. `{{` and
`}}` are braces. What else is in a path is a glob as in `inputs.pattern`: a component that is there
literally may also be meant literally (`[1]`), so both are let through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mpibatch.core.places import Places, joined
from mpibatch.core.settings import Wrong, shown

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|\*+|\?|\[!?\]?[^\]]*\]|[^{}*?\[]+|\[")
"""Of one component: braces, a field, a brace that has no partner, a glob's parts, plain text."""
FIELD = re.compile(r"[^\W\d][\w -]*")
"""A field's name."""
_MAGIC = "*?["


class PathFormat:
    """A path with fields; made by `parse`."""

    __slots__ = ("_regex", "fields", "pattern")

    def __init__(self, pattern: str, fields: tuple[str, ...], regex: re.Pattern[str]) -> None:
        self.pattern = pattern
        """The glob that finds the files: each field is a `*`."""
        self.fields = fields
        """Names, in the order of their first appearance."""
        self._regex = regex

    def match(self, path: bytes) -> dict[str, str] | None:
        """The fields' values in a path that the glob has found; None where the format does not fit it.

        Bytes that are not UTF-8 become `\\xff` and the like, as values travel in messages.
        """
        found = self._regex.fullmatch(path.decode("latin-1"))
        if found is None:
            return None
        values = (value.encode("latin-1").decode("utf-8", "backslashreplace") for value in found.groups())
        return dict(zip(self.fields, values))


def parse(path: str, shapes: Mapping[str, str] = {}) -> PathFormat:
    """`shapes`: regular expressions, without groups, of fields that stand for certain texts only.

    Raises `Wrong`, in words for a job file, where braces or a field's name are not legal.
    """
    fields: list[str] = []
    globs: list[str] = []
    regex = "/" if path.startswith("/") else ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.endswith("/"):
        parts.append("**")  # A folder is taken whole.
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            globs.append(part)
            regex += r"(?:[^/]+/)*" + ("[^/]+" if last else "")
            continue
        glob, matched = _component(part, fields, shapes)
        globs.append(glob)
        regex += matched + ("" if last else "/")
    pattern = ("/" if path.startswith("/") else "") + "/".join(globs)
    return PathFormat(pattern, tuple(fields), re.compile(regex))


def absolute_format(path: str, places: Places) -> str:
    """The format below the job file's folder, whose own braces and magic are taken literally."""
    literal = "".join(f"[{c}]" if c in _MAGIC else c * 2 if c in "{}" else c for c in places.job_dir)
    return joined(literal, places.expand(path)) + ("/" if path.endswith("/") else "")


def _component(part: str, fields: list[str], shapes: Mapping[str, str]) -> tuple[str, str]:
    """Its glob and its regular expression; new fields are added to `fields`."""
    glob, regex = "", ""
    after_field = False  # Behind one that may be of any length.
    for token in _TOKEN.finditer(part):
        name = token[1]
        if name is not None:
            _check_field(part, name, after_field and name not in shapes)
            glob += "*"
            regex += (
                rf"(?:\{fields.index(name) + 1})" if name in fields else f"({shapes.get(name, '[^/]+?')})"
            )
            if name not in fields:
                fields.append(name)
        else:
            more_glob, more_regex = _plain(part, token[0])
            glob, regex = glob + more_glob, regex + more_regex
        after_field = name is not None and name not in shapes
    return glob, regex


def _plain(part: str, token: str) -> tuple[str, str]:
    """Glob and regular expression of a token that is no field."""
    if token in ("{{", "}}"):
        return token[0], re.escape(token[0])
    if token in ("{", "}"):
        side = "has no closing }" if token == "{" else "has no opening {"
        raise Wrong(
            f"{token} {side} in {shown(part)}; a field is like {{user}}; write {token * 2} for a {token}"
        )
    if token.startswith("*"):
        return token, "[^/]*"
    if token == "?":
        return token, "[^/]"
    if token.startswith("[") and len(token) > 1:
        return token, _character_class(_latin(token))
    return token, re.escape(_latin(token))


def _character_class(token: str) -> str:
    """One of `[...]`, or the text itself, where a name has brackets."""
    inside = token[1:-1]
    negated = inside.startswith("!")
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    one = f"[{'^/' if negated else ''}{inner}]"
    try:
        if "--" in inner:  # Of which Python warns.
            one = "[^/]"
        re.compile(one)
    except re.error:  # A range like z-a.
        one = "[^/]"
    return f"(?:{one}|{re.escape(token)})"


def _latin(text: str) -> str:
    """Its bytes in a file name, a character each, so that names in any encoding are compared as bytes."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _check_field(part: str, name: str, after_field: bool) -> None:
    if not FIELD.fullmatch(name):
        raise Wrong(
            f"{{{name}}} in {shown(part)} is no field: a field is a name of letters, digits, _, - and spaces"
            " in braces, like {user}; write {{ and }} for braces"
        )
    if after_field:
        raise Wrong(f"{{{name}}} follows a field in {shown(part)}: something must stand between two fields")
