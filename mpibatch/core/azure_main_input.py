"""Which input of an Azure ML job is cut into mini-batches, and how; the others are side inputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from mpibatch.core.azure_arguments import Arguments
from mpibatch.core.azure_expressions import Input, has_expression, whole
from mpibatch.core.azure_inputs import Absent, Bound, Data, Made, Value
from mpibatch.core.azure_keys import Notes
from mpibatch.core.azure_part import MltableReader, Part
from mpibatch.core.mltable import Table
from mpibatch.core.settings import Wrong, did_you_mean, printable, shown

_WITHOUT_DATA = "--rank_mini_batch_count"


def main_input(
    notes: Notes,
    part: Part,
    keys: Mapping[Any, Any],
    inputs: Mapping[str, Bound],
    arguments: Arguments,
    read_table: MltableReader,
) -> dict[str, Any]:
    """The input that is cut, and how."""
    key = f"{part.prefix}input_data"
    given = keys.get("input_data")
    if given is None:
        if not any(word.partition("=")[0] == _WITHOUT_DATA for word in arguments.words):
            notes.problems.add(key, "is missing: say which input is cut, like input_data: ${{inputs.data}}")
        return {}

    def named(value: Any) -> str:
        reference = whole(value) if isinstance(value, str) else None
        if not isinstance(reference, Input):
            raise Wrong("must name an input, like ${{inputs.data}}")
        given = keys.get("inputs")
        declared = {*(given if isinstance(given, Mapping) else ()), *part.declared_inputs}
        if reference.name not in declared:
            near = did_you_mean(reference.name, [str(one) for one in declared])
            raise Wrong(f"there is no input {printable(reference.name)}{near}")
        return reference.name

    name = notes.problems.take(key, given, named)
    if name not in inputs:  # Which has been told.
        return {}
    cut = keys.get("partition_keys") or []
    partition_keys = [one for one in cut if isinstance(one, str)] if isinstance(cut, list) else []
    where = f"{part.prefix}inputs.{name}"
    table = notes.problems.take(
        where, given, lambda _: _table(where, inputs[name], partition_keys, read_table, notes)
    )
    if table is None:
        return {}
    notes.left_out += [f"{where}: MLTable: {one}" for one in table.left_out]
    return {"inputs": table.inputs, **_cut(notes, part, keys, table)}


def _table(
    key: str, bound: Bound, partition_keys: list[str], read_table: MltableReader, notes: Notes
) -> Table:
    match bound:
        case Data(type="mltable", path=path, mode=mode):
            table = read_table(path, key, partition_keys)
            mode = mode if mode is None or not mode.startswith("eval_") else mode.removeprefix("eval_")
            if table.of_rows and mode == "download":
                notes.left_out.append(f"{key}.mode")
            return table if table.of_rows else _with_mode(table, mode)
        case Made(type="mltable"):
            raise Wrong(
                "an mltable that another step makes is not known before that has run: name its files, by --set"
                f" {key}.type=uri_folder; or, for a table, in our own pipeline file, like inputs: [{{csv: ...}}]"
            )
        case Data(path=path, mode=mode) | Made(text=path, mode=mode):
            if partition_keys:
                raise Wrong(
                    "partition_keys are columns: the input must be an mltable, with read_delimited or its like, or"
                    " with extract_columns_from_partition_format for files"
                )
            return _with_mode(Table(inputs=[{"files": path}], of_rows=False), mode)
        case Value(value):
            raise Wrong(
                f"is {shown(value)}, and input_data names it: data are like {{type: uri_folder, path: ...}}, by --set"
                f" {key}.path=PATH"
            )
        case Absent():
            raise Wrong(f"has no value, and input_data names it: give it one by --set {key}.path=PATH")
        case _:
            assert_never(bound)


def _with_mode(table: Table, mode: str | None) -> Table:
    if mode != "download":
        return table
    return msgspec.structs.replace(table, inputs=[{**one, "mode": "download"} for one in table.inputs])


def _cut(notes: Notes, part: Part, keys: Mapping[Any, Any], table: Table) -> dict[str, Any]:
    cut, size = keys.get("partition_keys"), keys.get("mini_batch_size")
    if cut:
        if size is not None:
            notes.left_out.append(f"{part.prefix}mini_batch_size (partition_keys win)")
        # Azure ML promises a mini-batch for each combination, wherever its rows stand.
        scattered = table.of_rows and not set(cut) <= set(table.keys_in_path)
        keyed = {"partition_keys": cut, **({"shuffle": True} if scattered else {})}
        # And that `run` has all of it: a part would give another sum, or another model.
        return {**keyed, "isolate_failures": False}
    if size is None:
        return {}
    if isinstance(size, str) and size.strip().isascii() and size.strip().isdecimal() and len(size) < 18:
        size = int(size)
    return {"mini_batch_size": size}


def side_inputs(
    notes: Notes, part: Part, inputs: Mapping[str, Bound], arguments: Arguments
) -> dict[str, Any]:
    """All data but what is cut; that too where the arguments name it."""
    main = part.keys.get("input_data")
    reference = whole(main) if has_expression(main) and not notes.problems.lines else None
    cut = reference.name if isinstance(reference, Input) else None
    side: dict[str, str] = {}
    for name, bound in inputs.items():
        match bound:
            case Data(path=path, mode=mode) | Made(text=path, mode=mode):
                if name != cut or name in arguments.side_inputs:
                    side[name] = path
                if name != cut and mode == "download":
                    # The script gets the place itself.
                    notes.left_out.append(f"{part.prefix}inputs.{name}.mode")
            case Value() | Absent():
                pass
            case _:
                assert_never(bound)
    return {"side_inputs": side} if side else {}
