"""What a start refuses: never a folder that a start of the same job, at the same instant, has just made."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mpibatch.core.shares import Division
from mpibatch.errors import RunFolderError
from mpibatch.runtime import array_folder
from mpibatch.runtime.array_folder import publish_division, read_division, refuse_plain
from mpibatch.runtime.refusals import refuse_foreign
from mpibatch.runtime.run_folder import RunFolder

ROUNDS = 300
"""Enough that the wrong order of looking is caught by some of them, each time."""


def test_a_folder_that_another_start_makes_meanwhile_is_not_foreign(tmp_path: Path) -> None:
    def made(folder: RunFolder) -> None:
        folder.private.mkdir(parents=True)
        (folder.root / "shares").mkdir()

    for number in range(ROUNDS):
        folder = RunFolder(tmp_path / f"{number}")
        maker = threading.Thread(target=made, args=(folder,))
        maker.start()
        while maker.is_alive():
            refuse_foreign(folder)
        maker.join()


def test_a_plan_that_a_sibling_makes_meanwhile_is_an_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made in the instant after the look at how the run is divided."""
    folder = RunFolder(tmp_path)
    folder.private.mkdir()

    def looked(whole: RunFolder) -> Division | None:
        seen = read_division(whole)
        publish_division(whole, Division(count=4, first=0, step=1))
        whole.run_file.touch()
        return seen

    monkeypatch.setattr(array_folder, "read_division", looked)
    refuse_plain(folder)


def test_a_folder_with_a_file_of_somebody_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match="is not empty and is not a run of mpibatch"):
        refuse_foreign(RunFolder(tmp_path))
