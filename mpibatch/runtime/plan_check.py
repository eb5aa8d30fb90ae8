"""Whether a stored plan is, to the last byte, what was written: asked once where a run is continued.

Opening a plan checks only what every lookup needs. But a path or a place that has changed since would have
another item done in an item's place, and nothing would tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpibatch.runtime.plan_container import Container, Section

_OF_AN_INPUT = (
    "files", "texts", "mini_batches", "parts", "part_index", "firsts", "keys", "key_index", "names", "name_index",
    "members",
)  # fmt: skip
"""See `table_layout`."""


def check_plan(path: Path) -> None:
    """Read all of the plan at `path`. Raises StorageError where it is missing or damaged."""
    plan = Container(path, _magic(path))
    try:
        for name, section in _sections(plan.header):
            plan.check(name, section)
    finally:
        plan.close()


def _magic(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError:  # `Container` says it in words.
        return b""


def _sections(header: dict[str, Any]) -> Iterator[tuple[str, Section]]:
    """All sections of either kind of plan."""
    yield from header.get("sections", {}).items()
    if "rows" in header:
        yield "rows", header["rows"]
        for entry in header["inputs"]:
            yield from ((name, entry[name]) for name in _OF_AN_INPUT if name in entry)
