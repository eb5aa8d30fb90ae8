"""Datasets of the Python API: what they make of paths, and that jobs take it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from table_files import write_table

from mpibatch.api import (
    ApiError,
    DataPath,
    Dataset,
    DatasetConsumptionConfig,
    Datastore,
    DataType,
    ExistsError,
    FileDataset,
    NeedsAzureError,
    NotFoundError,
    OutputFileDatasetConfig,
    OutputRead,
    PipelineData,
    TabularDataset,
    Workspace,
)
from mpibatch.api.wiring import InputSource, Named, SidePath, StepOutput
from mpibatch.core.config import Job, parse_job
from mpibatch.errors import InputError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for user, season in (("ann", "fall"), ("ann", "spring"), ("bob", "fall")):
        (tmp_path / "music" / user / season).mkdir(parents=True)
        for number in (1, 2):
            (tmp_path / "music" / user / season / f"{number}.wav").write_text(f"{user} {season} {number}")
    (tmp_path / "a.csv").write_text("name,age\nada,36\nalan,41\n")
    (tmp_path / "b.csv").write_text("name,age\ngrace,85\n")
    return tmp_path


@pytest.fixture
def workspace(folder: Path) -> Workspace:
    return Workspace.create("lab", path=folder / "lab")


def job_of(element: dict[str, Any], **keys: Any) -> Job:
    mapping = {"name": "job", "entry_script": "score.py", "inputs": [element], "output": "/out", **keys}
    return parse_job(mapping, job_file="/elsewhere/job.yaml")


def test_paths_are_of_the_current_folder_and_jobs_take_them(folder: Path) -> None:
    dataset = FileDataset.from_files("music/")
    assert dataset.job_input() == {"files": f"{folder}/music/"}
    (taken,) = job_of(dataset.job_input()).inputs
    assert taken.text == f"{folder}/music/"
    several = Dataset.File.from_files(["music/ann/**", Path("music/bob")])
    assert several.job_input() == {"files": [f"{folder}/music/ann/**", f"{folder}/music/bob"]}
    assert isinstance(dataset, InputSource)
    assert isinstance(dataset, SidePath)


def test_a_current_folder_with_brackets_is_meant_literally(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = folder / "odd [1]"
    odd.mkdir()
    (odd / "x.txt").write_text("x")
    monkeypatch.chdir(odd)
    assert FileDataset.from_files("*.txt").to_path() == ["/x.txt"]


def test_nothing_there_is_told_at_once_if_not_told_otherwise(folder: Path) -> None:
    with pytest.raises(InputError, match="music"):
        FileDataset.from_files("musik")
    assert FileDataset.from_files("musik", validate=False).job_input() == {"files": f"{folder}/musik"}


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("https://example.org/a.csv", NeedsAzureError, "copy the data"),
        ("azureml://datastores/x/paths/y", NeedsAzureError, "copy the data"),
        ("", ApiError, "empty"),
        ([], ApiError, "empty list"),
        (7, ApiError, "path is 7"),
    ],
)
def test_what_is_no_path_is_refused(path: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        FileDataset.from_files(path)


def test_files_are_listed_copied_and_taken_in_the_order_of_a_run(folder: Path, tmp_path: Path) -> None:
    dataset = FileDataset.from_files("music")
    assert dataset.to_path()[:2] == ["/ann/fall/1.wav", "/ann/fall/2.wav"]
    assert FileDataset.from_files("music/*/fall/*.wav").to_path()[-1] == "/bob/fall/2.wav"
    assert dataset.take(1).job_input() == {"files": f"{folder}/music/ann/fall/1.wav"}
    assert dataset.skip(5).to_path() == ["/2.wav"]
    copies = dataset.skip(4).download(tmp_path / "copies")
    assert [Path(copy).read_text() for copy in copies] == ["bob fall 1", "bob fall 2"]
    with pytest.raises(ExistsError, match="overwrite=True"):
        dataset.skip(4).download(tmp_path / "copies")
    some, others = dataset.random_split(0.5, seed=3)
    assert sorted(some._source.files() + others._source.files()) == dataset._source.files()


def test_a_partition_format_gives_keys_to_jobs_that_partition(folder: Path) -> None:
    for path in ("music", "music/", "music/**", "music/*/*/*.wav"):
        dataset = FileDataset.from_files(path, partition_format="music/{user}/{season}/{number}.wav")
        assert dataset.partition_keys == ["user", "season", "number"], path
        job = job_of(dataset.job_input(["user"]), partition_keys=["user"])
        assert job.partition_keys == ["user"]
        users = [{"user": "ann"}, {"user": "bob"}]
        assert dataset.get_partition_key_values(["user"]) == users, path
    with pytest.raises(ApiError, match="partition_format"):
        FileDataset.from_files("music").job_input(["user"])


def test_a_side_input_is_one_path(folder: Path) -> None:
    assert FileDataset.from_files("a.csv").side_path() == f"{folder}/a.csv"
    for path in ("*.csv", ["a.csv", "b.csv"]):
        with pytest.raises(ApiError, match="one file or folder"):
            FileDataset.from_files(path).side_path()


def test_tables_become_options_that_jobs_take(folder: Path) -> None:
    table = TabularDataset.from_delimited_files(
        "*.csv",
        separator=";",
        header=False,
        support_multi_line=True,
        set_column_types={"age": DataType.to_long(), "name": DataType.to_string()},
        encoding="utf8",
        empty_as_string=True,
    )
    assert table.job_input() == {
        "csv": f"{folder}/*.csv",
        "sep": ";",
        "header": "none",
        "keep_default_na": False,
        "dtype": {"age": "int64", "name": "str"},
    }
    assert job_of(table.job_input()).inputs
    assert TabularDataset.from_delimited_files("a.csv").job_input()["multiline"] is False
    lines = TabularDataset.from_json_lines_files("a.jsonl", validate=False)
    assert lines.job_input() == {"jsonl": f"{folder}/a.jsonl"}
    pathed = TabularDataset.from_delimited_files("a.csv", include_path=True)
    assert pathed.job_input()["path_column"] == "Path"
    assert pathed.to_pandas_dataframe().iloc[0].tolist() == [f"{folder}/a.csv", "ada", 36]
    with pytest.raises(ApiError, match=r'set_column_types.*"money"'):
        TabularDataset.from_delimited_files("a.csv", set_column_types={"age": "money"})


def test_a_table_is_read_here_as_well(folder: Path) -> None:
    table = TabularDataset.from_delimited_files("*.csv")
    expected = pd.DataFrame({"name": ["ada", "alan", "grace"], "age": [36, 41, 85]})
    pd.testing.assert_frame_equal(table.to_pandas_dataframe(), expected)
    pd.testing.assert_frame_equal(table.drop_columns("name").to_pandas_dataframe(), expected[["age"]])
    assert table.keep_columns(["age"]).job_input()["columns"] == ["age"]
    with pytest.raises(NeedsAzureError, match="to_pandas_dataframe"):
        table.take(1)


PARTITIONED = [
    ("csv", TabularDataset.from_delimited_files),
    ("jsonl", TabularDataset.from_json_lines_files),
    ("parquet", TabularDataset.from_parquet_files),
]


@pytest.mark.parametrize(("kind", "read"), PARTITIONED, ids=[kind for kind, _ in PARTITIONED])
def test_a_partition_format_gives_columns_to_tables(kind: str, read: Any, folder: Path) -> None:
    frame = pd.DataFrame({"amount": [1, 2]})
    for place in ("ann/year=2020", "bob/year=2021"):
        write_table(frame, kind, folder / "shops" / place / f"a.{kind}")

    table = read("shops", partition_format="/{shop}/year={year:yyyy}/a.*")

    assert table.partition_keys == ["shop", "year"]
    whole = table.to_pandas_dataframe()
    assert list(whole.columns) == ["amount", "shop", "year"]
    assert whole["shop"].tolist() == ["ann", "ann", "bob", "bob"]
    assert whole["year"].dt.year.tolist() == [2020, 2020, 2021, 2021]
    assert table.job_input(["shop"])["path_columns"] == "/{shop}/year={year:yyyy}/a.*"
    assert job_of(table.job_input(["shop"]), partition_keys=["shop"]).partition_keys == ["shop"]
    assert table.get_partition_key_values(["shop"]) == [{"shop": "ann"}, {"shop": "bob"}]
    with pytest.raises(ApiError, match=r"\['shp'\] are none of"):
        table.get_partition_key_values(["shp"])
    (folder / "shops" / "ann" / "year=2020" / f"_a.{kind}").write_bytes(b"")
    if kind == "parquet":  # As Spark leaves such files: a run passes over them.
        assert len(table.to_pandas_dataframe()) == 4 and len(table.get_partition_key_values()) == 2
    (folder / "shops" / "ann" / "year=2020" / f"_a.{kind}").unlink()
    with pytest.raises(ApiError, match="name one of the files' own"):
        table.keep_columns("shop")
    few = table.drop_columns("year")
    assert list(few.to_pandas_dataframe().columns) == few.job_input()["columns"] == ["amount", "shop"]
    with pytest.raises(ApiError, match=r"partition_format: \{year:MM\}.*has a year"):
        read("shops", partition_format="{shop}/year={year:MM}/a.*")


def test_a_table_is_read_as_a_run_reads_it(folder: Path) -> None:
    (folder / "odd").mkdir()
    frame = pd.DataFrame({"a": [1, 2, 3]})
    frame.iloc[[2, 0, 1]].to_parquet(folder / "odd" / "x.parquet")  # With its index.
    table = TabularDataset.from_parquet_files("odd/", partition_format="{x}.parquet", include_path=True)
    read = table.to_pandas_dataframe()
    assert list(read.columns) == ["Path", "a", "__index_level_0__", "x"]
    assert read["Path"].tolist() == [f"{folder}/odd/x.parquet"] * 3 and read["x"].tolist() == ["x"] * 3

    (folder / "lines.jsonl").write_bytes(b'\xef\xbb\xbf{"a": NaN}\n\n{"a": 2}\n')
    assert TabularDataset.from_json_lines_files("lines.jsonl").to_pandas_dataframe()["a"].tolist()[1:] == [2]
    (folder / "lines.jsonl").write_text('{"a": 1}\nno line\n')
    with pytest.raises(ApiError, match=r"1 rows cannot be read: .*lines\.jsonl.*line 2"):
        TabularDataset.from_json_lines_files("lines.jsonl").to_pandas_dataframe()
    with pytest.raises(ApiError, match="a time in a path is written with its form"):
        TabularDataset.from_delimited_files(
            "a.csv", partition_format="{day}.csv", set_column_types={"day": DataType.to_datetime()}
        )


def test_a_table_is_partitioned_into_folders(workspace: Workspace) -> None:
    store = workspace.get_default_datastore()
    table = TabularDataset.from_delimited_files("*.csv")
    parts = table.partition_by(["name"], target=DataPath(store, "by_name"), name="people")
    assert parts.partition_keys == ["name"]
    assert job_of(parts.job_input(["name"]), partition_keys=["name"]).partition_keys == ["name"]
    odd = pd.DataFrame({"user.id": ["a/b", "c d"], "x": [1, 2]})
    made = TabularDataset.register_pandas_dataframe(odd, (store, "odd"), "odd")
    times = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"]), "x": [1, 2]})
    daily = TabularDataset.register_pandas_dataframe(times, (store, "times"), "times")
    assert daily.partition_by(["day"], target=(store, "days")).to_pandas_dataframe()["x"].tolist() == [1, 2]
    split = made.partition_by(["user.id"], target=(store, "by_id"))
    assert split.partition_keys == ["user.id"]
    assert split.get_partition_key_values() == [{"user.id": "a/b"}, {"user.id": "c d"}]
    assert split.to_pandas_dataframe()["user.id"].tolist() == ["a/b", "c d"]
    assert {"name": "alan"} in parts.get_partition_key_values()
    assert sorted(os.listdir(Path(store.folder) / "by_name")) == ["name=ada", "name=alan", "name=grace"]
    frame = Dataset.get_by_name(workspace, "people").to_pandas_dataframe()
    assert dict(zip(frame["name"], frame["age"], strict=True)) == {"ada": 36, "alan": 41, "grace": 85}
    with pytest.raises(ExistsError, match="holds something"):
        table.partition_by(["name"], target=(store, "by_name"))
    with pytest.raises(ApiError, match="no column is called nme"):
        table.partition_by(["nme"], target=(store, "other"))


def test_a_dataframe_is_registered(workspace: Workspace) -> None:
    frame = pd.DataFrame({"x": [1, 2]})
    store = workspace.get_default_datastore()
    for version in (1, 2):
        made = TabularDataset.register_pandas_dataframe(frame, (store, "tables"), "numbers")
        assert made.version == version
    pd.testing.assert_frame_equal(workspace.datasets["numbers"].to_pandas_dataframe(), frame)


def test_data_are_registered_and_found_again(workspace: Workspace, folder: Path) -> None:
    first = FileDataset.from_files("music").register(workspace, "music", description="songs", tags={"a": "b"})
    assert (first.name, first.version) == ("music", 1)
    assert FileDataset.from_files("music").register(workspace, "music").version == 1
    with pytest.raises(ExistsError, match="create_new_version"):
        FileDataset.from_files("a.csv").register(workspace, "music")
    table = TabularDataset.from_delimited_files("a.csv").register(workspace, "music", create_new_version=True)
    assert table.version == 2
    again = Dataset.get_by_name(Workspace(workspace.folder), "music", version=1)
    assert isinstance(again, FileDataset)
    assert (again.job_input(), again.description, again.tags) == (first.job_input(), "songs", {"a": "b"})
    assert isinstance(workspace.datasets["music"], TabularDataset)
    with pytest.raises(NotFoundError, match="did you mean music"):
        Dataset.get_by_name(workspace, "musik")
    with pytest.raises(NotFoundError, match="it has 1, 2"):
        Dataset.get_by_name(workspace, "music", version=3)
    with pytest.raises(ApiError, match="cannot be a name"):
        first.register(workspace, "../music")


def test_a_datastore_is_a_folder_with_a_name(workspace: Workspace, folder: Path) -> None:
    store = Datastore.register_folder(workspace, "songs", folder / "music")
    assert Datastore.get(workspace, "songs").folder == store.folder == f"{folder}/music"
    for place in (store.path("ann"), (store, "ann"), DataPath(store, "ann")):
        assert Dataset.File.from_files(place).job_input() == {"files": f"{folder}/music/ann"}
    assert Dataset.File.from_files((store, "*/fall/")).job_input() == {"files": f"{folder}/music/*/fall/"}
    assert sorted(workspace.datastores) == ["songs", "workspaceblobstore"]
    assert Datastore(workspace).folder == f"{workspace.folder}/data"
    Datastore.register_folder(workspace, "workspaceblobstore", folder)
    assert workspace.get_default_datastore().folder == str(folder)
    workspace.get_default_datastore().unregister()
    assert workspace.get_default_datastore().folder == f"{workspace.folder}/data"
    store.set_as_default()
    assert Workspace(workspace.folder).get_default_datastore().name == "songs"
    with pytest.raises(NeedsAzureError, match=r'register_folder\(workspace, "mnist_data"'):
        Datastore.register_azure_blob_container(workspace, datastore_name="mnist_data", container_name="x")
    with pytest.raises(NotFoundError, match="did you mean songs"):
        Datastore.get(workspace, "song")
    with pytest.raises(ApiError, match="no folder"):
        Datastore.register_folder(workspace, "songs", folder / "nowhere")
    with pytest.raises(ApiError, match=r"\.\."):
        store.path("../secret")


def test_files_are_put_into_a_datastore_and_taken_out(workspace: Workspace, folder: Path) -> None:
    store = workspace.get_default_datastore()
    store.upload("music/ann", "mine", show_progress=False)
    store.upload_files(["a.csv", "music/bob/fall/1.wav"], target_path="flat")
    dataset = Dataset.File.upload_directory("music/bob", (store, "bob"), pattern="**/1.wav")
    assert dataset.to_path() == ["/fall/1.wav"]
    assert sorted(os.listdir(Path(store.folder) / "flat")) == ["1.wav", "a.csv"]
    with pytest.raises(ExistsError, match="overwrite=True"):
        store.upload("music/ann", "mine")
    store.upload("music/ann", "mine", overwrite=True)
    assert store.download(folder / "out", prefix="mine") == 4
    assert (folder / "out/mine/fall/2.wav").read_text() == "ann fall 2"
    assert not list(folder.rglob("*.partial"))


def test_a_consumption_keeps_name_and_mode(folder: Path) -> None:
    dataset = FileDataset.from_files("music")
    named = dataset.as_named_input("songs").as_download()
    assert isinstance(named, InputSource)
    assert isinstance(named, Named)
    assert (named.name, named.job_input()) == ("songs", {"files": f"{folder}/music", "mode": "download"})
    assert job_of(named.job_input()).inputs
    other = named.of(FileDataset.from_files("a.csv"))
    assert (other.name, other.mode, other.side_path()) == ("songs", "download", f"{folder}/a.csv")
    table = TabularDataset.from_delimited_files("a.csv").as_named_input("people").as_download()
    assert "mode" not in table.job_input()
    assert (
        dataset.as_mount().name == dataset.as_mount().name != FileDataset.from_files("a.csv").as_mount().name
    )
    with pytest.raises(ApiError, match="mode is 'link'"):
        DatasetConsumptionConfig("x", dataset, mode="link")
    with pytest.raises(ApiError, match="not a dataset"):
        DatasetConsumptionConfig("x", 7).job_input()


def test_an_output_of_one_step_is_read_by_another() -> None:
    path = "${steps.score.output}"
    output = PipelineData("scores", datastore=None)
    assert isinstance(output, StepOutput)
    assert output.element(path) == {"files": path}
    read = output.as_input("rows").parse_delimited_files(header=False, quoted_line_breaks=True)
    assert isinstance(read, OutputRead)
    assert (read.name, read.output) == ("rows", output)
    assert read.element(path) == {"csv": path, "header": "none"}
    files = OutputFileDatasetConfig("models", destination="/shared/models").as_upload()
    assert files.destination == "/shared/models"
    assert files.as_download().element(path) == {"files": path, "mode": "download"}
    assert files.read_parquet_files().element(path) == {"parquet": path}
    assert OutputFileDatasetConfig().name != OutputFileDatasetConfig().name
    with pytest.raises(ApiError, match="cannot be a name"):
        PipelineData("a b")
