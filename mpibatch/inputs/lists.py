"""Inputs of files that a text file lists: one path a line.

Lines are bytes and end with a newline or with CR and newline; empty lines are passed over, relative paths
are relative to the list's own folder. A list is taken at its word: in its order, and a path that stands
there twice is two items.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from mpibatch.inputs.origin import Origin, nearby, shown
from mpibatch.inputs.walk import Names, in_folders

_LONGEST_LINE = 1 << 16
"""Longer than a path can be (4,096 bytes on Linux): such a file is no list of paths."""

_BLOCK = 1000
_SHOWN_PROBLEMS = 5
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def listed_files(path: str, origin: Origin, *, check: bool) -> Iterator[Names]:
    """The items that the list names. `check`: look whether each is there, and is a file.

    Raises InputError, also midway: what does not exist is told of at the end, with line numbers.
    """
    whole = os.fsencode(path)
    try:
        with open(whole, "rb") as file:
            yield from _blocks(file, whole, origin, check)
    except FileNotFoundError as error:
        raise origin.error(f"the list {shown(whole)} does not exist. {nearby(whole)}") from error
    except OSError as error:
        raise origin.error(f"the list {shown(whole)} cannot be read: {error.strerror}.") from error


def _blocks(file: BinaryIO, whole: bytes, origin: Origin, check: bool) -> Iterator[Names]:
    problems: list[str] = []
    wrong = items = 0
    block: list[bytes] = []
    for number, path in _lines(file, whole, origin):
        problem = _problem(path) if check else None
        if problem is not None:
            wrong += 1
            if wrong <= _SHOWN_PROBLEMS:
                problems.append(f"line {number}: {shown(path)} {problem}")
        items += 1
        block.append(path)
        if len(block) == _BLOCK:
            yield from in_folders(block)
            block = []
    if wrong:
        more = f"; and {wrong - _SHOWN_PROBLEMS:,} more" if wrong > _SHOWN_PROBLEMS else ""
        raise origin.error(
            f"of the files listed in {shown(whole)} some cannot be used: {'; '.join(problems)}{more}."
            " Correct the list, or set check: false to have such items fail one by one."
        )
    if not items:
        raise origin.error(f"matches nothing: the list {shown(whole)} holds no path.")
    yield from in_folders(block)


def _lines(file: BinaryIO, whole: bytes, origin: Origin) -> Iterator[tuple[int, bytes]]:
    """Each line that is not empty: its number, from 1, and the absolute path it names."""
    folder = os.path.dirname(whole)
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE or b"\0" in line:
            raise origin.error(
                f"line {number} of {shown(whole)} is no path: it holds a NUL byte or is too long."
                " The list has to be plain text (UTF-8, not UTF-16), one path a line."
            )
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        path = line.removesuffix(b"\n").removesuffix(b"\r")
        if path.startswith(b"./"):  # As `find .` writes them.
            path = path[2:].lstrip(b"/")
        if path:
            yield number, os.path.join(folder, path)


def _problem(path: bytes) -> str | None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    if stat.S_ISREG(mode):
        return None
    return "is a folder (a list names files only)" if stat.S_ISDIR(mode) else "is no file"
