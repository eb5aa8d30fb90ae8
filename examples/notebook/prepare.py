"""Makes what the notebook needs: data/mnist/ (300 digits as PNG files, 0.png and so on) and model/.

Does nothing where both are there. Every file is written aside and renamed, so that half a file is never trusted.
"""

import os
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER / "data" / "mnist"
LABELS = FOLDER / "data" / "labels.csv"
MODEL = FOLDER / "model"
WEIGHTS = MODEL / "weights.npz"

IMAGE_COUNT = 300
"""Those behind them train the model, which never sees these."""


def main():
    missing = [number for number in range(IMAGE_COUNT) if not (IMAGES / f"{number}.png").is_file()]
    if missing or not LABELS.is_file():
        write_images(missing)
    if not WEIGHTS.is_file():
        train()


def write_images(numbers):
    """Those of scikit-learn's 8 x 8 digits, in 28 x 28 pixels of 0 to 255; and what they show, in labels.csv."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    IMAGES.mkdir(parents=True, exist_ok=True)
    # Aside is not in data/mnist, where every file is an input, but on the same disk, for the rename.
    with tempfile.TemporaryDirectory(prefix="partial-", dir=FOLDER / "data") as aside:
        for number in numbers:
            name = f"{number}.png"
            enlarged(digits.images[number]).save(os.path.join(aside, name))
            os.replace(os.path.join(aside, name), IMAGES / name)
        rows = [f"{number}.png,{digits.target[number]}\n" for number in range(IMAGE_COUNT)]
        labels = Path(aside) / LABELS.name
        labels.write_text("Filename,Digit\n" + "".join(rows))
        labels.replace(LABELS)
    print(f"prepare: wrote {len(numbers)} images to {IMAGES}")


def enlarged(small):
    import numpy as np
    from PIL import Image

    image = Image.fromarray(np.round(small * (255 / 16)).astype(np.uint8))
    return image.resize((28, 28), Image.Resampling.BICUBIC)


def train():
    """A linear model, so small that its weights fit a file of numbers."""
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    pixels = np.array([np.asarray(enlarged(image)).reshape(784) / 255 for image in digits.images])
    model = LogisticRegression(max_iter=200).fit(pixels[IMAGE_COUNT:], digits.target[IMAGE_COUNT:])
    MODEL.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=MODEL) as aside:
        file = os.path.join(aside, WEIGHTS.name)
        np.savez(file, weights=model.coef_.T, bias=model.intercept_)
        os.replace(file, WEIGHTS)
    right = model.score(pixels[:IMAGE_COUNT], digits.target[:IMAGE_COUNT])
    print(f"prepare: trained {WEIGHTS}: {right:.0%} of the images right")


if __name__ == "__main__":
    main()
