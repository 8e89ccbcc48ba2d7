"""Weights arrive bit by bit, from every layout of Keras and every way to store a number."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

from ctedge.errors import InvalidBundle
from ctedge_training.learning.networks import build_network
from ctedge_training.legacy import layers
from ctedge_training.legacy.checkpoint import parse_checkpoint
from ctedge_training.legacy.importing import import_checkpoint
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from legacy_factory import arrays, refuse, replaced, without, write_groups, write_model


def published(activation_of: Any) -> Any:
    """The published network with random numbers everywhere."""
    model = build_network(activation_of, (46, 46, 46))
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.01, 1, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("layout", ["keras 2", "keras 3", "keras 3 with optimizer"])
def test_weights_of_the_published_network_arrive_bit_by_bit(layout: str, tmp_path: Path) -> None:
    task = SEVERITY if layout == "keras 2" else CLASSIFIER
    model, file = published(task), tmp_path / "saved.weights.h5"
    if layout == "keras 2":
        weights = {
            # Keras 2 numbers its layers over the whole process.
            f"{layer.name}_{7 * number}": {w.name: w.numpy() for w in layer.weights}
            for number, layer in enumerate(model.layers)
        }
        with h5py.File(file, "w") as opened:
            write_groups(opened, list(weights), weights)
    else:
        if layout.endswith("optimizer"):
            model.compile(optimizer="adam", loss="binary_crossentropy")
        model.save_weights(file)
    with pytest.raises(InvalidBundle, match="weights alone"):
        parse_checkpoint(file.read_bytes(), file)
    run = import_checkpoint(file, tmp_path / "run", task=task)
    assert run.document["spec"] == task.spec.to_json()
    saved = keras.saving.load_model(run.folder / "model.keras", compile=False)
    assert saved.input_shape == (None, *task.spec.shape, 1)
    fresh = build_network(task, task.spec.shape)
    assert [layer.name for layer in saved.layers] == [layer.name for layer in fresh.layers]
    assert saved.layers[-1].activation.__name__ == task.activation
    assert len(saved.get_weights()) == len(model.get_weights())
    for found, expected in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sequential", [False, True])
def test_keras_3_in_the_old_format(sequential: bool, tmp_path: Path) -> None:
    model, file = published(CLASSIFIER), tmp_path / "a.h5"
    if sequential:
        model = keras.Sequential([keras.Input((46, 46, 46, 1)), *model.layers[1:]])
    model.save(file)
    found = parse_checkpoint(file.read_bytes(), file)
    assert found.architecture.shape == (46, 46, 46)
    flat = [array for arrays_ in found.weights for array in arrays_.values()]
    for array, expected in zip(flat, model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8"])
@pytest.mark.parametrize(
    "storage",
    [
        {},
        {"chunks": True},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True},
        {"shuffle": True},
    ],
    ids=str,
)
def test_every_way_to_store_a_number(dtype: str, storage: dict[str, Any], tmp_path: Path) -> None:
    weights = {
        layer: {name: values.astype(dtype) for name, values in named.items()}
        for layer, named in arrays().items()
    }
    file = write_model(tmp_path / "a.h5", weights=weights, **storage)
    found = parse_checkpoint(file.read_bytes(), file)
    assert found.facts["stored_as"] == np.dtype(dtype).name
    for read, layer in zip(found.weights, found.architecture.weighted, strict=True):
        for name, values in read.items():
            expected = weights[layer.source][name].astype(np.float32)
            np.testing.assert_array_equal(values, expected)


def test_chunks_that_do_not_divide_the_array(tmp_path: Path) -> None:
    def rechunk(file: Any) -> None:
        group = file["model_weights/c2"]
        values = group["c2/kernel:0"][()]
        del group["c2/kernel:0"]
        group.create_dataset("c2/kernel:0", data=values, chunks=(2, 3, 2, 2, 3), compression=9)

    file = write_model(tmp_path / "a.h5", spoil=rechunk)
    found = parse_checkpoint(file.read_bytes(), file)
    np.testing.assert_array_equal(found.weights[2]["kernel"], arrays()["c2"]["kernel"])


def published_arrays() -> dict[str, dict[str, np.ndarray]]:
    chain = layers.published((128, 128, 64), "sigmoid")
    return {
        layer.source: {name: np.ones(shape, np.float32) for name, shape in layer.weights.items()}
        for layer in chain.layers
    }


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda w: w.pop("conv_4"), "9 layers with weights: conv_1"),
        (lambda w: w["conv_2"].pop("bias"), "kernel"),
        (lambda w: w["norm_1"].pop("gamma"), "gamma"),
        (
            lambda w: w["conv_1"].update(kernel=np.ones((3, 3, 3, 1, 16), "f4")),
            r"(?s)shape \(3, 3, 3, 1, 16\).*expected: shape \(3, 3, 3, 1, 64\)",
        ),
        (lambda w: w["norm_4"]["moving_variance"].__setitem__(5, -1), "variance of -1"),
    ],
)
def test_keras_2_weights_of_another_network(
    spoil: Callable[[Any], object], said: str, tmp_path: Path
) -> None:
    weights, path = published_arrays(), tmp_path / "a.h5"
    spoil(weights)
    with h5py.File(path, "w") as file:
        write_groups(file, list(weights), weights)
    refuse(path, said, CLASSIFIER)


def numbered(path: Path, spoil: Callable[[Any], object] = lambda _: None) -> Path:
    """Weights in Keras 3's layout."""
    stems = {"conv": "conv3d", "norm": "batch_normalization"}
    with h5py.File(path, "w") as file:
        for name, weights in published_arrays().items():
            stem, _, number = name.partition("_")
            group = {"dense": "dense", "output": "dense_1"}.get(name, stems.get(stem))
            if group is None:
                continue
            group += f"_{int(number) - 1}" if number not in ("", "1") else ""
            for index, values in enumerate(weights.values()):
                file[f"layers/{group}/vars/{index}"] = values
        file.create_group("layers/max_pooling3d_2/vars")
        spoil(file)
    return path


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("layers/conv3d_3"), r"missing \['conv3d_3'\]"),
        (lambda file: file.create_group("layers/lambda"), r"unknown \['lambda'\]"),
        (lambda file: file.copy("layers/dense", "layers/dense_2"), r"unknown \['dense_2'\]"),
        (without("layers/dense/vars/1"), "arrays"),
        (without("layers/dense/vars"), "nothing"),
        (replaced("layers/dense/vars/1", data=np.ones(5, "f4")), r"shape \(512,\)"),
        (lambda file: file["layers"].update(x=h5py.SoftLink("/layers/dense")), "unknown"),
        (lambda file: [file.create_group(f"layers/dropout_{n}") for n in range(1100)], "members"),
    ],
)
def test_keras_3_weights_of_another_network(
    spoil: Callable[[Any], object], said: str, tmp_path: Path
) -> None:
    whole = numbered(tmp_path / "whole.weights.h5")
    parse_checkpoint(whole.read_bytes(), whole, task=CLASSIFIER)
    refuse(numbered(tmp_path / "a.weights.h5", spoil), said, CLASSIFIER)
