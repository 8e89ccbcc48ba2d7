"""What TensorRT's engine inspector says of an engine, in rows of our own.

The inspector's JSON (ICudaEngine, profiling verbosity DETAILED) has `Layers`, each with Name,
LayerType, TacticName or TacticValue, and Inputs and Outputs with "Format/Datatype". Where whole
parts are compiled into one (Myelin's ForeignNode) it names no convolution: the typed network is
then the better witness, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctedge.engines.record import INSPECTED, Layers
from ctedge_export.engine.typed_network import is_convolution, shares_of

#: Words of "Format/Datatype", in the order they are looked for.
_WORDS = (
    ("int8", "int8"),
    ("fp8", "fp8"),
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("half", "fp16"),
    ("fp16", "fp16"),
    ("float", "fp32"),
    ("fp32", "fp32"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("bool", "bool"),
)

_CALCULATING = ("int8", "fp8", "bf16", "fp16", "fp32")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer as a table shows it; "" where nobody says."""

    name: str
    kind: str
    precision: str = ""
    format: str = ""
    tactic: str = ""
    weight_bytes: int | None = None


def inspector_rows(text: str) -> tuple[LayerRow, ...]:
    """The layers of an engine, from the inspector's JSON; none when it is of another kind."""
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(_row(entry) for entry in layers) if isinstance(layers, list) else ()


def inspected_layers(text: str) -> Layers | None:
    """Precision shares by the inspector; None where it names no convolution."""
    rows = [
        (row.name, row.kind, row.precision)
        for row in inspector_rows(text)
        if row.precision in _CALCULATING
    ]
    if not any(is_convolution(kind) for _, kind, _ in rows):
        return None
    return shares_of(rows, source=INSPECTED)


def _row(entry: object) -> LayerRow:
    if not isinstance(entry, dict):  # built without DETAILED: names alone
        return LayerRow(name=str(entry)[:200], kind="")
    inputs, outputs = _tensors(entry, "Inputs"), _tensors(entry, "Outputs")
    kind = str(entry.get("LayerType") or entry.get("ParameterType") or "")
    # A convolution that reads 8 bits and writes float works in 8 bits.
    formats = [_format(described) for described in (inputs if is_convolution(kind) else outputs)]
    return LayerRow(
        name=str(entry.get("Name", ""))[:200],
        kind=kind,
        precision=next(filter(None, map(_precision, formats)), ""),
        format=next(iter(map(_format, outputs)), "")[:80],
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or "")[:120],
        weight_bytes=_weight_bytes(entry),
    )


def _tensors(entry: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = entry.get(key)
    return [t for t in found if isinstance(t, dict)] if isinstance(found, list) else []


def _format(described: Mapping[str, Any]) -> str:
    named = (
        described.get("Format/Datatype") or described.get("Datatype") or described.get("DataType")
    )
    return str(named or "")


def _precision(text: str) -> str:
    lower = text.lower()
    return next((precision for word, precision in _WORDS if word in lower), "")


def _weight_bytes(entry: Mapping[str, Any]) -> int | None:
    sizes = {"half": 2, "float": 4, "int8": 1, "fp16": 2, "fp32": 4, "bf16": 2}
    weights = entry.get("Weights")
    if not isinstance(weights, dict) or not isinstance(weights.get("Count"), int):
        return None
    size = sizes.get(str(weights.get("Type", "")).lower())
    return None if size is None else size * int(weights["Count"])
