"""What a worker is told: log files by node and process, the system's arguments, the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
import support

import mpibatch
from mpibatch.core.config import Job
from mpibatch.core.framing import encode
from mpibatch.core.ranks import WorkerPlace
from mpibatch.messages import WorkerSetup
from mpibatch.runtime.jobfile import load_job
from mpibatch.runtime.planner import make_plan
from mpibatch.runtime.reading import Readers
from mpibatch.runtime.run_folder import RunFolder
from mpibatch.runtime.setups import input_specs, log_files, worker_setups
from mpibatch.work import Assignment, Piece

NOTICES = Path("/runs/lost/0001")
PLACES = {
    0: WorkerPlace(worker=0, rank=0, node=0, host="a", local_index=0),
    1: WorkerPlace(worker=1, rank=1, node=0, host="a", local_index=1),
    2: WorkerPlace(worker=2, rank=5, node=4, host="b/c", local_index=0),
}


def job_of(folder: Path, **keys: Any) -> Job:
    return load_job(support.make_job(folder, "def run(b): return b", **keys))


def setups(job: Job) -> dict[int, WorkerSetup]:
    return worker_setups(job, RunFolder(job.output), PLACES, inputs=[], notices=NOTICES)


def test_log_files_are_by_node_and_process(tmp_path: Path) -> None:
    logs = log_files(RunFolder(tmp_path), PLACES[2])
    assert logs == {
        "name": "process000 on b_c",
        "stdout": f"{tmp_path}/logs/user/stdout/b_c/process000.stdout.txt",
        "stderr": f"{tmp_path}/logs/user/stderr/b_c/process000.stderr.txt",
        "errors": f"{tmp_path}/logs/user/error/b_c/process000.txt",
        "sys": f"{tmp_path}/logs/sys/node/b_c/5.txt",
    }
    every = [path for place in PLACES.values() for path in log_files(RunFolder(tmp_path), place).values()]
    assert len(set(every)) == len(every)


def test_the_user_s_arguments_come_after_the_system_s(tmp_path: Path) -> None:
    job = job_of(tmp_path, arguments=["--model", "${job_dir}/m"], mini_batch_size=7, error_threshold=10)
    one = setups(job)[1]
    argv = [os.fsdecode(argument) for argument in one.processor.argv]
    assert argv[-2:] == ["--model", f"{tmp_path}/m"]
    given = dict(zip(argv[:-2:2], argv[1:-2:2], strict=True))
    assert given == {
        "--mini_batch_size": "7", "--process_count_per_node": "1", "--node_count": "1", "--error_threshold": "10",
        "--run_invocation_timeout": "60", "--run_max_try": "3", "--output_action": "append_row",
        "--append_row_file_name": "rows.txt", "--logging_level": "INFO", "--output": job.output,
    }  # fmt: skip
    assert (one.worker, one.processor.name) == (1, "process001")
    assert one.processor.script == os.fsencode(tmp_path / "script.py")
    assert one.processor.datasets == [b"data/"]
    assert one.processor.version == mpibatch.__version__


def test_the_environment(tmp_path: Path) -> None:
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "b").touch()
    models = {"one": "models/a", "two": "models/b"}
    job = job_of(tmp_path, environment_variables={"MINE": 3}, models=models, environment_keep=["PMI_*"])
    one = setups(job)[0]
    assert one.environment == {
        "MINE": b"3", "AZUREML_BI_OUTPUT_PATH": os.fsencode(job.output),
        "AZUREML_MODEL_DIR": os.fsencode(tmp_path / "output" / ".mpibatch" / "models"),
    }  # fmt: skip
    assert one.environment_keep == ["PMI_*"]
    assert "AZUREML_MODEL_DIR" not in setups(job_of(tmp_path))[0].environment


def test_settings_of_rows_and_times(tmp_path: Path) -> None:
    job = job_of(
        tmp_path, append_row={"sep": ","}, run_invocation_timeout=5, init_timeout=50, shutdown_timeout=7
    )
    one = setups(job)[0]
    assert one.processor.append_row == {"sep": ",", "header": False, "index": False}
    assert (one.run_invocation_timeout_s, one.init_timeout_s, one.kill_grace_s, one.silence_s) == (
        5,
        50,
        7,
        60,
    )
    assert (one.heartbeat_s, one.lost_file) == (5, b"/runs/lost/0001/0")
    assert [setup.processors_here for setup in setups(job).values()] == [2, 2, 1]
    one = setups(job_of(tmp_path, heartbeat_timeout=3))[2]
    assert (one.silence_s, one.heartbeat_s, one.lost_file) == (3, 0.5, b"/runs/lost/0001/2")
    assert setups(job_of(tmp_path, output_action="summary_only"))[0].processor.append_row == {}


def test_names_that_are_no_utf_8_can_be_sent(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"job \xff")
    job = job_of(folder, arguments=["${job_dir}"], source_directory=".")
    for one in setups(job).values():
        encode(one)
        assert one.processor.argv[-1] == os.fsencode(folder)
        assert one.processor.source_directory == os.fsencode(folder)


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["--output_dir", "x"], False),
        (["--output-dir=x"], False),
        (["--output", "x"], True),
        (["--output=x_y"], True),
        (["output_dir", "--job_output_dir"], True),
    ],
)
def test_no_argument_of_the_system_is_the_beginning_of_a_job_s_own(
    tmp_path: Path, arguments: list[str], there: bool
) -> None:
    job = job_of(tmp_path, arguments=arguments)
    argv = [os.fsdecode(argument) for argument in setups(job)[0].processor.argv]
    assert (argv[: -len(arguments)].count("--output") == 1) == there
    assert argv[-len(arguments) :] == arguments
    assert "--output_action" in argv


def test_arguments_that_the_system_has_only_where_they_are_set(tmp_path: Path) -> None:
    job = msgspec.structs.replace(
        job_of(tmp_path, arguments=[]),
        mini_batch_error_threshold=3,
        allowed_failed_percent=2.5,
        partition_keys=["a", "b"],
    )
    argv = [os.fsdecode(argument) for argument in setups(job)[0].processor.argv]
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    assert given["--allowed_failed_count"] == "3"
    assert given["--allowed_failed_percent"] == "2.5"
    assert given["--partition_keys"] == '["a", "b"]'
    assert "--progress_update_timeout" not in given
    job = job_of(tmp_path, arguments=["--progress_update_timeout=1000000"], process_count_per_node=2)
    argv = [os.fsdecode(argument) for argument in setups(job)[0].processor.argv]
    assert argv.index("--progress_update_timeout") < argv.index("--progress_update_timeout=1000000")
    assert argv[argv.index("--progress_update_timeout") + 1] == "1000000"


@pytest.mark.parametrize(
    ("keys", "argument"),
    [
        ({"mini_batch_size": "500 rows"}, "500 rows"),
        ({"mini_batch_size": "2KB"}, "2048"),
        ({}, str(1 << 20)),
        ({"partition_keys": ["a"]}, None),
    ],
)
def test_the_size_of_mini_batches_of_tables(
    tmp_path: Path, keys: dict[str, Any], argument: str | None
) -> None:
    job_file = support.make_job(tmp_path, "def run(b): return b", items=0, inputs=[{"csv": "*.csv"}], **keys)
    if "mini_batch_size" not in keys:
        text = job_file.read_text()
        job_file.write_text("".join(line for line in text.splitlines(True) if "mini_batch_size" not in line))
    argv = [os.fsdecode(one) for one in setups(load_job(job_file))[0].processor.argv]
    given = argv[argv.index("--mini_batch_size") + 1] if "--mini_batch_size" in argv else None
    assert given == argument


def test_what_processors_need_to_read_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;2\n")
    job_file = support.make_job(
        tmp_path, "def run(b): return b", items=0, inputs=[{"csv": "t.csv", "sep": ";"}], mini_batch_size="1MB",
        append_row_format="parquet", append_row_file_name="x.parquet", add_input_key=True,
    )  # fmt: skip
    job = load_job(job_file)
    with make_plan(job, tmp_path) as plan:
        (spec,) = input_specs(plan)
        one = worker_setups(job, RunFolder(job.output), PLACES, inputs=[spec], notices=NOTICES)[0].processor
        assert one.inputs == [spec]
        readers = Readers([spec], str(tmp_path))
        batch = readers.read(Assignment(1, 0, 0, 1, 0, 0, 0, plan.source(Piece(0, 0, 1))))
        readers.close()
    assert (spec.kind, spec.options["sep"]) == ("csv", ";")
    assert batch.data.to_dict("list") == {"a": [1], "b": [2]}
    assert (one.append_row_format, one.add_input_key) == ("parquet", True)


def test_what_is_around_a_processor(tmp_path: Path) -> None:
    job = job_of(tmp_path, models={"m/1": "m"}, side_inputs={"labels": "l"}, logging_level="DEBUG")
    around = setups(job)[2].processor.surroundings
    assert around is not None
    assert (around.process, around.node, around.run) == ("process000", "b_c", "test-job")
    output = os.fsencode(job.output)
    assert around.output_dir == output
    assert around.log_file == output + b"/logs/user/entry_script_log/b_c/process000.log.txt"
    assert around.metrics_file == output + b"/.mpibatch/metrics/b_c.process000.jsonl"
    assert around.models == {"m/1": os.fsencode(tmp_path / "m")}
    assert around.side_inputs == {"labels": os.fsencode(tmp_path / "l")}
    assert around.logging_level == "DEBUG"
