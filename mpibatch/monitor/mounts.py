"""On which file system a path is, and whether other machines see it too, as far as its kind tells."""

from __future__ import annotations

import os
import re
from typing import Literal

import msgspec

Reach = Literal["shared", "local", "memory", "unknown"]

_SHARED = (
    *(
        "nfs",
        "nfs4",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
        "pvfs2",
        "orangefs",
        "afs",
        "cifs",
        "smb3",
        "glusterfs",
    ),
    *("wekafs", "panfs", "daos", "quobyte", "vastnfs"),
)
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "reiserfs", "jfs", "vfat", "ntfs")
_MEMORY = ("tmpfs", "ramfs")


class Mount(msgspec.Struct, frozen=True):
    point: str
    kind: str
    """As the kernel calls it: ext4, nfs4."""
    source: str

    @property
    def reach(self) -> Reach:
        kind = self.kind.removeprefix("fuse.")
        if kind in _MEMORY:
            return "memory"
        if kind in _SHARED or kind.startswith(("ceph", "beegfs", "daos")):
            return "shared"
        return "local" if kind in _LOCAL else "unknown"

    def words(self) -> str:
        reach = {
            "shared": "shared between machines",
            "local": "of this machine alone",
            "memory": "in this machine's memory",
            "unknown": "whether other machines see it is not known",
        }[self.reach]
        return f"{self.kind} at {self.point} ({reach})"


def mount_of(path: str, mountinfo: str) -> Mount:
    """The mount that `path` is in, by the text of `/proc/self/mountinfo`; the last one where several cover it."""
    found = Mount("/", "unknown", "")
    real = os.path.realpath(path)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, told = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(told) < 2:
            continue
        point = _unescaped(fields[4])
        inside = point in ("/", real) or real.startswith(point + "/")
        if inside and len(point) >= len(found.point):
            found = Mount(point, told[0], _unescaped(told[1]))
    return found


def read_mount(path: str) -> Mount:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return mount_of(path, file.read())
    except OSError:
        return Mount("/", "unknown", "")


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)
