"""What a plan says of one input."""

from __future__ import annotations

import msgspec


class PlannedInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input as the plan has it."""

    kind: str
    """`files` or `list`."""
    text: str
    """As the job file has it."""
    items: int
    mini_batches: int
