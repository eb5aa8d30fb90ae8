"""Which share an element takes, and of which mini-batches it is; what siblings tell of failures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibatch.core.accounting import Elsewhere
from mpibatch.core.array_keys import ArrayKeys
from mpibatch.core.shares import Division, Element, Share, find_element, only, share_of
from mpibatch.errors import LaunchError, MpibatchError, RunFolderError
from mpibatch.runtime.array_folder import share_folder
from mpibatch.runtime.files import write_whole
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.siblings import Siblings

DIVISIONS = st.builds(Division, first=st.integers(0, 5), step=st.integers(1, 4), count=st.integers(1, 9))


def slurm(number: int, first: int, last: int, *, step: int = 1, count: int | None = None) -> dict[str, str]:
    """The variables of an element."""
    count = (last - first) // step + 1 if count is None else count
    values = {"ID": number, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {
        "SLURM_ARRAY_JOB_ID": "812",
        **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()},
    }


def the_share(
    environment: dict[str, str],
    *,
    asked: str | None = None,
    keys: ArrayKeys | None = None,
    recorded: Division | None = None,
) -> Share:
    element = find_element(environment, asked, keys)
    assert element is not None
    return share_of(element, recorded, "/run")


@given(division=DIVISIONS, total=st.integers(0, 60))
def test_shares_partition_the_plan(division: Division, total: int) -> None:
    shares = [Share(number=number, division=division).mini_batches(total) for number in division.numbers]

    assert sorted(number for share in shares for number in share) == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(
    division=DIVISIONS,
    place=st.integers(0, 8),
    edges=st.lists(st.integers(0, 60), unique=True).map(sorted),
)
def test_of_what_remains_each_takes_its_own(division: Division, place: int, edges: list[int]) -> None:
    ranges = list(zip(edges[::2], edges[1::2], strict=False))
    share = Share(number=division.numbers[place % division.count], division=division)

    mine = [number for start, stop in only(ranges, share) for number in range(start, stop)]

    left = [number for start, stop in ranges for number in range(start, stop)]
    assert mine == [number for number in left if number in share.mini_batches(60)]


def test_no_array_is_no_element() -> None:
    assert find_element({"SLURM_JOB_ID": "5"}, None, None) is None
    assert find_element({}, None, ArrayKeys(elements=4)) is None
    assert find_element(slurm(1, 0, 3), None, ArrayKeys(off=True)) is None


TEN = Division(first=0, step=1, count=10)


@pytest.mark.parametrize(
    ("environment", "keys", "recorded", "division", "index"),
    [
        (slurm(3, 0, 9), None, None, TEN, 3),
        (slurm(3, 1, 10), None, None, Division(first=1, step=1, count=10), 2),
        (slurm(8, 0, 20, step=4), None, None, Division(first=0, step=4, count=6), 2),
        (slurm(3, 3, 3), None, TEN, TEN, 3),
        (slurm(7, 3, 9, count=3), None, TEN, TEN, 7),
        (slurm(3, 3, 3), ArrayKeys(elements=10), None, TEN, 3),
        (slurm(10, 1, 10), ArrayKeys(elements=10), None, Division(first=1, step=1, count=10), 9),
        (
            slurm(10, 10, 10),
            ArrayKeys(elements=10),
            Division(first=1, step=1, count=10),
            Division(first=1, step=1, count=10),
            9,
        ),
    ],
)
def test_the_share_of_an_element(
    environment: dict[str, str],
    keys: ArrayKeys | None,
    recorded: Division | None,
    division: Division,
    index: int,
) -> None:
    share = the_share(environment, keys=keys, recorded=recorded)

    assert (share.division, share.index) == (division, index)


def test_the_option() -> None:
    assert the_share({}, asked="2/4") == Share(number=2, division=Division(first=0, step=1, count=4))
    assert the_share(slurm(2, 0, 3), asked="2/4").index == 2


@pytest.mark.parametrize(
    ("environment", "more", "error", "words"),
    [
        ({}, {"asked": "4/4"}, LaunchError, ["--share 4/4", "K below N"]),
        ({}, {"asked": "-1/4"}, LaunchError, ["K/N"]),
        ({}, {"asked": "0/10001"}, LaunchError, ["at most 10000"]),
        ({}, {"asked": "1/4", "recorded": TEN}, RunFolderError, ["1/4", "10 shares, numbers 0 to 9"]),
        ({}, {"asked": "1/4", "keys": ArrayKeys(elements=10)}, LaunchError, ["array.elements", "10"]),
        (slurm(1, 0, 3), {"asked": "2/4"}, LaunchError, ["element 1 of Slurm array 812", "--share 2/4"]),
        (slurm(7, 3, 9, count=3), {}, LaunchError, ["no plain range", "--array=0-9"]),
        (slurm(12, 12, 12), {"recorded": TEN}, RunFolderError, ["element 12", "numbers 0 to 9"]),
        (slurm(3, 0, 19), {"recorded": TEN}, RunFolderError, ["element 3", "10 shares", "--array=0-9"]),
        (slurm(3, 0, 19), {"keys": ArrayKeys(elements=10)}, LaunchError, ["0 to 19", "--array=0-9"]),
        ({"SLURM_ARRAY_TASK_ID": "x"}, {}, LaunchError, ["SLURM_ARRAY_TASK_ID=x", "array: false"]),
    ],
)
def test_what_does_not_fit_is_refused(
    environment: dict[str, str], more: dict[str, Any], error: type[MpibatchError], words: list[str]
) -> None:
    with pytest.raises(error) as told:
        the_share(environment, **more)

    for word in words:
        assert word in str(told.value)


def tell(folder: RunFolder, name: str, failed: int, **keys: object) -> None:
    """A sibling's `job_result.json` or `progress.json`, as far as others read it."""
    folder.private.mkdir(parents=True, exist_ok=True)
    said = ", ".join(f'"{key}": {value}' for key, value in keys.items())
    counts = f'{{"total": 99, "succeeded": 0, "failed": {failed}, "attempts": 0}}'
    data = f'{{"items": {counts}, "mini_batches": {counts}, {said}}}'
    write_whole({"result": folder.result, "progress": folder.progress}[name], data.encode(), durable=False)


def of(siblings: Siblings) -> int:
    siblings.look()
    assert siblings.failed == Elsewhere(items=siblings.failed.items, mini_batches=siblings.failed.items)
    return siblings.failed.items


def test_siblings_count_while_they_work_and_once_they_are_complete(tmp_path: Path) -> None:
    whole, share = RunFolder(tmp_path), Share(number=0, division=Division(first=0, step=1, count=3))
    tell(share_folder(whole, 0), "progress", 50, session=1)
    siblings = Siblings(whole, share)
    assert of(siblings) == 0, "its own do not count twice"

    tell(share_folder(whole, 1), "progress", 2, session=1)
    assert of(siblings) == 2
    tell(share_folder(whole, 1), "result", 3, sessions=1, verdict='"complete"')
    tell(share_folder(whole, 2), "progress", 4, session=1)
    assert of(siblings) == 7
    share_folder(whole, 2).progress.write_bytes(b"{")
    assert of(siblings) == 7, "what cannot be read is as it was"


def test_who_ended_earlier_tries_its_failures_again(tmp_path: Path) -> None:
    whole, division = RunFolder(tmp_path), Division(first=0, step=1, count=2)
    own, other = share_folder(whole, 0), share_folder(whole, 1)
    tell(other, "result", 5, sessions=1, verdict='"too_many_errors"')
    os.utime(other.result, ns=(10**18, 10**18))
    assert of(Siblings(whole, Share(number=0, division=division))) == 5, "it has not begun yet"

    tell(own, "result", 0, sessions=1, verdict='"too_many_errors"')
    again = Siblings(whole, Share(number=0, division=division))
    assert of(again) == 0

    tell(other, "progress", 1, session=2)
    assert of(again) == 1, "it is at work again"


def test_an_element_says_who_it_is() -> None:
    element = find_element(slurm(3, 0, 9), None, None)

    assert isinstance(element, Element)
    assert element.told == "this is element 3 of Slurm array 812"
