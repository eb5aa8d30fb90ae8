"""Lines of bash that make environments, as bash takes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibatch.core.shell_lines import (
    Container,
    conda_lines,
    container_words,
    environment_lines,
    module_lines,
    outermost,
    quoted,
)

MODULE = """\
module() {
    case $2 in
        bad*) echo "no module $2" >&2; return 1;;
        *) export LOADED="$LOADED<$2>";;
    esac
}
"""


def bash(lines: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Each line has to succeed."""
    script = "\n".join(["trap 'exit 3' ERR", *lines])
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), max_size=40))
def test_quoted_words_arrive_as_they_are(words: list[str]) -> None:
    line = " ".join(["printf '%s\\0' x", *map(quoted, words)])
    ended = subprocess.run(["bash", "-c", line], capture_output=True, timeout=30, check=True)
    assert ended.stdout.decode().split("\0") == ["x", *words, ""]


def test_plain_words_stay_plain() -> None:
    assert quoted("gcc/12.2") == "gcc/12.2"
    assert quoted("") == "''"
    assert quoted("a b") == "'a b'"


def a_module_home(folder: Path) -> str:
    (folder / "init").mkdir()
    (folder / "init" / "bash").write_text(MODULE)
    return str(folder)


def test_the_module_function_is_found_and_loads_each(tmp_path: Path) -> None:
    lines = module_lines(["gcc/12", "it's $HOME"])
    ended = bash([*lines, 'echo "$LOADED"'], MODULESHOME=a_module_home(tmp_path))
    assert (ended.returncode, ended.stdout) == (0, "<gcc/12><it's $HOME>\n"), ended.stderr


def test_a_module_function_that_is_there_is_taken(tmp_path: Path) -> None:
    ended = bash([MODULE, *module_lines(["gcc"]), 'echo "$LOADED"'], MODULESHOME=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (0, "<gcc>\n"), ended.stderr


def test_a_module_that_is_not_there_fails_by_its_own_line(tmp_path: Path) -> None:
    ended = bash([*module_lines(["gcc", "bad/1", "more"]), "echo on"], MODULESHOME=a_module_home(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "", "no module bad/1\n")


def test_no_module_needs_no_module_command() -> None:
    assert module_lines([]) == []


def an_environment(folder: Path) -> Path:
    prefix = folder / "my env's"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "etc" / "conda" / "activate.d").mkdir(parents=True)
    (prefix / "etc" / "conda" / "activate.d" / "a.sh").write_text("export FROM_HOOK=yes; false")
    return prefix


def test_a_conda_environment_by_its_folder(tmp_path: Path) -> None:
    prefix = an_environment(tmp_path)
    said = 'echo "$CONDA_PREFIX|${PATH%%:*}|$FROM_HOOK"'
    ended = bash([*conda_lines(f"{prefix}/"), said])
    assert (ended.returncode, ended.stdout) == (0, f"{prefix}|{prefix}/bin|yes\n"), ended.stderr


def test_a_folder_that_is_no_environment(tmp_path: Path) -> None:
    ended = bash([*conda_lines(f"{tmp_path}/x y"), "echo on"])
    assert (ended.returncode, ended.stdout) == (3, "")
    assert f"{tmp_path}/x y is no conda environment" in ended.stderr


CONDA = """\
#!/bin/sh
[ "$*" = "$WANTED" ] || exit 7
echo '{name}() {{ [ "$1 $2" = "activate my-env" ] && export ACTIVE=$2; }}'
"""


@pytest.mark.parametrize(
    ("command", "asked", "variable"),
    [
        ("conda", "shell.bash hook", "CONDA_EXE"),
        ("micromamba", "shell hook --shell bash", "MAMBA_EXE"),
    ],
)
def test_a_conda_environment_by_its_name(tmp_path: Path, command: str, asked: str, variable: str) -> None:
    """By a command that makes the function that conda's own would."""
    tool = tmp_path / command
    tool.write_text(CONDA.format(name=command))
    tool.chmod(0o755)
    lines = [*conda_lines("my-env"), 'echo "$ACTIVE"']
    in_path = f"{tmp_path}:/usr/bin:/bin"
    for place in ({"PATH": in_path}, {"PATH": "/usr/bin:/bin", variable: str(tool)}):
        ended = bash(lines, WANTED=asked, **place)
        assert (ended.returncode, ended.stdout) == (0, "my-env\n"), ended.stderr
    assert bash([*conda_lines("other"), "echo on"], WANTED=asked, PATH=in_path).returncode == 3
    assert bash([*conda_lines("my-env"), "echo on"], WANTED="else", PATH=in_path).returncode == 3


def test_there_is_no_conda() -> None:
    ended = bash([*conda_lines("my-env"), "echo on"], PATH="/usr/bin:/bin")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "neither conda nor micromamba" in ended.stderr


def test_the_order_of_lines(tmp_path: Path) -> None:
    home = a_module_home(tmp_path)
    prefix = an_environment(tmp_path)
    setup = 'echo "$LOADED $CONDA_PREFIX"'
    lines = environment_lines(modules=["gcc"], conda=str(prefix), setup=[setup])
    assert lines[-1] == setup
    assert bash(lines, MODULESHOME=home).stdout == f"<gcc> {prefix}\n"
    assert environment_lines(modules=[], conda=None, setup=[]) == []


def test_a_container_shows_the_outermost_folders() -> None:
    container = Container(image="my image.sif", command="/opt/apptainer", options=["--nv"])
    words = container_words(container, ["/data/in", "/data", "/data2", "/a,b"])
    mount = """'type=bind,"source=/a,b","destination=/a,b"'"""
    assert words == [
        "/opt/apptainer", "exec", "--nv", "--mount", mount, "--bind", "/data", "--bind", "/data2", "'my image.sif'",
    ]  # fmt: skip
    assert container_words(Container(image="i.sif")) == ["apptainer", "exec", "i.sif"]


def test_what_lies_below_another_folder_is_left_out() -> None:
    assert outermost(["/a/b", "/a-b", "/a", "/a/b/c", "/a"]) == ["/a", "/a-b"]
    assert outermost(["/x", "/"]) == ["/"]
