"""core.sets: `--set key=value` on a mapping."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.core.sets import apply_sets, takes_text
from mpibatch.core.settings import printable
from mpibatch.errors import ConfigError

SMALL: dict[Any, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}]}

SETS: list[tuple[dict[Any, Any], list[tuple[str, Any]], dict[Any, Any]]] = [
    ({}, [("a", 1)], {"a": 1}),
    ({"a": 1, "b": 2}, [("a", 3), ("a", 4)], {"a": 4, "b": 2}),
    ({"inputs": [{"files": "x"}]}, [("inputs.0.files", "y")], {"inputs": [{"files": "y"}]}),
    ({"inputs": [{"list": "x", "check": False}]}, [("inputs.0.files", "y")], {"inputs": [{"files": "y"}]}),
    (
        {"inputs": [{"list": "x", "check": False}]},
        [("inputs.0.list", "y")],
        {"inputs": [{"list": "y", "check": False}]},
    ),
    (
        {"inputs": [{"files": "x"}]},
        [("inputs.1.list", "y"), ("inputs.1.check", False)],
        {"inputs": [{"files": "x"}, {"list": "y", "check": False}]},
    ),
    ({"inputs": [{"csv": "x", "sep": ";"}]}, [("inputs.0.parquet", "y")], {"inputs": [{"parquet": "y"}]}),
    ({"inputs": [{"csv": "x"}]}, [("inputs.0.sep", ";")], {"inputs": [{"csv": "x", "sep": ";"}]}),
    (
        {"inputs": [{"csv": "x", "dtype": {"a": "str"}}]},
        [("inputs.0.dtype.b", "int")],
        {"inputs": [{"csv": "x", "dtype": {"a": "str", "b": "int"}}]},
    ),
    (
        {"inputs": [{"files": "x", "members": "*"}]},
        [("inputs.0.files", "y")],
        {"inputs": [{"files": "y", "members": "*"}]},
    ),
    ({"inputs": ["x"]}, [("inputs.0", {"files": "y"})], {"inputs": [{"files": "y"}]}),
    ({"inputs": [{"files": ["a", "b"]}]}, [("inputs.0.files.1", "c")], {"inputs": [{"files": ["a", "c"]}]}),
    ({}, [("inputs.0.files", "y")], {"inputs": [{"files": "y"}]}),
    ({"append_row": None}, [("append_row.sep", ",")], {"append_row": {"sep": ","}}),
    ({"append_row": {"header": True}}, [("append_row.list", 1)], {"append_row": {"header": True, "list": 1}}),
    ({"arguments": ["a"]}, [("arguments.1", "b")], {"arguments": ["a", "b"]}),
    ({"allowed_failed_count": 1}, [("mini_batch_error_threshold", 2)], {"mini_batch_error_threshold": 2}),
    ({"mini_batch_error_threshold": 1}, [("allowed_failed_count", 2)], {"allowed_failed_count": 2}),
]


@pytest.mark.parametrize(("mapping", "sets", "want"), SETS)
def test_sets_change_a_copy(
    mapping: dict[Any, Any], sets: list[tuple[str, Any]], want: dict[Any, Any]
) -> None:
    before = repr(mapping)
    assert apply_sets(mapping, sets) == want
    assert repr(mapping) == before


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "inputs.2.files",
            "--set inputs.2.files: inputs has 1 element, 0 to 0; 2 is none of them; 1 appends",
        ),
        ("inputs.x.files", "x is none of them"),
        ("inputs.-1", "-1 is none of them"),
        ("inputs.²", "is none of them"),
        ("inputs." + "9" * 5000, "is none of them"),
        ("name.x", "name is .abc., which has nothing below it; set name itself"),
        ("inputs.0.files.x", "inputs.0.files is .images/., which has nothing below it"),
        ("inputs..files", "joined by single dots"),
        ("", "joined by single dots"),
        (".", "joined by single dots"),
    ],
)
def test_sets_that_lead_nowhere_are_named(key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        apply_sets(SMALL | {"name": "abc"}, [(key, "y")])
    assert str(caught.value).startswith(f"--set {printable(key)}: ")


@pytest.mark.parametrize(
    ("key", "is_text"),
    [
        ("name", True),
        ("inputs.0.files", True),
        ("inputs.0.check", False),
        ("models", False),
        ("models.m", True),
        ("arguments", False),
        ("arguments.3", True),
        ("append_row.sep", True),
        ("append_row.header", False),
        ("mini_batch_size", False),
        ("inputs.0.csv", True),
        ("inputs.0.csv.1", True),
        ("inputs.0.members", True),
        ("inputs.0.sep", True),
        ("inputs.0.columns", False),
        ("inputs.0.columns.0", True),
        ("inputs.0.dtype.a", True),
        ("append_row_format", True),
        ("partition_keys", False),
        ("partition_keys.0", True),
    ],
)
def test_keys_that_take_text_are_known(key: str, is_text: bool) -> None:
    assert takes_text(key) is is_text


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("0x1"), inner),
    max_leaves=5,
)
SET_KEYS = st.lists(st.sampled_from(["inputs", "0", "1", "files", "list", "name", "x", "", "-1"]), max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value_before=VALUES, keys=st.lists(SET_KEYS, max_size=3), value=VALUES)
def test_any_set_changes_or_is_a_config_error(value_before: Any, keys: list[list[str]], value: Any) -> None:
    try:
        apply_sets(SMALL | {"x": value_before}, [(".".join(key), value) for key in keys])
    except ConfigError as error:
        assert str(error).startswith("--set ")
