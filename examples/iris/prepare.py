"""Makes what the example needs: data/ (150 irises in three CSV files) and model/ (which tells their species).

Does nothing where both are there. Every file is written aside and renamed, so that after an interruption
a second start adds what is missing and never trusts half a file.
"""

import os
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PARTS = [FOLDER / "data" / f"part-{number}.csv" for number in range(3)]
MODEL = FOLDER / "model" / "iris.joblib"

FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
HELD_OUT = 5  # every fifth iris is kept from training, to measure with


def main():
    if not all(is_there(path) for path in PARTS):
        write_table()
    if not is_there(MODEL):
        train()


def is_there(path):
    return path.is_file() and path.stat().st_size > 0


def read_irises():
    """scikit-learn's irises, in centimetres, with their numbers there and their species, shuffled."""
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    table = iris.data.set_axis(FEATURES, axis=1)
    table.insert(0, "id", range(len(table)))
    table["species"] = iris.target_names[iris.target]
    # There they stand by species, and each file is to have some of each. The seed: the same files each time.
    return table.sample(frac=1, random_state=1, ignore_index=True)


def write_table():
    """Writes the missing files: equal parts of the table, each beginning with the header."""
    table = read_irises()
    size = len(table) // len(PARTS)
    for number, path in enumerate(PARTS):
        if not is_there(path):
            part = table.iloc[number * size : (number + 1) * size]
            write_aside(path, lambda aside, part=part: part.to_csv(aside, index=False))
            print(f"prepare: wrote {len(part)} irises to {path}")


def train():
    """Fits a logistic regression to four fifths of the irises and stores it."""
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = read_irises()
    held_out = table["id"] % HELD_OUT == HELD_OUT - 1
    training = table[~held_out]
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(training[FEATURES], training["species"])
    write_aside(MODEL, lambda aside: joblib.dump(model, aside))
    right = model.predict(table[FEATURES]) == table["species"]
    print(
        f"prepare: trained {MODEL}: {right.mean():.1%} of all irises right,"
        f" {right[held_out].mean():.1%} of those kept from training"
    )


def write_aside(path, write):
    """`write(place)` makes the file, which then appears whole at `path`."""
    path.parent.mkdir(exist_ok=True)
    # In a folder below, where data/*.csv does not look, but on the same disk, for the rename.
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as aside:
        write(os.path.join(aside, path.name))
        os.replace(os.path.join(aside, path.name), path)


if __name__ == "__main__":
    main()
