"""Entry script of the second step: counts the rows of the files that the first one has written."""

import os

import pandas as pd


def run(mini_batch):
    """Returns one row, "<file name>: <rows> rows, <right> right", for each path in `mini_batch`."""
    rows = []
    for path in mini_batch:
        table = pd.read_csv(path)
        right = int((table["named"] == table["species"]).sum())
        rows.append(f"{os.path.basename(path)}: {len(table)} rows, {right} right")
    return rows
