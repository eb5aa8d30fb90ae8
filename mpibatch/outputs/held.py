"""The complete rows while `finalize()` of the script has them: aside, so that no half of its work is ever the output.

They lie alone in a folder, under the name that the output will have. What the script leaves there is what counts:
the file as it is then, or no file, and other files beside it, which go with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from mpibatch.outputs.delivery import Delivery, sync


class UnfitOutput(Exception):
    """What `finalize()` has left cannot become the output; the text says what to do."""


class HeldOutput:
    """`take` the rows; if they are not `untouched` after a try that has failed, take them anew; at last `deliver`.

    `folder`: its own, made with the first `take`; `reserved`: names that only a run has in its folder.
    """

    def __init__(self, folder: Path, name: str, reserved: Collection[str]) -> None:
        self._folder = folder
        self._reserved = reserved
        self._taken: os.stat_result | None = None
        self.file = folder / name
        """What `finalize()` is given."""
        self.removed = False
        """The script has removed the file: the run has no output."""

    def take(self, rows: Path) -> None:
        """Nothing but these rows is in the folder then. OSError."""
        self.clear()
        self._folder.mkdir(parents=True)
        os.replace(rows, self.file)
        self._taken = os.lstat(self.file)

    def untouched(self) -> bool:
        """Whether the rows are as they were taken; then all else that the script has left is removed."""
        try:
            now = os.lstat(self.file)
        except OSError:
            return False
        if self._taken is None or _marks(now) != _marks(self._taken):
            return False
        for entry in self._entries():
            if entry.name != self.file.name:
                shutil.rmtree(entry) if entry.is_dir(follow_symlinks=False) else os.unlink(entry)
        return True

    def check(self, home: Path) -> None:
        """Raises UnfitOutput where what was left cannot be delivered to the folder `home`."""
        if not self._folder.is_dir():
            raise UnfitOutput(f"finalize() has removed the folder of the rows, {self._folder}: leave it.")
        for entry in self._entries():
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                kind = "a folder" if entry.is_dir(follow_symlinks=False) else "no plain file"
                raise UnfitOutput(
                    f"finalize() has left {entry.name!r} beside the rows, which is {kind}: plain files are moved to"
                    " the run folder with the rows. Write it elsewhere, as into the folder of"
                    ' os.environ["AZUREML_BI_OUTPUT_PATH"].'
                )
            if entry.name in self._reserved or (home / entry.name).is_dir():
                raise UnfitOutput(
                    f"finalize() has left {entry.name!r} beside the rows, and the run folder has its own"
                    f" {entry.name}: choose another name."
                )

    def deliver(self, delivery: Delivery) -> None:
        """All files go to the folder of the output, the output last. OSError."""
        beside = [entry.name for entry in self._entries() if entry.name != self.file.name]
        for name in sorted(beside):
            sync(self._folder / name)
            os.replace(self._folder / name, delivery.final.parent / name)
        self.removed = not self.file.exists()
        if self.removed:
            # An older one, of which the failed items were tried again.
            delivery.final.unlink(missing_ok=True)
        else:
            sync(self.file)
            delivery.deliver(self.file)
        self.clear()

    def _entries(self) -> list[os.DirEntry[str]]:
        with os.scandir(self._folder) as entries:
            return list(entries)

    def clear(self) -> None:
        """Remove the folder, and that in which it lies if nothing else does."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
        with contextlib.suppress(OSError):
            self._folder.parent.rmdir()


def _marks(status: os.stat_result) -> tuple[int, ...]:
    """What differs once a file was changed, or another one was put in its place."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
