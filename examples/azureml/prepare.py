"""Makes what the example needs: data/ (150 irises in three CSV files, and the MLTable file that tells of them).

To be run once, before the first run. Every file is written aside and renamed, so that none is there in part.
"""

import os
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
PARTS = 3
MLTABLE = """\
type: mltable
paths:
  - pattern: ./*.csv
transformations:
  - read_delimited:
      delimiter: ","
      encoding: utf8
      header: all_files_same_headers
  - keep_columns: [petal_length, petal_width, species]
"""


def main():
    from sklearn.datasets import load_iris

    iris = load_iris(as_frame=True)
    table = iris.data.set_axis(FEATURES, axis=1)
    table.insert(0, "id", range(len(table)))
    table["species"] = iris.target_names[iris.target]
    # There they stand by species, and each file is to have some of each. The seed: the same files each time.
    table = table.sample(frac=1, random_state=1, ignore_index=True)
    size = len(table) // PARTS
    for number in range(PARTS):
        part = table.iloc[number * size : (number + 1) * size]
        write_aside(DATA / f"part-{number}.csv", part.to_csv(index=False))
    write_aside(DATA / "MLTable", MLTABLE)
    print(f"prepare: wrote {len(table)} irises to {DATA}")


def write_aside(path, text):
    """The file appears whole at `path`."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=path.parent) as aside:
        Path(aside, path.name).write_text(text)
        os.replace(os.path.join(aside, path.name), path)


if __name__ == "__main__":
    main()
