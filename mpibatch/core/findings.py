"""What `mpibatch doctor` has found, and how it is told: what is wrong stands first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from mpibatch.errors import EXIT_COMPLETE, EXIT_USAGE

Level = Literal["wrong", "warning", "fine"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    area: str
    """What it is about, in a word: MPI, CPUs, run folder."""
    level: Level
    text: str
    remedy: str = ""
    """What to do. There is one where something is wrong, unless the text says it."""


def fine(area: str, text: str) -> Finding:
    return Finding(area, "fine", text)


def warning(area: str, text: str, remedy: str = "") -> Finding:
    return Finding(area, "warning", text, remedy)


def wrong(area: str, text: str, remedy: str) -> Finding:
    return Finding(area, "wrong", text, remedy)


def exit_code(findings: Sequence[Finding]) -> int:
    return EXIT_USAGE if any(one.level == "wrong" for one in findings) else EXIT_COMPLETE


def as_json(findings: Sequence[Finding]) -> str:
    """`{"ok": true, "findings": [{"area", "level", "text", "remedy"}]}`"""
    return msgspec.json.encode(
        {"ok": exit_code(findings) == EXIT_COMPLETE, "findings": list(findings)}
    ).decode()


def as_text(findings: Sequence[Finding]) -> str:
    """What is wrong, then what may be, then all else by its area."""
    by_level: dict[Level, list[Finding]] = {"wrong": [], "warning": [], "fine": []}
    for one in findings:
        by_level[one.level].append(one)
    lines = [
        "\n".join([f"{level}: {one.area}: {one.text}", *([f"  {one.remedy}"] if one.remedy else [])])
        for level in ("wrong", "warning")
        for one in by_level[level]
    ]
    lines.append("" if lines else "nothing is wrong\n")
    width = max((len(one.area) for one in by_level["fine"]), default=0)
    lines += [_indented(one, width) for one in by_level["fine"]]
    return "\n".join(lines)


def _indented(one: Finding, width: int) -> str:
    first, *rest = one.text.split("\n")
    return "\n".join([f"{one.area:{width}}  {first}", *(f"{'':{width}}  {line}" for line in rest)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest text."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    return "\n".join(
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths)).rstrip() for row in (head, *rows)
    )
