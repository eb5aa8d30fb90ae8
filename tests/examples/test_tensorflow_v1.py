"""`tensorflow_v1: true` with the real TensorFlow: what scripts of TensorFlow 1 call works, or is said to be gone."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.examples,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None and os.environ.get("CI") != "true",
        reason="not installed: tensorflow (pip install 'mpibatch[examples]')",
    ),
]

WORKS = """
from tensorflow.python.framework import ops
from tensorflow import Session
import tensorflow.compat.v1 as explicit
assert Session is tf.Session is explicit.Session and ops.Graph is tf.Graph
assert hasattr(tf, "placeholder") and not hasattr(tf, "contrib")
tf.logging.set_verbosity(tf.logging.ERROR)


def init():
    global doubled, x, session
    tf.reset_default_graph()
    x = tf.placeholder(tf.float32, [None])
    doubled = x * tf.get_variable("two", initializer=2.0)
    session = tf.Session()
    session.run(tf.global_variables_initializer())


def run(mini_batch):
    return list(session.run(doubled, feed_dict={x: [len(mini_batch), 0.5]}))
"""
FAILS = {
    "tf.contrib.layers.flatten": "tf.contrib was taken out of TensorFlow 2",
    "tf.layers.dense": "install tf_keras beside tensorflow and set environment_variables: {TF_USE_LEGACY_KERAS: 1}",
    "tf.nonsense": "stands in for TensorFlow 1 (tensorflow_v1 in the job file), has no such name",
    "from tensorflow.contrib import slim": "import of tensorflow.contrib: tf.contrib was taken out",
    "from tensorflow.keras import layers": "import of tensorflow.keras: Keras 3 does not work",
    "from tensorflow.examples.tutorials.mnist import input_data": "read the files yourself",
}


def run_job(folder: Path, script: str, **keys: Any) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text("import tensorflow as tf\n" + script)
    (folder / "item.txt").touch()
    inputs = [{"files": "item.txt"}]
    job = {"entry_script": "script.py", "inputs": inputs, "tensorflow_v1": True, "output": "out", **keys}
    (folder / "job.yaml").write_text(json.dumps(job))
    command = [sys.executable, "-m", "mpibatch", "run", str(folder / "job.yaml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_script_of_tensorflow_1_runs(tmp_path: Path) -> None:
    ended = run_job(tmp_path, WORKS)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "parallel_run_step.txt").read_text() == "2.0\n1.0\n"


def test_without_the_key_it_is_tensorflow_2(tmp_path: Path) -> None:
    ended = run_job(tmp_path, WORKS, tensorflow_v1=False)
    assert ended.returncode != 0
    assert "cannot import name 'Session' from 'tensorflow'" in ended.stdout


def test_what_is_gone_is_said_in_words(tmp_path: Path) -> None:
    """All in one processor, as TensorFlow takes seconds to load."""
    tries = "".join(f"attempt({code!r})\n" for code in FAILS)
    script = f"""
said = []
def attempt(code):
    try:
        exec(code, {{"tf": tf}})
    except (ImportError, AttributeError) as error:
        said.append(f"{{code}} -> {{error}}")
    else:
        said.append(f"{{code}} -> nothing")
{tries}
def run(mini_batch):
    return said
"""
    ended = run_job(tmp_path, script)
    assert ended.returncode == 0, ended.stderr
    rows = (tmp_path / "out" / "parallel_run_step.txt").read_text().splitlines()
    assert len(rows) == len(FAILS)
    for row, (code, words) in zip(rows, FAILS.items(), strict=True):
        assert row.startswith(f"{code} -> ")
        assert words in row
