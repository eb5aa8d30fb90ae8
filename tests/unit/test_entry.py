"""What scripts import of mpibatch, where no processor listens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import support

import mpibatch
from mpibatch.entry import EntryScript


@pytest.fixture
def nobody_listens() -> Iterator[None]:
    before = EntryScript._beat
    yield
    EntryScript._listen(before)


def test_it_is_always_the_same_and_does_nothing() -> None:
    assert mpibatch.EntryScript is EntryScript
    assert EntryScript() is EntryScript()
    EntryScript().heartbeat()


@pytest.mark.usefixtures("nobody_listens")
def test_whoever_listens_hears_each_heartbeat_also_of_one_made_before() -> None:
    before = EntryScript()
    heard = []
    EntryScript._listen(lambda: heard.append(1))
    before.heartbeat()
    EntryScript().heartbeat()
    assert len(heard) == 2


def test_other_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="module 'mpibatch' has no attribute 'EntryScrpt'"):
        mpibatch.EntryScrpt  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [
        ("import mpibatch", {"mpibatch"}),
        ("from mpibatch import EntryScript", {"mpibatch", "mpibatch.entry"}),
    ],
)
def test_it_loads_nothing_else_of_mpibatch_and_nothing_heavy(statement: str, loaded: set[str]) -> None:
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=support.from_anywhere()
    )
    found = set(done.stdout.split())
    ours = {name for name in found if name.startswith("mpibatch")}
    assert ours == loaded
    assert len(found - ours) <= 10, "of the standard library next to nothing"
    assert {name.split(".")[0] for name in found - ours} <= set(sys.stdlib_module_names)
