"""The script that makes an environment, run by a real bash, and the words for where it has failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mpibatch.core.environment_keys import Environment
from mpibatch.core.environment_script import being_made, environment_script, shown_output
from mpibatch.core.shell_lines import Container

SAY = "import os, sys; print(os.getpid(), sys.executable, os.environ.get('A'), *sys.argv[1:], sep='|')"


class Made:
    """A script that was run to its end."""

    def __init__(
        self, folder: Path, environment: Environment, *words: str, go: str = "\n", **variables: str
    ) -> None:
        script = environment_script(environment, ["/data"])
        (folder / "environment.sh").write_text(script)
        state = folder / "state"
        state.unlink(missing_ok=True)
        command = ["bash", str(folder / "environment.sh"), str(state), sys.executable, "-c", SAY, *words]
        with subprocess.Popen(
            command, env={**os.environ, **variables}, cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            self.pid = process.pid
            self.stdout, self.stderr = process.communicate(go, timeout=30)
        self.returncode = process.returncode
        self.unmade = being_made(script, state.read_text() if state.exists() else "")


def test_the_shell_becomes_the_interpreter(tmp_path: Path) -> None:
    made = Made(tmp_path, Environment(setup="export A='x y'\necho loud"), "one", "t w'o", "$A")
    assert (made.returncode, made.unmade, made.stderr) == (0, "", "loud\n")
    assert made.stdout == f"{made.pid}|{sys.executable}|x y|one|t w'o|$A\n"


def test_no_line_is_run_if_its_starter_dies_before_it_says_so(tmp_path: Path) -> None:
    made = Made(tmp_path, Environment(setup="touch made"), go="")
    assert made.returncode == 1 and not made.stdout and not (tmp_path / "made").exists()


def test_what_it_starts_has_nothing_to_read(tmp_path: Path) -> None:
    made = Made(tmp_path, Environment(setup='A=$(cat); export A="<$A>"'), go="\nmore\n")
    assert made.stdout.split("|")[2].strip() == "<>", made.stderr


def test_setup_lines_do_not_see_the_script_s_arguments(tmp_path: Path) -> None:
    (tmp_path / "site.sh").write_text('[ $# = 0 ] && export A="none"')
    made = Made(tmp_path, Environment(setup="source ./site.sh"), "one")
    assert made.stdout.split("|")[2] == "none", made.stderr


HARMLESS = """\
inner() { false; true; }
inner
if false; then :; fi
false || true
for one in 1 2; do
    [ $one = 1 ] || export A=$one
done
source ./harmless.sh
cat <<END
a text
END
"""


def test_what_fails_within_and_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "harmless.sh").write_text("false\ntrue\n")
    made = Made(tmp_path, Environment(setup=HARMLESS))
    assert (made.returncode, made.unmade, made.stdout.split("|")[2]) == (0, "", "2\n"), made.stderr


FAILING = [
    ("a=1\n\n  ls /nowhere\nb=1", 2, "environment.setup, line 3: ls /nowhere"),
    ("export A=1\nfor i in 1; do\n    false\ndone", 1, "environment.setup, line 3: false"),
    ("f() {\n    return 5\n}\nf", 5, "environment.setup, line 4: f"),
    ("source ./bad.sh", 7, "environment.setup, line 1: source ./bad.sh"),
    ("(exit 4)", 4, "environment.setup, line 1: (exit 4)"),
    ("exit 0", 0, "environment.setup"),
    ("if true; then", 2, "environment.setup"),
    ("set -u\necho $nothing", 1, "environment.setup"),
]


@pytest.mark.parametrize(("setup", "code", "words"), FAILING)
def test_the_line_that_fails_is_told(tmp_path: Path, setup: str, code: int, words: str) -> None:
    (tmp_path / "bad.sh").write_text("true\nreturn 7\n")
    made = Made(tmp_path, Environment(setup=setup))
    assert (made.stdout, made.returncode, made.unmade) == ("", code, words)


def test_modules_and_conda_are_named(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "bash").write_text("module() { [ $2 != bad ]; }")
    bad = Made(tmp_path, Environment(modules=["good", "bad"]), MODULESHOME=str(tmp_path))
    assert (bad.returncode, bad.unmade) == (1, "environment.modules: bad")
    folder = Made(tmp_path, Environment(conda=f"{tmp_path}/no"))
    assert folder.unmade == f"environment.conda: {tmp_path}/no"
    assert "is no conda environment" in folder.stderr


def an_interpreter(folder: Path, name: str = "python3") -> Path:
    file = folder / "bin" / name
    file.parent.mkdir(exist_ok=True)
    file.symlink_to(sys.executable)
    return file


def test_the_interpreter_that_comes_with_the_environment_is_taken(tmp_path: Path) -> None:
    file = an_interpreter(tmp_path)
    brought = [Environment(setup=f"PATH='{tmp_path}/bin':$PATH"), Environment(conda=str(tmp_path))]
    for environment in brought:
        made = Made(tmp_path, environment)
        assert made.stdout.split("|")[1] == str(file), made.stderr
    without = Made(tmp_path, Environment(setup=f"PATH='{tmp_path}':$PATH"))
    assert without.stdout.split("|")[1] == sys.executable


def test_a_named_interpreter_is_looked_for_afterwards(tmp_path: Path) -> None:
    file = an_interpreter(tmp_path, "my-python")
    setup = f"PATH='{tmp_path}/bin':$PATH"
    assert Made(tmp_path, Environment(python="my-python", setup=setup)).stdout.split("|")[1] == str(file)
    assert Made(tmp_path, Environment(python=str(file), setup="true")).stdout.split("|")[1] == str(file)
    missing = Made(tmp_path, Environment(python="my-python"))
    assert (missing.returncode, missing.unmade) == (1, "environment.python: my-python")
    assert "my-python is not found in PATH=" in missing.stderr


APPTAINER = """\
#!/bin/sh
echo "$@" >&2
shift
while :; do case $1 in --bind|--pwd) shift 2;; --nv) export A=nv; shift;; *) break;; esac; done
[ "$1" = good.sif ] || exit 255
shift
exec "$@"
"""
"""Stands in for the command, as it is not to be had here: executes what it is given, without a container."""


def test_a_container(tmp_path: Path) -> None:
    tool = tmp_path / "apptainer"
    tool.write_text(APPTAINER)
    tool.chmod(0o755)
    an_interpreter(tmp_path)
    path = f"{tmp_path}:{tmp_path}/bin:{os.environ['PATH']}"

    def made(image: str, python: str | None = None) -> Made:
        container = Container(image=image, options=["--nv"])
        return Made(tmp_path, Environment(container=container, python=python), "w o", PATH=path)

    good = made("good.sif")
    assert (good.returncode, good.unmade) == (0, ""), good.stderr
    assert good.stdout == f"{good.pid}|{tmp_path}/bin/python3|nv|w o\n"
    assert f"exec --nv --bind /data --pwd {tmp_path} --bind {tmp_path} good.sif sh -c" in good.stderr
    bad = made("bad.sif")
    assert (bad.returncode, bad.unmade) == (255, "environment.container: bad.sif")
    without = made("good.sif", "python2.99")
    assert (without.returncode, without.unmade) == (127, "environment.container: good.sif")
    assert "python2.99 is not found in the container" in without.stderr
    tool.unlink()
    absent = made("good.sif")
    assert (absent.returncode, absent.unmade) == (1, "environment.container: good.sif")
    assert "apptainer is not found on" in absent.stderr


def test_a_damaged_state_is_no_trouble() -> None:
    script = environment_script(Environment(setup="true"))
    for number in ("x", "0", "99999", "-1", ""):
        assert being_made(script, f"environment.setup\n{number}\n") == "environment.setup"
    assert being_made(script, "\n") == ""


def test_the_end_of_what_was_printed() -> None:
    assert shown_output(" \n") == "; it printed nothing"
    lines = [f"line {number}" for number in range(20)]
    assert shown_output("\n".join(lines) + "\n") == "; it printed:\n" + "\n".join(lines[-6:])
    assert len(shown_output("x" * 5000)) < 1100
