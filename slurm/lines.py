"""Counts the lines of text files: the entry script of the job files in this folder.

A row is the file's name, its lines, and the devices that the processor sees.
"""

import argparse
import os
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--seconds", type=float, default=0, help="how long to pretend to work on each file")
options, _ = parser.parse_known_args()


def run(mini_batch):
    rows = []
    for name in mini_batch:
        path = Path(name)
        time.sleep(options.seconds)
        lines = path.read_text().count("\n")
        rows.append(f"{path.name} {lines} devices={os.environ.get('CUDA_VISIBLE_DEVICES', 'none')}")
    return rows
