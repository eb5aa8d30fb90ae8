"""`finalize()` of a script whose job is an array: once, over the merged rows, by whoever merges."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from array_elements import all_elements, element, merge
from support import NOTE, Started, make_job, mpibatch, notes, open_gate, result, rows

SCRIPT = (
    NOTE
    + """
def init():
    folder = os.environ.get("AZUREML_MODEL_DIR")
    if folder:
        note("model " + open(os.path.join(folder, "net.txt")).read())

def run(mini_batch):
    return [os.path.basename(item) for item in mini_batch]

def finalize(output_file):
    note(f"finalize {len(open(output_file).readlines())}")
    with open(output_file, "a") as file:
        file.write("all\\n")
"""
)


def finalized(folder: Path) -> list[str]:
    return [note for note in notes(folder) if note.startswith("finalize")]


def test_it_has_the_models_that_mini_batches_have(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("net")
    job = make_job(tmp_path, SCRIPT, mini_batch_size=2, models={"m": "net.txt"})
    output = tmp_path / "output"

    all_elements(job, 2)

    assert rows(output)[-1] == "all" and len(rows(output)) == 7
    assert finalized(tmp_path) == ["finalize 6"]
    assert set(notes(tmp_path)) == {"model net", "finalize 6"}
    assert "is reused" in element(job, "0/2")
    assert "complete, exit code 0" in merge(output, code=0)
    assert finalized(tmp_path) == ["finalize 6"], "what is merged stays"


def test_rows_that_it_removes_are_no_output_and_stay_removed(tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT + "    os.remove(output_file)\n", mini_batch_size=2)
    output = tmp_path / "output"

    all_elements(job, 2)

    assert result(output)["output"] is None and not (output / "rows.txt").exists()
    merge(output, code=0)
    assert "is reused" in mpibatch("run", job, "--share", "0/2").stdout
    assert finalized(tmp_path) == ["finalize 6"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_who_merges_can_be_asked_to_stop(number: signal.Signals, code: int, tmp_path: Path) -> None:
    job = make_job(tmp_path, SCRIPT + "    gate()\n", mini_batch_size=2, copy_output_to="all.txt")
    output = tmp_path / "output"
    element(job, "0/2")
    with Started(tmp_path, "run", job, "--share", "1/2") as run:
        run.wait_until(lambda: bool(finalized(tmp_path)), "finalize() is called")
        run.process.send_signal(number)
        assert run.wait_to_end() == code, run.said
        assert f"got {number.name} while the shares were merged" in run.said
    assert not (output / "rows.txt").exists() and not (tmp_path / "all.txt").exists()

    open_gate(tmp_path)
    merge(output, code=0)

    assert rows(output)[-1] == "all" and len(rows(output)) == 7
    assert finalized(tmp_path) == ["finalize 6"] * 2
    (tmp_path / "all.txt").unlink()
    assert "is made again" in mpibatch("merge", output).stderr
    assert (tmp_path / "all.txt").read_text() == (output / "rows.txt").read_text()
