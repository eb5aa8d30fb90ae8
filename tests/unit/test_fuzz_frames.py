"""Whatever comes through a stream: the messages that were sent, or `FrameError`; no memory for what did not come."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgspec
import pytest
from fuzzing import damaged, fuzz, in_pieces
from hypothesis import given
from hypothesis import strategies as st

from mpibatch import messages
from mpibatch.core.framing import MAX_FRAME, FrameError, FrameReader, decoder, encode, frame
from mpibatch.work import ErrorReport, Failed, Succeeded

UNIONS = [messages.FromProcessor, messages.ToProcessor, messages.ToCoordinator, messages.ToWorker]
MOST_MEMORY = 4 << 20

reports = st.builds(ErrorReport, st.text(max_size=9), st.text(max_size=9), st.text(max_size=9))
succeeded = st.builds(
    Succeeded, st.integers(1, 2**40), st.integers(0, 9), st.integers(0, 9), st.floats(0, 9), st.floats(0, 9),
    st.binary(max_size=200), st.integers(0, 9),
)  # fmt: skip
failed = st.builds(
    Failed, st.integers(1, 2**40), st.sampled_from(["raised", "died", "out_of_memory"]), reports
)
sent_messages = st.lists(
    st.builds(messages.Ready, st.floats(0, 9))
    | st.builds(messages.Outcomes, st.lists(succeeded | failed, max_size=3))
    | st.builds(messages.InitFailed, reports, st.booleans())
    | st.builds(messages.PassedOver, st.integers(0, 2**40)),
    max_size=5,
)


def received(pieces: list[bytes], union: object = messages.FromProcessor) -> tuple[list[Any], int | str]:
    """All messages, and what stays: so many bytes, or the words of the error. Nothing else may be raised."""
    reader: FrameReader[Any] = FrameReader(union)
    found: list[Any] = []
    fed = 0
    for piece in pieces:
        fed += len(piece)
        try:
            found.extend(reader.feed(piece))
        except FrameError as error:
            return found, str(error)
        assert reader.pending <= fed
    return found, reader.pending


@fuzz(400)
@given(sent_messages, st.data())
def test_a_damaged_stream_gives_what_came_before_the_damage(
    sent: list[msgspec.Struct], data: st.DataObject
) -> None:
    stream = b"".join(map(frame, sent))
    spoiled = data.draw(damaged(stream))
    found, rest = received(data.draw(in_pieces(spoiled)))

    # The cuts make no difference, not even to what is said.
    assert (found, rest) == received([spoiled])
    whole = common = 0
    while common < min(len(stream), len(spoiled)) and stream[common] == spoiled[common]:
        common += 1
    for message in sent:
        size = len(frame(message))
        if common < size:
            break
        common -= size
        whole += 1
    assert found[:whole] == sent[:whole]


@fuzz(400)
@given(st.lists(st.binary(max_size=80), max_size=6), st.sampled_from(UNIONS), st.booleans())
def test_random_bytes(parts: list[bytes], union: object, framed: bool) -> None:
    pieces = [struct.pack("<Q", len(part)) + part for part in parts] if framed else parts
    found, rest = received(pieces, union)
    # Random bytes are no message: none is as short and as lucky as that.
    assert found == [] and (isinstance(rest, str) or rest == sum(map(len, pieces)))


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5) | st.sampled_from(["ready", "outcomes", "init_failed", "spec", "grant", "setup"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["type", "outcomes", "announced", "error", "unusable", "init_s", "attempts", "x"]), inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@fuzz(400)
@given(plain, st.sampled_from(UNIONS))
def test_msgpack_that_nearly_is_a_message(value: Any, union: object) -> None:
    body = msgspec.msgpack.encode(value)
    try:
        message = decoder(union)(body)
    except FrameError as error:
        assert f"{len(body)} bytes are no message of ours" in str(error)
        return
    assert encode(message)  # It is a whole message, which can be sent on.


@fuzz(60)
@given(st.integers(1 << 20, MAX_FRAME), st.binary(max_size=100), st.data())
def test_a_length_that_lies_takes_no_memory(length: int, begun: bytes, data: st.DataObject) -> None:
    pieces = data.draw(in_pieces(struct.pack("<Q", length) + begun))
    tracemalloc.start()
    try:
        assert received(pieces) == ([], 8 + len(begun))
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


ANNOUNCED = {
    "list": b"\xdd", "mapping": b"\xdf", "bytes": b"\xc6", "text": b"\xdb", "other": b"\xc9",
}  # fmt: skip
"""Heads of msgpack, which a length of 32 bits follows."""


@pytest.mark.parametrize("what", ANNOUNCED)
@pytest.mark.parametrize("union", UNIONS)
def test_a_length_within_a_body_that_lies_takes_no_memory(what: str, union: object) -> None:
    large = ANNOUNCED[what] + b"\xff\xff\xff\xff"
    bodies = [
        large,
        b"\x82\xa4type\xa8outcomes\xa8outcomes" + large,
        b"\x82\xa4type\xa4spec\xa4argv" + large,
        b"\x82\xa4type\xa4spec\xaaappend_row" + large,
        b"\x82\xa4type\xa8returned\xa8attempts" + large,
        b"\x82\xa4type\xa4none\xa4what" + large,
    ]
    tracemalloc.start()
    try:
        for body in bodies:
            with pytest.raises(FrameError, match="no message of ours"):
                decoder(union)(body)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
