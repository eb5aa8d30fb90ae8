"""core.path_format: formats of paths become globs, and found paths become values of fields."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.core.path_format import absolute_format, parse
from mpibatch.core.places import Places
from mpibatch.core.settings import Wrong
from mpibatch.inputs.files import find_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.walk import Remarks

PATTERNS = [
    ("/d/{user}/{season}/{genre}.wav", "/d/*/*/*.wav", ("user", "season", "genre")),
    ("/d/{a}_{b}.x", "/d/*_*.x", ("a", "b")),
    ("/d/{a}/{a}.x", "/d/*/*.x", ("a",)),
    ("/d/**/{a}.x", "/d/**/*.x", ("a",)),
    ("/d/{a}/", "/d/*/**", ("a",)),
    ("/d/{{a}}/{b}", "/d/{a}/*", ("b",)),
    ("/d/{{{b}}}", "/d/{*}", ("b",)),
    ("//d/./{a}", "/d/*", ("a",)),
    ("/d/[[]{a}?[0-9]*", "/d/[[]*?[0-9]*", ("a",)),
    ("/d/{user name-2}", "/d/*", ("user name-2",)),
    ("/d/{größe}", "/d/*", ("größe",)),
    ("/d/x", "/d/x", ()),
    ("{a}/x", "*/x", ("a",)),
]


@pytest.mark.parametrize(("path", "pattern", "fields"), PATTERNS)
def test_the_glob_and_the_fields(path: str, pattern: str, fields: tuple[str, ...]) -> None:
    found = parse(path)
    assert (found.pattern, found.fields) == (pattern, fields)


MATCHES: list[tuple[str, bytes, dict[str, str] | None]] = [
    ("/d/{user}/{genre}.wav", b"/d/ann/jazz.wav", {"user": "ann", "genre": "jazz"}),
    ("/d/{user}/{genre}.wav", b"/d/ann/x/jazz.wav", None),
    ("/d/{user}/{genre}.wav", b"/d/ann/.wav", None),
    ("/d/{user}/{genre}.wav", b"/d/ann/jazz.wave", None),
    ("/d/{user}/{genre}.wav", b"/e/d/ann/jazz.wav", None),
    ("/d/{a}/x.y", b"/d/1/xzy", None),
    ("/d/{a}_{b}.x", b"/d/1_2_3.x", {"a": "1", "b": "2_3"}),
    ("/d/{a}/{a}.x", b"/d/1/1.x", {"a": "1"}),
    ("/d/{a}/{a}.x", b"/d/1/2.x", None),
    ("/d/{a}-{a}", b"/d/x-y-x-y", {"a": "x-y"}),
    ("/d/{a}/{b}/{a}{{0}}{b}", b"/d/1/2/1{0}2", {"a": "1", "b": "2"}),
    ("/d/**/{a}.x", b"/d/1.x", {"a": "1"}),
    ("/d/**/{a}.x", b"/d/p/q/1.x", {"a": "1"}),
    ("/d/{a}/**", b"/d/1/2", {"a": "1"}),
    ("/d/{a}/**", b"/d/1/2/3", {"a": "1"}),
    ("/d/{a}/**", b"/d/1", None),
    ("/d/{a}/", b"/d/1/2/3", {"a": "1"}),
    ("/d/{a}/*.x", b"/d/1/2.x", {"a": "1"}),
    ("/d/{a}[0-9]{b}", b"/d/xy1z", {"a": "xy", "b": "z"}),
    ("/d/{a}[!0-9]", b"/d/11x", {"a": "11"}),
    ("/d/{a}[!0-9]", b"/d/111", None),
    ("/d/{a}[]x]", b"/d/1]", {"a": "1"}),
    ("/d/{a}[", b"/d/1[", {"a": "1"}),
    ("/d/{a}?", b"/d/12", {"a": "1"}),
    ("/d/[1]/{a}", b"/d/1/x", {"a": "x"}),
    # The folder whose name has brackets.
    ("/d/[1]/{a}", b"/d/[1]/x", {"a": "x"}),
    ("/d/{a}[z-a]", b"/d/1[z-a]", {"a": "1"}),
    ("/d/{a}[--0]", b"/d/1-", {"a": "1"}),
    ("/d/{a}[+--x]", b"/d/1-", {"a": "1"}),
    ("/d/{a}[&&~~||^\\]", b"/d/1\\", {"a": "1"}),
    ("/d/{{a}}/{b}", b"/d/{a}/x", {"b": "x"}),
    ("/d/{a}\n{b}", b"/d/1\n2\n", {"a": "1", "b": "2\n"}),
    ("/d/{a}", "/d/größe".encode(), {"a": "größe"}),
    ("/d/é?/{a}", "/d/é".encode() + b"\xff/x", {"a": "x"}),
    ("/d/\udcff/{a}", b"/d/\xff/x", {"a": "x"}),
    ("/d/{a}", b"/d/x\xff", {"a": "x\\xff"}),
    ("/d/x", b"/d/x", {}),
]


@pytest.mark.parametrize(("path", "found", "want"), MATCHES)
def test_values_of_fields(path: str, found: bytes, want: dict[str, str] | None) -> None:
    assert parse(path).match(found) == want


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/d/{a", "{ has no closing }"),
        ("/d/a}", "} has no opening {"),
        ("/d/{a/b}", "{ has no closing }"),
        ("/d/{}", "{} in"),
        ("/d/{1a}", "is no field"),
        ("/d/{a:x}", "is no field"),
        ("/d/{a.b}", "is no field"),
        ("/d/{a}{b}", "{b} follows a field"),
        ("/d/{a}{a}", "{a} follows a field"),
        ("/d/{{a}", "} has no opening {"),
    ],
)
def test_what_is_no_format(path: str, words: str) -> None:
    with pytest.raises(Wrong, match=re.escape(words)):
        parse(path)


def test_formats_become_absolute() -> None:
    places = Places(job_dir="/j{x}[1]", expand=lambda path: path.replace("~", "/home/ann", 1))
    assert absolute_format("a/./{b}/*", places) == "/j{{x}}[[]1]/a/{b}/*"
    assert absolute_format("{b}/", places) == "/j{{x}}[[]1]/{b}/"
    assert absolute_format("/a/{b}", places) == "/a/{b}"
    assert absolute_format("~/{b}", places) == "/home/ann/{b}"


NAMES = st.text(st.sampled_from("ab1_.[]{}*é- \n"), min_size=1, max_size=5).filter(
    lambda name: not name.startswith(".")
)


def escaped(name: str) -> str:
    """As a format has it literally."""
    return "".join(c * 2 if c in "{}" else f"[{c}]" if c in "*?[" else c for c in name)


@settings(deadline=None, max_examples=150)
@given(folders=st.lists(NAMES, min_size=1, max_size=3), name=NAMES, fixed=NAMES, fields=st.integers(0, 3))
def test_what_the_glob_finds_has_its_values(folders: list[str], name: str, fixed: str, fields: int) -> None:
    """Some folders of a real path become fields: the walker finds the file, and the fields its names."""
    parts = [*folders, f"{name}-{fixed}"]
    with tempfile.TemporaryDirectory() as root:
        file = Path(root, *parts)
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        format_parts = [f"{{f{i}}}" if i < fields else escaped(part) for i, part in enumerate(folders)]
        path = "/".join([root, *format_parts, "{name}-" + escaped(fixed)])
        made = parse(path)
        found = [
            folder + one
            for folder, names in find_files([made.pattern], Origin("x", "x"), Remarks())
            for one in names
        ]
        assert found == [os.fsencode(file)]
        values = made.match(found[0])
    assert values is not None
    assert [values[f"f{i}"] for i in range(min(fields, len(folders)))] == folders[:fields]
    assert values["name"] == name
