"""`ParallelRunConfig`: how a step runs its script, named as the reference's.

Sources: Microsoft's public reference of azureml.pipeline.steps.ParallelRunConfig; what each setting means is
CONTRACT's, and each is checked as that key of a job file is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.api.compute import SlurmCompute, compute_of
from mpibatch.api.parameters import PipelineParameter, value_of
from mpibatch.api.refusals import ApiError
from mpibatch.api.wiring import JobEnvironment
from mpibatch.core.config import parse_job
from mpibatch.core.settings import did_you_mean
from mpibatch.runtime.files import storing, write_whole

if TYPE_CHECKING:
    from mpibatch.api.workspace import Workspace

_NAME = "ParallelRunConfig"
_SAME = (
    *("error_threshold", "output_action", "node_count", "process_count_per_node", "mini_batch_size"),
    *(
        "logging_level",
        "run_invocation_timeout",
        "run_max_try",
        "append_row_file_name",
        "allowed_failed_count",
    ),
    *("allowed_failed_percent", "partition_keys", "environment_variables"),
)
"""Settings that are keys of a job file by the same name."""
_NUMBERS = frozenset(_SAME) - {"output_action", "logging_level", "append_row_file_name"}
_PATHS = ("entry_script", "source_directory")
ROWS_FILE = "parallel_run_step.txt"
"""Its name, if no other is given."""
SETTINGS = ("environment", "entry_script", "source_directory", "compute_target", "description", *_SAME)


_OF_STEPS = ("inputs", "arguments", "side_inputs", "output", "name", "allow_reuse")
_OTHERS = {
    **dict.fromkeys(_OF_STEPS, "; ParallelRunStep has it"),
    "slurm": "; compute_target=SlurmCompute(...) has it",
    "models": "; steps get all models that are registered in the workspace",
    "array": "; a pipeline is no job array",
}
"""Keys of a job file that are given at another place."""


class ParallelRunConfig:
    """Settings can be read and set as attributes, and may be a `PipelineParameter`. None: a job file's default.

    `source_directory` is relative to the current folder, and so is `entry_script` without one. With
    `compute_target=SlurmCompute(...)` the step runs on `node_count` machines; else on this one.
    """

    def __init__(
        self,
        environment: Any = None,
        entry_script: str | os.PathLike[str] | None = None,
        error_threshold: Any = None,
        output_action: Any = "append_row",
        compute_target: Any = None,
        node_count: Any = None,
        process_count_per_node: Any = None,
        mini_batch_size: Any = None,
        source_directory: str | os.PathLike[str] | None = None,
        description: str | None = None,
        logging_level: Any = "INFO",
        run_invocation_timeout: Any = 60,
        run_max_try: Any = 3,
        append_row_file_name: Any = None,
        allowed_failed_count: Any = None,
        allowed_failed_percent: Any = None,
        partition_keys: Any = None,
        environment_variables: Any = None,
        **job_keys: Any,
    ) -> None:
        """`job_keys`: any other key of a job file, like `append_row_format="csv"`."""
        if entry_script is None:
            raise ApiError(f"{_NAME}: entry_script is missing: name the Python file that has run(mini_batch)")
        given = dict(locals())
        self._folder = os.getcwd()
        for name in SETTINGS:
            object.__setattr__(self, name, given[name])
        self.job_keys = job_keys
        for name in (one for one in job_keys if one in _OTHERS):
            raise ApiError(f"{_NAME}: {name} is none of its settings{_OTHERS[name]}")
        self.check({})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Those of `SETTINGS`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in SETTINGS and name not in ("_folder", "job_keys"):
            near = did_you_mean(name, SETTINGS)
            raise ApiError(f"{_NAME} has no setting {name}{near}; it has {', '.join(SETTINGS)}")
        object.__setattr__(self, name, value)

    def parameters(self) -> Iterator[PipelineParameter]:
        """Those that stand in its settings."""
        for value in [*(getattr(self, name) for name in SETTINGS), *self.job_keys.values()]:
            if isinstance(value, PipelineParameter):
                yield value

    def compute(self, given: Mapping[str, Any] | None = None) -> SlurmCompute | None:
        """None: this machine."""
        return compute_of(value_of(self._setting("compute_target"), given or {}))

    def mapping(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of a job file, paths absolute. `given`: values of parameters, by name."""
        values = {name: value_of(self._setting(name), given) for name in (*_SAME, *_PATHS)}
        values |= {name: value_of(value, given) for name, value in self.job_keys.items()}
        keys = self._environment(value_of(self._setting("environment"), given))
        variables = {**keys.pop("environment_variables", {}), **(values.pop("environment_variables") or {})}
        folder, script = values.pop("source_directory"), os.fspath(values.pop("entry_script"))
        if folder is None:
            is_file = script.endswith(".py") or os.path.isfile(os.path.join(self._folder, script))
            keys["entry_script"] = self._absolute(script) if is_file else script
            if not is_file:
                keys["source_directory"] = self._folder
        else:
            keys |= {"entry_script": script, "source_directory": self._absolute(folder)}
        if variables:
            keys["environment_variables"] = {name: str(value) for name, value in variables.items()}
        keys |= {name: _plain(name, value) for name, value in values.items() if value is not None}
        return keys

    def check(self, given: Mapping[str, Any]) -> None:
        """Raises a ConfigError or ApiError that names all settings which are not legal."""
        self.compute(given)
        keys = self.mapping(given)
        files = _is_count(keys.get("mini_batch_size")) and "partition_keys" not in keys
        inputs = [{"files" if files else "csv": "/inputs"}]
        parse_job({"name": "step", **keys, "inputs": inputs}, job_file=f"/settings/{_NAME}", output="/run")

    @property
    def rows_file(self) -> str:
        """The file's name, where there are rows."""
        return str(value_of(self._setting("append_row_file_name"), {}) or ROWS_FILE)

    def save_to_yaml(self, path: str | os.PathLike[str]) -> None:
        """All settings, parameters too, for `load_yaml`."""
        import yaml

        from mpibatch.api.saved_config import saved

        text = yaml.safe_dump(saved(self), sort_keys=False, allow_unicode=True)
        with storing(os.fspath(path)):
            write_whole(Path(path), text.encode())

    @staticmethod
    def load_yaml(workspace: Workspace | None, path: str | os.PathLike[str]) -> ParallelRunConfig:
        """What `save_to_yaml` has written. Relative paths in it are relative to the current folder."""
        from mpibatch.api.saved_config import loaded

        return ParallelRunConfig(**loaded(workspace, Path(path)))

    def _setting(self, name: str) -> Any:
        return getattr(self, name)

    def _absolute(self, path: str | os.PathLike[str]) -> str:
        return os.path.normpath(os.path.join(self._folder, os.path.expanduser(path)))

    def _environment(self, environment: Any) -> dict[str, Any]:
        if environment is None:
            return {}
        if not isinstance(environment, JobEnvironment):
            raise ApiError(
                f"{_NAME}: environment is {environment!r}: must be an Environment, or None for this interpreter"
            )
        return environment.job_keys()

    def __repr__(self) -> str:
        told = (f"{name}={getattr(self, name)!r}" for name in SETTINGS if getattr(self, name) is not None)
        return f"{_NAME}({', '.join(told)})"


def _plain(name: str, value: Any) -> Any:
    """As YAML has it. Parameters are often given as text: "5" is 5, where a number is meant."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if name in _NUMBERS and isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value):
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def _is_count(mini_batch_size: Any) -> bool:
    """Whether files may have it; what is bytes or rows of a table is not."""
    return not isinstance(mini_batch_size, str)
