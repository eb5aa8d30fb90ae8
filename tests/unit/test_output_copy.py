"""`copy_output_to`: what of the job it must not take the place of."""

from __future__ import annotations

from typing import Any

import pytest

from mpibatch.core.config import parse_job
from mpibatch.errors import ConfigError

SMALL: dict[Any, Any] = {"entry_script": "score.py", "inputs": [{"files": "images/"}], "name": "night"}


def copied_to(path: str, **keys: Any) -> str | None:
    return parse_job(SMALL | keys | {"copy_output_to": path}, job_file="/jobs/night.yaml").copy_output_to


@pytest.mark.parametrize(
    ("path", "keys", "words"),
    [
        ("score.py", {}, "must be another file than the job's own entry script, which it would replace"),
        ("a/../src/score.py", {"source_directory": "src"}, "the job's own entry script"),
        ("night.yaml", {}, "the job's own job file"),
        ("make.py", {"prepare": "make.py"}, "the job's own prepare"),
        ("labels.txt", {"side_inputs": {"labels": "labels.txt"}}, "another file than side_inputs.labels"),
        ("model.h5", {"models": {"digits": "model.h5"}}, "another file than models.digits"),
        ("a/b", {"side_outputs": {"x": "a/b"}}, 'must be a file, and side_outputs.x is the folder "/jobs/a/b"'),
        ("a", {"side_outputs": {"x": "a/b"}}, "side_outputs.x is the folder"),
        ("images/all.txt", {}, 'would be an item of the input "/jobs/images" at the next run'),
        ("${job_dir}/x", {}, "must be a path as it is: ${...} is filled in in arguments only"),
        ("runs/night/logs/x", {}, "must be another file than what the run folder has as logs"),
    ],
)  # fmt: skip
def test_what_is_refused(path: str, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        copied_to(path, **keys)
    assert str(caught.value).startswith("night.yaml: copy_output_to is ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("files", "refused", "taken"),
    [
        ("data", ["data/a.csv", "data/sub/a.csv", "data"], ["datas/a.csv", "a.csv"]),
        ("data/*.csv", ["data/a.csv"], ["data/a.txt", "data/sub/a.csv", "a.csv"]),
        ("data/a.csv", ["data/a.csv", "data/x/../a.csv"], ["data/b.csv"]),
        ("data/**/*.csv", ["data/a.csv", "data/b/c/a.csv"], ["data/a.txt", "a.csv"]),
        ("data/**", ["data/a.csv", "data/b/c/a.csv"], ["a.csv"]),
        ("data/*/", ["data/sub/a.csv"], ["other/a.csv"]),
        ("data/*/*.csv", ["data/sub/a.csv"], ["data/a.csv"]),
        ("runs", ["runs/a.csv"], ["runs/night/a.csv"]),
    ],
)
def test_no_item_of_an_input(files: str, refused: list[str], taken: list[str]) -> None:
    for path in refused:
        with pytest.raises(ConfigError, match="would be an item of the input"):
            copied_to(path, inputs=[{"files": files}])
    for path in taken:
        assert copied_to(path, inputs=[{"files": files}]) == f"/jobs/{path}"
    assert copied_to("data/x.csv", inputs=[{"list": "data/x.txt"}]) == "/jobs/data/x.csv"
