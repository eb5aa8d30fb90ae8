from __future__ import annotations

import glob
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibatch.errors import InputError
from mpibatch.inputs.files import find_files
from mpibatch.inputs.lists import listed_files
from mpibatch.inputs.origin import Origin
from mpibatch.inputs.walk import Remarks

ORIGIN = Origin("job.yaml: inputs.0.files", "as written")


def make(folder: Path, *names: str | bytes) -> Path:
    """Empty files (and folders, where a name ends with a slash) below `folder`."""
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        if path.endswith(b"/"):
            os.makedirs(path, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    return folder


def found(folder: Path, *files: str, remarks: Remarks | None = None, output: str | None = None) -> list[str]:
    """What `files`, relative to `folder`, give: relative to `folder` too."""
    patterns = [f"{folder}/{file}" for file in files]
    top = os.fsencode(folder) + b"/"
    paths = [
        prefix + name
        for prefix, names in find_files(patterns, ORIGIN, remarks or Remarks(), output)
        for name in names
    ]
    assert all(path.startswith(top) for path in paths)
    return [os.fsdecode(path.removeprefix(top)) for path in paths]


def refused(folder: Path, *files: str) -> str:
    with pytest.raises(InputError) as caught:
        found(folder, *files)
    return str(caught.value)


# Folders


def test_a_folder_is_recursive_and_sorted_by_components_as_bytes(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "b/z", "b/a", "b-c", "B", "a/x/y", "a/x.y", "é", "~", "empty/")
    assert found(tmp_path, ".") == ["B", "a/x/y", "a/x.y", "b/a", "b/z", "b-c", "b.txt", "~", "é"]


def test_hidden_entries_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, ".hidden", ".git/config", "a/.b", "a/c")
    assert found(tmp_path, "") == ["a/c"]


def test_a_hidden_folder_named_as_such_is_taken(tmp_path: Path) -> None:
    make(tmp_path, ".data/a", ".data/.b")
    assert found(tmp_path, ".data") == [".data/a"]


def test_odd_names(tmp_path: Path) -> None:
    names = [b" ", b"a b", b"line\nbreak", b"\xff\xfe", b"tab\t/in \xe9side", b"quo'te\"", b"back\\slash"]
    make(tmp_path, *names)
    assert found(tmp_path, "/") == sorted(map(os.fsdecode, names), key=os.fsencode)


def test_links_are_followed_and_loops_survived(tmp_path: Path) -> None:
    make(tmp_path, "data/a", "data/sub/b", "else/c", "else/deep/d")
    os.symlink("a", tmp_path / "data/link")
    os.symlink("../else", tmp_path / "data/other")
    os.symlink(".", tmp_path / "data/self")
    os.symlink("../..", tmp_path / "data/sub/up")
    os.symlink("../data", tmp_path / "else/back")
    assert found(tmp_path, "data") == [
        "data/a",
        "data/link",
        "data/other/c",
        "data/other/deep/d",
        "data/sub/b",
        "data/sub/up/else/c",
        "data/sub/up/else/deep/d",
    ]


def test_two_links_to_one_folder_are_two_folders(tmp_path: Path) -> None:
    make(tmp_path, "data/", "else/c")
    os.symlink("../else", tmp_path / "data/one")
    os.symlink("../else", tmp_path / "data/two")
    assert found(tmp_path, "data") == ["data/one/c", "data/two/c"]


def test_what_is_no_file_is_left_out_and_told(tmp_path: Path) -> None:
    make(tmp_path, "data/a")
    os.mkfifo(tmp_path / "data/fifo")
    os.symlink("nowhere", tmp_path / "data/dead")
    os.symlink("loop", tmp_path / "data/loop")
    remarks = Remarks()
    assert found(tmp_path, "data", remarks=remarks) == ["data/a"]
    dead, special = remarks.texts()
    assert "lead nowhere" in dead and ": 2," in dead
    assert "neither files nor folders" in special and special.endswith(": 1")


def test_links_to_files_beside_a_link_that_cannot_be_followed(tmp_path: Path) -> None:
    make(tmp_path, "a", "m", "z", "else/x")
    os.symlink("circle", tmp_path / "circle")
    for name, target in (("b", "m"), ("n", "else"), ("y", "z"), (".h", "a")):
        os.symlink(target, tmp_path / name)
    assert found(tmp_path, ".") == ["a", "b", "else/x", "m", "n/x", "y", "z"]
    assert found(tmp_path, "[by]*") == ["b", "y"]


def test_the_run_folder_is_not_walked_into(tmp_path: Path) -> None:
    make(tmp_path, "a", "runs/one/rows.txt", "runs/one/logs/x", "runs/two/rows.txt")
    output = str(tmp_path / "runs/one")
    os.symlink("runs/one", tmp_path / "latest")
    assert found(tmp_path, ".", output=output) == ["a", "runs/two/rows.txt"]
    assert found(tmp_path, "runs/one", output=output) == ["runs/one/logs/x", "runs/one/rows.txt"]


def test_a_tree_deeper_than_python_has_frames(tmp_path: Path) -> None:
    path = tmp_path
    while len(str(path)) < 3900:
        path /= "d"
        path.mkdir()
    try:
        (path / "file").touch()
        assert len(path.parts) > 1500
        assert found(tmp_path, "d") == [str((path / "file").relative_to(tmp_path))]
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # It is too deep for shutil, too.


def test_a_large_flat_folder_comes_in_order(tmp_path: Path) -> None:
    names = [f"{number:05d}" for number in range(3000)]
    make(tmp_path, *reversed(names), "01500.d/x")
    at = names.index("01500") + 1
    assert found(tmp_path, ".") == [*names[:at], "01500.d/x", *names[at:]]


# Globs


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make(
        tmp_path, "a.png", "b.jpg", ".h.png", "sub/c.png", "sub/d.txt", "sub/.hid/e.png", "sub/x/f.png",
        ".top/g.png", "t/[1].png", "t/1.png", b"t/\xff.png",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("?.png", ["a.png"]),
        ("[ab].*", ["a.png", "b.jpg"]),
        ("[!a].*", ["b.jpg"]),
        (".*.png", [".h.png"]),
        ("*/*.png", ["sub/c.png", "t/1.png", "t/[1].png", "t/\udcff.png"]),
        ("**/*.png", ["a.png", "sub/c.png", "sub/x/f.png", "t/1.png", "t/[1].png", "t/\udcff.png"]),
        ("**/**/c.png", ["sub/c.png"]),
        ("**/x/**", ["sub/x/f.png"]),
        ("s*/**", ["sub/c.png", "sub/d.txt", "sub/x/f.png"]),
        ("s*/x/f.png", ["sub/x/f.png"]),
        ("s*/.hid/*", ["sub/.hid/e.png"]),
        ("s*/.*/*", ["sub/.hid/e.png"]),
        ("s*/", ["sub/c.png", "sub/d.txt", "sub/x/f.png"]),
        ("t/[1].png", ["t/[1].png"]),  # It exists literally.
        ("t/[12].png", ["t/1.png"]),
        ("t/[[]1].png", ["t/[1].png"]),
        ("t/\udcff*", ["t/\udcff.png"]),
        ("t/?.png", ["t/1.png", "t/\udcff.png"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert found(tree, pattern) == expected


def test_a_folder_with_magic_in_its_name_above_a_glob(tmp_path: Path) -> None:
    make(tmp_path, "exp [1]/a.png", "exp 1/b.png", "w*/c.png", "wide/d.png")
    assert found(tmp_path, "exp [1]/*.png") == ["exp [1]/a.png"]
    assert found(tmp_path, "exp [[]1]/*.png") == ["exp [1]/a.png"]
    assert found(tmp_path, "exp [[]1]/") == ["exp [1]/a.png"]
    assert found(tmp_path, "exp [[]1]") == ["exp [1]/a.png"]
    assert found(tmp_path, "w[*]/*") == ["w*/c.png"]


def test_hidden_files_in_folders_that_are_not(tmp_path: Path) -> None:
    make(tmp_path, ".top/.q", "sub/.s", "sub/t", "sub/.x/.q", ".r")
    assert found(tmp_path, "**/*/.*") == ["sub/.s"]
    assert found(tmp_path, "**/.*") == [".r", "sub/.s"]


def test_a_file_that_is_named_like_a_pattern_hides_it_not_in_silence(tmp_path: Path) -> None:
    make(tmp_path, "*.png", "a.png")
    remarks = Remarks()
    assert found(tmp_path, "*.png", remarks=remarks) == ["*.png"]
    (text,) = remarks.texts()
    assert "really named" in text and "*.png" in text


def test_a_glob_survives_loops_and_gives_each_path_once(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.png")
    for link in ("one", "two", "sub/three"):
        os.symlink(tmp_path, tmp_path / link)
    assert found(tmp_path, "**/*.png") == ["a.png", "sub/b.png"]
    assert found(tmp_path, "*/*/b.png") == ["one/sub/b.png", "two/sub/b.png"]


NAMES = st.sampled_from(["a", "b", "ab", "a.b", ".a", "[a]", "\udcff"])
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12)
PARTS = st.sampled_from(["*", "**", "?", "a*", ".*", "[ab]", "[!a]", "a", "*b", ".a", "[[]a]", "\udcff"])


@settings(deadline=None, max_examples=150)
@given(TREES, st.lists(PARTS, min_size=1, max_size=4))
def test_globs_are_those_of_the_standard_library(paths: list[list[str]], parts: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for path in paths:
            whole = os.path.join(name, *path)
            if not any(os.path.isfile(os.path.join(name, *path[:depth])) for depth in range(1, len(path))):
                os.makedirs(os.path.dirname(whole), exist_ok=True)
                if not os.path.isdir(whole):
                    make(Path(name), "/".join(path))
        pattern = "/".join(parts)
        matches = set(glob.glob(os.path.join(name, pattern), recursive=True))
        expected = [os.path.relpath(path, name) for path in matches if os.path.isfile(path)]
        expected.sort(key=lambda path: os.fsencode(path).split(b"/"))
        if os.path.isdir(os.path.join(name, pattern.replace("[[]", "["))):
            return  # A folder: taken whole, not as a glob.
        if expected:
            assert found(Path(name), pattern) == expected
        else:
            refused(Path(name), pattern)


# Several


def test_elements_in_the_order_given_and_each_path_where_it_is_first(tree: Path) -> None:
    assert found(tree, "t/1.png", "sub/x", "*.jpg", "**/*.png", "sub", "b.jpg", "a.png") == [
        "t/1.png",
        "sub/x/f.png",
        "b.jpg",
        "a.png",
        "sub/c.png",
        "t/[1].png",
        "t/\udcff.png",
        "sub/d.txt",
    ]


def test_each_element_must_match_something(tree: Path) -> None:
    text = refused(tree, "*.png", "*.tif")
    assert "job.yaml: inputs.0.files.1: 'as written'" in text


# What is wrong, in words


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("sab", ["matches nothing", "{folder}/sab' does not exist", "holds 'sub': did you mean that?"]),
        ("sab/deep/er", ["{folder}/sab/deep/er' does not exist", "'{folder}' holds 'sub'"]),
        ("a.png/b", ["'{folder}/a.png' is no folder"]),
        ("a.png/", ["'{folder}/a.png' is no folder"]),
        ("sab/*.png", ["matches nothing: '{folder}/sab' does not exist", "did you mean"]),
        ("a.png/*.png", ["'{folder}/a.png' is no folder"]),
        ("zzz", ["'{folder}' holds 'a.png', 'b.jpg', 'sub' and 1 more."]),
        ("sub/*.jpeg", ["no file in '{folder}/sub' matches '*.jpeg'", "holds 'c.png', 'd.txt', 'x'"]),
        ("sub/x*", ["The pattern matches folders (1)", "write 'x*/**'"]),
        ("sub/**/*.jpeg", ["no file in '{folder}/sub' matches '**/*.jpeg'"]),
        ("empty", ["no files are in the folder '{folder}/empty'", "Hidden entries, which are left out: 1"]),
        ("empty/*", ["no file in '{folder}/empty' matches '*'", "is empty", "Hidden entries"]),
        ("links", ["no files are in the folder", "Symbolic links that lead nowhere are left out: 1"]),
        ("links/dead", ["is a symbolic link to 'gone', which leads nowhere"]),
        ("fifo", ["{folder}/fifo' is neither a file nor a folder"]),
        ("nu\0l", ["'{folder}/nu\\x00l' holds a NUL byte"]),
        ("new\nline\udcff", ["new\\nline\\udcff"]),
    ],
)
def test_messages(tree: Path, pattern: str, words: list[str]) -> None:
    if pattern in ("empty", "empty/*"):
        make(tree, "empty/.hidden")
    elif pattern.startswith("links"):
        make(tree, "links/")
        os.symlink("gone", tree / "links/dead")
    elif pattern == "fifo":
        os.mkfifo(tree / "fifo")
    text = refused(tree, pattern)
    assert text.startswith("job.yaml: inputs.0.files: 'as written': ")
    for word in words:
        assert word.format(folder=tree) in text
    text.encode()  # Any terminal can show it.


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """A folder cannot be unreadable for root: become somebody else, until the test's end."""
    user = os.geteuid()

    def become() -> None:
        if user == 0:
            os.seteuid(65534)

    yield become
    os.seteuid(user)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may read too (pytest's own are private)."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        for path, folders, _ in os.walk(name):
            for folder in folders:
                os.chmod(os.path.join(path, folder), 0o755)


@pytest.mark.parametrize("pattern", ["data", "data/*/*.png", "data/**/*.png"])
def test_an_unreadable_folder(open_folder: Path, as_nobody: Callable[[], None], pattern: str) -> None:
    make(open_folder, "data/a/x.png", "data/locked/y.png")
    os.chmod(open_folder / "data/locked", 0o000)
    as_nobody()
    text = refused(open_folder, pattern)
    assert f"{open_folder}/data/locked' cannot be read: Permission denied" in text


@pytest.mark.parametrize("pattern", ["locked/y.png", "locked/*.png", "locked/deep/"])
def test_an_unreachable_path(open_folder: Path, as_nobody: Callable[[], None], pattern: str) -> None:
    make(open_folder, "locked/y.png")
    os.chmod(open_folder / "locked", 0o000)
    as_nobody()
    assert "Permission denied" in refused(open_folder, pattern)


def test_a_link_to_what_cannot_be_reached(open_folder: Path, as_nobody: Callable[[], None]) -> None:
    make(open_folder, "data/a", "locked/y.png")
    os.symlink("../locked/y.png", open_folder / "data/link")
    os.chmod(open_folder / "locked", 0o000)
    as_nobody()
    assert f"{open_folder}/data/link' cannot be read: Permission denied" in refused(open_folder, "data")


# Lists


def listed(path: Path, *, check: bool = True) -> list[bytes]:
    return [prefix + name for prefix, names in listed_files(str(path), ORIGIN, check=check) for name in names]


def list_refused(path: Path, *, check: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        listed(path, check=check)
    text = str(caught.value)
    assert text.startswith("job.yaml: inputs.0.files: 'as written': ")
    return text


def test_a_list(tmp_path: Path) -> None:
    make(tmp_path, "b", "a b", b"\xff", "sub/c", " ")
    folder = os.fsencode(tmp_path)
    content = b"\xef\xbb\xbfb\r\n\r\n\na b\n\xff\r\n" + folder + b"/sub/c\n./b\n \nb"
    (tmp_path / "paths.txt").write_bytes(content)
    names = [b"b", b"a b", b"\xff", b"sub/c", b"b", b" ", b"b"]
    assert listed(tmp_path / "paths.txt") == [folder + b"/" + name for name in names]


def test_a_list_is_told_which_lines_are_wrong(tmp_path: Path) -> None:
    make(tmp_path, "here", "folder/")
    lines = ["here", "", "gone", "folder", "here/below", *(f"gone{number}" for number in range(2000))]
    path = tmp_path / "paths.txt"
    path.write_text("\n".join(lines))
    text = list_refused(path)
    assert f"line 3: '{tmp_path}/gone' does not exist; line 4: '{tmp_path}/folder' is a folder" in text
    assert f"line 5: '{tmp_path}/here/below' cannot be reached: Not a directory" in text
    assert "gone1' does not exist; and 1,998 more." in text
    assert len(listed(path, check=False)) == 2004


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no path"),
        (b"\n\r\n\n", "holds no path"),
        ("a\nb\n".encode("utf-16"), "line 1 of"),
        (b"a\nb\0c\n", "line 2 of"),
        (b"a\n" + b"x" * 100_000, "line 2 of"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "paths.txt").write_bytes(content)
    assert words in list_refused(tmp_path / "paths.txt", check=False)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    make(tmp_path, "paths.txt")
    assert f"'{tmp_path}/path.txt' does not exist. '{tmp_path}' holds 'paths.txt'" in list_refused(
        tmp_path / "path.txt"
    )
    assert f"'{tmp_path}' cannot be read: Is a directory" in list_refused(tmp_path)
