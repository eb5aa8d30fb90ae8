"""What to say about an input that is not as its key says: which key, which path, and what lies near."""

from __future__ import annotations

import difflib
import os
from itertools import islice
from typing import NamedTuple

from mpibatch.errors import InputError

_MOST_NAMES = 10_000
"""Names of a folder that are compared with a missing one: enough to find it, and done in a moment."""


def shown(path: bytes | str) -> str:
    """A path for a message, quoted: newlines and bytes that are not UTF-8 are escaped."""
    return repr(os.fsdecode(path))


class Origin(NamedTuple):
    """An input, or one of its elements, as the job file has it."""

    key: str
    """Job file and dotted key: `job.yaml: inputs.0.files`."""
    text: str
    """The value there."""

    def error(self, problem: str) -> InputError:
        return InputError(f"{self.key}: {self.text!r}: {problem}")


def nearby(path: bytes) -> str:
    """A sentence about what is there where `path` is not: the nearest name, else some names."""
    folder, missing = os.path.split(path.rstrip(b"/"))
    while not os.path.isdir(folder):
        folder, missing = os.path.split(folder)
    path = os.path.join(folder, missing)
    if os.path.islink(path):
        return f"{shown(path)} is a symbolic link to {shown(os.readlink(path))}, which leads nowhere."
    try:
        with os.scandir(folder) as entries:
            names = sorted(os.fsdecode(entry.name) for entry in islice(entries, _MOST_NAMES))
    except OSError as error:
        return f"{shown(folder)} cannot be read: {error.strerror}."
    wanted = os.fsdecode(missing)
    if wanted in names:
        return f"{shown(path)} is no folder."
    return f"{shown(folder)} {_what_is_there(wanted, names)}"


def _what_is_there(wanted: str, names: list[str]) -> str:
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(wanted.lower(), by_lower, n=1)
    if close:
        return f"holds {by_lower[close[0]]!r}: did you mean that?"
    visible = [name for name in names if not name.startswith(".")]
    if not visible:
        return "is empty."
    some = ", ".join(repr(name) for name in visible[:3])
    return f"holds {some}." if len(visible) <= 3 else f"holds {some} and {len(visible) - 3:,} more."
