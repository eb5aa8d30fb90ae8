"""The encoder of each output format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpibatch.outputs.encoding import Encoder
from mpibatch.outputs.text import TextEncoder


def make_encoder(
    output_action: str, append_row_format: str, append_row: Mapping[str, Any], add_input_key: bool
) -> Encoder:
    """What the job file says of its rows, all defaults filled in. A format's module is loaded only for it."""
    if output_action != "append_row":
        return TextEncoder(output_action, append_row)  # Which only counts.
    match append_row_format:
        case "text":
            return TextEncoder(output_action, append_row, add_input_key)
        case "csv":
            from mpibatch.outputs.csv_rows import CsvEncoder

            return CsvEncoder(append_row, add_input_key)
        case "jsonl":
            from mpibatch.outputs.jsonl_rows import JsonlEncoder

            return JsonlEncoder(add_input_key)
        case "parquet":
            from mpibatch.outputs.parquet_rows import ParquetEncoder

            return ParquetEncoder(add_input_key)
        case "hdf5":
            from mpibatch.outputs.hdf5_rows import Hdf5Encoder

            return Hdf5Encoder(add_input_key)
    raise AssertionError(append_row_format)
