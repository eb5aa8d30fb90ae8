"""`Run.get_context()`: metrics, files, children, data; in a processor and at home."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpibatch.azureml import run as run_module
from mpibatch.azureml.data_paths import DataPath
from mpibatch.azureml.metrics import METRICS, as_json
from mpibatch.azureml.refusal import NeedsAzure
from mpibatch.azureml.run import Run, _OfflineRun
from mpibatch.entry import MINI_BATCH, EntryScript
from mpibatch.messages import Surroundings


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Surroundings]:
    (tmp_path / "labels").mkdir()
    made = Surroundings(
        process="process003",
        node="n1",
        run="digits",
        log_file=os.fsencode(tmp_path / "out/logs/n1/process003.log.txt"),
        output_dir=os.fsencode(tmp_path / "out"),
        metrics_file=os.fsencode(tmp_path / "out/.mpibatch/metrics/n1.process003.jsonl"),
        side_inputs={"labels": os.fsencode(tmp_path / "labels")},
        side_outputs={"trained": os.fsencode(tmp_path / "trained")},
    )
    EntryScript._settle(made)
    yield made
    clean()


def clean() -> None:
    EntryScript._settle(None)
    METRICS.close()
    MINI_BATCH.set(None)
    run_module._contexts.clear()


def logged(around: Surroundings) -> list[dict[str, Any]]:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    lines = Path(os.fsdecode(around.metrics_file)).read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_threads_that_begin_together_have_one_file(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one log: what each writes stands once."""
    threads = 4
    together = threading.Barrier(threads)
    makedirs = os.makedirs

    def all_at_once(*arguments: Any, **options: Any) -> None:
        makedirs(*arguments, **options)
        # Those that are in here at the same moment go on together.
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)

    monkeypatch.setattr(os, "makedirs", all_at_once)
    before = len(os.listdir("/proc/self/fd"))

    def tell(number: int) -> None:
        Run.get_context().log("n", number)
        EntryScript().logger.info("line %d", number)

    begun = [threading.Thread(target=tell, args=(number,)) for number in range(threads)]
    for one in begun:
        one.start()
    for one in begun:
        one.join()
    assert sorted(line["value"] for line in logged(around)) == list(range(threads))
    lines = Path(os.fsdecode(around.log_file)).read_text().splitlines()
    assert sorted(line.rpartition("|")[2] for line in lines) == [f"line {n}" for n in range(threads)]
    assert len(os.listdir("/proc/self/fd")) == before + 2


def test_lines_of_each_kind(around: Surroundings) -> None:
    run = Run.get_context()
    assert run is Run.get_context(allow_offline=False) and not isinstance(run, _OfflineRun)
    run.log("loss", 0.5)
    MINI_BATCH.set(7)
    run.log_list("losses", [1, np.float32(0.5)])
    run.log_row("point", x=1, y=np.int64(2))
    run.log_table("table", {"a": [1, 2], "b": np.array([3, 4])})
    run.log_table("frame", pd.DataFrame({"a": [1, 2]}))
    run.tag("kind", 5)
    lines = logged(around)
    assert [line["mini_batch"] for line in lines] == [None, 7, 7, 7, 7, 7]
    assert {(line["process"], line["run"]) for line in lines} == {("process003 on n1", "digits")}
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    about = {"time", "name", "process", "mini_batch", "run"}
    told = [{key: value for key, value in line.items() if key not in about} for line in lines]
    assert told == [
        {"value": 0.5},
        {"list": [1, 0.5]},
        {"row": {"x": 1, "y": 2}},
        {"table": {"a": [1, 2], "b": [3, 4]}},
        {"table": {"a": [1, 2]}},
        {"tag": "5"},
    ]
    assert run.get_metrics("loss") == {"loss": 0.5}
    run.log("loss", 1)
    assert run.get_metrics()["loss"] == [0.5, 1]
    assert run.get_tags() == {"kind": "5"}


class Odd:
    def __str__(self) -> str:
        return "odd \udcff"


VALUES: list[tuple[Any, Any]] = [
    (math.nan, "NaN"),
    (np.float64("inf"), "Infinity"),
    (-math.inf, "-Infinity"),
    (np.float32(0.5), 0.5),
    (np.bool_(True), True),
    (np.array(3), 3),
    (np.array([[1.0, math.nan]]), [[1.0, "NaN"]]),
    (2**70, 2**70),
    (None, None),
    (True, True),
    ("a\udcff", "a\\udcff"),
    ({1: (2, {3})}, {"1": [2, [3]]}),
    (Odd(), "odd \\udcff"),
    (pd.Series([1, 2]), [1, 2]),
    (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
]


@pytest.mark.parametrize(("value", "written"), VALUES, ids=[str(n) for n in range(len(VALUES))])
def test_what_is_logged_is_json(value: Any, written: Any) -> None:
    found = as_json(value)
    assert found == written and type(found) is type(written)
    json.dumps(found, allow_nan=False)


def test_a_line_after_one_that_a_death_has_torn_is_whole(around: Surroundings) -> None:
    file = Path(os.fsdecode(around.metrics_file))
    file.parent.mkdir(parents=True)
    file.write_text('{"time": "2026')
    run = Run.get_context()
    run.log("a", 1)
    run.log("b", 2)
    assert [json.loads(line)["name"] for line in file.read_text().splitlines()[1:]] == ["a", "b"]
    assert run.get_metrics() == {"a": 1, "b": 2}


def test_files_go_to_artifacts(around: Surroundings, tmp_path: Path) -> None:
    run = Run.get_context()
    source = tmp_path / "labels" / "below" / "x.txt"
    source.parent.mkdir()
    source.write_text("x")
    run.upload_file("outputs/a.txt", source)
    run.upload_file(name="outputs/a.txt", path_or_stream=io.BytesIO(b"newer"))
    run.upload_folder("all", str(tmp_path / "labels"))
    run.upload_files(["one"], [str(source)])
    assert run.get_file_names() == ["all/below/x.txt", "one", "outputs/a.txt"]
    assert (tmp_path / "out/artifacts/outputs/a.txt").read_text() == "newer"
    run.download_file("outputs/a.txt", str(tmp_path / "back" / "b.txt"))
    assert (tmp_path / "back" / "b.txt").read_text() == "newer"
    with pytest.raises(FileNotFoundError, match=r"all/below/x\.txt"):
        run.download_file("nothing")
    for name in ("../job_result.json", "/etc/x", "a/../.."):
        with pytest.raises(ValueError, match="neither absolute nor with"):
            run.upload_file(name, source)
    with pytest.raises(FileNotFoundError):
        run.upload_file("missing", tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match="is no folder"):
        run.upload_folder("folder", str(source))
    assert run.get_file_names() == ["all/below/x.txt", "one", "outputs/a.txt"]
    assert not list((tmp_path / "out").rglob("*.partial"))


class Figure:
    def savefig(self, file: str, format: str) -> None:
        Path(file).write_bytes(b"plotted")


def test_images(around: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "i.jpg").write_bytes(b"image")
    run = Run.get_context()
    run.log_image("roc/curve", plot=Figure())
    run.log_image("photo", str(tmp_path / "i.jpg"))
    plotted, photo = [line["image"] for line in logged(around)]
    assert plotted.startswith("artifacts/images/roc_curve-n1-process003-") and plotted.endswith(".png")
    assert (tmp_path / "out" / plotted).read_bytes() == b"plotted"
    assert (tmp_path / "out" / photo).read_bytes() == b"image" and photo.endswith(".jpg")
    with pytest.raises(ValueError, match="either a path or a plot"):
        run.log_image("none")


def test_children_and_the_parent(around: Surroundings) -> None:
    run = Run.get_context()
    with run.child_run("fold1") as child:
        child.log("loss", 1)
    one, two = run.create_children(count=2)
    (tagged,) = run.create_children(tag_key="k", tag_values=["v"])
    assert child.id == "digits/fold1" and child.parent is run
    assert len({run.id, one.id, two.id, tagged.id}) == 4 and tagged.tags == {"k": "v"}
    assert run.get_children() == [tagged, two, one, child]
    assert run.parent is not None
    run.parent.log("all", 2)
    assert [line["run"] for line in logged(around)] == ["digits/fold1", tagged.id, "digits-parent"]
    assert run.get_metrics() == {} and child.get_metrics() == {"loss": 1}
    with pytest.raises(ValueError, match="either a count"):
        run.create_children()


def test_what_a_run_is_called(around: Surroundings) -> None:
    run = Run.get_context()
    assert (run.id, run.name, run.number, run.get_status()) == ("digits", "digits", 1, "Running")
    assert (run.experiment.name, run.experiment.workspace.name) == ("digits", "digits")
    assert run.get_details()["runId"] == "digits"
    run.add_properties({"a": 1})
    assert run.get_properties() == {"a": "1"}
    run.start()
    run.flush()
    run.complete()


def test_data(around: Surroundings, tmp_path: Path) -> None:
    labels = Run.get_context().input_datasets["labels"]
    assert labels == str(tmp_path / "labels") == labels.path == labels.as_mount().path
    (tmp_path / "labels" / "a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "labels" / "b.jsonl").write_text('{"x": 3, "y": 4}\n')
    assert os.path.exists(os.path.join(labels, "a.csv")) and labels.to_path() == ["/a.csv", "/b.jsonl"]
    assert labels.to_pandas_dataframe().to_numpy().tolist() == [[1, 2], [3, 4]]
    with labels.mount() as mounted:
        assert mounted.mount_point == str(tmp_path / "labels")
    copies = labels.download(str(tmp_path / "copy"))
    assert copies == [str(tmp_path / "copy" / name) for name in ("a.csv", "b.jsonl")]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        labels.download(str(tmp_path / "copy"))
    with pytest.raises(KeyError, match=r"no side_inputs called label: it has labels \(is labels meant"):
        Run.get_context().input_datasets["label"]
    outputs = Run.get_context().output_datasets
    assert dict(outputs) == {"trained": str(tmp_path / "trained")} and outputs.trained == outputs["trained"]
    (tmp_path / "x.bin").touch()
    with pytest.raises(NeedsAzure, match=r"of a file that ends in \.bin"):
        DataPath(tmp_path / "x.bin").to_pandas_dataframe()


def test_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        run = Run.get_context()
        assert run.id.startswith("OfflineRun") and isinstance(run, _OfflineRun)
        run.log("a", 1)
        assert run.get_metrics() == {"a": 1} and run.parent is None
        with pytest.raises(RuntimeError, match="no run around this process"):
            Run.get_context(allow_offline=False)
        script = EntryScript()
        assert (script.agent_name, script.logging_level) == ("process000", "INFO")
        assert script.output_dir == str(tmp_path / "mpibatch_outputs") and os.path.isdir(script.log_dir)
        assert script.working_dir == str(tmp_path)
        script.logger.info("said")
        script.logger.debug("not said")
    finally:
        clean()
    assert capsys.readouterr().err.endswith("|INFO|process000|said\n")


def test_the_logger_writes_to_the_processor_s_file(around: Surroundings, tmp_path: Path) -> None:
    script = EntryScript()
    assert script.log_dir == str(tmp_path / "out/logs/n1") and script.agent_name == "process003"
    script.logger.warning("one \udcff")
    assert script.logger is script.logger
    (line,) = (tmp_path / "out/logs/n1/process003.log.txt").read_text().splitlines()
    assert line.endswith("|WARNING|process003|one \\udcff")
