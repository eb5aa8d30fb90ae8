"""Small file systems of their own, which can be filled to the last byte. They need to be mounted, so root."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

BLOCK = 4096


class NoDisk(Exception):
    """Nothing can be mounted here; the text says why."""


class Disk:
    """A file system in memory, mounted at `folder`, which is made."""

    def __init__(self, folder: Path, size: str = "1m") -> None:
        self.folder = folder
        folder.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def _mount(self, *arguments: str) -> None:
        _run("mount", *arguments, str(self.folder))

    def fill(self, room: int = 0) -> None:
        """To the last byte, but for so many blocks of 4 KiB."""
        with open(self.folder / "ballast", "wb", buffering=0) as file:
            for size in (65536, BLOCK, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
            if room:
                file.truncate(file.tell() // BLOCK * BLOCK - room * BLOCK)

    def make_room(self) -> None:
        self._mount("-o", "remount,rw,size=64m")
        (self.folder / "ballast").unlink(missing_ok=True)

    def make_read_only(self) -> None:
        self._mount("-o", "remount,ro")

    def close(self) -> None:
        # Lazily: what is killed with a test may still be ending.
        _run("umount", "--lazy", str(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Ext4(Disk):
    """One as people have it, in a file beside `folder`: it gives room when it is written back, not at once."""

    def __init__(self, folder: Path, size: str = "8m") -> None:
        image = folder.with_suffix(".image")
        with open(image, "wb") as file:
            file.truncate(int(size.removesuffix("m")) << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK), "-O", "^has_journal", str(image))
        self.folder = folder
        folder.mkdir()
        self._mount("-o", "loop", str(image))

    def fill(self, room: int = 0) -> None:
        super().fill(room)
        os.sync()

    def make_room(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise NoDisk(f"there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise NoDisk(error.stderr.strip()) from None
