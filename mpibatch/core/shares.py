"""Which part of a plan an element of a job array takes. Pure.

A run may be divided into shares. The elements' numbers are a plain range (first, first + step, ...), and the one
at index k of it takes the mini-batches k, k + count, k + 2 count, ... of the plan: strided, so that shares are alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from mpibatch.core.settings import printable
from mpibatch.errors import LaunchError, RunFolderError

if TYPE_CHECKING:
    from mpibatch.core.array_keys import ArrayKeys

MOST_SHARES = 10_000
"""Their folders have four digits, and each start looks at all of them."""
_SLURM = "SLURM_ARRAY_TASK_"


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is divided, the same for all its elements."""

    first: int
    step: int
    count: int

    def __post_init__(self) -> None:
        if self.first < 0 or self.step < 1 or not 1 <= self.count <= MOST_SHARES:
            raise ValueError(f"no division: {self.first}, {self.step}, {self.count}")

    @property
    def numbers(self) -> range:
        """Those of all elements."""
        return range(self.first, self.first + self.step * self.count, self.step)

    @property
    def words(self) -> str:
        if self.count == 1:
            return f"1 share, number {self.first}"
        step = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.count} shares, numbers {self.first} to {self.numbers[-1]}{step}"


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One element's part."""

    number: int
    division: Division

    @property
    def index(self) -> int:
        return self.division.numbers.index(self.number)

    def mini_batches(self, total: int) -> range:
        """Its mini-batches, of a plan with so many."""
        return range(self.index, total, self.division.count)


class Element(msgspec.Struct, frozen=True, kw_only=True):
    """Which element this start is, as far as it knows by itself."""

    number: int
    division: Division | None
    """None: of the numbers it was started with too few are known, as they are no plain range."""
    numbers: list[int]
    """The least and the greatest number that were started together with it."""
    told: str
    """Who says so, in words."""
    elements: int | None = None
    """How many there are, as the job file says."""
    exact: bool = False
    """`division` is meant, not only seen: no other one will do."""


_NAMES = ("ID", "MIN", "MAX", "STEP", "COUNT")


def find_element(environment: Mapping[str, str], asked: str | None, keys: ArrayKeys | None) -> Element | None:
    """The element that this start is; None: it does the whole job. `asked`: what `--share` says.

    LaunchError where these contradict each other, or mean nothing.
    """
    told = by_slurm(environment) if keys is None or not keys.off else None
    if asked is not None:
        ours = by_option(asked)
        if told is not None and told.number != ours.number:
            raise LaunchError(
                f"--share {asked} says share {ours.number}, but {told.told}: leave --share out under a job array,"
                " or set array: false for arrays that divide nothing."
            )
        told = ours
    if told is None or keys is None or keys.elements is None:
        return told
    return _of_elements(told, keys.elements)


def by_option(asked: str) -> Element:
    """What `--share K/N` means."""
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", asked)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 <= number < count <= MOST_SHARES:
        raise LaunchError(
            f"--share {printable(asked)}: must be K/N, share K (from 0) of N, like 0/4, with K below N"
            f" and N at most {MOST_SHARES}"
        )
    division = Division(first=0, step=1, count=count)
    numbers = [0, count - 1]
    return Element(
        number=number, division=division, numbers=numbers, told=f"--share says {asked}", exact=True
    )


def by_slurm(environment: Mapping[str, str]) -> Element | None:
    """What a Slurm array's variables mean; None where there are none."""
    values = [environment.get(_SLURM + name, "") for name in _NAMES]
    if not values[0]:
        return None
    if not all(re.fullmatch(r"\d{1,9}", value) for value in values):
        told = ", ".join(f"{_SLURM}{name}={printable(value)}" for name, value in zip(_NAMES, values))
        raise LaunchError(
            f"this looks like an element of a Slurm array, whose variables are not what Slurm sets: {told}."
            " Give the share by --share K/N, or set array: false to have each element run the whole job."
        )
    number, first, last, step, count = map(int, values)
    plain = step > 0 and count == (last - first) // step + 1 and (last - first) % step == 0
    legal = plain and number in range(first, last + 1, step) and count <= MOST_SHARES
    job = environment.get("SLURM_ARRAY_JOB_ID", "")
    return Element(
        number=number,
        division=Division(first=first, step=step, count=count) if legal else None,
        numbers=[first, last],
        told=f"this is element {number} of Slurm array {printable(job)}".rstrip(),
    )


def _of_elements(element: Element, elements: int) -> Element:
    """As the job file says how many there are, some of them may have been started alone."""
    seen = element.division
    if seen is not None and (seen.count == elements or element.exact):
        if seen.count != elements:
            raise LaunchError(f"{element.told}, but array.elements of the job file is {elements}.")
        return element
    inside = 0 <= element.numbers[0] <= element.numbers[1] < elements
    division = Division(first=0, step=1, count=elements) if inside else None
    return msgspec.structs.replace(element, division=division, elements=elements)


def share_of(element: Element, recorded: Division | None, folder: str) -> Share:
    """The element's share. `recorded`: how the run in `folder` was divided at its first start.

    A later start may be of some elements only. LaunchError or RunFolderError where it does not fit.
    """
    division = recorded or element.division
    first, last = element.numbers
    if division is None and element.elements is not None:
        most = element.elements - 1
        raise LaunchError(
            f"{element.told}, one of {first} to {last}, but array.elements of the job file is {element.elements}:"
            f" elements are numbered 0 to {most} (--array=0-{most})."
        )
    if division is None:
        raise LaunchError(
            f"{element.told}, and the numbers of that array ({first} to {last}) are no plain range, so that nobody"
            f" can tell how many shares there are. At the first start use a range, like --array=0-9 or"
            f" --array=0-20:4 (with a limit: 0-9%4), with at most {MOST_SHARES} elements; later starts may name"
            " single elements."
        )
    fits = all(number in division.numbers for number in (element.number, *element.numbers))
    if fits and not (element.exact and element.division != division):
        return Share(number=element.number, division=division)
    raise RunFolderError(
        f"{element.told}, but the run in {folder} is divided into {division.words}, since its first start. Start"
        f" elements of these numbers (--array={division.first}-{division.numbers[-1]}"
        f"{f':{division.step}' if division.step > 1 else ''}), or choose another folder with --output."
    )


def only(ranges: Iterable[tuple[int, int]], share: Share) -> Iterator[tuple[int, int]]:
    """Of ranges (start, stop) of mini-batches those that are in a share, in order."""
    index, count = share.index, share.division.count
    for start, stop in ranges:
        if count == 1:
            yield start, stop
            continue
        for number in range(start + (index - start) % count, stop, count):
            yield number, number + 1
