"""What needs Azure and is asked for all the same: an error that names the call, and the way out."""

from __future__ import annotations

from functools import cache
from typing import NoReturn

SHIM = "mpibatch stands in for azureml-core here"
INSTALL = "an azureml-core that is installed in the script's interpreter (`python:` in the job file) is used instead"

_DATA = (
    "name the data under inputs or side_inputs in the job file, and give the script its path by arguments:"
    ' ["--labels", "${side_inputs.labels}"]'
)
_RUNS = "runs are started from outside, by `mpibatch run`, `mpibatch submit` or the Python API (import mpibatch.api)"
_INTERPRETER = "the script's interpreter and packages are given by python or environment in the job file"
_SECRETS = "give the script what it needs by environment_variables in the job file"
_MODELS = (
    "write the model into a folder of side_outputs, and name it under models of the job that is to use it"
)
_WAYS = {
    "Workspace": "give the script paths and settings by arguments, side_inputs and models in the job file",
    **dict.fromkeys(
        ["Dataset", "Datastore", "FileDataset", "TabularDataset", "DataReference", "DataPath"], _DATA
    ),
    **dict.fromkeys(
        ["Experiment", "ParallelRunStep", "Pipeline", "PipelineEndpoint", "ScriptRunConfig"], _RUNS
    ),
    **dict.fromkeys(["CondaDependencies", "Environment", "RunConfiguration"], _INTERPRETER),
    "Keyvault": _SECRETS,
    "Run.get_secret": _SECRETS,
    "Run.get_secrets": _SECRETS,
    "Run.submit_child": _RUNS,
    "Run.wait_for_completion": "a script is a part of the run that it would wait for; `mpibatch watch` waits",
    "Run.fail": "raise an error in run(), which fails the mini-batch, or in init()",
    "Run.cancel": "`mpibatch stop` with the run folder stops the run in order",
    "Run.register_model": _MODELS,
    "Model.register": _MODELS,
    "Model.deploy": "nothing is deployed from here: a job with the key models runs the model over data",
}


class NeedsAzure(NotImplementedError, AttributeError):
    """A script calls what only Azure can do.

    An AttributeError as well, so that `hasattr` and `getattr` with a default tell the script that it is not there.
    """


def refuse(call: str) -> NoReturn:
    """`call` as the script has written it: `Workspace.from_config`."""
    of = call.partition(".")[0].removesuffix("()")
    way = _WAYS.get(call) or _WAYS.get(of)
    raise NeedsAzure(
        f"{call} needs Azure, and {SHIM}: {way + '; or ' if way else ''}{INSTALL}",
    )


class _Refusing(type):
    """The type of classes that can be imported and stand in annotations and `isinstance`, and do nothing."""

    def __call__(cls, *arguments: object, **keywords: object) -> NoReturn:
        refuse(f"{cls.__name__}()")

    def __getattr__(cls, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        refuse(f"{cls.__name__}.{name}")


@cache
def refusing(name: str) -> type:
    """The class of this name: the same in whichever module a script finds it."""
    return _Refusing(
        name, (), {"__module__": "azureml", "__doc__": f"Can be imported; what it does needs Azure. {SHIM}."}
    )


@cache
def error_class(name: str) -> type[Exception]:
    """For `except`: nothing raises it."""
    return type(name, (Exception,), {"__module__": "azureml.exceptions"})


class Workspace(metaclass=_Refusing):
    """What `run.experiment.workspace` is: it has a name."""

    name: str

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        refuse(f"Workspace.{name}")


def workspace(name: str) -> Workspace:
    made: Workspace = object.__new__(Workspace)
    made.name = name
    return made
