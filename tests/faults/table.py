"""What the kill matrix has shown, as a table: by target and signal how often, how many starts, how long."""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from faults.harness import Story

WANTED = "MPIBATCH_FAULTS"
"""Variable: how many seeds are tried; where it is set, the table is shown."""
STORIES: list[Story] = []
"""Of all scenarios that ended well."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get(WANTED) and STORIES:
        terminalreporter.section("faults")
        for line in rows(STORIES):
            terminalreporter.write_line(line)


def rows(stories: list[Story]) -> list[str]:
    """A line for each target and signal: of scenarios that began with it, as the first fault is the one that all
    times count from."""
    groups: dict[tuple[str, str, str], list[Story]] = defaultdict(list)
    for story in stories:
        if story.done:
            first = story.done[0]
            groups[story.scenario.launcher, first.target, first.number.name].append(story)
    head = ("launcher", "target", "signal", "runs", "starts: mean", "max", "seconds to complete: mean", "max")
    table = [head, *(_row(key, groups[key]) for key in sorted(groups))]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    harmed = sum(len(story.done) for story in stories)
    missed = sum(not story.done for story in stories)
    return [
        *lines,
        f"{len(stories)} scenarios, {harmed} faults; {missed} were complete before their first fault",
    ]


def _row(key: tuple[str, str, str], stories: list[Story]) -> tuple[str, ...]:
    starts = [story.starts for story in stories]
    times = [story.recovery_s for story in stories if story.recovery_s is not None]
    return (
        *key, str(len(stories)), f"{sum(starts) / len(starts):.1f}", str(max(starts)),
        f"{sum(times) / len(times):.1f}" if times else "-", f"{max(times):.1f}" if times else "-",
    )  # fmt: skip
