"""What an archive holds: its files by name, in the order in which they are stored, and where their bytes lie.

Of several members of one name the last one counts, as when an archive is unpacked. A link to a file in the
same archive is that file's content under the link's name, as links are followed in folders; a link to
anything else, devices, pipes and sparse files are passed over. Names are bytes as the archive has them (UTF-8,
or what is no text at all), without `.` and doubled slashes; a leading slash and `..` stay.
"""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Sequence
from typing import BinaryIO

from mpibatch.inputs.origin import shown
from mpibatch.inputs.pattern import ANY_DEPTH, Level, Pattern

BLOCK = tarfile.BLOCKSIZE
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
    OverflowError, LookupError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What tarfile and zipfile raise where an archive's bytes make no sense, beside OSError."""

_MOST_HOPS = 40
"""Links that lead to links: as many as Linux follows."""

_BAD_LINK = "links that lead to no file in their archive"
_DEVICE = "devices or pipes"
_SPARSE = "sparse files, which are not stored in one stretch"
_UNKNOWN = "members of a type that is not known"
_NO_NAME = "members without a usable name"

_METHODS = {0: "stored", 8: "deflated", 12: "bzip2", 14: "lzma"}
_FLAG_ENCRYPTED = 0x1
_FLAG_UTF8 = 0x800
_LONGEST_LINK = 4096


class MemberPatterns:
    """Tells whether a member is wanted.

    A pattern with a slash has to match the whole name, another one the last part of it, in folders of any
    depth. Hidden folders and files match only parts that begin with a dot, as in the file system.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [_pattern(pattern.encode("utf-8", "surrogateescape")) for pattern in patterns]
        self._folder: bytes | None = None
        self._levels: list[Level] = []

    def __call__(self, name: bytes) -> bool:
        folder, _, last = name.rpartition(b"/")
        if folder != self._folder:
            self._folder = folder
            parts = [part for part in folder.split(b"/") if part not in (b"", b"..")]
            place = b"".join(b"/" + part for part in parts)
            self._levels = [level for one in self._patterns if (level := one.at(place))]
        return any(level.matches(last) for level in self._levels)


def _pattern(text: bytes) -> Pattern:
    parts = [part for part in text.split(b"/") if part not in (b"", b".")]
    if b"/" not in text:
        parts = [ANY_DEPTH, *parts]
    elif text.endswith(b"/"):
        parts.append(ANY_DEPTH)
    return Pattern(b"", tuple(parts) or (ANY_DEPTH,))


class Refused(Exception):
    """A wanted member can never be read; the text says why and what to do."""


class Contents:
    """What is stored in an archive: fill it in the order of storage, then ask for `wanted`."""

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._offsets = array("q")
        self._sizes = array("q")
        self._last: dict[bytes, int] = {}
        """Where the last one of each name is in the lists."""
        self._links: dict[int, bytes | None] = {}
        """Names that symbolic links lead to; None: out of the archive."""
        self._passed_over: dict[int, str] = {}
        self._refused: dict[int, str] = {}

    def add(self, name: bytes, offset: int, size: int) -> None:
        self._last[name] = len(self._names)
        self._names.append(name)
        self._offsets.append(offset)
        self._sizes.append(size)

    def add_folder(self, name: bytes) -> None:
        """A folder is no item, but takes the place of a file of its name."""
        self._last.pop(name, None)

    def add_link(self, name: bytes, target: bytes) -> None:
        """A symbolic link: `target` may be stored later."""
        self._links[len(self._names)] = _below(name, target)
        self.add(name, 0, 0)

    def add_hard_link(self, name: bytes, target: bytes) -> None:
        """The name stands for what `target` is now, even if another of that name follows."""
        earlier = self._last.get(target)
        if earlier is None or earlier in self._passed_over:
            self.pass_over(name, _BAD_LINK)
            return
        if earlier in self._links:
            self._links[len(self._names)] = self._links[earlier]
        self.add(name, self._offsets[earlier], self._sizes[earlier])

    def pass_over(self, name: bytes, why: str) -> None:
        self._passed_over[len(self._names)] = why
        self.add(name, 0, 0)

    def refuse(self, name: bytes, why: str) -> None:
        """If it is wanted, that is an error."""
        self._refused[len(self._names)] = why
        self.add(name, 0, 0)

    def wanted(self, wanted: Callable[[bytes], bool]) -> Wanted:
        """The items. Raises Refused."""
        found = Wanted()
        for number, name in enumerate(self._names):
            if self._last.get(name) != number:
                continue
            if not wanted(name):
                found.see(name)
            elif not name or b"\0" in name:
                found.leave_out(name, _NO_NAME)
            else:
                self._want(found, number)
        return found

    def _want(self, found: Wanted, number: int) -> None:
        name = self._names[number]
        there = self._followed(number)
        if there in self._refused:
            raise Refused(f"{shown(name)} {self._refused[there]}")
        if there is None or there in self._passed_over:
            found.leave_out(name, self._passed_over.get(number, _BAD_LINK))
            return
        found.names.append(name)
        found.offsets.append(self._offsets[there])
        found.sizes.append(self._sizes[there])

    def _followed(self, number: int) -> int | None:
        """The file that a link leads to in the end; None: nowhere."""
        here: int | None = number
        for _ in range(_MOST_HOPS):
            if here not in self._links:
                return here
            target = self._links[here]
            here = None if target is None else self._last.get(target)
        return None


class Wanted:
    """Members that match, in the order in which they are stored, and what became of the others."""

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.offsets = array("q")
        self.sizes = array("q")
        self.left_out: dict[str, list[bytes]] = {}
        """Members that match but are no files, by why."""
        self.others: list[bytes] = []
        """The first few that do not match."""

    def see(self, name: bytes) -> None:
        if len(self.others) < 3:
            self.others.append(name)

    def leave_out(self, name: bytes, why: str) -> None:
        self.left_out.setdefault(why, []).append(name)


def tidied(name: bytes) -> bytes:
    """Without `.` and doubled slashes; `..` and a leading slash stay."""
    if b"./" not in name and b"//" not in name and not name.endswith((b"/", b"/.", b".")):
        return name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    return (b"/" if name.startswith(b"/") else b"") + b"/".join(parts)


def _below(name: bytes, target: bytes) -> bytes | None:
    """The name in the archive that a symbolic link leads to; None where it leads out."""
    if target.startswith(b"/"):
        return None
    parts = name.split(b"/")[:-1]
    for part in target.split(b"/"):
        if part == b"..":
            if not parts or parts[-1] in (b"", b".."):
                return None
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


# tar


def is_tar(block: bytes) -> bool:
    """Whether a file that begins with these bytes is a tar."""
    if len(block) < BLOCK:
        return False
    try:
        tarfile.TarInfo.frombuf(block[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return not any(block[:BLOCK])  # An archive of nothing is its end mark.
    return True


def read_tar(file: BinaryIO, contents: Contents) -> bool:
    """Walk the headers; data is skipped. False: the end mark is missing. Raises tarfile.TarError, OSError."""
    tar = tarfile.TarFile(fileobj=file, encoding="utf-8", errors="surrogateescape")
    last = b""
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # A kilobyte each, which it would keep.
        last = tidied(_encoded(member.name))
        _add_member(contents, last, member)
    # It ends in silence where a header is damaged: then all that follows would be lost unnoticed.
    file.seek(tar.offset)
    block = file.read(BLOCK)
    if any(block):
        raise tarfile.ReadError(f"what follows its member {shown(last)} at byte {tar.offset:,} is no header")
    return len(block) == BLOCK


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _add_member(contents: Contents, name: bytes, member: tarfile.TarInfo) -> None:
    if member.issparse():
        contents.pass_over(name, _SPARSE)
    elif member.type in tarfile.REGULAR_TYPES:
        contents.add(name, member.offset_data, member.size)
    elif member.isdir():
        contents.add_folder(name)
    elif member.islnk():
        contents.add_hard_link(name, tidied(_encoded(member.linkname)))
    elif member.issym():
        contents.add_link(name, _encoded(member.linkname))
    else:
        contents.pass_over(name, _DEVICE if member.isdev() else _UNKNOWN)


# zip


def read_zip(file: BinaryIO, contents: Contents) -> None:
    """Read the directory at its end. Raises zipfile.BadZipFile, OSError and what the zipfile module may."""
    with zipfile.ZipFile(file) as archive:
        last: dict[bytes, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            last[tidied(_zip_name(info))] = info
        for name, info in sorted(last.items(), key=lambda one: one[1].header_offset):
            _add_info(contents, name, info, archive)


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """Where the name is not marked as UTF-8 the rule is code page 437, but many tools write UTF-8 unmarked."""
    if not info.flag_bits & _FLAG_UTF8:
        try:
            raw = info.filename.encode("cp437")
            raw.decode("utf-8")
        except UnicodeError:
            pass
        else:
            return raw
    return _encoded(info.filename)


def _add_info(contents: Contents, name: bytes, info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> None:
    mode = info.external_attr >> 16
    if info.is_dir():
        contents.add_folder(name)
    elif info.flag_bits & _FLAG_ENCRYPTED:
        contents.refuse(name, "is encrypted, and there is no key for a password: pack it anew without one.")
    elif info.compress_type not in _METHODS:
        legal = ", ".join(_METHODS.values())
        contents.refuse(
            name,
            f"is compressed by method {info.compress_type}, which is not known here ({legal} are): pack it anew.",
        )
    elif stat.S_ISLNK(mode) and info.file_size <= _LONGEST_LINK:
        contents.add_link(name, archive.read(info))
    elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
        contents.add(name, info.header_offset, info.file_size)
    else:
        contents.pass_over(name, _DEVICE)
