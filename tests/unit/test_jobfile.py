"""runtime.jobfile and runtime.job_yaml: real job files on disk become jobs, or errors in words."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpibatch.core.config import ArchiveInput, FilesInput, Job, ListInput, TableInput
from mpibatch.core.settings import printable
from mpibatch.core.tables import ByRows, BySize, CsvOptions, Hdf5Options, JsonlOptions
from mpibatch.errors import EXIT_USAGE, ConfigError, ScriptError
from mpibatch.runtime.job_yaml import read_job_text, read_set
from mpibatch.runtime.jobfile import SETTINGS_FILE, check_side_inputs, load_job, row_settings

SMALL = "entry_script: score.py\ninputs:\n  - files: images/\n"
SCRIPT = "def run(mini_batch):\n    return mini_batch\n"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits" / "digits.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "score.py").write_text(SCRIPT)
    return tmp_path


def load(folder: Path, text: str | bytes = SMALL, *sets: str, output: str | None = None) -> Job:
    job = folder / "my job.yaml"
    job.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_job(job, sets=sets, output=output)


def words(folder: Path, text: str | bytes = SMALL, *sets: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *sets)
    assert caught.value.exit_code == EXIT_USAGE
    assert not (folder / "runs").exists()
    return str(caught.value)


def test_the_example_loads() -> None:
    job = load_job(EXAMPLE)
    assert (job.name, job.mini_batch_size, job.process_count_per_node) == ("digits", 5, 2)
    assert job.entry_script == str(EXAMPLE.parent / "digit_identification.py")
    assert job.models == {"mnist": str(EXAMPLE.parent / "model")}
    assert job.output == str(EXAMPLE.parent / "runs" / "digits")


def test_a_small_job_file_is_enough(folder: Path) -> None:
    job = load(folder)
    assert job.name == "my-job"
    assert job.output == str(folder / "runs" / "my-job")
    assert job.inputs == [FilesInput(files=[str(folder / "images")], text="images/")]


def test_relative_paths_and_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "sub").mkdir()
    (folder / "sub" / "job.yaml").write_text(SMALL.replace("score.py", "../score.py"))
    job = load_job("sub/job.yaml", output="here")
    assert job.job_dir == str(folder / "sub")
    assert job.output == str(folder / "here")
    assert load_job("sub/job.yaml", output="~/x").output == str(folder / "home" / "x")
    assert load_job("sub/job.yaml", sets=["output=here"]).output == str(folder / "sub" / "here")


def test_a_byte_order_mark_is_no_matter(folder: Path) -> None:
    assert load(folder, b"\xef\xbb\xbf" + SMALL.encode()) == load(folder)


def test_folders_whose_names_are_not_utf8_work(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/\xff\n x"
    os.mkdir(odd)
    Path(os.fsdecode(odd), "score.py").write_text(SCRIPT)
    job = load(Path(os.fsdecode(odd)))
    assert os.fsencode(job.entry_script) == odd + b"/score.py"
    assert job.inputs == [FilesInput(files=[os.fsdecode(odd) + "/images"], text="images/")]


TABLES = """entry_script: score.py
inputs:
  - csv: [a.csv, b/*.csv]
    sep: "\\t"
    quotechar: null
    dtype: {id: Int64, name: str}
    parse_dates: [day]
    na_values: ["-", "2024-01-01"]
    encoding: latin-1
  - hdf5: c.h5
    as: arrays
mini_batch_size: 500 rows
append_row_format: parquet
"""


def test_a_job_of_tables_loads(folder: Path) -> None:
    job = load(folder, TABLES)
    csv, hdf5 = job.inputs
    assert csv == TableInput(
        kind="csv",
        files=[f"{folder}/a.csv", f"{folder}/b/*.csv"],
        text="a.csv, b/*.csv",
        options=CsvOptions(
            sep="\t",
            quotechar=None,
            dtype={"id": "Int64", "name": "str"},
            parse_dates=["day"],
            na_values=["-", "2024-01-01"],
            encoding="latin-1",
        ),
    )
    assert isinstance(hdf5, TableInput)
    assert hdf5.options == Hdf5Options(as_="arrays")
    assert job.table_size == ByRows(rows=500)
    assert job.append_row_file_name == "parallel_run_step.parquet"


def test_sets_of_tables(folder: Path) -> None:
    for option, size in (
        ("mini_batch_size=10MB", BySize(bytes=10 * 2**20)),
        ("mini_batch_size=1.5 KB", BySize(bytes=1536)),
        ("mini_batch_size=2048", BySize(bytes=2048)),
        ("mini_batch_size=7 rows", ByRows(rows=7)),
    ):
        assert load(folder, TABLES, option).table_size == size
    job = load(folder, TABLES, "inputs.0.jsonl=x.jsonl", "inputs.1.group=/g", "mini_batch_size=1MB")
    assert [one.options for one in job.inputs if isinstance(one, TableInput)] == [
        JsonlOptions(),
        Hdf5Options(as_="arrays", group="/g"),
    ]
    job = load(folder, TABLES, "inputs.0.csv=*.csv", "inputs.0.sep=,", "inputs.1.hdf5=[a.h5, 'b c.h5']")
    assert [one.text for one in job.inputs] == ["*.csv", "a.h5, b c.h5"]
    (archive,) = load(folder, SMALL, "inputs.0.files=a.tar", "inputs.0.members=['*.png', b]").inputs
    assert archive == ArchiveInput(files=[f"{folder}/a.tar"], members=["*.png", "b"], text="a.tar")
    files = load(folder, TABLES, "inputs=[{files: images/}]", "mini_batch_size=5")
    assert (files.mini_batch_size, files.table_size) == (5, None)


UNREADABLE: list[tuple[str | bytes, list[str]]] = [
    ("", ["is empty", "entry_script and inputs"]),
    ("# nothing\n", ["is empty"]),
    ("- a\n", ['holds ["a"]', "a mapping"]),
    ("score.py", ['holds "score.py"']),
    (b"name: \xe4\n", ["not UTF-8", "0xe4 in line 1"]),
    ("name: x\0y\n", ["line 1, column 8", "not allowed in YAML"]),
    ("a: b: c\n", ["line 1, column 5", "needs quotes", "  a: b: c\n      ^"]),
    ("a:\n\tb: 1\n", ["line 2", "spaces, not with tabs"]),
    ("inputs:\n- files: *.png\n", ["line 2", "text that begins with * needs quotes"]),
    ("arguments: [--m, ${job_dir}/x]\n", ["line 1, column 19", "needs quotes inside of [ ]"]),
    ("a: @x\n", ["text that begins with @ needs quotes"]),
    ("a: [1\n", ["not YAML", "line "]),
    ("a: 1\n---\nb: 2\n", ["not YAML", "single document"]),
    ("a: !!python/object:os.system x\n", ["not YAML", "line 1"]),
    ("[a]: 1\n", ["not YAML", "unhashable key"]),
    ("a: " + "9" * 5000, ["cannot be read"]),
    ("a: " + "[" * 20_000, ["YAML"]),
    (SMALL + "name: abc\nname: abd\n", ["key name stands twice, in line 4 and line 5"]),
    (SMALL + "append_row: {sep: a, sep: b}\n", ["key append_row.sep stands twice, in line 4 and line 4"]),
    ("inputs:\n- files: a\n  files: b\n", ["key inputs.0.files stands twice, in line 2 and line 3"]),
]


@pytest.mark.parametrize(("text", "expected"), UNREADABLE, ids=lambda value: repr(value)[:40])
def test_what_cannot_be_read_is_told(folder: Path, text: str | bytes, expected: list[str]) -> None:
    message = words(folder, text)
    assert "my job.yaml" in message
    assert [word for word in expected if word not in message] == [], message


def test_missing_and_odd_job_files(folder: Path) -> None:
    (folder / "digits.yaml").write_text(SMALL)
    for path, expected in (
        (folder / "digit.yaml", "does not exist; did you mean digits.yaml?"),
        (folder / "no" / "digits.yaml", "there is no folder"),
        (folder, "is a folder: name the job file in it; it has digits.yaml"),
        (folder / "digits.yaml" / "x", "cannot be read: Not a directory"),
        (Path("a\0b"), "cannot be read"),
        (folder / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_job(path)
        assert expected in str(caught.value)


NOBODY = 65534


def test_an_unreadable_job_file(folder: Path) -> None:
    (folder / "digits.yaml").write_text(SMALL)
    (folder / "digits.yaml").chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)  # As root reads every file.
    try:
        with pytest.raises(ConfigError, match="Permission denied"):
            load_job(folder / "digits.yaml")
    finally:
        os.seteuid(user)


def test_arguments_and_variables_are_text_as_written(folder: Path) -> None:
    text = SMALL + (
        "mini_batch_size: &n 5\n"
        "arguments: [--a, 1e-3, 0.10, yes, 12:30, 007, 2024-01-01, *n, '', '${job_dir}/x']\n"
        "environment_variables: {A: 1.10, B: no, C: 'x y'}\n"
    )
    job = load(folder, text)
    assert job.arguments[:-1] == ["--a", "1e-3", "0.10", "yes", "12:30", "007", "2024-01-01", "5", ""]
    assert job.arguments[-1] == f"{folder}/x"
    assert job.environment_variables == {"A": "1.10", "B": "no", "C": "x y"}
    assert job.mini_batch_size == 5


def test_dates_are_text(folder: Path) -> None:
    job = load(folder, SMALL + "append_row_file_name: 2024-01-01\n")
    assert job.append_row_file_name == "2024-01-01"


def test_anchors_and_merges_work(folder: Path) -> None:
    text = SMALL + "environment_variables: &e {A: 1}\nside_inputs:\n  <<: {x: a, y: b}\n  x: c\n"
    job = load(folder, text)
    assert job.side_inputs == {"x": str(folder / "c"), "y": str(folder / "b")}
    endless = SMALL + "arguments: &a [*a]\n"
    assert "arguments.0" in words(folder, endless)


SETS: list[tuple[str, str, Any]] = [
    ("mini_batch_size=1", "mini_batch_size", 1),
    (" mini_batch_size = 1 ", "mini_batch_size", 1),
    ("run_invocation_timeout=1.5", "run_invocation_timeout", 1.5),
    ("allow_reuse=false", "allow_reuse", False),
    ("name=abc", "name", "abc"),
    ("name='abc'", "name", "abc"),
    ("mini_batch_error_threshold=null", "mini_batch_error_threshold", None),
    ("arguments=[--a, 1e-3, no]", "arguments", ["--a", "1e-3", "no"]),
    ("arguments.0=no", "arguments", ["no"]),
    ("arguments.0=", "arguments", [""]),
    ("environment_variables.A=0.10", "environment_variables", {"A": "0.10"}),
    ("environment_variables={A: 0.10, B: on}", "environment_variables", {"A": "0.10", "B": "on"}),
    ("append_row.sep=,", "append_row", {"sep": ","}),
    ("append_row.sep= ", "append_row", {"sep": " "}),
    ("append_row.sep=-", "append_row", {"sep": "-"}),
    ("append_row.sep=#", "append_row", {"sep": "#"}),
    ("append_row.sep=|", "append_row", {"sep": "|"}),
    ('append_row.sep="\\t"', "append_row", {"sep": "\t"}),
    ("append_row.header=true", "append_row", {"header": True}),
    ("append_row={sep: ';'}", "append_row", {"sep": ";"}),
]


@pytest.mark.parametrize(("option", "field", "want"), SETS, ids=[one[0] for one in SETS])
def test_sets_are_typed_by_their_key(folder: Path, option: str, field: str, want: Any) -> None:
    assert getattr(load(folder, SMALL, option), field) == want


ODD_NAMES = (
    *("a b.png", "a #1.png", "a: b.png", "*.png", "[ab]*.png", "{a}.png", "2024", "yes", "2024-01-01"),
    *("a\nb.png", "\udcff.png", "&a.png", "!x", "null.png", "%x", "@x", "'", "a=b", "-", "é"),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_file_name_can_be_set_as_it_is(folder: Path, name: str) -> None:
    (one,) = load(folder, SMALL, f"inputs.0.files={name}").inputs
    assert one == FilesInput(files=[f"{folder}/{name}"], text=name)


def test_sets_of_inputs(folder: Path) -> None:
    replaced = load(folder, SMALL, "inputs.0.list=paths.txt", "inputs.0.check=false")
    assert replaced.inputs == [ListInput(list=str(folder / "paths.txt"), check=False, text="paths.txt")]
    several = load(folder, SMALL, "inputs.1.files=[a, 'b c']")
    assert several.inputs[1] == FilesInput(files=[f"{folder}/a", f"{folder}/b c"], text="a, b c")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("mini_batch_size", "--set mini_batch_size: must be key=value"),
        ("=5", "--set =5: must be key=value"),
        ("inputs.7.files=x", "--set inputs.7.files: inputs has 1 element"),
        ("entry_script.x=y", "--set entry_script.x: entry_script is .score.py., which has nothing below it"),
        ("mini_batch_size=a: b: c", "--set mini_batch_size=a: b: c: not YAML: line 1"),
        ("mini_batch_size=\udcff", "YAML"),
        ("mini_batch_size=0", r"mini_batch_size \(from --set\) is 0"),
        ("mini_batch_size=", r"mini_batch_size \(from --set\) is empty"),
        ("mini_batch_sizes=3", r"mini_batch_sizes \(from --set\) is 3.* did you mean mini_batch_size"),
        ("append_row={sep: a, sep: b}", "key sep stands twice"),
        ("entry_script=", r"entry_script \(from --set\) is empty"),
    ],
)
def test_wrong_sets_are_named(folder: Path, option: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(folder, SMALL, option)


def test_missing_scripts_are_told_with_the_nearest(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "scoring.py").write_text(SCRIPT)
    assert "did you mean score.py?" in words(folder, SMALL, "entry_script=scor.py")
    assert "that is a folder" in words(folder, SMALL + "source_directory: .\n", "entry_script=src/")
    assert "there is no folder" in words(folder, SMALL, "entry_script=lib/x.py")
    message = words(folder, SMALL, "entry_script=src.scorin")
    assert 'entry_script is "src.scorin": there is neither a file of that name nor a module' in message
    assert "did you mean scoring.py?" in message
    message = words(folder, SMALL + "source_directory: src\n")
    assert "score.py exists, but entry_script is relative to source_directory" in message


def test_modules_and_files_without_ending_are_found(folder: Path) -> None:
    (folder / "pkg" / "sub").mkdir(parents=True)
    (folder / "pkg" / "main.py").write_text(SCRIPT)
    (folder / "pkg" / "sub" / "__init__.py").write_text(SCRIPT)
    (folder / "plain").write_text(SCRIPT)
    assert load(folder, SMALL, "entry_script=pkg.main").entry_script == "pkg.main"
    assert load(folder, SMALL, "entry_script=pkg.sub").source_directory == str(folder)
    assert load(folder, SMALL, "entry_script=plain").entry_script == str(folder / "plain")
    (folder / "json").mkdir()
    assert "nor a module json.tool in" in words(folder, SMALL, "entry_script=json.tool")
    (folder / "json").rmdir()
    # Installed, and not below the source folder: the processor will see.
    assert load(folder, SMALL, "entry_script=json.tool").entry_is_module


def test_all_missing_files_are_told_at_once(folder: Path) -> None:
    (folder / "env" / "bin").mkdir(parents=True)
    (folder / "env" / "bin" / "python").write_text("")
    (folder / "prepared.py").write_text("")
    message = words(folder, SMALL, "prepare=prepare.py", "python=env")
    assert "2 things are wrong" in message
    assert "did you mean prepared.py?" in message
    assert f"that is a folder; did you mean {printable(f'{folder}/env/bin/python')}?" in message
    assert "is not executable" in words(folder, SMALL, "python=env/bin/python")
    assert "there is no such file" in words(folder, SMALL, "python=env/bin/pythn")
    assert "the folder does not exist; did you mean env?" in words(folder, SMALL, "source_directory=envs")
    assert "is a file, not a folder" in words(folder, SMALL, "source_directory=score.py")
    assert load(folder, SMALL, f"python={sys.executable}").python == sys.executable


def test_the_script_is_checked(folder: Path) -> None:
    (folder / "score.py").write_text("def Run(x): ...\n")
    with pytest.raises(ScriptError, match="has no run"):
        load(folder)


def test_side_inputs_are_looked_for_after_prepare(folder: Path) -> None:
    job = load(folder, SMALL + "side_inputs: {labels: scor.py}\nmodels: {m: m/x}\n")
    with pytest.raises(ConfigError) as caught:
        check_side_inputs(job)
    message = str(caught.value)
    assert "side_inputs.labels is" in message
    assert "did you mean score.py?" in message
    assert "models.m is" in message
    check_side_inputs(load(folder, SMALL + "side_inputs: {labels: score.py}\n"))


def test_row_settings_in_their_order(folder: Path) -> None:
    defaults = {"sep": " ", "header": False, "index": False}
    assert row_settings(load(folder)) == defaults
    file = folder / SETTINGS_FILE
    to_csv = {"sep": ",", "index": True, "na_rep": "-"}
    file.write_text(json.dumps({"append_row": {"pandas.DataFrame.to_csv": to_csv}, "other": 1}))
    assert row_settings(load(folder)) == defaults | to_csv
    job = load(folder, SMALL, "append_row={sep: ;, header: false}")
    assert row_settings(job) == defaults | to_csv | {"sep": ";"}
    for arguments in ("[--append_row_dataframe_header, True]", "[--append_row_dataframe_header=true]"):
        job = load(folder, SMALL, "append_row={header: false}", f"arguments={arguments}")
        assert row_settings(job) == defaults | to_csv | {"header": True}
    file.write_text("{}")
    assert row_settings(load(folder)) == defaults


def test_row_settings_of_formats(folder: Path) -> None:
    defaults = {"sep": ",", "header": True, "index": False}
    csv = SMALL + "append_row_format: csv\n"
    assert row_settings(load(folder, csv)) == defaults
    to_csv = {"sep": ";", "na_rep": "-"}
    (folder / SETTINGS_FILE).write_text(json.dumps({"append_row": {"pandas.DataFrame.to_csv": to_csv}}))
    assert row_settings(load(folder, csv)) == defaults | to_csv
    assert row_settings(load(folder, csv, "append_row={sep: '|'}")) == defaults | to_csv | {"sep": "|"}
    job = load(folder, csv, "arguments=[--append_row_dataframe_header, False]")
    assert row_settings(job) == defaults | to_csv | {"header": False}
    for form in ("jsonl", "parquet", "hdf5"):
        assert row_settings(load(folder, SMALL, f"append_row_format={form}")) == {}


def test_row_settings_lie_beside_the_script_of_a_module(folder: Path) -> None:
    (folder / "pkg").mkdir()
    (folder / "pkg" / "main.py").write_text(SCRIPT)
    (folder / "pkg" / SETTINGS_FILE).write_text('{"append_row": {"pandas.DataFrame.to_csv": {"sep": ","}}}')
    assert row_settings(load(folder, SMALL, "entry_script=pkg.main"))["sep"] == ","


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("[1]", "holds [1]: must be an object like"),
        ('{"append_rows": {}}', "did you mean append_row?"),
        ('{"append_row": 1}', "append_row is 1: must be a mapping"),
        ('{"append_row": {"pandas.DataFrame.to_cvs": {}}}', "did you mean pandas.DataFrame.to_csv?"),
        ('{"append_row": {"pandas.DataFrame.to_csv": []}}', "must be a mapping"),
        ('{"append_row": {"pandas.DataFrame.to_csv": {"mode": "a"}}}', "mode is .a.: cannot be set"),
        ('{"append_row": {"pandas.DataFrame.to_csv": {"header": 1}}}', "header is 1: must be true, false"),
    ],
)
def test_broken_settings_files_are_told_at_the_start(folder: Path, content: str, expected: str) -> None:
    (folder / SETTINGS_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    message = words(folder)
    assert SETTINGS_FILE in message
    assert expected.replace(".a.", '"a"') in message


def test_a_header_argument_without_true_or_false(folder: Path) -> None:
    assert "True or False must follow" in words(folder, SMALL, "arguments=[--append_row_dataframe_header]")
    assert '"x": True or False' in words(folder, SMALL, "arguments=[--append_row_dataframe_header, x]")


BITS = (
    *("a: ", "- ", "name: x\n", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "!!set ", "<<: ", "? ", "|\n"),
    *("'", '"', "\t", "1e3", "2024-13-45", "0x_", "=", "~", "0o9", "1:99", "!!binary x", "!!float x", "\r"),
    *("é", "\udcff", "!!int ", "!!timestamp x", "!!bool x", "arguments: ", "#", ",", ": "),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.lists(st.sampled_from(BITS), max_size=8).map("".join) | st.text(st.characters(), max_size=20))
def test_any_text_is_read_or_a_config_error(text: str) -> None:
    for read in (
        lambda: read_job_text(text, "x.yaml"),
        lambda: read_set(f"a={text}"),
        lambda: read_set(f"arguments={text}"),
        lambda: read_set(f"inputs.0.files={text}"),
    ):
        try:
            read()
        except ConfigError as error:
            assert str(error).startswith(("x.yaml: ", "--set "))
