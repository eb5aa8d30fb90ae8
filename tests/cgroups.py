"""A memory cgroup of a test's own, where one can be had: root, and a writable hierarchy of either version."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import wait_until

ROOT = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(size: int) -> Iterator[Path]:
    """A cgroup that has so many bytes of memory, without swap; skips the test where there is none to be had."""
    parent = ROOT / "memory" if (ROOT / "memory").is_dir() else ROOT
    folder = parent / f"mpibatch-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        _limit(folder, size)
        yield folder
    finally:
        # Only once all of it has been reaped, also by whoever has inherited it.
        wait_until(lambda: not (folder / "cgroup.procs").read_text(), "nobody is in the cgroup any more")
        folder.rmdir()


def _limit(folder: Path, size: int) -> None:
    names = [name for name in ("memory.max", "memory.limit_in_bytes") if (folder / name).exists()]
    if not names or not os.access(folder / names[0], os.W_OK):
        pytest.skip("memory cannot be limited here: the controller is not given to this hierarchy")
    (folder / names[0]).write_text(str(size))
    for name, text in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", str(size))):
        with contextlib.suppress(OSError):  # A kernel without swap accounting; mostly without swap too.
            (folder / name).write_text(text)
