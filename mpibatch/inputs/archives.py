"""Archives as inputs: which members of tar and zip files are items, and where the bytes of each lie.

The items are in the order of the archives, and within one in the order in which its members are stored: so
a mini-batch is read in one sweep, which spinning disks and parallel file systems are good at.

A tar is looked at by walking its headers, a zip by its directory. A tar that is compressed as a whole is
refused: to read one member, all before it would have to be unpacked, for each mini-batch again. A zip
compresses its members one by one.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mpibatch.errors import InputError
from mpibatch.inputs.archive_members import (
    BLOCK,
    DAMAGE,
    Contents,
    MemberPatterns,
    Refused,
    Wanted,
    is_tar,
    read_tar,
    read_zip,
)
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Ask, TableFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip -k"),
    (b"BZh", "bzip2", "bunzip2 -k"),
    (b"\xfd7zXZ\0", "xz", "unxz -k"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4"),
)
_OTHER = ((b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!", "a rar archive"))


class ListArchive(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="list_archive"):
    """Which members of an archive match one of the patterns, and where are they?"""

    path: bytes
    members: list[str]


class ArchiveListed(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="archive_listed"):
    """The members that match, in the order in which they are stored."""

    names: bytes = b""
    """Joined by NUL."""
    offsets: bytes = b""
    """int64, little-endian: where its bytes begin in a tar; of a zip, its local header."""
    sizes: bytes = b""
    """int64, little-endian: unpacked."""
    error: str | None = None
    """It cannot be read, and why."""
    refused: str | None = None
    """The job cannot have it as an input, why, and what to do."""
    no_end: bool = False
    """It is a tar that ends without its end mark."""
    left_out: dict[str, tuple[int, str]] = {}
    """Members that match but are no files: by why, how many, and the first one (quoted)."""
    others: list[str] = []
    """Some that do not match (quoted)."""


Question = ListArchive
Answer = ArchiveListed


class FoundMembers(msgspec.Struct):
    """The items of one archive."""

    names: bytes
    """Joined by NUL; none of them is empty."""
    offsets: NDArray[np.int64]
    """As in `work.Members`."""
    sizes: NDArray[np.int64]
    error: str | None = None
    """It cannot be read, and why: it counts as one item, which fails with these words."""


class SurveyedArchives(msgspec.Struct):
    """What the survey has found."""

    archives: list[FoundMembers]
    """One for each file."""
    warnings: list[str]


def survey(files: Sequence[TableFile], members: list[str], ask: Ask, *, origin: str) -> SurveyedArchives:
    """Which members of the archives are items. `origin`: job file and key, for messages.

    Raises InputError where an archive is of a kind that cannot be used, where none can be read, and where no
    member matches.
    """
    answers: list[Answer] = ask([ListArchive(file.path, members) for file in files])
    for file, answer_ in zip(files, answers):
        if answer_.refused is not None:
            raise InputError(f"{origin}: {shown(file.name)}: {answer_.refused}")
    unread = [(file, one.error) for file, one in zip(files, answers) if one.error is not None]
    if len(unread) == len(files):
        file, error = unread[0]
        raise InputError(
            f"{origin}: none of {len(files):,} archives can be read. {shown(file.name)}: {error}"
        )
    if not any(one.names for one in answers):
        raise InputError(_nothing_matches(files, members, answers, origin))
    return SurveyedArchives([_found(one) for one in answers], list(_warnings(files, answers)))


def _found(one: Answer) -> FoundMembers:
    import numpy as np

    offsets, sizes = (np.frombuffer(raw, "<i8").astype(np.int64) for raw in (one.offsets, one.sizes))
    return FoundMembers(one.names, offsets, sizes, one.error)


def _nothing_matches(
    files: Sequence[TableFile], members: list[str], answers: list[Answer], origin: str
) -> str:
    patterns = ", ".join(map(repr, members))
    problem = f"{origin}: no member of {len(files):,} archives matches {patterns}."
    for file, one in zip(files, answers):
        if one.others:
            return (
                f"{problem} {shown(file.name)} holds {', '.join(one.others)}. A pattern without a slash is"
                " compared with the last part of a name, one with a slash with all of it."
            )
    left_out = [f"{why} ({first})" for one in answers for why, (_, first) in one.left_out.items()]
    what = f"There are only {left_out[0]}." if left_out else "They hold no files."
    return f"{problem} {what}"


def _warnings(files: Sequence[TableFile], answers: list[Answer]) -> list[str]:
    errors = [
        f"{shown(file.name)} ({one.error})" for file, one in zip(files, answers) if one.error is not None
    ]
    no_end = [shown(file.name) for file, one in zip(files, answers) if one.no_end]
    empty = [shown(file.name) for file, one in zip(files, answers) if not one.names and one.error is None]
    groups = (
        (errors, "cannot be read, and count as one failed item each"),
        (no_end, "end without the mark of a tar's end, so they may have been cut short"),
        (empty, "hold no member that matches"),
    )
    texts = [f"{_several(some)} {what}" for some, what in groups if some]
    return texts + _left_out(files, answers)


def _several(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    archives = "1 archive" if len(names) == 1 else f"{len(names):,} archives"
    return f"{archives}, {', '.join(names[:3])}{more}:"


def _left_out(files: Sequence[TableFile], answers: list[Answer]) -> list[str]:
    counts: dict[str, int] = {}
    firsts: dict[str, str] = {}
    for file, one in zip(files, answers):
        for why, (count, first) in one.left_out.items():
            counts[why] = counts.get(why, 0) + count
            firsts.setdefault(why, f"{first} in {shown(file.name)}")
    return [f"left out: {why}: {count:,}, first {firsts[why]}" for why, count in counts.items()]


# Answers


def answer(question: Question) -> Answer:
    """Looks into one archive. What is wrong with it is part of the answer."""
    try:
        with open(question.path, "rb") as file:
            return _listed(file, question.members)
    except Refused as refused:
        return ArchiveListed(refused=str(refused))
    except OSError as error:
        return ArchiveListed(error=f"{error.strerror or error}.")
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        return ArchiveListed(error=f"it is cut short or damaged: {error}.")
    except DAMAGE as error:
        return ArchiveListed(error=f"it is damaged: {error}.")


def _listed(file: BinaryIO, members: list[str]) -> Answer:
    contents = Contents()
    complete = True
    begin = file.read(BLOCK)
    if is_tar(begin):
        file.seek(0)
        complete = read_tar(file, contents)
    elif begin.startswith(b"PK") or (begin and not _known(begin) and zipfile.is_zipfile(file)):
        read_zip(file, contents)
    else:
        return _no_archive(begin)
    return _answered(contents.wanted(MemberPatterns(members)), complete)


def _known(begin: bytes) -> bool:
    return any(begin.startswith(magic) for magic, *_ in (*_COMPRESSED, *_OTHER))


def _no_archive(begin: bytes) -> Answer:
    for magic, kind, command in _COMPRESSED:
        if begin.startswith(magic):
            return ArchiveListed(
                refused=f"it is compressed as a whole ({kind}), so that reading one member means unpacking all"
                f" before it. Unpack it to a plain .tar ({command}), or pack the files as a .zip, whose members"
                " are compressed one by one."
            )
    for magic, kind in _OTHER:
        if begin.startswith(magic):
            return ArchiveListed(refused=f"it is {kind}: only tar and zip are read. Pack the files anew.")
    return ArchiveListed(error="it is neither a tar nor a zip." if begin else "it is empty.")


def _answered(wanted: Wanted, complete: bool) -> Answer:
    return ArchiveListed(
        names=b"\0".join(wanted.names),
        offsets=_raw(wanted.offsets),
        sizes=_raw(wanted.sizes),
        no_end=not complete,
        left_out={why: (len(names), shown(names[0])) for why, names in wanted.left_out.items()},
        others=[shown(name) for name in wanted.others],
    )


def _raw(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
