"""Whatever stands in a job file or behind `--set`: a job, or an error that names the key; never anything else."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from fuzzing import fuzz
from hypothesis import example, given
from hypothesis import strategies as st

from mpibatch.core.config import Job, apply_sets, job_warnings, parse_job
from mpibatch.core.job_inputs import KINDS
from mpibatch.core.job_keys import LEGAL_KEYS
from mpibatch.core.settings import shown
from mpibatch.core.table_keys import OPTIONS
from mpibatch.errors import ConfigError
from mpibatch.runtime.job_yaml import read_job_text, read_set

JOB_FILE = "/jobs/night/job.yaml"
INPUT_OPTIONS = sorted({option for options in OPTIONS.values() for option in options} | {"members", "check"})
INNER = [
    "sep",
    "header",
    "columns",
    "na_rep",
    "quotechar",
    "initial",
    "factor",
    "max",
    "jitter",
    "labels",
    "x-1",
]
INNER += ["index", "float_format", "compression", "chunksize", "OMP_NUM_THREADS", "0", ""]

# Values ----------------------------------------------------------------------------------------------------------

# fmt: off
odd_texts = st.sampled_from([
    *("", " ", "\0", "\udcff", "\ud800", "é", "\u2028", "x" * 5000, "~", "~nobody/x", "..", "/", "//", "a/../b"),
    *("1MB", "500 rows", "1e400", "0 rows", "-1", "5 apples", "99999999999999999999 GB", "1.5", "NaN", "1_000"),
    *("${job_dir}/x", "${", "$${x}", "${nothing}", "{a}/{b}/*", "{a", "*.csv", "[", "a\nb", "tab", "\\t", "none"),
    *("append_row", "summary_only", "parquet", "hdf5", "text", "csv", "script.py", "pkg.main", "data/", "utf-8"),
    *("utf-16", "rot13", "undefined", "idna", "latin-1", "from_first_rows", "category", "datetime64[ns]", "int8"),
    *("frame", "records", "true", "yes", "null", "rows.txt", "a/b.txt", ".mpibatch", "job_result.json", "OMPI_*"),
])
# fmt: on
NAN = float("nan")
numbers = (
    st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400, -(10**400)])
    | st.floats(allow_nan=False)
    | st.sampled_from([NAN, float("inf"), -0.0, 1e308, 5e-324])
)
scalars = (
    st.none() | st.booleans() | numbers | odd_texts | st.text(max_size=8) | st.binary(max_size=4)
    | st.dates() | st.datetimes() | st.just(datetime.UTC)
)  # fmt: skip
keys = st.sampled_from([*LEGAL_KEYS, *INPUT_OPTIONS, *KINDS, *INNER]) | scalars.filter(
    lambda one: one is not NAN
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=8,
)
one_input = st.fixed_dictionaries(
    {},
    optional={kind: odd_texts | st.lists(odd_texts, max_size=3) | values for kind in KINDS},
).flatmap(
    lambda kinds: st.dictionaries(st.sampled_from(INPUT_OPTIONS), values, max_size=4).map(
        lambda options: {**options, **kinds}
    )
)
fitting: dict[str, st.SearchStrategy[Any]] = {
    "entry_script": st.sampled_from(["script.py", "pkg.main", "/a/b.py"]),
    "inputs": st.sampled_from(
        [[{"files": "data/"}], [{"list": "a.txt", "check": False}], [{"csv": "*.csv"}]]
    ),
    "mini_batch_size": st.integers(1, 1000) | st.sampled_from(["1MB", "500 rows"]),
    "name": st.sampled_from(["abc", "night-run-7"]),
    "arguments": st.lists(st.sampled_from(["--x", "1e-3", "0.10", "${job_dir}/m", "12:30"]), max_size=3),
    "error_threshold": st.integers(-1, 2**31 - 1),
    "run_invocation_timeout": st.floats(0.001, 1e6) | st.integers(1, 1000),
    "output": st.sampled_from(["out", "/tmp/x", "a/../b"]),
    "output_action": st.sampled_from(["append_row", "summary_only"]),
    "append_row_format": st.sampled_from(["text", "csv", "jsonl", "parquet"]),
    "environment_variables": st.dictionaries(st.sampled_from(["A", "B_1"]), st.sampled_from(["1", "x y"])),
    "side_inputs": st.dictionaries(st.sampled_from(["a", "labels"]), st.sampled_from(["x.txt", "/y"])),
    "retry_backoff": st.sampled_from([{}, {"initial": 1, "factor": 2, "max": 60, "jitter": True}]),
    "isolate_failures": st.booleans(),
    "straggler_copies": st.booleans(),
    "run_max_try": st.integers(1, 9),
    "python": st.sampled_from(["/usr/bin/python3", "env/bin/python"]),
    "environment_keep": st.just(["OMPI_*", "A"]),
}
"""For many keys what they take."""
legal_jobs = st.fixed_dictionaries(
    {key: fitting[key] for key in ("entry_script", "inputs")},
    optional={key: value for key, value in fitting.items() if key not in ("entry_script", "inputs")},
)


@st.composite
def nearly_legal(draw: st.DrawFn) -> dict[Any, Any]:
    """A legal mapping with a few of its keys replaced, misspelled, filled with something else."""
    mapping: dict[Any, Any] = dict(draw(legal_jobs))
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.integers(0, 4)):
            case 0:
                mapping[draw(st.sampled_from(LEGAL_KEYS))] = draw(values)
            case 1:
                mapping["inputs"] = draw(st.lists(one_input, max_size=3))
            case 2:
                mapping[draw(keys)] = draw(values)
            case 3:
                mapping.pop(draw(st.sampled_from(LEGAL_KEYS)), None)
            case _:
                key = draw(st.sampled_from(LEGAL_KEYS))
                mapping[key[: draw(st.integers(0, len(key)))]] = draw(values)
    return mapping


# Mappings --------------------------------------------------------------------------------------------------------


def job_of(mapping: Any, **options: Any) -> Job | None:
    """None: refused, in words that name a key."""
    try:
        job = parse_job(mapping, job_file=JOB_FILE, **options)
    except ConfigError as error:
        check_words(str(error), mapping)
        return None
    assert all(isinstance(warning, str) for warning in job_warnings(job))
    return job


def check_words(words: str, mapping: Mapping[Any, Any]) -> None:
    """Each thing that is wrong begins with the key; and all of it can be printed on any terminal."""
    words.encode()
    assert all(line.isprintable() for line in words.split("\n")), words
    assert len(words) < 2000 * (1 + words.count("\n"))
    first, *rest = words.split("\n")
    file, _, problem = first.partition(": ")
    assert file == "job.yaml"
    problems = (
        [line[2:] for line in rest if line.startswith("- ")] if "things are wrong" in problem else [problem]
    )
    assert problems
    legal = (
        *LEGAL_KEYS,
        *(key if isinstance(key, str) and key.isprintable() else shown(key) for key in mapping),
    )
    for one in problems:
        assert one.startswith(tuple(f"{key}{end}" for key in legal for end in (" ", "."))), one
        assert len(one.split()) > 3, one


@fuzz(400)
@given(nearly_legal())
def test_any_mapping_is_a_job_or_refused_in_words(mapping: dict[Any, Any]) -> None:
    job_of(mapping)


@fuzz(200)
@given(values | st.dictionaries(keys, values, max_size=6), st.sampled_from(LEGAL_KEYS))
def test_any_value_at_any_key(value: Any, key: str) -> None:
    mapping = {"entry_script": "script.py", "inputs": [{"files": "data/"}], key: value}
    if (job := job_of(mapping)) is None:
        with pytest.raises(ConfigError, match=r"job\.yaml"):
            parse_job(mapping, job_file=JOB_FILE)
    else:
        assert job == job_of(mapping)


@fuzz(200)
@given(legal_jobs)
def test_a_legal_mapping_survives_its_way_through_yaml(mapping: dict[str, Any]) -> None:
    job = job_of(mapping)
    written = read_job_text(yaml.safe_dump(mapping), "job.yaml")
    if job is None:
        assert job_of(written) is None  # Keys that are legal, but not together.
    else:
        assert job_of(written) == job


def test_most_legal_mappings_are_jobs() -> None:
    """So that the test above has something to say."""
    found: list[bool] = []

    @fuzz(100)
    @given(legal_jobs)
    def look(mapping: dict[str, Any]) -> None:
        found.append(job_of(mapping) is not None)

    look()
    assert sum(found) > len(found) // 4


# YAML ------------------------------------------------------------------------------------------------------------

# fmt: off
TOKENS = [
    *("entry_script", "inputs", "files", "csv", "mini_batch_size", "arguments", "name", "<<", "x", "é", "1"),
    *(": ", ":", "- ", "\n", "\n  ", "\n\t", "{", "}", "[", "]", ", ", "&a ", "*a", "*a ", "0.5", "null", "yes"),
    *("!!binary ", "!!set ", "!x ", "!!python/object:os.system ", "!!timestamp ", "!!float ", "!!int ", "!!bool "),
    *("!!omap ", "!!pairs ", "!!null ", '"', "'", '"\\ud800"', '"\\uD83D\\uDE00"', "\\x", "|", ">", "|+\n", "# "),
    *("---\n", "...\n", "%YAML 9.9\n", "? ", "@", "`", "%", "~", "2024-01-01", "12:30:45", "0x1F", "0o17", ".nan"),
    *(".inf", "1" * 5000, "\0", "\x85", "\u2028", "\ufeff", "\x07", "=", "%TAG ! tag:x,2000:\n", "*b", "&a [*a]"),
    "!<tag:yaml.org,2002:str> ",
]
# fmt: on
texts = st.lists(st.sampled_from(TOKENS), max_size=30).map("".join) | st.text(max_size=60)


@st.composite
def edited(draw: st.DrawFn) -> str:
    """A job file with something struck out, doubled or typed into it."""
    text = yaml.safe_dump(draw(legal_jobs))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 20)))
        typed = draw(st.sampled_from(TOKENS) | st.just(text[start:stop] * 2))
        text = text[:start] + typed + text[stop:]
    return text


@fuzz(500)
@given(texts | edited())
def test_any_text_is_a_value_or_refused_in_words(text: str) -> None:
    try:
        value = read_job_text(text, "job.yaml")
    except ConfigError as error:
        assert str(error).startswith("job.yaml: ")
        str(error).encode()
        assert all(line.isprintable() for line in str(error).split("\n")), str(error)
        return
    if isinstance(value, Mapping):
        job_of(value)


DEEP = 5000
BOMBS = {
    "laughs": "a0: &a0 [x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
    "merged laughs": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 8)),
    "itself": "inputs: &a [*a]",
    "itself as its key": "? &a {*a : 1}\n: 2",
    "itself merged": "a: &a {<<: *a}",
    "itself in arguments": "arguments: &a [*a, {x: *a}]",
    "deep list": "inputs: " + "[" * DEEP + "]" * DEEP,
    "deep mapping": "a: " + "{b: " * DEEP + "1" + "}" * DEEP,
    "deep keys": "? [" * 500 + "x",
    "many keys": "".join(f"k{number}: 1\n" for number in range(5000)),
    "long key": "k" * 100_000 + ": 1",
    "long text": "name: " + "x" * 1_000_000,
    "many digits": "mini_batch_size: " + "9" * 100_000,
    "many sexagesimals": "mini_batch_size: 1" + ":59" * 5000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_yaml_that_explodes(bomb: str) -> None:
    with pytest.raises(ConfigError, match=r"job\.yaml") as raised:
        parse_job(read_job_text(BOMBS[bomb], "job.yaml"), job_file=JOB_FILE)
    assert len(str(raised.value)) < 2_000_000


# --set -----------------------------------------------------------------------------------------------------------

PARTS = [
    *LEGAL_KEYS,
    *KINDS,
    *INPUT_OPTIONS,
    *INNER,
    "1",
    "2",
    "-1",
    "99999999999",
    "٣",
    "²",
    "é",
    " ",
    "\udcff",
]
dotted = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(".".join)
options = st.builds("{}={}".format, dotted, texts | odd_texts) | texts | st.just("=") | odd_texts


@fuzz(500)
@example({"entry_script": "script.py"}, ["entry_script.\udcff="])
@example({}, [".\udcff="])
@example({"inputs": [1]}, ["inputs.\udcff=1"])
@given(nearly_legal(), st.lists(options, min_size=1, max_size=3))
def test_any_options_of_the_command_line(mapping: dict[Any, Any], given_options: list[str]) -> None:
    try:
        pairs = [read_set(option) for option in given_options]
        changed = apply_sets(mapping, pairs)
    except ConfigError as error:
        assert str(error).startswith("--set ")
        assert all(line.isprintable() for line in str(error).split("\n")), str(error)
        return
    assert changed is not mapping
    job_of(changed, set_keys=[key for key, _ in pairs])


SETTABLE = (
    "mini_batch_size",
    "error_threshold",
    "run_max_try",
    "name",
    "output",
    "isolate_failures",
    "python",
)


@fuzz(200)
@given(legal_jobs, st.sampled_from(SETTABLE), st.data())
def test_a_value_set_is_the_value_in_the_file(mapping: dict[str, Any], key: str, data: st.DataObject) -> None:
    value = data.draw(fitting[key])
    typed = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    assert job_of(apply_sets(mapping, [read_set(f"{key}={typed}")])) == job_of({**mapping, key: value})
