"""`Model`: by name and version, in words where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpibatch.azureml.model import Model, UnknownModel
from mpibatch.core.config import parse_job
from mpibatch.entry import EntryScript
from mpibatch.errors import ConfigError
from mpibatch.messages import Surroundings

Settle = Callable[[dict[str, str]], None]


@pytest.fixture
def settle() -> Iterator[Settle]:
    def with_models(models: dict[str, str]) -> None:
        EntryScript._settle(
            Surroundings(
                process="process000",
                node="n1",
                run="job",
                log_file=b"/l/n1/l.txt",
                output_dir=b"/o",
                metrics_file=b"/m",
                models={name: path.encode() for name, path in models.items()},
            )
        )

    yield with_models
    EntryScript._settle(None)


MODELS = {
    "mnist": "/m/plain",
    "mnist/2": "/m/2",
    "mnist/10": "/m/10",
    "iris/1": "/i/1",
    "iris/10": "/i/10",
    "iris/9": "/i/9",
}


def test_by_name_and_version(settle: Settle) -> None:
    settle(MODELS)
    assert Model.get_model_path("mnist") == "/m/plain"
    assert Model.get_model_path("mnist", version=10) == Model.get_model_path(model_name="mnist", version="10")
    assert Model.get_model_path("mnist", 10) == "/m/10"
    assert Model.get_model_path("iris", _workspace=object()) == "/i/10", (
        "the highest as a number, not as text"
    )
    model = Model(object(), "iris")
    assert (model.name, model.version, model.path, model.id) == ("iris", 10, "/i/10", "iris:10")
    assert Model(None, id="mnist:2").path == "/m/2"
    assert [one.id for one in Model.list(None)] == [
        "mnist:10",
        "mnist:2",
        "mnist:0",
        "iris:10",
        "iris:9",
        "iris:1",
    ]
    assert [one.path for one in Model.list(None, name="mnist")] == ["/m/10", "/m/2", "/m/plain"]
    assert [one.id for one in Model.list(None, name="iris", latest=True)] == ["iris:10"]


UNKNOWN = [
    (
        "mnits",
        None,
        r"model mnits is none of the job's: it has mnist/1, iris \(is mnist/1 meant\?\); add it in the job",
    ),
    ("iris", 3, r'model iris/3 is none of .*under models, like models: \{"iris/3": path\}'),
    ("iris", 0, "model iris/0 is none"),
    ("iris", "new", "model iris/new is none"),
]


@pytest.mark.parametrize(("name", "version", "words"), UNKNOWN)
def test_an_unknown_one_is_told_in_words(
    name: str, version: int | str | None, words: str, settle: Settle
) -> None:
    settle({"mnist/1": "/m", "iris": "/i"})
    with pytest.raises(UnknownModel, match=words):
        Model.get_model_path(name, version)


def test_without_models_and_without_a_run(settle: Settle) -> None:
    with pytest.raises(UnknownModel, match="outside of a run there are no models"):
        Model.get_model_path("iris")
    settle({})
    with pytest.raises(UnknownModel, match="none of the job's: it has none; add it"):
        Model(None, "iris")
    with pytest.raises(ValueError, match="says which model"):
        Model(None)


def test_download(tmp_path: Path, settle: Settle) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "file.pkl").write_text("f")
    settle({"tree": str(tmp_path / "tree"), "file": str(tmp_path / "file.pkl")})
    to = tmp_path / "to"
    assert Model(None, "tree").download(str(to)) == str(to / "tree")
    assert (to / "tree" / "a").read_text() == "a"
    assert Path(Model(None, "file").download(target_dir=str(to))).read_text() == "f"
    with pytest.raises(FileExistsError, match="exist_ok=True writes over it"):
        Model(None, "file").download(str(to))
    Model(None, "file").download(str(to), exist_ok=True)


def job_with(models: dict[str, str], **keys: object) -> dict[str, object]:
    return {"entry_script": "s.py", "inputs": [{"files": "d/"}], "models": models, **keys}


def test_the_job_file_takes_versions() -> None:
    mapping = job_with({"mnist/1": "m", "my.model-2": "n"}, arguments=["--m", "${models.mnist/1}"])
    job = parse_job(mapping, job_file="/j/job.yaml")
    assert job.models == {"mnist/1": "/j/m", "my.model-2": "/j/n"}
    assert job.arguments == ["--m", "/j/m"]


@pytest.mark.parametrize("name", ["mnist/", "mnist/0", "mnist/x", "mnist/1/2", "../mnist", ".hidden", "a b"])
def test_wrong_names_of_models(name: str) -> None:
    with pytest.raises(ConfigError, match="no legal name"):
        parse_job(job_with({name: "m"}), job_file="/j/job.yaml")
