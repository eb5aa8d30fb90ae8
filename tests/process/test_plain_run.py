"""`mpibatch.run()` in a real caller's process, which starts real runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import support

import mpibatch
from mpibatch.api import FileDataset
from mpibatch.errors import LaunchError, ScriptError

LENGTHS = """
import os, sys, threading
import pandas as pd
import beside
import mpibatch


def lengths(paths):
    return [len(open(path).read()) * beside.FACTOR for path in paths]


class Counter:
    def __init__(self):
        self.seen = 100

    def run(self, numbers, context):
        return [{"number": n, "batch": context.minibatch_index, "seen": self.seen} for n in numbers]

    def close(self):
        open("closed.txt", "w").close()
"""


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.txt").write_text(name * (1 + len(list(folder.iterdir()))))
    return folder


def write_program(folder: Path, code: str) -> None:
    """With a module beside it, which its processes have to find as it does."""
    (folder / "program.py").write_text(LENGTHS + code)
    (folder / "beside.py").write_text("FACTOR = 3\n")


def call(tmp_path: Path, code: str) -> str:
    """What a program prints that defines the above as its own (`__main__`) and then does `code`."""
    write_program(tmp_path, code)
    environment = {**os.environ, "PYTHONPATH": str(Path(mpibatch.__file__).parents[1])}
    command = [sys.executable, "program.py"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_function_of_the_callers_program_over_files(tmp_path: Path, texts: Path) -> None:
    out = call(tmp_path, "print(mpibatch.run(lengths, 'texts/*.txt').to_csv(index=False))")
    assert out.split() == ["value", "3", "6", "9"]


def test_paths_are_of_the_current_folder(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy.parquet"
    (tmp_path / "labels").write_text("found")

    def labels(paths: list[str]) -> list[str]:
        label = sys.argv[sys.argv.index("--labels") + 1]
        return [os.path.basename(path) + Path(label).read_text() for path in paths]

    found = mpibatch.run(
        labels,
        ["texts/c.txt", "texts/[ab].txt"],
        processes=1,
        side_inputs={"labels": "labels"},
        arguments=["--labels", "${side_inputs.labels}"],
        copy_output_to="copy.parquet",
    )
    assert isinstance(found, pd.DataFrame)
    assert found["value"].tolist() == ["c.txtfound", "a.txtfound", "b.txtfound"]
    pd.testing.assert_frame_equal(pd.read_parquet(copy), found)


def test_a_dataset_and_its_partition_keys(texts: Path) -> None:
    dataset = FileDataset.from_files(texts, partition_format="{name}.txt")
    found = mpibatch.run(
        lambda paths, context: [context.partition_key_value["name"]],
        dataset,
        partition_keys=["name"],
        processes=1,
    )
    assert isinstance(found, pd.DataFrame)
    assert found["value"].tolist() == ["a", "b", "c"]


def test_a_class_over_numbers_in_two_processes(tmp_path: Path) -> None:
    out = call(
        tmp_path, "print(mpibatch.run(Counter, 5, mini_batch_size=2, processes=2).to_csv(index=False))"
    )
    assert out.split() == ["number,batch,seen", "0,0,100", "1,0,100", "2,1,100", "3,1,100", "4,2,100"]


def test_frames_keep_their_types() -> None:
    table = pd.DataFrame({"n": [1, 2, 3], "day": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"])})
    doubled = mpibatch.run(lambda frame: frame.assign(n=frame["n"] * 2), table, mini_batch_size="2 rows")
    assert isinstance(doubled, pd.DataFrame)
    pd.testing.assert_frame_equal(doubled, table.assign(n=table["n"] * 2))


def test_with_an_output_folder_the_run_stays_and_is_reused(tmp_path: Path, texts: Path) -> None:
    calls = tmp_path / "calls"

    def touch(paths: list[str]) -> list[str]:
        with open(calls, "a") as file:
            file.write("x")
        return [os.path.basename(path) for path in paths]

    first = mpibatch.run(
        touch, [texts / "b.txt", texts / "a.txt"], output=tmp_path / "out", mini_batch_size=1
    )
    assert first == tmp_path / "out" / "rows.parquet"
    assert isinstance(first, Path)
    assert pd.read_parquet(first)["value"].tolist() == ["b.txt", "a.txt"]
    again = mpibatch.run(
        touch, [texts / "b.txt", texts / "a.txt"], output=tmp_path / "out", mini_batch_size=1
    )
    assert again == first
    assert calls.read_text() == "xx"


def test_the_error_is_the_first_cause_and_the_logs_stay(texts: Path) -> None:
    def fails(paths: list[str]) -> list[str]:
        raise ValueError(f"cannot bear {os.path.basename(paths[0])}")

    with pytest.raises(mpibatch.RunFailed) as caught:
        mpibatch.run(fails, texts, run_max_try=1)
    folder = Path(caught.value.folder)
    try:
        assert caught.value.exit_code == 3
        assert "first cause  ValueError: cannot bear a.txt" in str(caught.value)
        assert list(folder.glob("logs/user/error/*/*.txt"))
    finally:
        shutil.rmtree(folder.parent)


def test_a_wrong_key_is_told_as_in_a_job_file(texts: Path) -> None:
    with pytest.raises(mpibatch.RunFailed) as caught:
        mpibatch.run(sorted, texts, run_max_tries=1)
    assert "run_max_tries is 1: there is no such key; did you mean run_max_try?" in str(caught.value)
    assert caught.value.exit_code == 2
    assert not Path(caught.value.folder).parent.exists()


def test_what_cannot_be_sent_is_refused_before_anything_starts(texts: Path) -> None:
    lock = threading.Lock()

    def holds(paths: list[str]) -> list[str]:
        return [str(lock)]

    class Wants:
        def __init__(self, model: str) -> None: ...
        def run(self, paths: list[str]) -> list[str]:
            return paths

    with pytest.raises(ScriptError, match="cannot be sent to other processes"):
        mpibatch.run(holds, texts)
    with pytest.raises(ScriptError, match="its __init__ wants model"):
        mpibatch.run(Wants, texts)
    with pytest.raises(ScriptError, match="pass a function"):
        mpibatch.run(5, texts)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    found = mpibatch.run(sorted, np.int64(3), mini_batch_size=np.int64(2), processes=np.int64(1))  # type: ignore[arg-type]
    assert isinstance(found, pd.DataFrame)
    assert found["value"].tolist() == [0, 1, 2]


def test_a_run_without_rows(tmp_path: Path) -> None:
    found = mpibatch.run(sorted, 3, processes=1, output_action="summary_only")
    assert isinstance(found, pd.DataFrame)
    assert found.empty
    folder = tmp_path / "out"
    assert mpibatch.run(sorted, 3, processes=1, output_action="summary_only", output=folder) == folder


def test_hdf5_is_no_frame(texts: Path) -> None:
    with pytest.raises(ScriptError, match="give output=FOLDER"):
        mpibatch.run(sorted, texts, append_row_format="hdf5")


def test_lost_items_are_told() -> None:
    def reciprocal(numbers: list[int]) -> list[float]:
        return [1 / number for number in numbers]

    with pytest.warns(UserWarning, match="1 of 3 items failed.*ZeroDivisionError") as told:
        found = mpibatch.run(reciprocal, 3, mini_batch_size=1, processes=1, run_max_try=1)
    assert isinstance(found, pd.DataFrame)
    assert found["value"].tolist() == [1.0, 0.5]
    assert told[0].filename == __file__


def test_in_a_rank_it_is_refused(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(LaunchError, match="rank of a launcher already"):
        mpibatch.run(sorted, texts)


def test_an_interrupt_stops_the_run_and_removes_its_folder(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = f"""
import time
def waits(numbers):
    open({str(begun)!r}, "w").close()
    time.sleep(600)

mpibatch.run(waits, 3, processes=1)
"""
    write_program(tmp_path, code)
    before = set(Path(os.environ["TMPDIR"]).glob("mpibatch-run-*"))
    environment = {**os.environ, "PYTHONPATH": str(Path(mpibatch.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as caller:
        support.wait_until(begun.exists, "run() is called")
        caller.send_signal(signal.SIGINT)
        _, told = caller.communicate(timeout=60)
    assert "KeyboardInterrupt" in told
    assert set(Path(os.environ["TMPDIR"]).glob("mpibatch-run-*")) == before


def test_an_interrupted_run_with_a_folder_is_stopped_in_order_and_goes_on(tmp_path: Path) -> None:
    code = """
def waits(numbers):
    open(f"{FOLDER}/begun{numbers[0]}", "w").close()
    while not os.path.exists(f"{FOLDER}/go"):
        time.sleep(0.01)
    return numbers

print(mpibatch.run(waits, 3, processes=1, mini_batch_size=1, output=f"{FOLDER}/out", show=True))
"""
    write_program(tmp_path, f"import time\nFOLDER = {str(tmp_path)!r}\n{code}")
    environment = {**os.environ, "PYTHONPATH": str(Path(mpibatch.__file__).parents[1])}
    command = [sys.executable, "program.py"]
    said = tmp_path / "said"
    with (
        open(said, "w") as stderr,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=stderr) as caller,
    ):
        support.wait_until((tmp_path / "begun0").exists, "run() is called")
        caller.send_signal(signal.SIGINT)
        support.wait_until(lambda: "ask again to give it up" in said.read_text(), "it says that it stops")
        (tmp_path / "go").touch()
        caller.wait(timeout=60)
    assert "KeyboardInterrupt" in said.read_text()
    assert support.result(tmp_path / "out")["verdict"] == "stopped"
    assert support.result(tmp_path / "out")["items"]["succeeded"] == 1
    assert call(tmp_path, f"import time\nFOLDER = {str(tmp_path)!r}\n{code}").strip().endswith("rows.parquet")
    assert support.result(tmp_path / "out")["sessions"] == 2
