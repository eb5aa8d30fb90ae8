"""One walk of folders: what a pattern matches, in order, each path once. Links are followed, loops survived.

What is known of an entry from reading its folder is never asked again, so that a million files take
about as long as `os.walk`; only links, and what lies below them, are looked at one by one.
"""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from mpibatch.inputs.origin import Origin, shown
from mpibatch.inputs.pattern import Level, Pattern

Names = tuple[bytes, list[bytes]]
"""Items that follow each other in one folder: its path, with a slash at the end, and their names in it."""

NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""How looking for a path fails when there is nothing."""

_DOT = ord(".")


def in_folders(paths: Iterable[bytes]) -> Iterator[Names]:
    """Absolute paths as what follows each other in one folder."""
    for folder, together in groupby(paths, lambda path: path[: path.rfind(b"/") + 1]):
        yield folder, [path[len(folder) :] for path in together]


class Remarks:
    """What was left out of an input and should not be in silence."""

    def __init__(self) -> None:
        self.hidden = 0
        self.special = 0
        self.folders = 0
        self.dead_links = 0
        self.first_dead_link = b""
        self.literal: list[bytes] = []

    def dead_link(self, path: bytes) -> None:
        self.first_dead_link = self.first_dead_link or path
        self.dead_links += 1

    def texts(self) -> list[str]:
        """A sentence for each thing that may be a mistake; hidden files are left out by rule."""
        texts = [
            f"a file or folder is really named {shown(path)}, so it is taken, not what the pattern matches"
            for path in self.literal
        ]
        if self.dead_links:
            texts.append(
                f"symbolic links that lead nowhere are left out: {self.dead_links:,},"
                f" the first is {shown(self.first_dead_link)}"
            )
        if self.special:
            texts.append(f"entries that are neither files nor folders are left out: {self.special:,}")
        return texts


class _Folder(NamedTuple):
    """A folder on the way down."""

    path: bytes
    level: Level
    linked: bool
    """A link led here, so that a real folder in it may be one that we are in."""


class Walker:
    """Walks one pattern. No recursion: a path may have more components than Python has frames."""

    def __init__(
        self, pattern: Pattern, origin: Origin, skip: tuple[int, int] | None, remarks: Remarks
    ) -> None:
        self._pattern = pattern
        self._origin = origin
        self._skip = skip
        self._remarks = remarks
        self._trail: list[bytes] = []
        # Asked for only when a link to a folder is met, as only links make loops.
        self._identities: list[tuple[int, int]] = []

    def walk(self) -> Iterator[Names]:
        stack = [self._read(_Folder(self._pattern.root, self._pattern.start(), linked=False))]
        self._trail = [self._pattern.root]
        while stack:
            for found in stack[-1]:
                if isinstance(found, _Folder):
                    stack.append(self._read(found))
                    self._trail.append(found.path)
                    break
                yield found
            else:
                stack.pop()
                self._trail.pop()
                del self._identities[len(self._trail) :]

    def _read(self, folder: _Folder) -> Iterator[Names | _Folder]:
        """What is in one folder, in order: runs of files, and the folders between them."""
        prefix = folder.path + b"/"
        files: list[bytes] = []
        folders: dict[bytes, _Folder] = {}
        try:
            if folder.level.literal is not None:
                self._probe(folder, folder.level.literal, files, folders)
            else:
                self._list(folder, files, folders)
        except OSError as error:
            path = error.filename if isinstance(error.filename, bytes) else prefix
            raise self._origin.error(f"{shown(path)} cannot be read: {error.strerror}.") from error
        start = 0
        for name in sorted(folders):
            stop = bisect_left(files, name, start)
            if stop > start:
                yield prefix, files[start:stop]
            start = stop
            yield folders[name]
        if start < len(files):
            yield prefix, files[start:] if start else files

    def _list(self, folder: _Folder, files: list[bytes], folders: dict[bytes, _Folder]) -> None:
        """Read a folder; `files` are then sorted."""
        level = folder.level
        names, others = _entries(folder.path or b"/")
        names.sort()
        if not level.hidden:
            # They stand together, as all begin with a dot and no name begins with the slash that follows it.
            first, end = bisect_left(names, b"."), bisect_left(names, b"/")
            self._remarks.hidden += end - first
            del names[first:end]
        files += names if level.everything and not level.hidden else filter(level.matches, names)
        skip = self._skip[1] if self._skip else None  # Of another device maybe: then it is looked at in vain.
        for entry in others:
            if entry.name[0] == _DOT and not level.hidden:
                self._remarks.hidden += 1
            elif folder.linked or not entry.is_dir(follow_symlinks=False) or entry.inode() == skip:
                self._sort_in(folder, entry.name, files, folders)
            else:
                self._go_into(folder, entry.name, folders, linked=False)
        if others:
            files.sort()

    def _go_into(self, folder: _Folder, name: bytes, folders: dict[bytes, _Folder], *, linked: bool) -> None:
        below = folder.level.into(name)
        if below is not None:
            folders[name] = _Folder(folder.path + b"/" + name, below, linked)
        elif folder.level.matches(name):
            self._remarks.folders += 1

    def _probe(self, folder: _Folder, name: bytes, files: list[bytes], folders: dict[bytes, _Folder]) -> None:
        """Look for the one name that can match, without reading the folder."""
        if os.path.lexists(folder.path + b"/" + name):
            self._sort_in(folder, name, files, folders)

    def _sort_in(
        self, folder: _Folder, name: bytes, files: list[bytes], folders: dict[bytes, _Folder]
    ) -> None:
        """An entry that has to be looked at: mostly a link, or below one."""
        path = folder.path + b"/" + name
        wanted = folder.level.matches(name)
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in NOWHERE:
                raise
            if wanted:
                self._remarks.dead_link(path)
            return
        if stat.S_ISREG(status.st_mode):
            if wanted:
                files.append(name)
        elif not stat.S_ISDIR(status.st_mode):
            if wanted:
                self._remarks.special += 1
        elif not self._is_to_skip(folder.level.into(name), (status.st_dev, status.st_ino)):
            self._go_into(folder, name, folders, linked=folder.linked or os.path.islink(path))

    def _is_to_skip(self, below: Level | None, identity: tuple[int, int]) -> bool:
        """The run folder, or a folder that we are in."""
        if identity == self._skip:
            return True
        if below is None or not below.endless:
            return False
        for path in self._trail[len(self._identities) :]:
            status = os.stat(path or b"/")
            self._identities.append((status.st_dev, status.st_ino))
        return identity in self._identities


def _entries(folder: bytes) -> tuple[list[bytes], list[os.DirEntry[bytes]]]:
    """The names of the files in a folder, links to files among them, and all its other entries."""
    others: list[os.DirEntry[bytes]] = []
    keep: Callable[[os.DirEntry[bytes]], object] = others.append  # Gives None, which is no file's name.
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file() or keep(entry)], others
    except OSError:
        # A link goes round in a circle or cannot be followed, or the folder cannot be read after all.
        others.clear()
        with os.scandir(folder) as entries:
            return [
                entry.name for entry in entries if entry.is_file(follow_symlinks=False) or keep(entry)
            ], others
