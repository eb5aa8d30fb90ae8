"""Bytes to messages and back: a frame is an 8-byte little-endian length and a msgpack body. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

_LENGTH = struct.Struct("<Q")
MAX_FRAME = 16 << 30
"""A longer frame is nonsense: the stream was not written by us."""

_encoder = msgspec.msgpack.Encoder()


class FrameError(Exception):
    """The stream holds what is not a frame of ours."""


def encode(message: msgspec.Struct) -> bytes:
    """The body of a message, as it crosses MPI."""
    return _encoder.encode(message)


def frame(message: msgspec.Struct) -> bytes:
    """A message with its length before it, as it crosses a stream."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


def decoder(union: Any) -> Callable[[bytes], Any]:
    """What turns bodies into messages of the closed union `union`; it raises `FrameError`, nothing else."""
    decode = msgspec.msgpack.Decoder(union).decode

    def checked(body: bytes) -> Any:
        try:
            return decode(body)
        # msgspec lets wrong UTF-8 and too deep nesting out as what they are.
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FrameError(f"{len(body)} bytes are no message of ours: {error}") from error

    return checked


class FrameReader(Generic[T]):
    """Collects what a stream delivers and yields the messages that are whole.

    `union` is the closed union of messages that may come; anything else raises `FrameError`.
    """

    def __init__(self, union: Any) -> None:
        self._decode: Callable[[bytes], T] = decoder(union)
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[T]:
        """Yield each message completed by `data`. Consume the iterator before feeding again."""
        self._buffer += data
        start = 0
        end = len(self._buffer)
        try:
            while end - start >= 8:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > MAX_FRAME:
                    raise FrameError(f"a frame of {length} bytes is announced; at most {MAX_FRAME} are legal")
                stop = start + 8 + length
                if stop > end:
                    break
                body = bytes(memoryview(self._buffer)[start + 8 : stop])
                start = stop
                yield self._decode(body)
        finally:
            del self._buffer[:start]

    @property
    def pending(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._buffer)
