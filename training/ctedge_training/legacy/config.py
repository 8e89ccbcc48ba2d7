"""Keras' architecture JSON (`model_config`), parsed strictly into layers that we know.

Nothing in it is looked up, imported or called. A key that is not named here could change what the
network computes, so it is refused; so is every layer of another kind, and everything that would
need somebody's own code: Lambda, registered names, custom objects.

It reads what Keras 2 wrote, and the same attribute as Keras 3 writes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ctedge.errors import InvalidBundle
from ctedge.strict_json import parse_json
from ctedge_training.legacy import layers
from ctedge_training.legacy.chain import chained
from ctedge_training.legacy.layers import Architecture, Layer, refuse

_ENTRY_KEYS = {
    "class_name",
    "config",
    "name",
    "inbound_nodes",
    "module",
    "registered_name",
    "build_config",
}

#: Where a key is present it must have this value: (value, whether it may be missing).
_FIXED: Mapping[str, Mapping[str, tuple[object, bool]]] = {
    "InputLayer": {"sparse": (False, True), "ragged": (False, True), "optional": (False, True)},
    "Conv3D": {
        "kernel_size": ([*layers.KERNEL], False),
        "strides": ([1, 1, 1], False),
        "padding": ("valid", False),
        "data_format": ("channels_last", False),
        "dilation_rate": ([1, 1, 1], False),
        "groups": (1, True),
    },
    "MaxPooling3D": {
        "pool_size": ([*layers.POOL], False),
        "strides": ([*layers.POOL], False),
        "padding": ("valid", False),
        "data_format": ("channels_last", False),
    },
    "BatchNormalization": {"renorm": (False, True), "synchronized": (False, True)},
    "GlobalAveragePooling3D": {"data_format": ("channels_last", False), "keepdims": (False, True)},
    "Dense": {"quantization_config": (None, True)},
    "Dropout": {},
}

#: Read below, each with its own check.
_READ = {
    "InputLayer": {"batch_input_shape", "batch_shape"},
    "Conv3D": {"filters", "activation", "use_bias"},
    "BatchNormalization": {"axis", "momentum", "epsilon", "center", "scale"},
    "Dense": {"units", "activation", "use_bias"},
    "Dropout": {"rate"},
}

#: Names, and what only a training looks at: never built, whatever they hold.
_IDLE = re.compile(
    r"name|trainable|dtype|seed|noise_shape|renorm_(clipping|momentum)"
    r"|(kernel|bias|beta|gamma|moving_mean|moving_variance)_(initializer|regularizer|constraint)"
    r"|activity_regularizer"
)

_DTYPES = ("float16", "float32", "float64")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_LARGEST_AXIS = 512
_LARGEST_WIDTH = 4096


def parse_architecture(text: str) -> Architecture:
    """The chain of layers that the JSON describes.

    Args:
        text: the attribute `model_config` of a file that Keras wrote with `model.save("....h5")`.

    Raises:
        InvalidBundle: no JSON, no plain chain, or a layer that cannot be imported, by its name.
    """
    try:
        document = parse_json(text.encode("utf-8", "surrogatepass"))
    except InvalidBundle as error:
        raise InvalidBundle(
            "the architecture in the checkpoint is no JSON that ctedge accepts",
            found=error.found,
            fix="copy the checkpoint again from where it came",
        ) from error
    first, *rest = chained(document, _check_entry)
    shape = _input_shape(first)
    return Architecture(shape=shape, layers=_layers(shape, rest))


def _check_entry(entry: Mapping[str, Any]) -> None:
    """Kind, keys, and no object of anybody's own; the values come later."""
    kind, name, config = str(entry.get("class_name")), entry.get("name"), entry.get("config")
    if kind not in _FIXED:
        refuse(name, f"a layer of kind {kind}", f"one of {', '.join(sorted(_FIXED))}")
    if not isinstance(config, dict):
        refuse(name, config, "an object with the layer's settings")
    for where, keys in (("", set(entry) - _ENTRY_KEYS), ("config.", _unknown(kind, config))):
        if keys:
            refuse(name, f"the key {where}{min(keys)}", "only keys that ctedge knows")
    _check_own(name, {key: entry[key] for key in entry if key != "inbound_nodes"})
    policy = config.get("dtype", "float32")
    if isinstance(policy, dict) and isinstance(policy.get("config"), dict):
        policy = policy["config"].get("name")
    if policy not in _DTYPES:
        refuse(name, f"dtype {policy}", f"one of {', '.join(_DTYPES)}")
    for key, (value, optional) in _FIXED[kind].items():
        found = config.get(key, value if optional else None)
        if found != value or type(found) is not type(value):
            refuse(name, f"{key} {found}", f"{key} {value}")


def _unknown(kind: str, config: Mapping[str, Any]) -> set[str]:
    known = set(_FIXED[kind]) | _READ.get(kind, set())
    return {key for key in config if key not in known and not _IDLE.fullmatch(key)}


def _check_own(name: object, value: Any) -> None:
    """Refuse what Keras marks as somebody's own code, anywhere below a layer."""
    if isinstance(value, dict):
        module, kind = value.get("module"), value.get("class_name", "x")
        registered = value.get("registered_name")
        if registered is not None:
            refuse(name, f"the registered name {registered}", "no custom objects")
        if module is not None and str(module).partition(".")[0] not in ("keras", "tf_keras"):
            refuse(name, f"an object of the module {module}", "no custom objects")
        if not isinstance(kind, str) or not _PLAIN_NAME.fullmatch(kind) or kind.startswith("__"):
            refuse(name, f"an object of the class {kind}", "no custom objects")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_own(name, part)


def _input_shape(entry: Mapping[str, Any]) -> tuple[int, int, int]:
    name, config = entry["name"], entry["config"]
    given = [config[key] for key in sorted(_READ["InputLayer"]) if key in config]
    if entry["class_name"] != "InputLayer" or len(given) != 1:
        refuse(name, f"{entry['class_name']} first", "an InputLayer with its shape")
    (shape,) = given
    whole = isinstance(shape, list) and len(shape) == 5 and shape[0] is None and shape[4] == 1
    if not whole or not all(_whole(n, _LARGEST_AXIS) for n in shape[1:]):
        refuse(name, f"shape {shape}", f"[null, A, B, C, 1], up to {_LARGEST_AXIS} voxels per axis")
    return (shape[1], shape[2], shape[3])


def _layers(shape: tuple[int, int, int], entries: list[Mapping[str, Any]]) -> tuple[Layer, ...]:
    """The layers with the shapes of their weights, followed from the input on."""
    found: list[Layer] = []
    voxels: tuple[int, ...] | None = shape
    channels, normalised = 1, False
    for entry in entries:
        kind, name = entry["class_name"], entry["name"]
        if (voxels is None) != (kind == "Dense") and kind not in ("Dropout", "BatchNormalization"):
            refuse(
                name,
                f"{kind} {'behind' if voxels is None else 'before'} the average",
                "Conv3D and MaxPooling3D, then GlobalAveragePooling3D, then Dense",
            )
        if kind == "MaxPooling3D" and normalised:
            refuse(name, "BatchNormalization before a maximum", "BatchNormalization after it")
        layer = _layer(entry, channels, axes=2 if voxels is None else 5)
        channels = layer.settings.get("filters", layer.settings.get("units", channels))
        voxels = _shrink(name, kind, voxels)
        if voxels is not None and math.prod(voxels) * channels > layers.MAX_ACTIVATIONS:
            refuse(name, f"{'x'.join(map(str, voxels))}x{channels} outputs", "a smaller network")
        normalised = kind == "BatchNormalization" or (normalised and kind == "Dropout")
        found.append(layer)
    _check_end(found)
    return tuple(found)


def _shrink(name: str, kind: str, voxels: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if kind == "GlobalAveragePooling3D" or voxels is None:
        return None
    if kind in ("Conv3D", "MaxPooling3D"):
        voxels = tuple(n - 2 if kind == "Conv3D" else n // 2 for n in voxels)
    if min(voxels) < 1:
        refuse(name, "nothing left of its input", "an input large enough for all layers")
    return voxels


def _layer(entry: Mapping[str, Any], channels: int, *, axes: int) -> Layer:
    kind, name, config = entry["class_name"], entry["name"], entry["config"]
    if kind == "Conv3D":
        activation, use_bias = _activation(name, config), _flag(name, config, "use_bias")
        filters = _width(name, config, "filters")
        return layers.conv(name, channels, filters, activation=activation, use_bias=use_bias)
    if kind == "Dense":
        activation, use_bias = _activation(name, config), _flag(name, config, "use_bias")
        units = _width(name, config, "units")
        return layers.dense(name, channels, units, activation=activation, use_bias=use_bias)
    if kind == "BatchNormalization":
        axis = config.get("axis")
        if axis not in (-1, [-1], axes - 1, [axes - 1]):
            refuse(name, f"axis {axis}", "the last axis")
        return layers.norm(
            name,
            channels,
            epsilon=_between(name, config, "epsilon", 0.0, 1.0),
            momentum=_between(name, config, "momentum", 0.0, 1.0),
            center=_flag(name, config, "center"),
            scale=_flag(name, config, "scale"),
        )
    if kind == "Dropout":
        return layers.dropout(name, _between(name, config, "rate", 0.0, 0.999))
    return layers.pool(name) if kind == "MaxPooling3D" else layers.average(name)


def _check_end(found: list[Layer]) -> None:
    """One number at the end, a sigmoid nowhere else, and no more weights than allowed."""
    if not found or found[-1].kind != "Dense" or found[-1].settings["units"] != 1:
        last = found[-1] if found else None
        refuse(last and last.source, f"{last and last.kind} at the end", "Dense with one unit")
    for layer in found:
        allowed = ("sigmoid", "linear") if layer is found[-1] else ("relu", "linear")
        activation = layer.settings.get("activation", "linear")
        if activation not in allowed:
            refuse(layer.source, f"activation {activation}", " or ".join(allowed))
    count = sum(math.prod(shape) for layer in found for shape in layer.weights.values())
    if count > layers.MAX_PARAMETERS:
        refuse("all together", f"{count:,} weights", f"at most {layers.MAX_PARAMETERS:,}")


def _activation(name: str, config: Mapping[str, Any]) -> str:
    activation = config.get("activation")
    if activation not in ("linear", "relu", "sigmoid"):
        refuse(name, f"activation {activation}", "linear, relu or sigmoid")
    return str(activation)


def _flag(name: str, config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool):
        refuse(name, f"{key} {value}", "true or false")
    return value


def _width(name: str, config: Mapping[str, Any], key: str) -> int:
    value: Any = config.get(key)
    if not _whole(value, _LARGEST_WIDTH):
        refuse(name, f"{key} {value}", f"a whole number, 1 to {_LARGEST_WIDTH}")
    return int(value)


def _between(name: str, config: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value: Any = config.get(key)
    if type(value) not in (int, float) or not least <= value <= most:
        refuse(name, f"{key} {value}", f"a number, {least:g} to {most:g}")
    return float(value)


def _whole(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most
