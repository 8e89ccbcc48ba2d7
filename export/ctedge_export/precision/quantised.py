"""The INT8 network that calibration gives: ranges by each method, and the best of them taken.

seen -> channels -> weights, and `int8` writes the file; `bias_correction` where that is not enough.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge_export.gates.inputs import GateInput
from ctedge_export.precision import calibration, int8
from ctedge_export.precision.bias_correction import Biases, corrected_biases
from ctedge_export.precision.channels import ZERO, Rescaled, rescaled
from ctedge_export.precision.seen import Seen
from ctedge_export.precision.weights import compensating, nearest

if TYPE_CHECKING:
    import onnx

#: The means of the channels are measured on every third calibration scan: healthy and diseased, as
#: drawn and changed ones are among them (see `cases.calibration_phantoms`).
_CORRECTED_STEP = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """A network ready to be written in INT8.

    Attributes:
        model: in float, its channels rescaled.
        tops: by tensor that a convolution reads, the value of level 127.
        weights, biases: by convolution.
    """

    model: onnx.ModelProto
    tops: dict[str, float]
    weights: dict[str, int8.Rounded]
    biases: Biases

    def write(self, keep: Collection[str] = ()) -> bytes:
        """The file; `keep` are convolutions that stay in float."""
        return self._with(self.biases, keep)

    def corrected(self, scans: Sequence[GateInput], keep: Collection[str] = ()) -> Quantised:
        """The same with biases corrected on calibration scans, for a file with these in float."""
        own = {name: bias for name, bias in self.biases.items() if name not in keep}
        found = corrected_biases(
            self.model, lambda biases: self._with(biases, keep), own, scans[::_CORRECTED_STEP]
        )
        return replace(self, biases={**self.biases, **found})

    def _with(self, biases: Biases, keep: Collection[str]) -> bytes:
        return int8.quantise(self.model, self.tops, keep=keep, weights=self.weights, biases=biases)


def quantised(model: onnx.ModelProto, seen: Seen, method: str) -> Quantised:
    """Round a network with the ranges of a method.

    Args:
        model: the FP32 network.
        seen: of the calibration scans.
        method: of `calibration.METHODS`.
    """
    ranges = {
        tensor: calibration.channel_ranges(method, samples, seen.largest[tensor])
        for tensor, samples in seen.samples.items()
    }
    network = rescaled(model, ranges)
    weights, biases = _rounded(network, seen)
    return Quantised(model=network.model, tops=dict(network.tops), weights=weights, biases=biases)


def _rounded(
    network: Rescaled, seen: Seen
) -> tuple[dict[str, int8.Rounded], dict[str, npt.NDArray[np.float32]]]:
    from onnx import numpy_helper

    constants = {weight.name: weight for weight in network.model.graph.initializer}
    weights, biases = {}, {}
    for node in network.model.graph.node:
        if node.op_type != "Conv":
            continue
        source, weight, *bias = node.input
        values = numpy_helper.to_array(constants[weight])
        factors, moments = network.factors[source], seen.moments[node.name]
        if values[0].size == len(moments):
            each = np.repeat(1 / factors, values[0].size // len(factors))
            levels, scales = compensating(values, moments * np.outer(each, each))
        else:  # a convolution in groups
            levels, scales = nearest(values)
        weights[node.name] = (levels, scales)
        if bias:
            lost = _sums(values) - _sums(levels) * scales
            shift = ZERO if source in network.shifted else 0.0
            exact = numpy_helper.to_array(constants[bias[0]]) + shift * lost
            biases[node.name] = exact.astype(np.float32)
    return weights, biases


def _sums(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Of each channel's weights."""
    sums: npt.NDArray[np.float64] = values.reshape(len(values), -1).sum(axis=1, dtype=np.float64)
    return sums
