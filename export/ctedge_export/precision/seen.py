"""What calibration scans show of every convolution's input: values, and how they go together.

One pass through FP32 gives both: samples by channel, for the ranges, and the mean product of each
two inputs of one result, for the rounding of weights. Places are drawn at random, the same on every
run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.keras_layers import with_outputs

if TYPE_CHECKING:
    import onnx

#: Values kept of one tensor of one scan, over all channels.
_SAMPLES = 2**16

#: Results looked at, over all scans, for each input that a result has.
_RESULTS_EACH = 8

_SEED = 8

_Values = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What calibration scans show.

    Attributes:
        samples: by tensor, float32 (channels, values).
        largest: by tensor, the largest |value| of each channel, of all values.
        moments: by convolution, the mean product of each two inputs of a result.
    """

    samples: dict[str, _Values]
    largest: dict[str, _Values]
    moments: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class _Window:
    """How a convolution looks at its input."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @classmethod
    def of(cls, node: onnx.NodeProto, kernel: tuple[int, ...]) -> _Window:
        held = {attribute.name: tuple(attribute.ints) for attribute in node.attribute}
        rank = len(kernel)
        return cls(
            kernel=kernel,
            strides=held.get("strides") or (1,) * rank,
            dilations=held.get("dilations") or (1,) * rank,
            pads=held.get("pads") or (0,) * 2 * rank,
        )

    def patches(self, values: _Values, count: int, rng: np.random.Generator) -> _Values:
        """Inputs of `count` results, (count, channels x kernel), of values (channels, ...)."""
        rank = len(self.kernel)
        widths = zip(self.pads[:rank], self.pads[rank:], strict=True)
        padded = np.pad(values, [(0, 0), *widths]) if any(self.pads) else values
        reach = [d * (k - 1) for d, k in zip(self.dilations, self.kernel, strict=True)]
        sizes = [
            (n - r - 1) // s + 1
            for n, r, s in zip(padded.shape[1:], reach, self.strides, strict=True)
        ]
        total = int(np.prod(sizes))
        drawn = rng.choice(total, min(count, total), replace=False)
        starts = [
            s * place for s, place in zip(self.strides, np.unravel_index(drawn, sizes), strict=True)
        ]
        flat = padded.reshape(len(padded), -1)
        found = np.empty((len(drawn), len(values), int(np.prod(self.kernel))), np.float32)
        for number, taps in enumerate(itertools.product(*map(range, self.kernel))):
            at = [
                start + tap * d for start, tap, d in zip(starts, taps, self.dilations, strict=True)
            ]
            found[:, :, number] = flat[:, np.ravel_multi_index(at, padded.shape[1:])].T
        return found.reshape(len(drawn), -1)


def look(model: onnx.ModelProto, scans: Sequence[GateInput]) -> Seen:
    """Run calibration scans through FP32.

    Args:
        model: the FP32 network.
        scans: preprocessed.
    """
    sizes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type == "Conv"]
    samples: dict[str, list[_Values]] = {node.input[0]: [] for node in layers}
    largest: dict[str, _Values] = {}
    moments: dict[str, npt.NDArray[np.float64]] = {}
    rng = np.random.default_rng(_SEED)
    for values_of in _runs(model, list(samples), scans):
        for tensor, kept in samples.items():
            flat = values_of[tensor].reshape(len(values_of[tensor]), -1)
            top = np.maximum(flat.max(axis=1), -flat.min(axis=1))
            largest[tensor] = np.maximum(largest.get(tensor, np.float32(0)), top)
            count = min(max(_SAMPLES // len(flat), 1), flat.shape[1])
            kept.append(flat[:, rng.choice(flat.shape[1], count, replace=False)])
        for node in layers:
            _, each, *kernel = sizes[node.input[1]]
            inputs = each * int(np.prod(kernel))
            count = -(-_RESULTS_EACH * inputs // len(scans))
            window = _Window.of(node, tuple(kernel))
            drawn = window.patches(values_of[node.input[0]], count, rng)
            products = (drawn.T @ drawn).astype(np.float64) / (len(drawn) * len(scans))
            moments[node.name] = moments.get(node.name, 0.0) + products
    return Seen(
        samples={tensor: np.concatenate(kept, axis=1) for tensor, kept in samples.items()},
        largest=largest,
        moments=moments,
    )


def _runs(
    model: onnx.ModelProto, tensors: Sequence[str], scans: Sequence[GateInput]
) -> Iterator[dict[str, _Values]]:
    """What the tensors hold, (channels, ...), scan by scan."""
    inner = {name for node in model.graph.node for name in node.output}
    wanted = [name for name in tensors if name in inner]
    session = OnnxRuntime(with_outputs(model.SerializeToString(), wanted), name="calibration")
    for shown in scans:
        batch = shown.batch
        answers = session.run(batch)
        yield {name: answers.get(name, batch)[0] for name in tensors}
