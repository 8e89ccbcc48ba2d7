"""Layer by layer: from which layer on does a precision answer otherwise than FP32?

Compared are the results of the layers with weights, behind their ReLU. The cosine sees what has
another direction; it is blind to a common factor, which the ratio of the norms shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MAPS
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.gates.result import number
from ctedge_export.gates.runners import runnable

_WEIGHTED = ("Conv", "Gemm")

#: INT8's ReLU may be a Clip (see `precision.channels`).
_ACTIVATIONS = ("Relu", "Clip")

#: From this on a layer is called bad: 1 - cosine, or |1 - ratio of norms|. Unit roundoff is 2^-11,
#: 2^-8, and of int8 about 1/127 of the largest value, which is some ten times the typical one;
#: each bound is about ten times what four layers of such roundings add up to.
_BAD = {"fp16": 0.005, "bf16": 0.02, "int8": 0.05}


@dataclass(frozen=True, kw_only=True)
class LayerAgreement:
    """How a layer's result compares with FP32's: 1 and 1 when they are equal."""

    layer: str
    cosine: float
    norm_ratio: float

    @property
    def departure(self) -> float:
        """The larger of 1 - cosine and |1 - norm ratio|; infinite when one is no number."""
        departures = np.array([1 - self.cosine, abs(1 - self.norm_ratio)])
        return float(departures.max()) if np.isfinite(departures).all() else np.inf

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON values."""
        return {
            "layer": self.layer,
            "cosine": number(self.cosine),
            "norm_ratio": number(self.norm_ratio),
        }

    def __str__(self) -> str:
        return f"{self.layer} (cosine {self.cosine:.4f}, norm x {self.norm_ratio:.3f})"


def agreements(
    reference: bytes, found: bytes, shown: GateInput, *, precision: str
) -> tuple[LayerAgreement, ...]:
    """Compare the layers of two files, in the order of the data.

    Args:
        reference: the FP32 file, with the channel scales of `found`.
        found: the same network in `precision`; its tensors have the same names.
        shown: the input to run.
        precision: of `found`.
    """
    tensors = _landmarks(reference)
    names = list(tensors.values())
    ran = runnable(found, precision)
    expected = OnnxRuntime(with_outputs(reference, names), name="FP32").run(shown.batch)
    answers = OnnxRuntime(with_outputs(ran, names), name=precision).run(shown.batch)
    return tuple(
        LayerAgreement(
            layer=layer,
            cosine=_cosine(expected[tensor], answers[tensor]),
            norm_ratio=_norm(answers[tensor]) / max(_norm(expected[tensor]), 1e-30),
        )
        for layer, tensor in tensors.items()
    )


def first_bad(layers: tuple[LayerAgreement, ...], *, precision: str) -> LayerAgreement:
    """The first layer that is bad, or the one that departs most."""
    bad = (layer for layer in layers if layer.departure > _BAD[precision])
    return next(bad, max(layers, key=lambda layer: layer.departure))


def _landmarks(onnx_bytes: bytes) -> dict[str, str]:
    """The tensor to compare, by layer: that of its ReLU where one follows."""
    import onnx

    nodes = onnx.load_from_string(onnx_bytes).graph.node
    activated = {node.input[0]: node.output[0] for node in nodes if node.op_type in _ACTIVATIONS}
    return {
        node.name: activated.get(node.output[0], node.output[0])
        for node in nodes
        if node.op_type in _WEIGHTED and node.name.split(".")[0] not in MAPS
    }


def _cosine(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    a, b = expected.ravel().astype(np.float64), found.ravel().astype(np.float64)
    if not np.isfinite(b).all():
        return float("nan")
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float(not (a.any() or b.any()))


def _norm(values: npt.NDArray[np.float32]) -> float:
    return float(np.linalg.norm(values.astype(np.float64)))
