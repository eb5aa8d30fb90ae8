"""Entry script: tells which digit is in each image of a mini-batch. Written as for Azure ML."""

import os

import numpy as np
from azureml.core import Model
from PIL import Image

model = None


def init():
    """Loads the model that the notebook has registered; called once in each process."""
    global model  # noqa: PLW0603  (what init() loads and run() uses has to live in the module)

    with np.load(os.path.join(Model.get_model_path("mnist-prs"), "weights.npz")) as file:
        model = dict(file)


def run(mini_batch):
    """Returns one row, "<file name>: <digit>", for each path in `mini_batch`."""
    print(f"run method start: {__file__}, run({mini_batch})")  # goes to logs/user/stdout
    rows = []
    for path in mini_batch:
        with Image.open(path) as image:
            pixels = np.asarray(image).reshape(784) / 255
        digit = np.argmax(pixels @ model["weights"] + model["bias"])
        rows.append(f"{os.path.basename(path)}: {digit}")
    return rows
