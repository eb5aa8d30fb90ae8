"""How long fuzz tests look, and the damage that they do to bytes.

In a normal run the same few hundred examples each time, so that a change alone makes them fail. To look for
what nobody has seen yet: `FUZZ_EXAMPLES=20000 pytest tests/unit/test_fuzz_*.py`, other examples every time.
"""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_WANTED = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def fuzz(examples: int) -> settings:
    """`examples` in a normal run, always the same."""
    return settings(
        max_examples=_WANTED or examples,
        derandomize=not _WANTED,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` after a few things that go wrong with bytes: cut, flipped, overwritten, doubled, moved, lost."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 200)))
        before, part, after = data[:start], data[start:stop], data[stop:]
        match draw(st.integers(0, 6)):
            case 0:
                data = before
            case 1:
                data = before + after
            case 2:
                data = before + part + part + after
            case 3:
                data = before + bytes(len(part)) + after
            case 4:
                data = before + draw(st.binary(max_size=20)) + after
            case 5:
                data = after + before
            case _:
                flip = draw(st.integers(1, 255))
                data = before + bytes([data[start] ^ flip]) + data[start + 1 :] if start < len(data) else data
    return data


@st.composite
def in_pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` cut somewhere, some of the pieces empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:stop] for start, stop in pairwise([0, *cuts, len(data)])]
