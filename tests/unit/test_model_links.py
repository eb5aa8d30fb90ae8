"""AZUREML_MODEL_DIR: what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import support

from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.model_links import link_models, link_names
from mpibatch.runtime.run_folder import RunFolder


def test_links_have_the_models_own_names() -> None:
    assert link_names({"m": "/a/model", "n": "/a/net.pt"}) == {"model": "/a/model", "net.pt": "/a/net.pt"}
    alike = {"m": "/a/model", "n": "/b/model", "o": "/b/o.pt"}
    assert link_names(alike) == {"m": "/a/model", "n": "/b/model", "o.pt": "/b/o.pt"}


def test_no_model_takes_the_link_of_another() -> None:
    models = {"net": "/a/model", "net/2": "/b/model", "m": "/c/net"}
    assert link_names(models) == {"net": "/a/model", "net:2": "/b/model", "m": "/c/net"}


def test_they_are_made_anew_for_each_session(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "weights").touch()
    job_file = support.make_job(tmp_path, "def run(b): return b", models={"m": "net/"})
    folder = RunFolder(tmp_path / "output")
    folder.private.mkdir(parents=True)
    for sets, expected in ([], ["net"]), (["models.x=script.py"], ["net", "script.py"]), ([], ["net"]):
        link_models(load_job(job_file, sets=sets), folder)
        assert sorted(os.listdir(folder.models)) == expected
        assert (folder.models / "net" / "weights").exists()
    assert (tmp_path / "net" / "weights").exists()


def test_without_models_there_is_no_such_folder(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    link_models(load_job(support.make_job(tmp_path, "def run(b): return b")), folder)
    assert not folder.private.exists()
