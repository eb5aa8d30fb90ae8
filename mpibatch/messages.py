"""What the coordinator, the workers and the processors say to each other: closed unions of frozen structs.

Between ranks a message is one msgpack body; between a worker and its processor it is the same body
behind a length (`core.framing`). What crosses MPI carries descriptors and rows, never input data.
Names of files, arguments and variables are bytes, as `os.fsencode` gives them: they need not be UTF-8.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mpibatch.work import Assignment, ErrorReport, Outcome


class InputSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor needs to read one input by itself."""

    kind: str
    """`files` and `list` need nothing; `csv`, `jsonl`, `parquet`, `hdf5` are tables; `archive`."""
    options: dict[str, Any] = {}
    """Of a table: the fields of its options in `core.tables`; of archives: `as`."""
    setup: bytes = b""
    """What the survey found that readers need, in a form of the format's own."""


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What is around a processor, as its script may ask: see `mpibatch.entry`, and the shim in `mpibatch.azureml`."""

    process: str
    """process000, process001, ... on its node."""
    node: str
    """The node's name, as its folders of logs have it."""
    run: str
    """The job's name."""
    log_file: bytes
    """Where `EntryScript().logger` writes."""
    output_dir: bytes
    """The run folder; that of the whole for a share of an array."""
    metrics_file: bytes
    """This processor's own, to which `Run.log` and the like append."""
    logging_level: str = "INFO"
    models: dict[str, bytes] = {}
    side_inputs: dict[str, bytes] = {}
    side_outputs: dict[str, bytes] = {}


class Finalize(msgspec.Struct, frozen=True, kw_only=True):
    """What a processor without mini-batches is for: `init()`, then `finalize(output_file)`, then `shutdown()`."""

    output_file: bytes | None
    """The file of all rows, which the script may change; None: rows are not collected."""


class ProcessorSpec(msgspec.Struct, frozen=True, kw_only=True, tag="spec"):
    """All that a processor needs to know before its first mini-batch: its first frame."""

    name: str
    """process000, process001, ... on its node."""
    script: bytes
    """Absolute path of the entry script's file, or a dotted module name where `is_module`."""
    is_module: bool
    source_directory: bytes | None
    """Absolute; goes on `sys.path` first, then the script's own folder."""
    argv: list[bytes]
    """What `sys.argv` holds after the script's path."""
    output_action: str
    append_row: dict[str, Any]
    """Keyword arguments of `DataFrame.to_csv`, the defaults filled in."""
    append_row_format: str = "text"
    add_input_key: bool = False
    """The input's file and row stand in front of each row."""
    downloads: list[int] = []
    """Numbers of the inputs whose files are copied to scratch first: `mode: download`."""
    inputs: list[InputSpec] = []
    """By number of the input; empty where all are files."""
    datasets: list[bytes]
    """Each input as the job file has it: `context.dataset`."""
    concurrency: int = 1
    """Mini-batches that run at a time."""
    run_timeout_s: float = float("inf")
    """Of one mini-batch, where an event loop has to see to it."""
    tensorflow_v1: bool = False
    """`import tensorflow` is to give `tensorflow.compat.v1`."""
    surroundings: Surroundings | None = None
    """None: the script finds what there is outside of a run."""
    finalize: Finalize | None = None
    """None: it is for mini-batches."""
    error_file: bytes
    """Where tracebacks of the script go, appended."""
    version: str
    """mpibatch's version; a processor of another version says so and ends."""


class WorkerSetup(msgspec.Struct, frozen=True, kw_only=True, tag="setup"):
    """Coordinator to worker, once: what to supervise and how."""

    worker: int
    """Number of the worker in this session, from 0."""
    processor: ProcessorSpec
    python: bytes | None
    """Interpreter of the processor; None: this one."""
    environment_script: bytes = b""
    """The bash script that becomes the processor's interpreter (`core.environment_script`); empty: none is needed."""
    environment: dict[str, bytes]
    """Variables to add to the processor's environment."""
    environment_defaults: dict[str, str] = {}
    """Variables to add where this rank's environment has not got them."""
    cpus: list[int] = []
    """CPUs that processors are bound to; empty: those of the rank."""
    binding: str = ""
    """What is given to processors, devices too, in words for the log."""
    environment_keep: list[str]
    """Launcher's variables (names or `PREFIX_*`) that are not removed from it."""
    stdout_file: bytes
    stderr_file: bytes
    log_file: bytes
    logging_level: str
    run_invocation_timeout_s: float
    init_timeout_s: float
    kill_grace_s: float
    """Seconds that a processor gets for `shutdown()` at the end."""
    heartbeat_s: float
    silence_s: float
    """Seconds without a word from rank 0 after which the worker ends its rank."""
    lost_file: bytes = b""
    """What its guardian makes if the worker ends without a word; empty: nothing."""
    processors_here: int = 0
    """How many processors its node has in this session, for words to people; 0: unknown."""


class Grant(msgspec.Struct, frozen=True, tag="grant"):
    """Coordinator to worker, worker to processor: do these, in this order."""

    assignments: list[Assignment]


class Recall(msgspec.Struct, frozen=True, tag="recall"):
    """Coordinator to worker: give back those of these attempts that have not been started."""

    attempts: list[int]


class Pull(msgspec.Struct, frozen=True, tag="pull"):
    """Coordinator to worker: send the announced fragment of this attempt now."""

    attempt: int


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Coordinator to worker: still here."""


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Coordinator to worker: nothing more will come. `at_once`: kill what is running."""

    at_once: bool


class Dismissed(msgspec.Struct, frozen=True, tag="dismissed"):
    """Coordinator to every rank, last of all: end. `orderly`: all ranks are there, so MPI can be ended."""

    orderly: bool


ToWorker = WorkerSetup | Grant | Recall | Pull | Ping | Release | Dismissed


class Ready(msgspec.Struct, frozen=True, tag="ready", omit_defaults=True):
    """Worker to coordinator, processor to worker: `init()` is done. `init_s`: seconds it took."""

    init_s: float
    finalizes: bool = False
    """The script has a `finalize()`. One that is there for it has not called `init()` if it has none."""


class Announced(msgspec.Struct, frozen=True, array_like=True):
    """A success too large to send unasked: `outcome` is without its fragment and bad items, of `length` bytes."""

    outcome: Outcome
    length: int


class Outcomes(msgspec.Struct, frozen=True, tag="outcomes"):
    """Worker to coordinator, processor to worker: attempts that ended, in the order they ended."""

    outcomes: list[Outcome]
    announced: list[Announced] = []


class Returned(msgspec.Struct, frozen=True, tag="returned"):
    """Worker to coordinator: these attempts were granted, never started, and are given back."""

    attempts: list[int]


class InitFailed(msgspec.Struct, frozen=True, tag="init_failed"):
    """Processor to worker: importing the script or `init()` failed.

    `unusable`: no other processor can do better (no `run`, wrong version, no such file).
    """

    error: ErrorReport
    unusable: bool


class GaveUp(msgspec.Struct, frozen=True, tag="gave_up"):
    """Worker to coordinator: no processor could be started here. What was granted is given back."""

    error: ErrorReport
    unusable: bool
    attempts: list[int]


class Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    """Worker to coordinator: still here. `progress`: `run()` has said since the last one that it gets on."""

    progress: bool = False


class Goodbye(msgspec.Struct, frozen=True, tag="goodbye"):
    """Worker to coordinator: the processor has ended, nothing more will come."""


class StopAsked(msgspec.Struct, frozen=True, tag="stop_asked"):
    """Worker to coordinator: this rank got a signal that asks the run to stop."""

    reason: str


ToCoordinator = Ready | Outcomes | Returned | GaveUp | Heartbeat | Goodbye | StopAsked


class PassedOver(msgspec.Struct, frozen=True, tag="passed_over"):
    """Processor to worker: this attempt was taken back before it began, and has not been made."""

    attempt: int


class Finalized(msgspec.Struct, frozen=True, tag="finalized"):
    """Processor to rank 0: `finalize()` has returned, or raised `error`."""

    error: ErrorReport | None


class Finish(msgspec.Struct, frozen=True, tag="finish"):
    """Worker to processor: no more mini-batches; call `shutdown()` and end."""


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """Processor to its stager: this attempt has begun; answer `Staged` once its files have been copied."""

    attempt: int


class Used(msgspec.Struct, frozen=True, tag="used"):
    """Processor to its stager: this attempt has ended, or is passed over; remove its copies."""

    attempt: int


class Staged(msgspec.Struct, frozen=True, tag="staged"):
    """Stager to its processor: what `run()` is to be given."""

    attempt: int
    paths: bytes
    """As `work.Paths` holds them: of each file its copy, or itself where it has none. Empty: unknown attempt."""
    trouble: str
    """Why scratch did not take all copies; empty if it did."""


ToStager = Wanted | Used
ToProcessor = ProcessorSpec | Grant | Finish
FromProcessor = Ready | Outcomes | InitFailed | PassedOver | Finalized
