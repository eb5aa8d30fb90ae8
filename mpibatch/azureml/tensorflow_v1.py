"""`tensorflow_v1: true`: scripts written for TensorFlow 1 find `tensorflow.compat.v1` where they import `tensorflow`.

What TensorFlow 2 has no longer is told in words when a script asks for it, as its own words (an attribute is
missing) do not say that the script is of another age. Nothing of TensorFlow is loaded before the script imports it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

NAME = "tensorflow"
LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
"""With it and the package `tf_keras`, TensorFlow 2 uses Keras 2, which has what TensorFlow 1's scripts call."""

_KERAS_WAY = (
    "Keras 3 does not work on TensorFlow 1's graphs: install tf_keras beside tensorflow and set"
    f" environment_variables: {{{LEGACY_KERAS}: 1}} in the job file"
)
_OF_KERAS = ("keras", "layers")
_GONE = {
    "contrib": (
        "tf.contrib was taken out of TensorFlow 2 and has no stand-in: take what the script uses from tf.train,"
        " tf.nn, tf.image or tf.compat.v1, or from the package that it became (tf_slim, tensorflow_addons)"
    ),
    "estimator": (
        "tf.estimator was taken out of TensorFlow 2.16: use a tf.Session, or an interpreter with an older TensorFlow"
        " (`python:` in the job file)"
    ),
    "examples": "tensorflow.examples (the MNIST tutorial's data) is not in TensorFlow 2: read the files yourself",
}


def stand_in() -> None:
    """From now on `import tensorflow` gives `tensorflow.compat.v1`, with TensorFlow 1's behaviour switched on.

    To be called before the script is loaded. Where TensorFlow is missing, or is version 1, nothing changes.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Stands before all others, for `tensorflow` itself and for those of its modules that are gone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == NAME:
            spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
            return spec
        parent, _, name = fullname.partition(".")
        if parent == NAME and isinstance(sys.modules.get(NAME), TensorFlowV1):
            _refuse_import(fullname, name.partition(".")[0])
        return None


def _refuse_import(fullname: str, name: str) -> None:
    # No ModuleNotFoundError, to which others would add that something is to be installed.
    if name in _GONE:
        raise ImportError(f"import of {fullname}: {_GONE[name]} (tensorflow_v1 is set in the job file)")
    if name in _OF_KERAS and not legacy_keras():
        raise ImportError(f"import of {fullname}: {_KERAS_WAY} (tensorflow_v1 is set there)")


def legacy_keras() -> bool:
    """Whether `tf.keras` and `tf.layers` are those of Keras 2."""
    wanted = os.environ.get(LEGACY_KERAS, "").lower() in ("1", "true")
    return wanted and importlib.util.find_spec("tf_keras") is not None


class _Loader(importlib.abc.Loader):
    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """The real package first, which needs its own name meanwhile; then the stand-in takes that name."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._real  # As its own loader: TensorFlow looks at it.
        self._real.exec_module(module)
        real = sys.modules[NAME]  # As `import` does: it may have put another object there.
        if str(getattr(real, "__version__", "2")).startswith("1."):
            return
        v1 = importlib.import_module(f"{NAME}.compat.v1")
        v1.disable_v2_behavior()
        sys.modules[NAME] = TensorFlowV1(real, v1)


class TensorFlowV1(ModuleType):
    """What the script gets as `tensorflow`: the names of `tensorflow.compat.v1`, and words for what is gone."""

    def __init__(self, real: ModuleType, v1: ModuleType) -> None:
        super().__init__(NAME, v1.__doc__)
        self.__spec__ = real.__spec__
        self.__file__ = real.__file__
        # The real one's, so that `import tensorflow.python...` and `tensorflow.compat.v1` still find their files.
        self.__path__ = list(real.__path__)
        self._v1 = v1
        hidden = () if legacy_keras() else _OF_KERAS
        self.__all__ = [name for name in getattr(v1, "__all__", dir(v1)) if name not in hidden]

    def __getattr__(self, name: str) -> Any:
        if name in _GONE:
            raise AttributeError(f"tf.{name}: {_GONE[name]} (tensorflow_v1 is set in the job file)")
        if name in _OF_KERAS and not legacy_keras():
            raise AttributeError(f"tf.{name}: {_KERAS_WAY} (tensorflow_v1 is set there)")
        try:
            return getattr(self._v1, name)
        except AttributeError:
            version = getattr(self._v1, "__version__", "2")
            raise AttributeError(
                f"tf.{name}: tensorflow.compat.v1 of TensorFlow {version}, which stands in for TensorFlow 1"
                " (tensorflow_v1 in the job file), has no such name; an interpreter with TensorFlow 1 may be named by"
                " `python:`"
            ) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self._v1)})
