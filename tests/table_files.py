"""Tables for tests, in a file of each kind that jobs read."""

from __future__ import annotations

from pathlib import Path

import h5py
import pandas as pd


def write_table(data: pd.DataFrame, kind: str, path: Path) -> None:
    """`kind`: csv, jsonl, parquet, hdf5. Folders that are missing are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "csv":
            data.to_csv(path, index=False)
        case "jsonl":
            data.to_json(path, orient="records", lines=True)
        case "parquet":
            data.to_parquet(path, index=False)
        case "hdf5":
            with h5py.File(path, "w") as file:
                for name, column in data.items():
                    of_text = pd.api.types.is_string_dtype(column.dtype)
                    dtype = h5py.string_dtype() if of_text else column.dtype
                    file.create_dataset(str(name), data=column.tolist(), dtype=dtype)
        case _:
            raise ValueError(kind)
