"""Words about files of other kinds that stand among those of an input, as a folder is taken with all in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from mpibatch.inputs.compressed import suffix_of
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import TableFile

_USUAL = frozenset((b".csv", b".tsv", b".tab", b".psv", b".txt", b".dat", b".data"))


def glob_hint(files: Sequence[TableFile], odd: Sequence[TableFile]) -> str:
    """A sentence with a glob that leaves files of other endings out; empty where the odd ones have no other.

    `odd`: those of which something is wrong with some.
    """
    endings = Counter(_ending(file.name) for file in files)
    usual = [one for one in endings.most_common() if one[0] in _USUAL] or endings.most_common()
    ending = usual[0][0] if usual else b""
    others = [file.name for file in odd if _ending(file.name) != ending]
    if not (ending and others):
        return ""
    meant = [file.name for file in files if _ending(file.name) == ending]
    glob = b"*" + ending + (b"*" if any(suffix_of(name) is not None for name in meant) else b"")
    folders = {os.path.dirname(name) for name in meant}
    folder = os.path.commonpath(folders)
    pattern = os.path.join(folder, glob) if folders == {folder} else os.path.join(folder, b"**", glob)
    return (
        f"{shown(os.path.basename(others[0]))} is no {os.fsdecode(ending)} file: to take only such, write a glob,"
        f" like {shown(pattern)}."
    )


def _ending(name: bytes) -> bytes:
    """In small letters; of a compressed file that of what is in it."""
    if suffix_of(name) is not None:
        name = os.path.splitext(name)[0]
    return os.path.splitext(name)[1].lower()
