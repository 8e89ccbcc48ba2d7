"""Batch normalisation folded away, exactly: into the layer that FOLLOWS it.

The networks normalise after pooling, so a BatchNorm y = s*x + t (per channel, with
s = gamma / sqrt(variance + epsilon) and t = beta - mean * s) feeds the next convolution:

    conv(s*x + t) = sum W s x + (sum W t + b)        W' = W s,   b' = b + sum W t

which holds because that convolution is "valid": with zero padding the border would see 0 where
it should see t. The last one passes through the global average (a mean of s*x + t is s*mean + t)
into Dense 512. All of it is done in float64 and rounded to float32 once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from ctedge.errors import InvalidBundle

if TYPE_CHECKING:
    import keras

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One layer of the folded network.

    Attributes:
        name: "conv1", "pool1", "average", "dense1", and so on; also the name in the ONNX graph.
        source: the layer's name in the Keras model it came from.
        comparable: whether the Keras layer's output equals this step's (the global average's does
            not: its BatchNorm has moved behind it).
        config: the layer's Keras configuration.
        kernel, bias: float32, in Keras' order; None for layers without weights.
    """

    name: str
    source: str
    comparable: bool
    config: dict[str, Any]
    kernel: npt.NDArray[np.float32] | None = None
    bias: npt.NDArray[np.float32] | None = None


def fold(model: keras.Model, *, activation: str) -> tuple[tuple[Step, ...], int]:
    """The layers of a trained network without BatchNorm and Dropout.

    Args:
        model: a plain chain of Conv3D (valid), MaxPooling3D, BatchNormalization,
            GlobalAveragePooling3D, Dropout and Dense layers, channels last, float32, whose last
            layer is Dense 1.
        activation: what the last layer must end in: "sigmoid" or "linear".

    Returns:
        The steps in order, and how many BatchNorm layers were folded.

    Raises:
        InvalidBundle: a layer of another kind, or one a BatchNorm cannot be folded into exactly.
    """
    steps: list[Step] = []
    counts: dict[str, int] = {}
    scale: _Array | None = None
    shift: _Array | None = None
    folded = 0
    for layer in _chain(model):
        kind = type(layer).__name__
        if kind in ("InputLayer", "Dropout"):
            continue
        if kind == "BatchNormalization":
            scale, shift = _compose(_affine(layer), scale, shift)
            folded += 1
            continue
        if kind not in _STEMS:
            _refuse(layer, f"a layer of kind {kind}", f"one of {', '.join(sorted(_STEMS))}")
        _check(layer, pending=scale is not None)
        stem = _STEMS[kind]
        counts[stem] = counts.get(stem, 0) + 1
        name = stem if stem == "average" else f"{stem}{counts[stem]}"
        kernel = bias = None
        comparable = not (stem == "average" and scale is not None)
        if stem in ("conv", "dense"):
            kernel, bias = _absorb(layer, scale, shift)
            scale = shift = None
        steps.append(
            Step(
                name=name,
                source=layer.name,
                comparable=comparable,
                config={"class_name": kind, "config": layer.get_config()},
                kernel=kernel,
                bias=bias,
            )
        )
    if scale is not None:
        _refuse(_chain(model)[-1], "a BatchNorm behind the last Dense", "Dense as the last layer")
    config = steps[-1].config["config"] if steps else {}
    if (config.get("units"), config.get("activation")) != (1, activation):
        raise InvalidBundle(
            "the network does not end in one number of the right kind",
            found=f"Dense({config.get('units')}), activation {config.get('activation')!r}",
            expected=f"Dense(1), activation {activation!r}",
            fix="export a network built by `ctedge train`",
        )
    return tuple(steps), folded


_STEMS = {
    "Conv3D": "conv",
    "MaxPooling3D": "pool",
    "GlobalAveragePooling3D": "average",
    "Dense": "dense",
}


def _chain(model: keras.Model) -> list[Any]:
    """The layers, when each feeds the next and nothing else."""
    layers = list(model.layers)
    for before, after in itertools.pairwise(layers):
        if getattr(after, "input", None) is not before.output:
            _refuse(after, "an input that is not the layer before it", "a plain chain of layers")
    if model.outputs[0] is not layers[-1].output or len(model.outputs) != 1:
        _refuse(layers[-1], "another output than the last layer's", "a plain chain of layers")
    return layers


def _check(layer: Any, *, pending: bool) -> None:
    config = layer.get_config()
    kind = type(layer).__name__
    if layer.compute_dtype != "float32":
        _refuse(layer, f"computation in {layer.compute_dtype}", "float32")
    if config.get("data_format", "channels_last") != "channels_last":
        _refuse(layer, config["data_format"], "channels_last")
    if config.get("padding", "valid") != "valid":
        _refuse(layer, f"padding {config['padding']!r}", "'valid', so that BatchNorm folds exactly")
    if kind == "Conv3D" and config["groups"] != 1:
        _refuse(layer, f"{config['groups']} groups", "1 group")
    if kind == "MaxPooling3D" and pending:
        # A negative scale would turn the maximum into a minimum.
        _refuse(layer, "BatchNorm before a maximum", "BatchNorm after it")
    if kind == "GlobalAveragePooling3D" and config["keepdims"]:
        _refuse(layer, "keepdims=True", "keepdims=False")


def _affine(layer: Any) -> tuple[_Array, _Array]:
    """Scale and shift of a BatchNorm at inference, per channel."""
    if layer.axis not in (-1, 4):
        _refuse(layer, f"axis {layer.axis}", "the channel axis, -1")
    mean = np.asarray(layer.moving_mean, dtype=np.float64)
    variance = np.asarray(layer.moving_variance, dtype=np.float64)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * np.asarray(layer.gamma, dtype=np.float64)
    shift = -mean * scale
    if layer.beta is not None:
        shift = shift + np.asarray(layer.beta, dtype=np.float64)
    return scale, shift


def _compose(
    outer: tuple[_Array, _Array], scale: _Array | None, shift: _Array | None
) -> tuple[_Array, _Array]:
    if scale is None or shift is None:
        return outer
    return outer[0] * scale, outer[0] * shift + outer[1]


def _absorb(
    layer: Any, scale: _Array | None, shift: _Array | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Kernel and bias that take x where the layer took scale * x + shift."""
    kernel = np.asarray(layer.kernel, dtype=np.float64)
    bias = np.zeros(kernel.shape[-1])
    if layer.use_bias:
        bias = np.asarray(layer.bias, dtype=np.float64)
    if scale is not None and shift is not None:
        # The second last axis of a Keras kernel is the input channel, in Conv3D and in Dense.
        taps = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        bias = bias + shift @ taps
        kernel = kernel * scale[:, None]
    return kernel.astype(np.float32), bias.astype(np.float32)


def _refuse(layer: Any, found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        f"the layer {layer.name!r} cannot be exported",
        found=found,
        expected=expected,
        fix="export a network built by `ctedge train`",
    )
