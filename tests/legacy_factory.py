"""Checkpoints as Keras 2 left them, written with h5py, and their answers computed with NumPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ctedge.errors import InvalidBundle
from ctedge_training.legacy.checkpoint import parse_checkpoint

#: Enough for two convolutions and a pooling.
SHAPE = (12, 13, 14)

Entry = dict[str, Any]
Arrays = dict[str, dict[str, np.ndarray]]


def entry(kind: str, name: str, before: str | None, **settings: Any) -> Entry:
    """A layer as Keras 2.5 describes it."""
    return {
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **settings},
        "name": name,
        "inbound_nodes": [] if before is None else [[[before, 0, 0, {}]]],
    }


def small(activation: str = "sigmoid", shape: tuple[int, ...] = SHAPE) -> list[Entry]:
    """Every kind of layer, in the order of the published network."""
    conv = {
        "kernel_size": [3, 3, 3],
        "strides": [1, 1, 1],
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": [1, 1, 1],
        "groups": 1,
        "activation": "relu",
        "use_bias": True,
        "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "kernel_regularizer": None,
    }
    pool = {"pool_size": [2, 2, 2], "strides": [2, 2, 2], "padding": "valid"}
    norm = {"axis": [4], "momentum": 0.9, "epsilon": 0.002, "center": True, "scale": True}
    entries = [
        entry("InputLayer", "in", None, batch_input_shape=[None, *shape, 1], sparse=False),
        entry("Conv3D", "c1", "in", filters=3, **conv),
        entry("MaxPooling3D", "p1", "c1", data_format="channels_last", **pool),
        entry("BatchNormalization", "n1", "p1", **norm),
        entry("Conv3D", "c2", "n1", filters=4, **{**conv, "use_bias": False}),
        entry("BatchNormalization", "n2", "c2", **{**norm, "scale": False}),
        entry("GlobalAveragePooling3D", "gap", "n2", data_format="channels_last"),
        entry("Dense", "d1", "gap", units=5, activation="relu", use_bias=True),
        entry("Dropout", "drop", "d1", rate=0.3, noise_shape=None, seed=None),
        entry("Dense", "d2", "drop", units=1, activation=activation, use_bias=True),
    ]
    del entries[0]["config"]["trainable"]
    return entries


def arrays() -> Arrays:
    """Weights of `small`."""
    rng = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.4, shape).astype(np.float32)

    def positive(n: int) -> np.ndarray:
        return rng.uniform(0.5, 2, n).astype(np.float32)

    return {
        "c1": {"kernel": normal(3, 3, 3, 1, 3), "bias": normal(3)},
        "n1": {
            "gamma": -positive(3),
            "beta": normal(3),
            "moving_mean": normal(3),
            "moving_variance": positive(3),
        },
        "c2": {"kernel": normal(3, 3, 3, 3, 4)},
        "n2": {"beta": normal(4), "moving_mean": normal(4), "moving_variance": positive(4)},
        "d1": {"kernel": normal(4, 5), "bias": normal(5)},
        "d2": {"kernel": normal(5, 1), "bias": normal(1)},
    }


def functional(entries: list[Entry]) -> dict[str, Any]:
    """The JSON of a functional model."""
    ends = {key: [[entries[i]["name"], 0, 0]] for key, i in (("input", 0), ("output", -1))}
    return {
        "class_name": "Functional",
        "config": {
            "name": "3dcnn",
            "layers": entries,
            "input_layers": ends["input"],
            "output_layers": ends["output"],
        },
    }


def write_groups(root: h5py.Group, names: list[str], weights: Arrays, **storage: Any) -> None:
    """Weights in groups by layer, as Keras 2 lays them out."""
    root.attrs["layer_names"] = [name.encode() for name in names]
    root.attrs["keras_version"] = "2.5.0"
    root.attrs["backend"] = b"tensorflow"
    for name in names:
        group = root.create_group(name)
        paths = [f"{name}/{weight}:0" for weight in weights.get(name, {})]
        group.attrs["weight_names"] = [path.encode() for path in paths]
        for path, values in zip(paths, weights.get(name, {}).values(), strict=True):
            group.create_dataset(path, data=values, **storage)


def write_model(
    path: Path,
    entries: list[Entry] | None = None,
    *,
    weights: Arrays | None = None,
    spoil: Callable[[h5py.File], object] | None = None,
    document: Any = None,
    **storage: Any,
) -> Path:
    """A whole-model file; `spoil` changes it before it is closed."""
    entries = small() if entries is None else entries
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.5.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps(
            functional(entries) if document is None else document
        )
        names = [e["name"] for e in entries]
        write_groups(
            file.create_group("model_weights"),
            list(dict.fromkeys(names)),
            arrays() if weights is None else weights,
            **storage,
        )
        if spoil is not None:
            spoil(file)
    return path


def answers(path: Path, volumes: np.ndarray) -> np.ndarray:
    """What a functional whole-model file answers to (N, A, B, C), before its last activation.

    Written for this test alone: NumPy in float64, straight from the file.
    """
    with h5py.File(path) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        x = volumes[..., None].astype(np.float64)
        for layer in layers[1:]:
            config, stored = layer["config"], file["model_weights"][layer["name"]]
            names = [n if isinstance(n, str) else n.decode() for n in stored.attrs["weight_names"]]
            w = {
                name.rpartition("/")[2].removesuffix(":0"): stored[name][()].astype(np.float64)
                for name in names
            }
            x = _FORWARD[layer["class_name"]](x, w, config)
            if config.get("activation") == "relu":
                x = np.maximum(x, 0)
    return x[:, 0]


def _convolve(x: np.ndarray, w: Any, _config: Any) -> np.ndarray:
    a, b, c = (n - 2 for n in x.shape[1:4])
    total = np.zeros((x.shape[0], a, b, c, w["kernel"].shape[-1]))
    for i, j, k in np.ndindex(3, 3, 3):
        total += x[:, i : i + a, j : j + b, k : k + c] @ w["kernel"][i, j, k]
    return total + w.get("bias", 0.0)


def _halve(x: np.ndarray, _w: Any, _config: Any) -> np.ndarray:
    a, b, c = (n // 2 for n in x.shape[1:4])
    cut = x[:, : 2 * a, : 2 * b, : 2 * c]
    return cut.reshape(len(x), a, 2, b, 2, c, 2, x.shape[-1]).max(axis=(2, 4, 6))


def _normalise(x: np.ndarray, w: Any, config: Any) -> np.ndarray:
    straight = (x - w["moving_mean"]) / np.sqrt(w["moving_variance"] + config["epsilon"])
    return straight * w.get("gamma", 1.0) + w.get("beta", 0.0)


_FORWARD: dict[str, Callable[[np.ndarray, Any, Any], np.ndarray]] = {
    "Conv3D": _convolve,
    "MaxPooling3D": _halve,
    "BatchNormalization": _normalise,
    "GlobalAveragePooling3D": lambda x, _w, _config: x.mean(axis=(1, 2, 3)),
    "Dense": lambda x, w, _config: x @ w["kernel"] + w.get("bias", 0.0),
    "Dropout": lambda x, _w, _config: x,
}


def refuse(path: Path, match: str, task: Any = None) -> InvalidBundle:
    """Reading the file must raise InvalidBundle; its whole message is searched."""
    with pytest.raises(InvalidBundle, match=match) as caught:
        parse_checkpoint(path.read_bytes(), path, task=task)
    return caught.value


def replaced(path: str, **storage: Any) -> Callable[[Any], object]:
    """Store an array anew, with a change."""

    def spoil(file: Any) -> None:
        values = storage.pop("data", None)
        values = file[path][()] if values is None else values
        del file[path]
        file.create_dataset(path, data=values, **storage)

    return spoil


def without(path: str, name: str | None = None) -> Callable[[Any], object]:
    def spoil(file: Any) -> None:
        if name is None:
            del file[path]
        else:
            del file[path].attrs[name]

    return spoil
