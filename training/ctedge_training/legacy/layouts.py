"""Where Keras put the weights: three layouts, each read into names and arrays for every layer."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ctedge.errors import InvalidBundle, counted
from ctedge.strict_json import shorten
from ctedge_training.legacy import hdf5
from ctedge_training.legacy.layers import Architecture, Layer, refuse

#: For each layer with weights, in order: float32 arrays by name, and the types they were stored in.
Weights = list[dict[str, npt.NDArray[np.float32]]]

#: What Keras 3 calls the layers of the published network that have no weights.
_WEIGHTLESS = re.compile(r"(input_layer|max_pooling3d|global_average_pooling3d|dropout)(_\d+)?")

_STEMS = {"Conv3D": "conv3d", "BatchNormalization": "batch_normalization", "Dense": "dense"}


def read_named(group: Any, architecture: Architecture) -> tuple[Weights, set[str]]:
    """Weights beside an architecture: a group of the layer's name for each.

    Args:
        group: `model_weights` of a whole-model file.
        architecture: what the file says it holds.

    Raises:
        InvalidBundle: a layer's weights are missing, or of another shape.
    """
    weights, types = [], set()
    for layer in architecture.weighted:
        if "/" in layer.source:
            refuse(layer.source, "a name with a slash", "a plain name")
        arrays, found = _read_layer(hdf5.subgroup(group, layer.source), layer)
        weights.append(arrays)
        types |= found
    return _checked(weights, architecture), types


def read_in_order(root: Any, architecture: Architecture) -> tuple[Weights, set[str]]:
    """Weights without an architecture, as Keras 2's `save_weights("....h5")` leaves them.

    Only the order tells which layer is which, as for Keras itself.

    Args:
        root: holds `layer_names`, and a group for each.
        architecture: what they must fit.

    Raises:
        InvalidBundle: other layers, or weights of another shape.
    """
    groups = []
    for name in hdf5.names_attribute(root, "layer_names"):
        group = hdf5.subgroup(root, name)
        if hdf5.names_attribute(group, "weight_names"):
            groups.append(group)
    expected = architecture.weighted
    if len(groups) != len(expected):
        _refuse_network(
            f"{counted(len(groups), 'layer')} with weights:"
            f" {', '.join(group.name[1:] for group in groups)}",
            f"{len(expected)}: {', '.join(layer.source for layer in expected)}",
        )
    weights, types = [], set()
    for group, layer in zip(groups, expected, strict=True):
        arrays, found = _read_layer(group, layer)
        weights.append(arrays)
        types |= found
    return _checked(weights, architecture), types


def read_numbered(root: Any, architecture: Architecture) -> tuple[Weights, set[str]]:
    """Weights without an architecture, as Keras 3's `save_weights("....weights.h5")` leaves them.

    Groups are named after the layers' classes, arrays are numbered.

    Args:
        root: holds the group `layers`.
        architecture: what they must fit.

    Raises:
        InvalidBundle: other layers, or weights of another shape.
    """
    layers = hdf5.subgroup(root, "layers")
    names = _class_names(architecture.weighted)
    found = {name for name in hdf5.member_names(layers) if not _WEIGHTLESS.fullmatch(name)}
    if found != set(names):
        _refuse_network(
            f"missing {sorted(set(names) - found)}, unknown {sorted(found - set(names))}",
            f"the layers {', '.join(names)}",
        )
    weights, types = [], set()
    for name, layer in zip(names, architecture.weighted, strict=True):
        group = hdf5.subgroup(layers, f"{name}/vars")
        numbers = [str(number) for number in range(len(layer.weights))]
        if sorted(hdf5.member_names(group)) != numbers:
            refuse(name, f"arrays {hdf5.member_names(group)}", f"arrays {numbers}")
        arrays = {}
        for number, (weight, shape) in zip(numbers, layer.weights.items(), strict=True):
            arrays[weight], dtype = hdf5.read_weight(group, number, shape)
            types.add(dtype)
        weights.append(arrays)
    return _checked(weights, architecture), types


def _read_layer(group: Any, layer: Layer) -> tuple[dict[str, npt.NDArray[np.float32]], set[str]]:
    """One layer's arrays, known by the end of their names: "conv3d/kernel:0" is the kernel."""
    names = hdf5.names_attribute(group, "weight_names")
    paths = {path.rpartition("/")[2].removesuffix(":0"): path for path in names}
    if set(paths) != set(layer.weights) or len(names) != len(paths):
        refuse(layer.source, f"weights {', '.join(names)}", ", ".join(layer.weights))
    arrays, types = {}, set()
    for name, shape in layer.weights.items():
        arrays[name], dtype = hdf5.read_weight(group, paths[name], shape)
        types.add(dtype)
    return arrays, types


def _class_names(layers: tuple[Layer, ...]) -> list[str]:
    """Keras 3's names: "conv3d", "conv3d_1", and so on."""
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        stem = _STEMS[layer.kind]
        count = counts[stem] = counts.get(stem, 0) + 1
        names.append(stem if count == 1 else f"{stem}_{count - 1}")
    return names


def _checked(weights: Weights, architecture: Architecture) -> Weights:
    for arrays, layer in zip(weights, architecture.weighted, strict=True):
        variance = arrays.get("moving_variance")
        if variance is None:
            continue
        # Normalisation divides by the root of both.
        if not (variance >= 0).all() or not (variance + layer.settings["epsilon"] > 0).all():
            refuse(layer.source, f"a variance of {variance.min():g}", "variances above 0")
    return weights


def _refuse_network(found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        "the checkpoint has weights of another network than the published one",
        found=shorten(found),
        expected=expected,
        fix='save the whole model with model.save("....h5") where it was trained, and import that',
    )
