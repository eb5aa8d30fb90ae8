"""A pipeline file: steps, each a job of its own, that take each other's data. Pure.

Its mapping becomes steps in the order in which they run, or a `ConfigError` that names step and key. What other keys
stand at the top are defaults of all steps, key by key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from mpibatch.core.config import Job
from mpibatch.core.job_keys import ALIASES, LEGAL_KEYS
from mpibatch.core.job_name import made_legal, read_name
from mpibatch.core.key_hints import key_hint
from mpibatch.core.places import Places, contains, unchanged
from mpibatch.core.references import references
from mpibatch.core.settings import Problems, did_you_mean, printable, shown, text
from mpibatch.core.slurm_keys import read_slurm

STEPS = "steps"
_STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_EXAMPLE = "{score: {entry_script: score.py, inputs: [{files: images/}]}}"
_NOT_HERE = {
    "array": "a pipeline is no job array; run a step that needs one as a job of its own",
    "copy_output_to": "each step would write there: give it to one step",
}
_NOT_IN_STEPS = {
    "slurm": "all steps run in one Slurm job, so that it stands at the top of the file only",
    "array": _NOT_HERE["array"],
}
_AT_TOP = (STEPS, *(key for key in LEGAL_KEYS if key not in _NOT_HERE))
_INSTEAD = (ALIASES, ("mini_batch_size", "partition_keys"))
"""Keys of which a step's own one takes the place of the others among the defaults."""


class StepDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose references are not filled in."""

    name: str
    mapping: dict[Any, Any]
    """All keys of a job file, defaults included."""
    needs: list[str]
    """Steps whose data it takes."""
    set_keys: list[str]
    """Dotted keys of `mapping` that came from the command line."""


class PipelineDraft(msgspec.Struct, frozen=True, kw_only=True):
    file: str
    name: str
    output: str
    steps: list[StepDraft]
    """In the order in which they run."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    job: Job
    needs: list[str]


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline file describes, checked, and with all paths absolute."""

    file: str
    name: str
    output: str
    """The pipeline's own folder."""
    steps: list[Step]
    remarks: list[str] = []
    """What people should be told of the file."""


def read_pipeline(
    mapping: Mapping[Any, Any],
    *,
    file: str,
    output: str | None = None,
    expand: Callable[[str], str] = unchanged,
    set_keys: Collection[str] = (),
) -> PipelineDraft:
    """The steps of the pipeline file `file` (absolute), in order. `output`, absolute, replaces the file's. Raises
    `ConfigError`; what is wrong in a step's own keys is for `parse_job` to see."""
    base = file.rpartition("/")[2]
    problems = Problems(printable(base), set_keys)
    places = Places(job_dir=file.rpartition("/")[0] or "/", expand=expand)
    given = {key: value for key, value in mapping.items() if key == STEPS or value is not None}
    problems.unknown_keys("", given, _AT_TOP, lambda key, value: _hint(key, value, _NOT_HERE))
    name = read_name(problems, given, base) or ""
    folder = _output(problems, given, places, output or None, name)
    if "slurm" in given:
        read_slurm(problems, given["slurm"])
    defaults = {key: value for key, value in given.items() if key not in (STEPS, "name", "output")}
    steps = _steps(problems, given[STEPS], defaults, folder, set_keys)
    problems.stop()
    return PipelineDraft(file=file, name=name, output=folder, steps=_in_order(printable(base), steps))


def _hint(key: str, value: Any, why: Mapping[str, str]) -> str | None:
    return f"; {why[key]}" if key in why else key_hint(key, value)


def _output(
    problems: Problems, given: Mapping[Any, Any], places: Places, output: str | None, name: str
) -> str:
    named = problems.take("output", given["output"], text) if "output" in given else None
    folder = output or (places.absolute(named) if named else f"{places.job_dir}/runs/{name}")
    if contains(folder, places.job_dir):
        problems.add(
            "output",
            f"is {shown(folder)}: must be a folder of its own, not that of the pipeline file or above it",
        )
    return folder


def _steps(
    problems: Problems,
    value: Any,
    defaults: Mapping[Any, Any],
    output: str,
    set_keys: Collection[str],
) -> list[StepDraft]:
    given = problems.mapping(STEPS, value, _EXAMPLE)
    if isinstance(value, Mapping) and not value:
        problems.add(STEPS, f"is empty: there must be at least one step, like {_EXAMPLE}")
    names = [name for name in given if isinstance(name, str) and _STEP_NAME.fullmatch(name)]
    for name in given:
        if name not in names:
            problems.add(
                f"{STEPS}.{shown(name)}", f"is no legal name of a step; legal is {_STEP_NAME.pattern}"
            )
    drafts = []
    for name in names:
        key = f"{STEPS}.{name}"
        own = problems.mapping(key, given[name], "{entry_script: score.py, inputs: [{files: images/}]}")
        for wrong in (other for other in _NOT_IN_STEPS if own.get(other) is not None):
            problems.add(f"{key}.{wrong}", f"is {shown(own[wrong])}: {_NOT_IN_STEPS[wrong]}")
        mapping = _with_defaults(own, defaults)
        if mapping.get("name") is None:
            mapping["name"] = made_legal(name) or made_legal(f"step-{name}") or "step"
        if mapping.get("output") is None:
            mapping["output"] = f"{output}/{name}"
        needs = _needs(problems, mapping, key, names)
        drafts.append(
            StepDraft(name=name, mapping=mapping, needs=needs, set_keys=_of_step(set_keys, key, defaults))
        )
    return drafts


def _with_defaults(own: Mapping[Any, Any], defaults: Mapping[Any, Any]) -> dict[Any, Any]:
    """A step's own keys come first; one that is empty takes the default away."""
    given = {key for key, value in own.items() if value is not None}
    left_out = {key for group in _INSTEAD if given.intersection(group) for key in group}
    return {key: value for key, value in defaults.items() if key not in left_out} | dict(own)


def _of_step(set_keys: Collection[str], key: str, defaults: Mapping[Any, Any]) -> list[str]:
    own = [one.removeprefix(f"{key}.") for one in set_keys if one.startswith(f"{key}.")]
    return own + [one for one in set_keys if one.split(".")[0] in defaults]


def _needs(problems: Problems, mapping: Mapping[Any, Any], key: str, names: Collection[str]) -> list[str]:
    needs: dict[str, None] = {}
    for where, named in references(mapping, key):
        step = named.partition(".")[0]
        if step in names:
            needs[step] = None
        else:
            steps = ", ".join(names)
            why = f"there is no step {printable(step)}{did_you_mean(step, names)}; the steps are {steps}"
            problems.add(where, f"has ${{steps.{printable(named)}}}: {why}")
    return list(needs)


def _in_order(file: str, steps: list[StepDraft]) -> list[StepDraft]:
    """By their data; where that does not say, as in the file. ConfigError where they wait for each other."""
    ordered: list[StepDraft] = []
    left = list(steps)
    while left:
        done = {step.name for step in ordered}
        ready = next((step for step in left if done.issuperset(step.needs)), None)
        if ready is None:
            _refuse_cycle(file, left)
            break
        ordered.append(ready)
        left.remove(ready)
    return ordered


def _refuse_cycle(file: str, waiting: list[StepDraft]) -> None:
    by_name = {step.name: step for step in waiting}
    path = [waiting[0].name]
    while path.count(path[-1]) == 1:
        # Each that waits needs one that waits as well.
        path.append(next(name for name in by_name[path[-1]].needs if name in by_name))
    circle = path[path.index(path[-1]) :]
    problems = Problems(file)
    where = f"{STEPS}.{circle[0]}"
    if len(circle) == 2:
        own = "its folders are ${side_outputs.NAME} in its arguments"
        problems.add(where, f"takes its own data: a step can name only what other steps make; {own}")
    else:
        told = ", which needs ".join(circle[1:])
        problems.add(where, f"needs {told}: none of them can be the first. Take one of these references out")
    problems.stop()


def in_step(name: str, words: str) -> str:
    """`words` of an error, with the step that it is of."""
    return f"step {name}: {words}"


def check_folders(pipeline: Pipeline) -> None:
    """Raises `ConfigError` where two steps, or a step and the pipeline, would have one folder."""
    problems = Problems(printable(pipeline.file.rpartition("/")[2]))
    for number, step in enumerate(pipeline.steps):
        key = f"{STEPS}.{step.name}.output"
        if contains(step.job.output, pipeline.output):
            problems.add(
                key, f"is {shown(step.job.output)}: must not be the pipeline's own folder, or above it"
            )
        for other in pipeline.steps[:number]:
            one, two = step.job.output, other.job.output
            if contains(one, two) or contains(two, one):
                problems.add(
                    key, f"is {shown(one)}: step {other.name} has {shown(two)}; each has one of its own"
                )
    problems.stop()


def as_one_job(pipeline: Pipeline) -> Job:
    """A job that asks of a launcher what the largest steps ask for: for its ranks, its batch script, its watch."""
    jobs = [step.job for step in pipeline.steps]

    def most(counts: list[int | None]) -> int | None:
        return max((count for count in counts if count is not None), default=None)

    return msgspec.structs.replace(
        jobs[0],
        name=pipeline.name,
        output=pipeline.output,
        process_count_per_node=most([job.process_count_per_node for job in jobs]),
        node_count=most([job.node_count for job in jobs]),
        max_restarts=max(job.max_restarts for job in jobs),
        heartbeat_timeout=max(job.heartbeat_timeout for job in jobs),
        drain_margin=max(job.drain_margin for job in jobs),
    )
