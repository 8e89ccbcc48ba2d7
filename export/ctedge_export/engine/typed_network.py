"""In which precision each layer of a network works, read from the network before it is built.

A strongly typed builder must keep to these types, so they are what the engine runs in; of a weakly
typed one (8.5, 8.6) they are what it was asked for, and the record says so. Where a device opens
the engine, its inspector's word replaces this.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from ctedge.bundle.maps import MAPS
from ctedge.bundle.variants import FP32
from ctedge.engines.record import DECLARED, TYPED, Layers
from ctedge.errors import GateFailed

#: So much of the convolutions must work in a precision for the engine to bear its name.
LEAST_SHARE = 0.95

#: Precision by TensorRT's name of a type; the others are for indices and shapes.
_PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}

_PARTS = re.compile(r"[\w.]+")

CONVOLUTIONS = ("CONVOLUTION", "DECONVOLUTION")

#: Layers whose precision is that of what they multiply.
_PRODUCTS = (*CONVOLUTIONS, "MATRIX_MULTIPLY", "FULLY_CONNECTED")

#: Layers that hold or convert numbers, and calculate nothing.
_IDLE = ("CONSTANT", "SHUFFLE", "CAST", "IDENTITY", "QUANTIZE", "DEQUANTIZE")


def layers_of(network: Any, *, strongly_typed: bool) -> Layers:
    """The layers that calculate, with the precision of each.

    A convolution or matrix product between dequantised 8-bit numbers works in int8.
    """
    found = [network.get_layer(index) for index in range(network.num_layers)]
    eight_bit = set()
    for layer in found:
        if layer.type.name == "DEQUANTIZE" and _dtype(layer.get_input(0)) == "int8":
            eight_bit.add(layer.get_output(0).name)
    rows = []
    for layer in found:
        kind = layer.type.name
        precision = _dtype(layer.get_output(0)) if layer.num_outputs else None
        if kind in _PRODUCTS:
            tensor = layer.get_input(0)
            precision = "int8" if tensor.name in eight_bit else _dtype(tensor)
        if kind not in _IDLE and precision is not None:
            rows.append((str(layer.name), kind, precision))
    return shares_of(rows, source=TYPED if strongly_typed else DECLARED)


def shares_of(rows: Iterable[tuple[str, str, str]], *, source: str) -> Layers:
    """Shares by precision, from layers as (name, type, precision); those of maps do not count."""
    listed = tuple(rows)
    answering = [row for row in listed if row[0].split(".")[0] not in MAPS]
    return Layers(
        source=source,
        shares=_shares(precision for _, _, precision in answering),
        convolutions=_shares(precision for _, kind, precision in answering if is_convolution(kind)),
        listed=listed,
    )


def is_convolution(kind: str) -> bool:
    """Whether a layer's type is a convolution, in the words of builder or inspector."""
    return "CONV" in kind.upper()


def require_share(
    layers: Layers,
    precision: str,
    *,
    kept_float: Collection[str] = (),
    bundle: str = "BUNDLE",
) -> None:
    """Refuse to call an engine by a precision that most of its convolutions do not work in.

    Args:
        layers: of the engine.
        precision: its name.
        kept_float: convolutions that the bundle's member keeps in float, because its gate wanted
            it. They do not count, but for fp16, where nothing may be left out.
        bundle: what names the engine's bundle on a command line.

    Raises:
        GateFailed: fewer than 95 % of the convolutions work in it.
    """
    left_out = frozenset() if precision == "fp16" else frozenset(kept_float)
    share = _shares(
        found
        for name, kind, found in layers.listed
        # An inspector names a fused layer after all its parts: "conv1 + relu1".
        if is_convolution(kind) and not left_out & set(_PARTS.findall(name))
        if name.split(".")[0] not in MAPS
    ).get(precision, 0.0)
    if share < LEAST_SHARE:
        found = ", ".join(f"{name} {part:.0%}" for name, part in layers.convolutions.items())
        raise GateFailed(
            f"this engine would not be {precision}",
            found=f"convolutions by the {layers.source}: {found or 'none'}",
            expected=f"at least {LEAST_SHARE:.0%} in {precision}",
            fix="make its member again:"
            f" ctedge export precision {bundle} --to {precision} --overwrite"
            if precision != FP32
            else "take a bundle that `ctedge export onnx` wrote",
        )


def _dtype(tensor: Any) -> str | None:
    return _PRECISIONS.get(tensor.dtype.name) if tensor is not None else None


def _shares(precisions: Iterable[str]) -> dict[str, float]:
    counts = Counter(precisions)
    total = counts.total()
    return {name: round(counts[name] / total, 4) for name in sorted(counts)}
