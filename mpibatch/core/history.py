"""Journal records (`core.records`) and the facts they tell (`core.facts`), under one name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpibatch.core.facts import Facts, add_records, item_count, left_to_do, no_facts, remaining, tally_from
from mpibatch.core.parts import IN_PARTS, Part
from mpibatch.core.records import (
    BAD,
    CAUSES,
    FAILED,
    FIELDS,
    FINAL,
    FORM,
    RECORD_SIZE,
    SPLIT,
    SUCCEEDED,
    VOID,
    as_records,
    record,
    seal,
    unseal,
)

if TYPE_CHECKING:
    from mpibatch.core.facts import ItemCounts
    from mpibatch.core.records import Records

__all__ = [
    "BAD",
    "CAUSES",
    "FAILED",
    "FIELDS",
    "FINAL",
    "FORM",
    "IN_PARTS",
    "RECORD_SIZE",
    "SPLIT",
    "SUCCEEDED",
    "VOID",
    "Facts",
    "ItemCounts",
    "Part",
    "Records",
    "add_records",
    "as_records",
    "item_count",
    "left_to_do",
    "no_facts",
    "record",
    "remaining",
    "seal",
    "tally_from",
    "unseal",
]
