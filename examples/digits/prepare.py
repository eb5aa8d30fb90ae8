"""Makes what the example needs: data/images/ (1,797 digits as PNG files) and model/ (which reads them).

Does nothing where both are there. Every file is written aside and renamed, so that after an interruption
a second start adds what is missing and never trusts half a file.
"""

import os
import re
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER / "data" / "images"
MODEL = FOLDER / "model"

IMAGE_COUNT = 1797
IMAGE_NAME = re.compile(r"(\d{4})_(\d)\.png")  # <index>_<label>.png: sorted by name is sorted by index

CHECKPOINT = "mnist-tf.model"
# In the order in which they arrive in model/.
CHECKPOINT_FILES = [CHECKPOINT + end for end in (".data-00000-of-00001", ".index", ".meta")]

HIDDEN_UNITS = 64
EPOCHS = 30
BATCH_SIZE = 32
HELD_OUT = 5  # every fifth digit is kept from training, to measure with


def main():
    if len(existing_images()) < IMAGE_COUNT:
        write_images()
    if not all((MODEL / name).is_file() for name in CHECKPOINT_FILES):
        train()


def existing_images():
    """The images that are there and whole: index -> directory entry."""
    if not IMAGES.is_dir():
        return {}
    found = {}
    for entry in os.scandir(IMAGES):
        name = IMAGE_NAME.fullmatch(entry.name)
        if name and int(name[1]) < IMAGE_COUNT and entry.stat().st_size:
            found[int(name[1])] = entry
    return found


def write_images():
    """Writes the missing ones of scikit-learn's 8 x 8 digits, enlarged to 28 x 28 pixels of 0 to 255."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    there = existing_images()
    missing = [index for index in range(IMAGE_COUNT) if index not in there]
    IMAGES.mkdir(parents=True, exist_ok=True)
    # Aside is not in data/images, where every file is an input, but on the same disk, for the rename.
    with tempfile.TemporaryDirectory(prefix="partial-", dir=IMAGES.parent) as aside:
        for index in missing:
            name = f"{index:04d}_{digits.target[index]}.png"
            small = Image.fromarray(np.round(digits.images[index] * (255 / 16)).astype(np.uint8))
            small.resize((28, 28), Image.Resampling.BICUBIC).save(os.path.join(aside, name))
            os.replace(os.path.join(aside, name), IMAGES / name)
    print(f"prepare: wrote {len(missing)} images to {IMAGES}")


def read_images():
    """The images as written, flat: pixels (1797, 784) and labels (1797,), which stand in the file names."""
    import numpy as np
    from PIL import Image

    pixels = np.empty((IMAGE_COUNT, 784), np.float32)
    labels = np.empty(IMAGE_COUNT, np.int64)
    for index, entry in existing_images().items():
        with Image.open(entry.path) as image:
            pixels[index] = np.asarray(image).reshape(784)
        labels[index] = int(IMAGE_NAME.fullmatch(entry.name)[2])
    return pixels, labels


def train():
    """Trains 784-64-10 on four fifths of the images and stores it as a checkpoint in model/."""
    # Before the import: no start-up logs, and the same arithmetic on every machine.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import numpy as np
    import tensorflow.compat.v1 as tf

    pixels, labels = read_images()
    held_out = np.arange(IMAGE_COUNT) % HELD_OUT == HELD_OUT - 1
    training = np.flatnonzero(~held_out)
    random = np.random.default_rng(1)
    # One thread and no GPU, so that the same model comes out each time; it is too small to gain by more.
    config = tf.ConfigProto(
        device_count={"GPU": 0}, intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
    )
    MODEL.mkdir(exist_ok=True)
    with (
        tf.Graph().as_default(),
        tf.Session(config=config) as session,
        tempfile.TemporaryDirectory(prefix="partial-", dir=MODEL) as aside,
    ):
        tf.set_random_seed(1)
        x, logits = build_network(tf)
        saver = tf.train.Saver()
        # Before the loss is added, so that the checkpoint's graph holds the network alone.
        saver.export_meta_graph(os.path.join(aside, CHECKPOINT + ".meta"))

        y = tf.placeholder(tf.int64, [None])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        step = tf.train.AdamOptimizer(1e-3).minimize(loss)
        session.run(tf.global_variables_initializer())
        for _ in range(EPOCHS):
            order = random.permutation(training)
            for start in range(0, len(order), BATCH_SIZE):
                batch = order[start : start + BATCH_SIZE]
                session.run(step, {x: pixels[batch], y: labels[batch]})

        right = np.argmax(session.run(logits, {x: pixels}), axis=1) == labels
        saver.save(session, os.path.join(aside, CHECKPOINT), write_meta_graph=False, write_state=False)
        for name in CHECKPOINT_FILES:
            os.replace(os.path.join(aside, name), MODEL / name)
    print(
        f"prepare: trained {MODEL / CHECKPOINT}: {right.mean():.1%} of all digits right,"
        f" {right[held_out].mean():.1%} of those kept from training"
    )


def build_network(tf):
    """Adds the network to the default graph; returns network/X:0 and network/output/MatMul:0 (the logits)."""
    with tf.name_scope("network"):
        x = tf.placeholder(tf.float32, [None, 784], name="X")  # pixels as in the file, 0 to 255
        with tf.name_scope("hidden"):
            weights = tf.Variable(tf.truncated_normal([784, HIDDEN_UNITS], stddev=0.05), name="weights")
            bias = tf.Variable(tf.zeros([HIDDEN_UNITS]), name="bias")
            hidden = tf.nn.relu(tf.matmul(x / 255.0, weights) + bias)
        with tf.name_scope("output"):
            weights = tf.Variable(tf.truncated_normal([HIDDEN_UNITS, 10], stddev=0.1), name="weights")
            logits = tf.matmul(hidden, weights)
    return x, logits


if __name__ == "__main__":
    main()
