"""The folder that AZUREML_MODEL_DIR names: a link for each of the job's models, and nothing else.

Scripts of batch deployments take the first folder that they find there, or join the model's own name to it; the
folder that a model really lies in may hold other things.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping

from mpibatch.core.config import Job
from mpibatch.runtime.files import storing
from mpibatch.runtime.run_folder import RunFolder


def link_models(job: Job, folder: RunFolder) -> None:
    """Before the first processor starts. Raises StorageError."""
    if not job.models:
        return
    links = link_names(job.models)
    with storing(f"the folder of links to the models, {folder.models}"):
        shutil.rmtree(folder.models, ignore_errors=True)
        folder.models.mkdir()
        for name, path in links.items():
            os.symlink(path, folder.models / name)


def link_names(models: Mapping[str, str]) -> dict[str, str]:
    """Path by name of its link: that of its file or folder, or where two are called alike, the model's name.
    Where that is what a third one is called, all have their models' names."""
    called = Counter(os.path.basename(path) for path in models.values())
    own = {name.replace("/", ":"): path for name, path in models.items()}
    links = {
        name if called[os.path.basename(path)] > 1 else os.path.basename(path): path
        for name, path in own.items()
    }
    return links if len(links) == len(own) else own
