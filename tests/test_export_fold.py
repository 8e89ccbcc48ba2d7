"""BatchNorm folds exactly into the layer that follows it, or is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper

from ctedge.errors import InvalidBundle
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.network import fold
from ctedge_export.network.volumes import rebuild
from run_factory import NODES, SMALL, logit_of, small_bundle, small_network


@pytest.fixture(scope="module")
def trained() -> Any:
    return small_network()


def test_folding_is_exact(trained: Any) -> None:
    steps, folded = fold.fold(trained, activation="sigmoid")
    assert folded == 4
    assert [step.name for step in steps] == [
        name for name in NODES if not name.startswith(("relu", "flatten"))
    ]
    network = rebuild(steps, SMALL.shape)
    assert not any("norm" in layer.name or "drop" in layer.name for layer in network.layers)
    for shown in gate_inputs(SMALL)[:5]:
        found = network(shown.values[None, ..., None], training=False).numpy().item()
        assert found == pytest.approx(logit_of(trained, shown.batch), abs=2e-5)


def test_two_batch_norms_in_a_row_fold_into_one() -> None:
    import keras
    from keras import layers as keras_layers

    inputs = keras.Input((4, 4, 4, 1))
    tensor = keras_layers.Conv3D(3, 3, activation="relu", use_bias=False)(inputs)
    for _ in range(2):
        tensor = keras_layers.BatchNormalization(scale=False)(tensor)
    tensor = keras_layers.GlobalAveragePooling3D()(tensor)
    network = keras.Model(inputs, keras_layers.Dense(1, use_bias=False)(tensor))
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0.5, 2, w.shape) for w in network.get_weights()])
    steps, folded = fold.fold(network, activation="linear")
    assert folded == 2
    volume = rng.random((1, 4, 4, 4, 1), np.float32)
    np.testing.assert_allclose(
        rebuild(steps, (4, 4, 4))(volume), network(volume, training=False), rtol=1e-5
    )


def chain(*middle: Any, end: Any = None) -> Any:
    import keras

    tensor = inputs = keras.Input((6, 6, 6, 2))
    last = keras.layers.Dense(1) if end is None else end
    for layer in (*middle, keras.layers.GlobalAveragePooling3D(), last):
        tensor = layer(tensor)
    return keras.Model(inputs, tensor)


def test_what_does_not_fold_exactly_is_refused_by_name() -> None:
    import keras
    from keras.layers import Add, BatchNormalization, Conv3D, Dense, MaxPooling3D, UpSampling3D

    norm = BatchNormalization
    for network, found in (
        (chain(norm(), Conv3D(2, 3, padding="same", name="here")), "here"),
        (chain(norm(), MaxPooling3D(2, name="here")), "before a maximum"),
        (chain(Conv3D(2, 3, groups=2, name="here")), "2 groups"),
        (chain(UpSampling3D(2, name="here")), "UpSampling3D"),
        (chain(Conv3D(2, 3, dtype="mixed_bfloat16", name="here")), "bfloat16"),
        (chain(end=Dense(2)), r"Dense\(2\)"),
        (chain(end=Dense(1, activation="sigmoid")), "sigmoid"),
        (chain(Conv3D(2, 3), norm(axis=1)), "axis 1"),
    ):
        with pytest.raises(InvalidBundle, match=found):
            fold.fold(network, activation="linear")
    branch = chain(Conv3D(2, 3))
    merged = Add()([branch.layers[-1].output, branch.layers[-1].output])
    with pytest.raises(InvalidBundle, match=r"chain|Add"):
        fold.fold(keras.Model(branch.inputs, merged), activation="linear")


def test_the_weights_are_those_of_the_fold(
    trained: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = onnx.load_from_string(small_bundle(tmp_path_factory.getbasetemp()).model)
    steps, _ = fold.fold(trained, activation="sigmoid")
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    for step in steps:
        if step.kernel is not None:
            kernel = step.kernel
            if step.name.startswith("conv"):
                kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
            np.testing.assert_array_equal(weights[f"{step.name}.weight"], kernel)
            np.testing.assert_array_equal(weights[f"{step.name}.bias"], step.bias)


def test_a_batch_norm_behind_the_last_dense_is_refused() -> None:
    import keras
    from keras import layers as keras_layers

    inputs = keras.Input((4, 4, 4, 1))
    tensor = keras_layers.GlobalAveragePooling3D()(keras_layers.Conv3D(3, 3)(inputs))
    tensor = keras_layers.BatchNormalization(name="late")(keras_layers.Dense(1)(tensor))
    with pytest.raises(InvalidBundle, match="late"):
        fold.fold(keras.Model(inputs, tensor), activation="linear")
