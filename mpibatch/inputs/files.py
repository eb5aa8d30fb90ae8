"""Inputs of files: folders, globs and single files become paths, in one well-defined order.

The order is that of the path's components as bytes, so files and folders of one folder are interleaved.
Paths are bytes as the file system spells them. Hidden entries are left out, links are followed, a link
to a folder that we are in is not. What is found is handed on folder by folder, never held as a whole.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from mpibatch.inputs.origin import Origin, nearby, shown
from mpibatch.inputs.pattern import ANY_DEPTH, Pattern, has_magic, unescaped
from mpibatch.inputs.walk import NOWHERE, Names, Remarks, Walker, in_folders


def find_files(
    files: Sequence[str], origin: Origin, remarks: Remarks, run_folder: str | None = None
) -> Iterator[Names]:
    """The items of one input, in the order of `files`; where these overlap, a path counts where it is first.

    `run_folder` is not walked into: a run's output is not its input. Raises InputError, also midway.
    """
    elements = [origin] if len(files) == 1 else [_element(origin, number) for number in range(len(files))]
    patterns = [_resolve(os.fsencode(file), of, remarks) for file, of in zip(files, elements)]
    skip = _identity(run_folder) if run_folder else None
    named: set[bytes] = set()
    wide: list[Pattern] = []
    for pattern, of in zip(patterns, elements):
        if not pattern.parts:
            found: Iterable[Names] = in_folders([pattern.root])
        else:
            found = _found(pattern, of, skip, remarks)
        earlier = [other for other in wide if other.overlaps(pattern)]
        yield from _only_new(found, named, earlier) if named or earlier else found
        if pattern.parts:
            wide.append(pattern)
        else:
            named.add(pattern.root)


def _element(origin: Origin, number: int) -> Origin:
    return Origin(f"{origin.key}.{number}", origin.text)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None  # Not made yet: so it is nowhere in the input either.
    return status.st_dev, status.st_ino


def _only_new(found: Iterable[Names], named: set[bytes], earlier: list[Pattern]) -> Iterator[Names]:
    """Leaves out what an earlier element of the same input has given already."""
    for folder, names in found:
        levels = [level for level in (other.at(folder[:-1]) for other in earlier) if level]
        new = [
            name
            for name in names
            if folder + name not in named and not any(level.matches(name) for level in levels)
        ]
        if new:
            yield folder, new


# From what the job file says to a pattern


def _resolve(path: bytes, origin: Origin, remarks: Remarks) -> Pattern:
    """Each part that is there literally is taken literally (names with brackets); the rest is matched."""
    if b"\0" in path:
        raise origin.error(f"{shown(path)} holds a NUL byte, which no path can.")
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    whole = b"".join(b"/" + part for part in parts)
    mode = _mode(path, origin)
    if mode is not None:
        if b"*" in path:
            remarks.literal.append(whole)
        return _whole(whole, mode, origin)
    if not has_magic(whole):
        raise origin.error(f"matches nothing: {shown(whole)} does not exist. {nearby(whole)}")
    root, depth = b"", 0
    while depth < len(parts):
        name = _literal_name(root, parts[depth], remarks)
        if name is None:
            break
        root, depth = root + b"/" + name, depth + 1
        mode = _mode(root, origin)
        if mode is None:
            raise origin.error(f"matches nothing: {shown(root)} does not exist. {nearby(root)}")
        if depth < len(parts) and not stat.S_ISDIR(mode):
            raise origin.error(f"matches nothing: {shown(root)} is no folder.")
    if depth == len(parts) and mode is not None:
        return _whole(root, mode, origin)
    # A slash at the end asks for folders, and a folder is taken whole.
    return Pattern(root, (*parts[depth:], *([ANY_DEPTH] if path.endswith(b"/") else [])))


def _whole(path: bytes, mode: int, origin: Origin) -> Pattern:
    if stat.S_ISDIR(mode):
        return Pattern(path, (ANY_DEPTH,))
    if stat.S_ISREG(mode):
        return Pattern(path, ())
    raise origin.error(f"{shown(path)} is neither a file nor a folder.")


def _literal_name(folder: bytes, part: bytes, remarks: Remarks) -> bytes | None:
    """The name in `folder` that `part` means and no other; None where it has to be matched."""
    if not has_magic(part):
        return part
    if os.path.lexists(folder + b"/" + part):
        if b"*" in part:
            remarks.literal.append(folder + b"/" + part)
        return part
    return unescaped(part)


def _mode(path: bytes, origin: Origin) -> int | None:
    try:
        return os.stat(path or b"/").st_mode
    except OSError as error:
        if error.errno in NOWHERE:
            return None
        raise origin.error(f"{shown(path)} cannot be reached: {error.strerror}.") from error


def _found(
    pattern: Pattern, origin: Origin, skip: tuple[int, int] | None, remarks: Remarks
) -> Iterator[Names]:
    """All that the pattern matches; InputError where that is nothing."""
    here = Remarks()
    nothing = True
    for found in Walker(pattern, origin, skip, here).walk():
        nothing = False
        yield found
    if nothing:
        raise origin.error(f"matches nothing: {_why_nothing(pattern, here)}")
    remarks.special += here.special
    if here.dead_links:
        remarks.first_dead_link = remarks.first_dead_link or here.first_dead_link
        remarks.dead_links += here.dead_links


def _why_nothing(pattern: Pattern, remarks: Remarks) -> str:
    root = pattern.root or b"/"
    if pattern.parts == (ANY_DEPTH,):
        text = f"no files are in the folder {shown(root)}."
    else:
        rest = b"/".join(pattern.parts)
        near = nearby(pattern.root + b"/" + pattern.parts[0])
        text = f"no file in {shown(root)} matches {shown(rest)}. {near}"
        if remarks.folders:
            text += (
                f" The pattern matches folders ({remarks.folders:,});"
                f" for the files in them write {shown(rest + b'/**')}."
            )
    if remarks.hidden:
        text += f" Hidden entries, which are left out: {remarks.hidden:,}."
    return " ".join([text, *(remark[0].upper() + remark[1:] + "." for remark in remarks.texts())])
