"""Reads members of archives, in the processor: as bytes, or unpacked to files of its scratch folder.

A member's name for people is the archive's path, a slash and the member's name: `data/a.tar/images/0.png`.
With `as: bytes` an item is a tuple of that name and the member's content. With `as: path` it is the path of
a file that ends alike, `<scratch>/members-x1/a.tar/images/0.png`, and is there until the next mini-batch is
read. What a member is called never leads out of that folder, nor makes two of them one file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from mpibatch.inputs.archive_members import BLOCK, DAMAGE, is_tar
from mpibatch.inputs.archives import ListArchive, answer
from mpibatch.inputs.origin import shown
from mpibatch.inputs.survey import Batch, Unreadable
from mpibatch.work import BadItem, ErrorReport, Members

_STRETCH = 4 << 20
"""Bytes that are copied at a time."""
_LONGEST_NAME = 255
"""Bytes of a file's name that any file system takes."""
_DEEPEST = 100
"""Parts of a name: folders are made and removed one in the other, which Python does not do a thousand times."""


class _BadMember(Exception):
    """A member cannot be read; the text says why."""


class _Archive(Protocol):
    """An archive that is kept open."""

    def content(self, offset: int, size: int) -> Iterator[bytes]:
        """The member there, in stretches. Raises _BadMember, OSError and what is in DAMAGE."""

    def close(self) -> None: ...


class ArchiveReader:
    """Reads pieces. Call `close` at the end."""

    def __init__(self, put: Callable[[bytes, int, bytes, Iterator[bytes]], Any], unpacked: _Unpacked) -> None:
        self._put = put
        self._unpacked = unpacked
        self._path = b""
        self._archive: _Archive | None = None

    def read(self, source: Members, count: int) -> Batch:
        """The items of the piece. What the read before has unpacked is removed.

        Raises Unreadable where the archive cannot be opened or the scratch folder not be written.
        """
        if not source.names:
            raise Unreadable(_why_none(source.archive))
        names = source.names.split(b"\0")
        if not len(names) == len(source.offsets) == len(source.sizes) == count:
            raise Unreadable(f"{shown(source.archive)}: the plan has {len(names)} of {count} members.")
        archive = self._opened(source.archive)
        self._unpacked.anew(os.path.basename(source.archive))
        batch = Batch([], [])
        for position, name in enumerate(names):
            content = _named(archive.content(source.offsets[position], source.sizes[position]))
            try:
                batch.data.append(self._put(source.archive, position, name, content))
            except _BadMember as error:
                message = f"{shown(source.archive)}: member {shown(name)} cannot be read: {error}"
                batch.bad.append(BadItem(position, ErrorReport("BadMember", message)))
        return batch

    def close(self) -> None:
        """Close the archive and remove what was unpacked."""
        self._close_archive()
        self._unpacked.remove()

    def _close_archive(self) -> None:
        archive, self._archive, self._path = self._archive, None, b""
        if archive is not None:
            archive.close()

    def _opened(self, path: bytes) -> _Archive:
        if self._archive is None or path != self._path:
            self._close_archive()
            try:
                self._archive = _open(path)
            except OSError as error:
                raise Unreadable(f"{shown(path)} cannot be opened: {error.strerror or error}.") from error
            except DAMAGE as error:
                raise Unreadable(
                    f"{shown(path)} cannot be read as an archive: {error}. Has it changed since it was planned?"
                ) from error
            self._path = path
        return self._archive


def open_archives(as_: Literal["path", "bytes"], scratch: str) -> ArchiveReader:
    """A reader that gives `(name, bytes)`, or paths of files below the folder `scratch`."""
    unpacked = _Unpacked(scratch if as_ == "path" else None)
    return ArchiveReader(unpacked.put if as_ == "path" else _pair, unpacked)


def _why_none(path: bytes) -> str:
    """What to say of an archive that stands in the plan without members, as it could not be read then."""
    error = answer(ListArchive(path, ["**"])).error
    if error is None:
        return f"{shown(path)} could not be read when the run was planned, and can be now: run it anew with --fresh."
    return f"{shown(path)} cannot be read: {error}"


def _named(content: Iterator[bytes]) -> Iterator[bytes]:
    """Makes what is wrong with a member a _BadMember, so that it is told from a scratch folder that is full."""
    try:
        yield from content
    except OSError as error:
        raise _BadMember(f"{error.strerror or error}.") from error
    except DAMAGE as error:
        raise _BadMember(
            f"{error}. Is the archive damaged, or has it changed since it was planned?"
        ) from error


def _pair(archive: bytes, _: int, name: bytes, content: Iterator[bytes]) -> tuple[str, bytes]:
    return os.fsdecode(archive + b"/" + name), b"".join(content)


# Archives


def _open(path: bytes) -> _Archive:
    with open(path, "rb") as file:
        if not is_tar(file.read(BLOCK)):
            return _Zip(path)
    return _Tar(path)


class _Tar:
    """Members are read where they lie; the header before each one is looked at."""

    def __init__(self, path: bytes) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._file)

    def content(self, offset: int, size: int) -> Iterator[bytes]:
        first = os.pread(self._file, BLOCK + min(size, _STRETCH), offset - BLOCK) if offset >= BLOCK else b""
        if not _is_header(first[:BLOCK], size):
            raise _BadMember(
                f"no member of {size:,} bytes begins at byte {offset:,}: has the archive changed since it was"
                " planned?"
            )
        data = memoryview(first)[BLOCK:].tobytes()
        while data:
            yield data
            offset, size = offset + len(data), size - len(data)
            data = os.pread(self._file, min(size, _STRETCH), offset)
        if size:
            raise _BadMember(f"the archive ends {size:,} bytes before the member's end: was it cut short?")


def _is_header(block: bytes, size: int) -> bool:
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return member.size in (size, 0)  # A size over 8 GiB may stand in the header before this one.


class _Zip:
    """The directory at its end is read once; members are checked against their CRC."""

    def __init__(self, path: bytes) -> None:
        self._zip = zipfile.ZipFile(os.fsdecode(path))
        self._infos = {info.header_offset: info for info in self._zip.infolist() if not info.is_dir()}

    def close(self) -> None:
        self._zip.close()

    def content(self, offset: int, size: int) -> Iterator[bytes]:
        info = self._infos.get(offset)
        if info is None or info.file_size != size:
            raise _BadMember(
                f"no member of {size:,} bytes begins at byte {offset:,}: has the archive changed since it was"
                " planned?"
            )
        with self._zip.open(info) as file:
            while data := file.read(_STRETCH):
                size -= len(data)
                yield data
        if size:
            raise _BadMember(f"it ends {size:,} bytes before its end.")


# Files


class _Unpacked:
    """The members of one mini-batch as files, in a folder of their own below `scratch` (None: never any)."""

    def __init__(self, scratch: str | None) -> None:
        self._scratch = scratch
        self._folder: bytes | None = None
        self._archive = b""

    def remove(self) -> None:
        if self._folder is not None:
            # The script may have taken it away, or made it so that it cannot be removed: no harm.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def anew(self, archive: bytes) -> None:
        """Begin a mini-batch of `archive` (its name)."""
        self.remove()
        if self._scratch is not None:
            with self._writing(self._scratch):
                self._folder = os.fsencode(tempfile.mkdtemp(prefix="members-", dir=self._scratch))
            self._archive = archive

    def put(self, _: bytes, position: int, name: bytes, content: Iterator[bytes]) -> str:
        """Write a member; returns its path."""
        assert self._folder is not None and self._scratch is not None
        with self._writing(self._scratch):
            path, file = self._created(self._folder, position, name)
            try:
                with open(file, "wb", buffering=0) as out:
                    for data in content:
                        _write(out.fileno(), data)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                raise
        return os.fsdecode(path)

    def _created(self, folder: bytes, position: int, name: bytes) -> tuple[bytes, int]:
        """A new file for a member, where its name says if that is free and takes the name."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".", b"..")] or [b"_"]
        try:
            if len(parts) > _DEEPEST:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            return _create(os.path.join(folder, self._archive, *parts))
        except OSError:
            # Two names differ only in dots, or one is the folder of another, or it is too long: by itself then.
            own = b"%d" % position
            own += b"_" if own == self._archive else b""
            return _create(os.path.join(folder, own, self._archive, parts[-1][-_LONGEST_NAME:]))

    @contextlib.contextmanager
    def _writing(self, scratch: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Unreadable(
                f"the members cannot be unpacked to the scratch folder {shown(scratch)}: {error.strerror or error}."
                " Set TMPDIR to where there is room, make mini_batch_size smaller, or use `as: bytes`."
            ) from error


def _create(path: bytes) -> tuple[bytes, int]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]
