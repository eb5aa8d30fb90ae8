"""Paths of a job file made absolute, by text alone. Pure: the disk is not asked, the environment neither."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

_GLOB = "*?["


def unchanged(path: str) -> str:
    return path


def joined(folder: str, path: str) -> str:
    """`path` below `folder`, if it is not absolute itself; without `.` and doubled slashes.

    `..` stays: where a folder is a symbolic link, only the file system knows what is above it.
    """
    whole = path if path.startswith("/") else f"{folder}/{path}"
    parts = [part for part in whole.split("/") if part not in ("", ".")]
    return ("/" if whole.startswith("/") else "") + "/".join(parts)


def contains(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or below it, `..` taken as text; both absolute."""
    upper, lower = without_dots(folder), without_dots(path)
    return lower[: len(upper)] == upper


def same(one: str, other: str) -> bool:
    """Whether both paths, absolute, are one, `..` taken as text."""
    return without_dots(one) == without_dots(other)


def without_dots(path: str) -> list[str]:
    """Its names; `..` taken as text."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """What the paths of one job file are relative to."""

    job_dir: str
    """The folder of the job file, absolute."""
    expand: Callable[[str], str] = unchanged
    """Makes `~/x` an absolute path; the environment is the caller's business."""

    def absolute(self, path: str, folder: str | None = None) -> str:
        """Relative to `folder`, or to the job file's folder."""
        return joined(folder or self.job_dir, self.expand(path))

    def pattern(self, path: str) -> str:
        """Like `absolute`, for what may be a glob: then the job's folder is still taken literally."""
        if not any(c in path for c in _GLOB):
            return self.absolute(path)
        literal = "".join(f"[{c}]" if c in _GLOB else c for c in self.job_dir)
        # A slash at the end stays: `images/*/` means folders.
        return joined(literal, self.expand(path)) + ("/" if path.endswith("/") else "")
