"""The U-Net R231 as an ONNX graph, built of the weights alone.

The architecture is that of the package `lungmask` 0.2.22: five levels of two 3x3 convolutions, each
followed by ReLU and then BatchNorm; halving by averages, doubling bilinearly with a 1x1 convolution
after it; the maps of the way down are joined to those of the way up.

Two rewrites, both exact but for rounding. The 1x1 convolution comes before the doubling, whose
weights add up to one, at a quarter of the cost. A BatchNorm before a 1x1 convolution goes into it,
also through the doubling: 5 of 18. The other 13 precede padded convolutions, whose zeros at the
border are zeros after the BatchNorm: there its shift cannot be folded, and it stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge import __version__
from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS
from ctedge.errors import InvalidBundle
from ctedge.lung_spec import LUNG_LABELS, LungMaskSpec
from ctedge_export.network.onnx_model import BATCH, IR_VERSION
from ctedge_export.network.tf_to_onnx import OPSET

if TYPE_CHECKING:
    import onnx

Weights = Mapping[str, npt.NDArray[np.float32]]

#: Maps of each level.
WIDTHS = (64, 128, 256, 512, 1024)

#: torch's, which the weights were trained with.
EPSILON = 1e-5

TASK = "lungs"

_LEVELS = len(WIDTHS)
_NORM = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"


def shapes() -> dict[str, tuple[int, ...]]:
    """The shape of every float32 tensor of the state dict, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for level, width in enumerate(WIDTHS):
        before = WIDTHS[level - 1] if level else 1
        found |= _block_shapes(f"down_path.{level}", before, width)
    for step in range(_LEVELS - 1):
        before, width = WIDTHS[-1 - step], WIDTHS[-2 - step]
        name = f"up_path.{step}"
        found |= _unused_shapes(name, before, width)
        found |= {f"{name}.up.1.weight": (width, before, 1, 1), f"{name}.up.1.bias": (width,)}
        found |= _block_shapes(f"{name}.conv_block", before, width)
    classes = len(LUNG_LABELS)
    return found | {"last.weight": (classes, WIDTHS[0], 1, 1), "last.bias": (classes,)}


def counters() -> Iterator[str]:
    """Names of what the state dict may hold besides: how many batches a BatchNorm has seen."""
    return (name.replace("running_var", _COUNTER) for name in shapes() if "running_var" in name)


def check_shapes(found: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """Refuse a state dict of another network, by the shapes and types of its tensors.

    Raises:
        InvalidBundle: tensors are missing or too many, or of another shape or type.
    """
    expected = shapes()
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(map(str, found.keys() - expected.keys() - set(counters())))
    if missing or extra:
        names = [
            f"{len(part)} {word} ({', '.join(part[:2])[:120]} ...)"
            for word, part in (("missing", missing), ("unknown", extra))
            if part
        ]
        _refuse(", ".join(names), f"the {len(expected)} tensors of R231")
    for name, shape in expected.items():
        if found[name] != (shape, "float32"):
            _refuse(f"{name}: {found[name][1]} {found[name][0]}", f"float32 {shape}")


def check_weights(weights: Weights) -> None:
    """Refuse whatever are not the weights of a trained U-Net R231.

    Raises:
        InvalidBundle: as `check_shapes`, or numbers that no training gives.
    """
    check_shapes({name: (values.shape, str(values.dtype)) for name, values in weights.items()})
    for name in shapes():
        if not np.isfinite(weights[name]).all():
            _refuse(f"{name}: NaN or infinity", "finite weights")
        if name.endswith("running_var") and weights[name].min() < 0:
            _refuse(f"{name}: a negative variance", "0 or more")


def build(weights: Weights, spec: LungMaskSpec, properties: Mapping[str, str]) -> onnx.ModelProto:
    """The network with its weights, from the slice to a logit for each class and pixel.

    Args:
        weights: of the state dict, checked.
        spec: gives the input its shape, (N, 1, rows, columns).
        properties: metadata for whoever opens the file elsewhere.

    Raises:
        InvalidBundle: rows or columns that four halvings do not divide.
    """
    import onnx
    from onnx import TensorProto, helper

    if any(length % 2 ** (_LEVELS - 1) for length in spec.shape):
        _refuse(f"slices of {spec.shape} pixels", f"multiples of {2 ** (_LEVELS - 1)}")
    graph = _Graph(weights)
    (output,) = TASK_OUTPUTS[TASK]
    _unet(graph, TASK_INPUTS[TASK], output)
    shape: list[str | int | None] = [BATCH, 1, *spec.shape]
    classes: list[str | int | None] = [BATCH, len(LUNG_LABELS), *spec.shape]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            f"ctedge_{TASK}",
            [helper.make_tensor_value_info(TASK_INPUTS[TASK], TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, classes)],
            graph.weights,
        ),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="ctedge",
        producer_version=__version__,
        doc_string="U-Net R231: which pixels of an axial slice of chest CT are lung."
        " Input: float32 (N, 1, rows, columns), 0..1. Not a medical device.",
    )
    helper.set_model_props(model, dict(properties))
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes in the order of the data; a node and its output are named for the weights it takes."""

    def __init__(self, weights: Weights) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._state = weights
        self.constant("scales", np.array([1, 1, 2, 2], dtype=np.float32))

    def constant(self, name: str, values: npt.NDArray[np.float32]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def convolve(self, x: str, name: str) -> str:
        """A padded 3x3 convolution and its ReLU."""
        weights = [self.constant(f"{name}.{part}", self._state[f"{name}.{part}"]) for part in _WB]
        x = self.node("Conv", [x, *weights], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return self.node("Relu", [x], f"{name}.relu")

    def normalise(self, x: str, name: str) -> str:
        constants = [
            self.constant(f"{name}.{part}", self._state[f"{name}.{part}"]) for part in _NORM
        ]
        return self.node("BatchNormalization", [x, *constants], name, epsilon=EPSILON)

    def point(self, x: str, name: str, norm: str, output: str) -> str:
        """A 1x1 convolution with the BatchNorm before it folded in."""
        scale, shift, mean, variance = (
            self._state[f"{norm}.{part}"].astype(np.float64) for part in _NORM
        )
        scale = scale / np.sqrt(variance + EPSILON)
        kernel = self._state[f"{name}.weight"].astype(np.float64)
        bias = self._state[f"{name}.bias"] + kernel[:, :, 0, 0] @ (shift - mean * scale)
        kernel = kernel * scale[:, np.newaxis, np.newaxis]
        constants = [
            self.constant(f"{name}.weight", kernel.astype(np.float32)),
            self.constant(f"{name}.bias", bias.astype(np.float32)),
        ]
        return self.node("Conv", [x, *constants], output, kernel_shape=[1, 1])


_WB = ("weight", "bias")


def _unet(graph: _Graph, x: str, output: str) -> None:
    """Down, and up again. What is handed on lacks the BatchNorm of the block's end, `norm`."""
    joined = []
    for level in range(_LEVELS):
        x, norm = _block(graph, x, f"down_path.{level}.block")
        if level < _LEVELS - 1:
            x = graph.normalise(x, norm)
            joined.append(x)
            x = graph.node(
                "AveragePool", [x], f"down_path.{level}.pool", kernel_shape=[2, 2], strides=[2, 2]
            )
    for step in range(_LEVELS - 1):
        name = f"up_path.{step}"
        x = graph.point(x, f"{name}.up.1", norm, f"{name}.up.1")
        x = graph.node(
            "Resize",
            [x, "", "scales"],
            f"{name}.up.0",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        x = graph.node("Concat", [x, joined.pop()], f"{name}.joined", axis=1)
        x, norm = _block(graph, x, f"{name}.conv_block.block")
    graph.point(x, "last", norm, output)


def _block(graph: _Graph, x: str, name: str) -> tuple[str, str]:
    """Two convolutions; returns what the second one gives, and the BatchNorm that belongs to it."""
    x = graph.normalise(graph.convolve(x, f"{name}.0"), f"{name}.2")
    return graph.convolve(x, f"{name}.3"), f"{name}.5"


def _block_shapes(name: str, before: int, width: int) -> dict[str, tuple[int, ...]]:
    found = _unused_shapes(name, before, width)
    for convolution, norm, channels in ((0, 2, before), (3, 5, width)):
        found[f"{name}.block.{convolution}.weight"] = (width, channels, 3, 3)
        found[f"{name}.block.{convolution}.bias"] = (width,)
        found |= {f"{name}.block.{norm}.{part}": (width,) for part in _NORM}
    return found


def _unused_shapes(name: str, before: int, width: int) -> dict[str, tuple[int, ...]]:
    """Layers for a variant with residual connections: R231's file holds them, and uses none."""
    return {
        f"{name}.residual_input_conv.weight": (width, before, 1, 1),
        f"{name}.residual_input_conv.bias": (width,),
        **{f"{name}.residual_batchnorm.{part}": (width,) for part in _NORM},
    }


def _refuse(found: str, expected: str) -> None:
    raise InvalidBundle(
        "these are not the weights of the U-Net R231",
        found=found,
        expected=expected,
        fix="give the file that its authors publish as unet_r231-*.pth; R231CovidWeb has the same"
        " architecture, the networks for lobes have another",
    )
