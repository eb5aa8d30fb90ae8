"""Which paths a pattern means, decided folder by folder. Pure.

A pattern is a folder that is taken as it is written (`root`) and the parts that names below it must
match: `*`, `?` and `[...]` as in the standard library's `fnmatch`, `**` for any number of folders.
A folder given whole is the pattern `**`. Hidden names match only a part that begins with a dot.

`glob` of the standard library is not used, because it passes over unreadable folders in silence, goes
round a loop of links forty times, gives a path twice for two `**`, and holds all paths to sort them. Here
a `Level` is what is still to be matched in one folder, so one walk in order gives each path once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

ANY_DEPTH = b"**"
_MAGIC = re.compile(rb"[*?[]")
_ESCAPED = re.compile(rb"\[([*?[])\]")


def has_magic(part: bytes) -> bool:
    return _MAGIC.search(part) is not None


def unescaped(part: bytes) -> bytes | None:
    """The only name that `part` matches, where all its magic is escaped (`[*]`); else None."""
    return None if has_magic(_ESCAPED.sub(b"", part)) else _ESCAPED.sub(rb"\1", part)


@lru_cache(maxsize=1024)
def _regex(part: bytes) -> bytes:
    """What names match `part`: never a hidden one, unless the part begins with a dot."""
    if part == ANY_DEPTH:
        return rb"(?!\.)(?s:.*)\Z"
    # Latin-1 maps bytes to characters one to one, so names in any encoding work.
    regex = translate(part.decode("latin-1")).encode("latin-1")
    return regex if part.startswith(b".") else rb"(?!\.)" + regex


@lru_cache(maxsize=1024)
def _matcher(parts: tuple[bytes, ...]) -> Callable[[bytes], object]:
    """A function that tells whether a name matches one of `parts`."""
    if not parts:
        return re.compile(rb"(?!)").match
    return re.compile(b"|".join(b"(?:%s)" % _regex(part) for part in parts)).match


class Level:
    """What is still to be matched in one folder: the parts that a name in it may match."""

    __slots__ = ("_pattern", "_states", "endless", "everything", "hidden", "literal", "matches")

    def __init__(self, pattern: Pattern, states: frozenset[int]) -> None:
        self._pattern = pattern
        self._states = sorted(states)
        parts = [pattern.parts[state] for state in self._states]
        last = len(pattern.parts) - 1
        self.matches = _matcher(tuple(pattern.parts[state] for state in self._states if state == last))
        """Whether a file of this name is an item (truthy) or not."""
        self.everything = last in states and pattern.parts[last] == ANY_DEPTH
        """Each file that is not hidden is an item."""
        self.hidden = any(part.startswith(b".") for part in parts)
        """A hidden name may match."""
        self.literal = parts[0] if len(parts) == 1 and not has_magic(parts[0]) else None
        """The only name that can match: there is no need to read the folder."""
        self.endless = ANY_DEPTH in parts
        """Folders of any depth may match, so a loop of links would never end."""

    def into(self, name: bytes) -> Level | None:
        """The level of the folder `name` in this one; None where nothing below it can match."""
        parts = self._pattern.parts
        states = set()
        for state in self._states:
            if _matcher((parts[state],))(name):
                states.add(state if parts[state] == ANY_DEPTH else state + 1)
        return self._pattern.level(states)


class Pattern:
    """`root` (no trailing slash; empty for `/`) and the parts below it; without parts, the file `root`."""

    __slots__ = ("_levels", "parts", "root")

    def __init__(self, root: bytes, parts: tuple[bytes, ...]) -> None:
        self.root = root
        self.parts = parts
        self._levels: dict[frozenset[int], Level] = {}

    def start(self) -> Level:
        """The level of `root`."""
        level = self.level({0})
        assert level is not None, "a pattern without parts is a file and has no level"
        return level

    def level(self, states: set[int]) -> Level | None:
        """The level at which the parts `states` may match next; `**` may stand for no folder at all."""
        last = len(self.parts) - 1
        reached = {state for state in states if state <= last}
        for state in sorted(reached):
            following = state
            while following < last and self.parts[following] == ANY_DEPTH:
                following += 1
                reached.add(following)
        if not reached:
            return None
        key = frozenset(reached)
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = Level(self, key)
        return level

    def at(self, folder: bytes) -> Level | None:
        """The level of a folder given by its path; None where no file in it can match."""
        if folder == self.root:
            return self.start()
        if not folder.startswith(self.root + b"/"):
            return None
        level: Level | None = self.start()
        for name in folder[len(self.root) + 1 :].split(b"/"):
            level = level.into(name) if level else None
        return level

    def overlaps(self, other: Pattern) -> bool:
        """Whether one's root lies in the other's, so that a path may match both."""
        mine, its = self.root + b"/", other.root + b"/"
        return mine.startswith(its) or its.startswith(mine)
