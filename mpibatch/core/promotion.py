"""Which type holds the values of two types: csv, HDF5 and numbers in general. Pure.

Every rule is the join of an order among types, in which "they do not go together" stands above all:
that makes promotion independent of the order in which fragments come.
"""

from __future__ import annotations

import re

_CSV_CHAINS = (("int", "float"), ("date", "seconds", "millis", "micros", "nanos"))
_NUMBER = re.compile(r"(int|uint|float|complex)(\d+)")


class Unpromotable(Exception):
    """No type of the format holds both. The text, which may be empty, says why."""


def promote_csv(one: str, other: str) -> str:
    """null, int, float, date, seconds, millis, micros, nanos, other: text holds everything."""
    if one == other:
        return one
    if "null" in (one, other):
        return other if one == "null" else one
    for chain in _CSV_CHAINS:
        if one in chain and other in chain:
            return max(one, other, key=chain.index)
    return "other"


def promote_hdf5(one: str, other: str) -> str:
    """numpy's name of the dtype, or str, or bytes, and the shape of a row: `float32|512`."""
    dtype, _, shape = one.partition("|")
    other_dtype, _, other_shape = other.partition("|")
    if shape != other_shape:
        raise Unpromotable("the shapes of a row differ")
    return f"{number(dtype, other_dtype)}|{shape}"


def number(one: str, other: str) -> str:
    """Of two numbers, by numpy's names of their types; anything else goes only with itself.

    uint64 goes with unsigned integers only: with signed ones it would end as float64, which silently
    spoils large numbers (identifiers, hashes); and if it went with floats, then whether uint64, int8
    and float64 go together would hang on the order in which they come.
    """
    if one == other:
        return one
    mine, yours = _NUMBER.fullmatch(one), _NUMBER.fullmatch(other)
    if mine is None or yours is None:
        raise Unpromotable
    bits, other_bits = int(mine[2]), int(yours[2])
    if mine[1] == yours[1]:
        return f"{mine[1]}{max(bits, other_bits)}"
    if "uint64" in (one, other):
        raise Unpromotable("uint64 goes with unsigned integers only")
    if "complex" in (mine[1], yours[1]):
        raise Unpromotable
    if "float" in (mine[1], yours[1]):
        return "float64"
    signed, unsigned = (bits, other_bits) if mine[1] == "int" else (other_bits, bits)
    return f"int{max(signed, 2 * unsigned)}"
