"""The layers that an imported network may have, and the weights that each must bring.

A file names layers; it never brings code. Whatever is not described here cannot be imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ctedge.errors import InvalidBundle
from ctedge.strict_json import shorten
from ctedge_training.learning.networks import DENSE_UNITS, DROPOUT_RATE, FILTERS, PARAMETERS

#: Bounds far above any honest file, so that a hostile one cannot fill the memory: eight times the
#: published network, twice its depth, and sixteen times its largest output (126 x 126 x 62 x 64).
MAX_PARAMETERS = 8 * PARAMETERS
MAX_LAYERS = 32
MAX_ACTIVATIONS = 16 * 126 * 126 * 62 * 64

KERNEL = (3, 3, 3)
POOL = (2, 2, 2)

#: Keras' value where a file gives none.
EPSILON = 1e-3
MOMENTUM = 0.99


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a chain.

    Attributes:
        kind: the Keras class: "Conv3D", "Dense", and so on.
        source: the layer's name in the file.
        settings: keyword arguments of the class, each of them checked.
        weights: shapes by name, in Keras' order.
    """

    kind: str
    source: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A chain of layers from a volume to one number.

    Attributes:
        shape: voxels per axis of the input, which has one channel.
        layers: in order, without the input; the last one is Dense 1.
    """

    shape: tuple[int, int, int]
    layers: tuple[Layer, ...]

    @property
    def activation(self) -> str:
        """Of the last layer: "sigmoid" or "linear"."""
        return str(self.layers[-1].settings["activation"])

    @property
    def weighted(self) -> tuple[Layer, ...]:
        """The layers that have weights."""
        return tuple(layer for layer in self.layers if layer.weights)


def conv(
    source: str, inputs: int, filters: int, *, activation: str = "relu", use_bias: bool = True
) -> Layer:
    """A valid convolution of 3 x 3 x 3."""
    return Layer(
        kind="Conv3D",
        source=source,
        settings={
            "filters": filters,
            "kernel_size": KERNEL,
            "activation": activation,
            "use_bias": use_bias,
        },
        weights=_kernel_and_bias((*KERNEL, inputs, filters), use_bias),
    )


def dense(source: str, inputs: int, units: int, *, activation: str, use_bias: bool = True) -> Layer:
    """A fully connected layer."""
    return Layer(
        kind="Dense",
        source=source,
        settings={"units": units, "activation": activation, "use_bias": use_bias},
        weights=_kernel_and_bias((inputs, units), use_bias),
    )


def norm(  # noqa: PLR0913
    source: str,
    channels: int,
    *,
    epsilon: float = EPSILON,
    momentum: float = MOMENTUM,
    center: bool = True,
    scale: bool = True,
) -> Layer:
    """A batch normalisation over the last axis."""
    present = {"gamma": scale, "beta": center, "moving_mean": True, "moving_variance": True}
    return Layer(
        kind="BatchNormalization",
        source=source,
        settings={"epsilon": epsilon, "momentum": momentum, "center": center, "scale": scale},
        weights={name: (channels,) for name, there in present.items() if there},
    )


def pool(source: str) -> Layer:
    """The maximum over 2 x 2 x 2."""
    return Layer(kind="MaxPooling3D", source=source, settings={"pool_size": POOL})


def average(source: str) -> Layer:
    """The mean over all voxels."""
    return Layer(kind="GlobalAveragePooling3D", source=source)


def dropout(source: str, rate: float) -> Layer:
    """Does nothing at inference."""
    return Layer(kind="Dropout", source=source, settings={"rate": rate})


def published(shape: tuple[int, int, int], activation: str) -> Architecture:
    """The network of `ctedge_training.learning.networks`, which fits every size.

    Args:
        shape: voxels per axis.
        activation: of the output.
    """
    layers, inputs = [], 1
    for number, filters in enumerate(FILTERS, start=1):
        layers += [conv(f"conv_{number}", inputs, filters), pool(f"pool_{number}")]
        layers += [norm(f"norm_{number}", filters)]
        inputs = filters
    layers += [
        average("average"),
        dense("dense", inputs, DENSE_UNITS, activation="relu"),
        dropout("dropout", DROPOUT_RATE),
        dense("output", DENSE_UNITS, 1, activation=activation),
    ]
    return Architecture(shape=shape, layers=tuple(layers))


def refuse(layer: object, found: object, expected: object) -> NoReturn:
    """Raise InvalidBundle that names a layer of the file."""
    raise InvalidBundle(
        f"the layer {shorten(layer)!r} of the checkpoint cannot be imported",
        found=shorten(found),
        expected=expected,
        fix="import a checkpoint of the published 3D network, or train one with `ctedge train`",
    )


def _kernel_and_bias(kernel: tuple[int, ...], use_bias: bool) -> dict[str, tuple[int, ...]]:
    return {"kernel": kernel, "bias": kernel[-1:]} if use_bias else {"kernel": kernel}
