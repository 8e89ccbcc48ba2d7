"""The published layer table, and weights carried between axis orders and units."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from ctedge.errors import DatasetError
from ctedge.run_folder import MODEL_FILE
from ctedge_training.learning import weights
from ctedge_training.learning.networks import PARAMETERS, build_network
from ctedge_training.learning.settings import spec_on_grid
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task

# Layer, output shape, parameters: the table of the published example.
PUBLISHED = [
    ("InputLayer", (None, 128, 128, 64, 1), 0),
    ("Conv3D", (None, 126, 126, 62, 64), 1792),
    ("MaxPooling3D", (None, 63, 63, 31, 64), 0),
    ("BatchNormalization", (None, 63, 63, 31, 64), 256),
    ("Conv3D", (None, 61, 61, 29, 64), 110656),
    ("MaxPooling3D", (None, 30, 30, 14, 64), 0),
    ("BatchNormalization", (None, 30, 30, 14, 64), 256),
    ("Conv3D", (None, 28, 28, 12, 128), 221312),
    ("MaxPooling3D", (None, 14, 14, 6, 128), 0),
    ("BatchNormalization", (None, 14, 14, 6, 128), 512),
    ("Conv3D", (None, 12, 12, 4, 256), 884992),
    ("MaxPooling3D", (None, 6, 6, 2, 256), 0),
    ("BatchNormalization", (None, 6, 6, 2, 256), 1024),
    ("GlobalAveragePooling3D", (None, 256), 0),
    ("Dense", (None, 512), 131584),
    ("Dropout", (None, 512), 0),
    ("Dense", (None, 1), 513),
]


def table(model: keras.Model) -> list[tuple[str, tuple[int | None, ...], int]]:
    return [
        (
            type(layer).__name__,
            layer.batch_shape if isinstance(layer, keras.layers.InputLayer) else layer.output.shape,
            layer.count_params(),
        )
        for layer in model.layers
    ]


def test_the_classifier_is_the_published_network() -> None:
    model = build_network(CLASSIFIER, CLASSIFIER.spec.shape)
    assert table(model) == PUBLISHED
    assert model.count_params() == PARAMETERS == 1_352_897
    kinds = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D)]
    assert {(layer.kernel_size, layer.strides, layer.padding) for layer in kinds} == {
        ((3, 3, 3), (1, 1, 1), "valid")
    }
    assert {layer.activation.__name__ for layer in kinds} == {"relu"}
    assert model.get_layer("dense").activation.__name__ == "relu"
    assert model.get_layer("dropout").rate == 0.3
    assert model.get_layer("output").activation.__name__ == "sigmoid"


def test_the_severity_network_differs_in_axis_order_and_output_only() -> None:
    model = build_network(SEVERITY, SEVERITY.spec.shape)
    turned = [
        (kind, (None, shape[3], shape[1], shape[2], *shape[4:]) if len(shape) == 5 else shape, n)
        for kind, shape, n in PUBLISHED
    ]
    assert table(model) == turned
    assert model.count_params() == PARAMETERS
    assert model.get_layer("output").activation.__name__ == "linear"


def test_46_voxels_are_the_smallest_axis() -> None:
    assert build_network(CLASSIFIER, (46, 46, 46)).count_params() == PARAMETERS
    with pytest.raises(DatasetError, match="too small"):
        build_network(CLASSIFIER, (46, 46, 45))


def test_mixed_precision_keeps_variables_and_output_in_float32() -> None:
    model = build_network(CLASSIFIER, (46, 46, 46), mixed_precision=True)
    assert model.get_layer("conv_1").compute_dtype == "bfloat16"
    assert {variable.dtype for variable in model.weights} == {"float32"}
    assert model.output.dtype == "float32"


def random_run(folder: Path, task: Task, shape: tuple[int, int, int], seed: int) -> Run:
    """A run folder whose network has random weights everywhere, BatchNorm included."""
    rng = np.random.default_rng(seed)
    model = build_network(task, shape)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else rng.normal(0, 0.05, w.shape)
            for w in model.get_weights()
        ]
    )
    folder.mkdir()
    model.save(folder / MODEL_FILE)
    document = {"model_sha256": "unread"}
    return Run(
        folder=folder,
        task=task,
        spec=spec_on_grid(task.spec, shape),
        document=document,
        keras_bytes=(folder / MODEL_FILE).read_bytes(),
    )


def test_turned_kernels_give_the_same_answer_on_a_turned_volume(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = random_run(tmp_path / "run", CLASSIFIER, (48, 50, 46), seed=1)
    network = build_network(CLASSIFIER, (46, 48, 50))
    weights.start_from(network, CLASSIFIER, "SPL", source)
    volume = rng.random((2, 48, 50, 46, 1), dtype=np.float32)
    expected = weights.load_network(source)(volume, training=False)
    found = network(np.transpose(volume, (0, 3, 1, 2, 4)), training=False)
    to_numpy = keras.ops.convert_to_numpy
    np.testing.assert_allclose(to_numpy(found), to_numpy(expected), atol=1e-5)


def test_a_flipped_axis_flips_the_kernel() -> None:
    kernel = np.arange(27, dtype=np.float32).reshape(3, 3, 3, 1, 1)
    np.testing.assert_array_equal(weights.turn_kernel(kernel, "PLS", "PRS"), kernel[:, ::-1])
    there = weights.turn_kernel(kernel, "PLS", "IAL")
    np.testing.assert_array_equal(weights.turn_kernel(there, "IAL", "PLS"), kernel)
    dense = np.ones((4, 4), np.float32)
    assert weights.turn_kernel(dense, "PLS", "SPL") is dense


def test_another_task_keeps_a_fresh_output_layer(tmp_path: Path) -> None:
    source = random_run(tmp_path / "run", CLASSIFIER, (46, 46, 46), seed=2)
    network = build_network(SEVERITY, (46, 46, 46))
    fresh = network.get_layer("output").get_weights()
    weights.start_from(network, SEVERITY, "SPL", source)
    for found, expected in zip(network.get_layer("output").get_weights(), fresh, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        network.get_layer("dense").get_weights()[0],
        weights.load_network(source).get_layer("dense").get_weights()[0],
    )


def test_folding_the_unit_multiplies_the_answer_by_it(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    source = random_run(tmp_path / "run", SEVERITY, (46, 46, 46), seed=3)
    network = build_network(SEVERITY, (46, 46, 46))
    weights.start_from(network, SEVERITY, "SPL", source)
    volume = rng.random((1, 46, 46, 46, 1), dtype=np.float32)
    in_training = keras.ops.convert_to_numpy(network(volume, training=False))
    weights.fold_unit(network, SEVERITY)
    saved = keras.ops.convert_to_numpy(network(volume, training=False))
    np.testing.assert_allclose(saved, 100.0 * in_training, rtol=1e-5)
    np.testing.assert_allclose(
        saved,
        keras.ops.convert_to_numpy(weights.load_network(source)(volume, training=False)),
        rtol=1e-5,
    )


def test_recalibration_is_the_plain_mean_over_the_batches(rng: np.random.Generator) -> None:
    network = build_network(CLASSIFIER, (46, 46, 46))
    volumes = [rng.random((2, 46, 46, 46, 1), dtype=np.float32) for _ in range(3)]
    weights.recalibrate(network, volumes)
    pooled = keras.Model(network.inputs[0], network.get_layer("pool_1").output)
    each = [keras.ops.convert_to_numpy(pooled(volume, training=False)) for volume in volumes]
    norm = network.get_layer("norm_1")
    np.testing.assert_allclose(
        np.asarray(norm.moving_mean), np.mean([e.mean((0, 1, 2, 3)) for e in each], 0), rtol=1e-4
    )
    np.testing.assert_allclose(
        np.asarray(norm.moving_variance), np.mean([e.var((0, 1, 2, 3)) for e in each], 0), rtol=1e-3
    )
    assert norm.momentum == 0.99
