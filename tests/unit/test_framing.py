"""Frames: whatever the cuts, the same messages; whatever the bytes, messages or `FrameError`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.framing import MAX_FRAME, FrameError, FrameReader, decoder, encode, frame
from mpibatch.messages import (
    Finish,
    FromProcessor,
    Grant,
    InitFailed,
    Outcomes,
    ProcessorSpec,
    Ready,
    ToProcessor,
)
from mpibatch.work import Assignment, ErrorReport, Failed, Paths, Succeeded

fuzz = settings(derandomize=True, database=None, deadline=None, max_examples=300)

reports = st.builds(ErrorReport, st.text(), st.text(), st.text())
outcomes = st.one_of(
    st.builds(
        Succeeded,
        st.integers(1, 2**40),
        st.integers(0, 9),
        st.integers(0, 9),
        st.floats(0, 1e9),
        st.floats(0, 1e9),
        st.binary(max_size=200),
        st.integers(0, 9),
    ),
    st.builds(Failed, st.integers(1, 2**40), st.sampled_from(["raised", "died"]), reports),
)
messages = st.one_of(
    st.builds(Ready, st.floats(0, 10)),
    st.builds(Outcomes, st.lists(outcomes, max_size=3)),
    st.builds(InitFailed, reports, st.booleans()),
)


def wrapped(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body


def read(chunks: Iterable[bytes], union: object = FromProcessor) -> tuple[list[object], int]:
    reader: FrameReader[object] = FrameReader(union)
    found = [message for chunk in chunks for message in reader.feed(chunk)]
    return found, reader.pending


@fuzz
@given(st.lists(messages, max_size=5), st.data())
def test_any_cutting_gives_the_same_messages(
    sent: list[Ready | Outcomes | InitFailed], data: st.DataObject
) -> None:
    stream = b"".join(frame(message) for message in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[start:stop] for start, stop in pairwise(edges)]
    assert read(chunks) == (sent, 0)


def test_byte_by_byte() -> None:
    sent = [Ready(1.5), Outcomes([]), Ready(2.0)]
    stream = b"".join(map(frame, sent))
    assert read(stream[at : at + 1] for at in range(len(stream))) == (sent, 0)


def test_what_is_not_whole_waits() -> None:
    stream = frame(Ready(1.0))
    for cut in range(len(stream)):
        assert read([stream[:cut]]) == ([], cut)


def test_both_directions() -> None:
    spec = ProcessorSpec(
        name="process000",
        script=b"/a b\n\xff.py",
        is_module=False,
        source_directory=None,
        argv=[b"--x", "\u00e9".encode()],
        output_action="append_row",
        append_row={"sep": " ", "header": False},
        datasets=[b"images/"],
        error_file=b"/e",
        version="1",
    )
    grant = Grant([Assignment(1, 0, 0, 2, 0, 0, 0, Paths(b"a\xff\0b"))])
    sent = [spec, grant, Finish()]
    assert read([b"".join(map(frame, sent))], ToProcessor) == (sent, 0)


def test_a_message_of_the_other_direction_is_refused() -> None:
    with pytest.raises(FrameError, match="no message of ours"):
        read([frame(Finish())])


@fuzz
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_random_bytes_raise_or_wait(chunks: list[bytes]) -> None:
    try:
        found, pending = read(chunks)
    except FrameError:
        return
    assert found == [] or pending < sum(map(len, chunks))


@fuzz
@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.sampled_from([FromProcessor, ToProcessor])
)
def test_random_bodies_raise_frame_errors_only(bodies: list[bytes], union: object) -> None:
    with pytest.raises(FrameError):
        read([b"".join(map(wrapped, bodies))], union)


@fuzz
@given(messages, st.data())
def test_a_flipped_bit_raises_or_gives_another_message(
    message: Ready | Outcomes | InitFailed, data: st.DataObject
) -> None:
    stream = bytearray(frame(message))
    at = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[at // 8] ^= 1 << at % 8
    try:
        found, pending = read([bytes(stream)])
    except FrameError:
        return
    assert len(found) == 1 or pending


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x82\xa4type\xa4spec\xa4name\xa2\xff\xfe",  # Wrong UTF-8
        b"\x82\xa4type\xa4spec\xaaappend_row\x81\xa1a" + b"\x91" * 100_000,  # Too deep
        b"\x82\xa4type\xa5grant\xabassignments\xdd\xff\xff\xff\xff",  # Four thousand million of them
        b"\x82\xa4type\xa4spec\xaaappend_row\x81\xa1a\xd4\xff\x00",  # A broken time
        encode(Finish()) + b"\0",
    ],
)
def test_bodies_that_are_no_messages(body: bytes) -> None:
    with pytest.raises(FrameError, match="no message of ours"):
        read([wrapped(body)], ToProcessor)
    with pytest.raises(FrameError, match=f"{len(body)} bytes"):
        decoder(ToProcessor)(body)


def test_a_nonsensical_length_is_refused_before_anything_is_awaited() -> None:
    reader: FrameReader[object] = FrameReader(FromProcessor)
    assert list(reader.feed(struct.pack("<Q", MAX_FRAME))) == []
    with pytest.raises(FrameError, match="is announced"):
        read([struct.pack("<Q", MAX_FRAME + 1)])


def test_messages_before_the_nonsense_are_delivered() -> None:
    reader: FrameReader[object] = FrameReader(FromProcessor)
    stream = reader.feed(frame(Ready(1.0)) + wrapped(b"\xc1"))
    assert next(stream) == Ready(1.0)
    with pytest.raises(FrameError):
        next(stream)


def test_a_reader_left_early_loses_nothing() -> None:
    reader: FrameReader[object] = FrameReader(FromProcessor)
    for message in reader.feed(frame(Ready(1.0)) + frame(Ready(2.0))):
        assert message == Ready(1.0)
        break
    assert list(reader.feed(b"")) == [Ready(2.0)]
