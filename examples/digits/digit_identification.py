"""Entry script: tells which digit is in each image of a mini-batch.

Written as for Azure ML and TensorFlow 1, and runs there and here without a change: mpibatch stands in for
azureml.core where that is not installed, and `tensorflow_v1: true` of the job for TensorFlow 1.
"""

import os

# Before the import: no start-up logs, and the same arithmetic on every machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import numpy as np
import tensorflow as tf
from azureml.core import Model
from PIL import Image

session = None


def init():
    """Loads the model; called once in each process, before its first mini-batch."""
    global session  # noqa: PLW0603  (what init() loads and run() uses has to live in the module)

    checkpoint = os.path.join(Model.get_model_path("mnist"), "mnist-tf.model")
    # Many of these processes share a machine, so each takes one core, and of a GPU's memory what it needs.
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    config.gpu_options.allow_growth = True
    tf.reset_default_graph()
    session = tf.Session(config=config)
    tf.train.import_meta_graph(checkpoint + ".meta").restore(session, checkpoint)


def run(mini_batch):
    """Returns one row, "<file name>: <digit>", for each path in `mini_batch`."""
    print(f"run method start: {__file__}, run({mini_batch})")  # goes to logs/user/stdout
    rows = []
    for path in mini_batch:
        with Image.open(path) as image:
            pixels = np.asarray(image).reshape(1, 784)
        logits = session.run("network/output/MatMul:0", feed_dict={"network/X:0": pixels})
        rows.append(f"{os.path.basename(path)}: {np.argmax(logits)}")
    return rows
