"""`ParallelRunConfig`: its settings become keys of a job file, and are checked as those are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpibatch.api import ApiError, Environment, ParallelRunConfig, PipelineParameter, SlurmCompute, Workspace
from mpibatch.api.parameters import check_parameters
from mpibatch.errors import ConfigError


def config(**settings: Any) -> ParallelRunConfig:
    return ParallelRunConfig(**{"entry_script": "score.py", "source_directory": "/code", **settings})


def test_names_and_their_order_are_the_references() -> None:
    made = ParallelRunConfig(
        None, "score.py", 10, "append_row", None, 2, 4, "5", "/code", "of digits", "DEBUG", 600, 1, "rows.txt", 3, 50
    )  # fmt: skip
    assert made.mapping({}) == {
        "entry_script": "score.py",
        "source_directory": "/code",
        "error_threshold": 10,
        "output_action": "append_row",
        "node_count": 2,
        "process_count_per_node": 4,
        "mini_batch_size": 5,
        "logging_level": "DEBUG",
        "run_invocation_timeout": 600,
        "run_max_try": 1,
        "append_row_file_name": "rows.txt",
        "allowed_failed_count": 3,
        "allowed_failed_percent": 50,
    }


def test_other_keys_of_a_job_file_are_taken_as_well() -> None:
    keys = config(append_row_format="csv", allowed_failed_count=None, init_timeout=9).mapping({})
    assert (keys["append_row_format"], keys["init_timeout"]) == ("csv", 9)
    assert "allowed_failed_count" not in keys


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mini_batch_size": "5 files"}, "mini_batch_size is \"5 files\": for tables it is bytes"),
        ({"mini_batch_size": 0}, "mini_batch_size is 0: must be a whole number from 1"),
        ({"run_max_try": 0}, "run_max_try is 0: must be a whole number from 1"),
        ({"run_max_try": PipelineParameter("tries", 0)}, "run_max_try is 0: must be a whole number from 1"),
        ({"logging_level": "LOUD"}, "logging_level is \"LOUD\": must be one of WARNING, INFO, DEBUG"),
        ({"output_action": "append"}, "output_action is \"append\": must be one of append_row, summary_only"),
        ({"partition_keys": ["user"], "mini_batch_size": 1}, "cannot stand beside partition_keys"),
        ({"mini_bach_size": 3}, "there is no such key; did you mean mini_batch_size?"),
    ],
)  # fmt: skip
def test_each_setting_is_checked_as_a_job_files_key(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"^ParallelRunConfig: ") as caught:
        config(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"entry_script": None}, "entry_script is missing"),
        ({"compute_target": "cpu-cluster"}, 'compute_target is "cpu-cluster": must be None or "local"'),
        ({"environment": "conda"}, "environment is 'conda': must be an Environment"),
        ({"arguments": ["-x"]}, "arguments is none of its settings; ParallelRunStep has it"),
        ({"slurm": {"time": 1}}, "slurm is none of its settings; compute_target=SlurmCompute(...) has it"),
    ],
)
def test_what_is_given_at_another_place_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as caught:
        config(**settings)
    assert words in str(caught.value)


def test_sizes_of_tables_and_keys_are_legal() -> None:
    assert config(mini_batch_size="1KB").mapping({})["mini_batch_size"] == "1KB"
    assert config(mini_batch_size="500 rows").mapping({})["mini_batch_size"] == "500 rows"
    assert config(partition_keys=("user", "genre")).mapping({})["partition_keys"] == ["user", "genre"]


def test_attributes_can_be_read_and_set() -> None:
    made = config()
    made.mini_batch_size = PipelineParameter("size", 3)
    assert made.mapping({"size": "7"})["mini_batch_size"] == 7
    assert made.run_max_try == 3
    with pytest.raises(ApiError, match=r"has no setting mini_bach_size; did you mean mini_batch_size\?"):
        made.mini_bach_size = 3


def test_paths_are_of_the_folder_in_which_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    below, beside, module = (
        ParallelRunConfig(entry_script="score.py", source_directory="code"),
        ParallelRunConfig(entry_script="code/score.py"),
        ParallelRunConfig(entry_script="code.score"),
    )
    monkeypatch.chdir("/")
    assert below.mapping({})["source_directory"] == str(tmp_path / "code")
    assert beside.mapping({})["entry_script"] == str(tmp_path / "code" / "score.py")
    assert module.mapping({})["entry_script"] == "code.score"
    assert module.mapping({})["source_directory"] == str(tmp_path)


def test_environment_and_variables_come_together() -> None:
    environment = Environment("digits", python="/opt/python")
    environment.environment_variables = {"A": 1, "B": 2}  # type: ignore[dict-item]
    keys = config(environment=environment, environment_variables={"B": 3}).mapping({})
    assert keys["python"] == "/opt/python"
    assert keys["environment_variables"] == {"A": "1", "B": "3"}


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    workspace = Workspace.create("tests", path=tmp_path)
    registered = Environment("digits", python="/opt/python").register(workspace)
    for environment in (registered, Environment("other", environment={"conda": "x"}), None):
        made = config(
            environment=environment,
            mini_batch_size=PipelineParameter("size", "5"),
            compute_target=SlurmCompute(partition="long", time="1:30:00"),
            partition_keys=None,
            environment_variables={"A": "1e-3"},
            append_row_format="csv",
        )
        made.save_to_yaml(tmp_path / "config.yaml")
        again = ParallelRunConfig.load_yaml(workspace, tmp_path / "config.yaml")
        assert again.mapping({}) == made.mapping({})
        assert again.mapping({"size": 2})["mini_batch_size"] == 2
        assert again.compute() == SlurmCompute("long", time="1:30:00")


def test_a_file_with_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("entry_script: score.py\nmini_bach_size: 3\n")
    with pytest.raises(
        ApiError, match=r"config.yaml: mini_bach_size is no setting .*did you mean mini_batch_size\?"
    ):
        ParallelRunConfig.load_yaml(None, file)


def test_slurms_keys_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"SlurmCompute: slurm.partion is .*did you mean partition"):
        SlurmCompute(partion="long")
    assert SlurmCompute(account="a", cpus_per_task=2).job_keys() == {"account": "a", "cpus_per_task": 2}


def test_parameters_are_known_by_name() -> None:
    size = PipelineParameter("size", 5)
    assert check_parameters([size, size], {"size": 1}) == {"size": 1}
    with pytest.raises(ApiError, match=r"no parameter \"sise\"; did you mean size\?; it has size"):
        check_parameters([size], {"sise": 1})
    with pytest.raises(ApiError, match=r"the pipeline has no parameter .*it has none"):
        check_parameters([], {"size": 1})
    with pytest.raises(ApiError, match=r"two parameters size .* defaults 5 and 6"):
        check_parameters([size, PipelineParameter("size", 6)], None)
