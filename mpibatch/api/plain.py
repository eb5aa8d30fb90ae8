"""`mpibatch.run()`: a function over files or a table, on this machine, in one call."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibatch.api.shipped import ship
from mpibatch.api.wiring import InputSource
from mpibatch.errors import EXIT_COMPLETE, LaunchError, MpibatchError, ScriptError
from mpibatch.launch import promised
from mpibatch.local_world import find_mpiexec
from mpibatch.runtime.files import write_whole
from mpibatch.runtime.record import any_result
from mpibatch.runtime.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

JOB_FILE = "job.yaml"
ROWS = "rows.parquet"
_TOLD_LINES = 25
"""Of what the run printed, in an error that has no result to go by."""
_AGAIN_S = 1.0


class RunFailed(MpibatchError):
    """A run that did not come to its end: the text is its first cause. `exit_code`, `folder`: of the run."""

    def __init__(self, text: str, exit_code: int, folder: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.folder = folder


def run(
    function: Callable[..., object] | str | os.PathLike[str],
    inputs: Any,
    *,
    mini_batch_size: int | str | None = None,
    processes: int | None = None,
    output: str | os.PathLike[str] | None = None,
    show: bool = False,
    **keys: Any,
) -> pd.DataFrame | Path:
    """Call `function(mini_batch)` for all mini-batches of `inputs`, in several processes, and give back the rows in
    input order.

    `function`: what `run()` of an entry script is: it gets a list of paths, or a DataFrame for tables, and returns an
    element or a row for each item. It may be a function of a notebook, a class (made once in each process; `run` or
    `__call__` is called, `shutdown` or `close` at the end), or the path of an entry script.

    `inputs`: a folder, a glob, a file or a list of them; a dataset; a number N (the items are 0 to N-1); a DataFrame;
    or as in a job file: `{"csv": "tables/*.csv"}`, or a list of such.

    `keys`: any other key of a job file, like `error_threshold=10`, `run_max_try=1`. Paths are of the current folder.

    Without `output` the run is in a temporary folder, which is gone afterwards, and a DataFrame of the rows comes
    back. With `output`, a folder, the run stays there, the same call goes on where one was interrupted, and the path
    of the rows' file comes back: Parquet, if `append_row_format` does not say otherwise; with `summary_only` the
    run folder, as there are no rows.

    Items that failed have no row, and a warning says how many; `error_threshold=0` makes that an error.

    Raises `RunFailed`, whose text is the first cause, and an MpibatchError where something is not right before.

        >>> mpibatch.run(lambda paths: [len(open(p).read()) for p in paths], "texts/*.txt")   # doctest: +SKIP
    """
    if promised(os.environ) is not None:
        raise LaunchError(
            "mpibatch.run() starts processes on this machine by itself, and this is a rank of a launcher already:"
            " call it without mpirun or srun, or use the command: srun mpibatch run JOB.yaml"
        )
    if isinstance(inputs, Integral) and not isinstance(inputs, bool):
        inputs = int(inputs)  # One of numpy is no int.
    if output is None and keys.get("append_row_format") == "hdf5":
        raise ScriptError(
            "append_row_format is hdf5, and a DataFrame is to come back, which has no arrays as columns: give"
            " output=FOLDER, where the file then lies, or leave append_row_format out"
        )
    if output is not None:
        folder = Path(output).absolute()
        beside = folder.parent / f".{folder.name}.function"
        beside.mkdir(parents=True, exist_ok=True)
        return _run(function, inputs, mini_batch_size, processes, folder, beside, show, keys)
    beside = Path(tempfile.mkdtemp(prefix="mpibatch-run-"))
    try:
        rows = _run(function, inputs, mini_batch_size, processes, beside / "run", beside, show, keys)
        found = _frame(rows)
    except RunFailed as error:
        if not os.path.isdir(error.folder):
            shutil.rmtree(beside, ignore_errors=True)
        raise  # Else its logs are needed, and its text says where they are.
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    shutil.rmtree(beside, ignore_errors=True)
    return found


def _run(
    function: Any,
    inputs: Any,
    mini_batch_size: int | str | None,
    processes: int | None,
    folder: Path,
    beside: Path,
    show: bool,
    keys: Mapping[str, Any],
) -> Path:
    job: dict[str, Any] = {
        "name": "run",
        "entry_script": str(_script(function, beside)),
        "inputs": _inputs(inputs, beside, keys.get("partition_keys", ())),
        "output": str(folder),
        "append_row_format": "parquet",
        "append_row_file_name": ROWS,
        "process_count_per_node": processes if processes is not None else _processes(inputs, mini_batch_size),
    }
    if "append_row_format" in keys:
        del job["append_row_file_name"]
    if keys.get("output_action") == "summary_only":
        del job["append_row_format"]
        job.pop("append_row_file_name", None)
    if mini_batch_size is not None:
        job["mini_batch_size"] = mini_batch_size
    job |= {key: _absolute_key(key, value) for key, value in keys.items()}
    # JSON is YAML, and says which values are text.
    write_whole(beside / JOB_FILE, json.dumps(job, indent=2, default=_plain).encode())
    command = [sys.executable, "-m", "mpibatch", "run", str(beside / JOB_FILE)]
    code, told = _execute(command, show=show, keep=folder.parent != beside)
    result = any_result(RunFolder(str(folder))) if folder.is_dir() else None
    if code != EXIT_COMPLETE or result is None:
        # What it printed ends with the first cause, and is for people.
        text = "\n".join(told.rstrip().splitlines()[-_TOLD_LINES:])
        where = f"\nThe run folder is {folder}" if folder.is_dir() else ""
        raise RunFailed(f"{text}{where}", code or 1, str(folder))
    if result.items.failed:
        cause = f", first {result.first_cause.error}" if result.first_cause is not None else ""
        lost = f"{result.items.failed} of {result.items.total} items failed and have no row{cause}"
        # Of the line that calls run().
        warnings.warn(f"{lost}; error_threshold=0 makes that an error", UserWarning, stacklevel=3)
    return Path(result.output) if result.output is not None else folder


def _plain(value: Any) -> str | int:
    if isinstance(value, os.PathLike):
        return os.path.abspath(str(value))
    if isinstance(value, Integral):
        return int(value)
    raise ScriptError(f"{value!r} is a {type(value).__name__}, which no key of a job takes")


def _script(function: Any, beside: Path) -> Path:
    if isinstance(function, str | os.PathLike):
        return Path(function).absolute()
    return ship(function, beside)


def _inputs(inputs: Any, beside: Path, partition_keys: Collection[str]) -> list[Any]:
    if isinstance(inputs, InputSource):
        return [inputs.job_input(partition_keys)]
    if isinstance(inputs, bool):
        raise ScriptError(f"inputs is {inputs}: name a folder, a glob, a list of paths, or a table")
    if isinstance(inputs, int):
        return [{"count": inputs}]
    if hasattr(inputs, "to_parquet"):  # A DataFrame, without an import of pandas for those who have none.
        file = beside / "input.parquet"
        inputs.to_parquet(file)
        return [{"parquet": str(file)}]
    if isinstance(inputs, str | os.PathLike):
        return [{"files": _absolute(inputs)}]
    if isinstance(inputs, Mapping):
        return [_absolute_element(inputs)]
    if not isinstance(inputs, Iterable):
        raise ScriptError(
            f"inputs is a {type(inputs).__name__}: name a folder, a glob, a list of paths, or a table"
        )
    elements = list(inputs)
    if any(isinstance(one, Mapping) for one in elements):
        return [_absolute_element(one) for one in elements]
    if any(isinstance(one, InputSource) for one in elements):
        return [one.job_input(partition_keys) for one in elements]
    paths = [_absolute(one) for one in elements]
    if partition_keys or any("\n" in path or not os.path.isfile(path) for path in paths):
        return [{"files": paths}]
    # A million paths are no element of a job file.
    listed = beside / "inputs.txt"
    write_whole(listed, b"".join(os.fsencode(path) + b"\n" for path in paths))
    return [{"list": str(listed)}]


def _absolute(path: str | os.PathLike[str]) -> str:
    """A slash at the end stays, as it says that a folder is meant."""
    text = os.path.expanduser(os.fspath(path))
    return os.path.abspath(text) + ("/" if text.endswith("/") else "")


def _absolute_element(element: Mapping[str, Any]) -> dict[str, Any]:
    places = ("files", "list", "csv", "jsonl", "parquet", "hdf5")

    def absolute(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [absolute(one) for one in value]
        return _absolute(value) if isinstance(value, str | os.PathLike) else value

    return {key: absolute(value) if key in places else value for key, value in element.items()}


def _absolute_key(key: str, value: Any) -> Any:
    """Paths are of the current folder, as no person sees where the job file lies."""
    if key in ("side_inputs", "models", "side_outputs") and isinstance(value, Mapping):
        return {name: _absolute_key("prepare", path) for name, path in value.items()}
    if key in ("copy_output_to", "prepare", "python", "source_directory") and value:
        return _absolute(value) if isinstance(value, str | os.PathLike) else value
    return value


def _processes(inputs: Any, mini_batch_size: int | str | None) -> int:
    """As many as this process may use CPUs, but no more than there are mini-batches, where that is plain to see."""
    cpus = len(os.sched_getaffinity(0))
    items = inputs if isinstance(inputs, int) else len(inputs) if isinstance(inputs, list | tuple) else None
    if items is not None:
        size = mini_batch_size if isinstance(mini_batch_size, int) else 10
        cpus = max(1, min(cpus, -(-items // max(size, 1))))
    if cpus > 1:
        try:
            find_mpiexec()
        except LaunchError:
            return 1
    return cpus


def _execute(command: list[str], *, show: bool, keep: bool) -> tuple[int, str]:
    """Exit code, and all that it printed. An interrupt stops the run, in order if it is to be kept, and is raised."""
    import mpibatch

    home = str(Path(mpibatch.__file__).resolve().parents[1])
    paths = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": f"{paths}{os.pathsep}{home}" if paths else home}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="backslashreplace", start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        told = []
        try:
            for line in child.stdout:
                told.append(line)
                if show:
                    sys.stderr.write(line)
        except BaseException:
            _end(child, keep=keep)
            raise
    return child.returncode, "".join(told)


def _end(child: subprocess.Popen[str], *, keep: bool) -> None:
    """A run that is kept may finish what is running, and says so; a second interrupt gives that up. Of a run that
    nobody can continue it would be in vain."""
    assert child.stdout is not None
    child.send_signal(signal.SIGINT)
    while True:
        try:
            if keep:
                for line in child.stdout:
                    sys.stderr.write(line)
            child.communicate(timeout=None if keep else _AGAIN_S)
            return
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            child.send_signal(signal.SIGINT)


def _frame(rows: Path) -> pd.DataFrame:
    import pandas as pd

    if rows.is_dir():
        return pd.DataFrame()
    readers: dict[str, Callable[[Path], Any]] = {
        ".parquet": pd.read_parquet,
        ".csv": pd.read_csv,
        ".jsonl": lambda path: pd.read_json(path, lines=True),
    }
    read = readers.get(rows.suffix)
    if read is not None:
        frame: pd.DataFrame = read(rows)
        return frame
    return pd.DataFrame({"row": rows.read_text(encoding="utf-8").splitlines()})
