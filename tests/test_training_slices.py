"""Slices: pictures in class folders to a trained DenseNet121, its heat maps, and its start."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")
pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

from PIL import Image
from typer.testing import CliRunner

from ctedge.errors import InvalidBundle, WrongTask
from ctedge.spec import SLICE_STUDY, SliceSpec
from ctedge_training.cli import app
from ctedge_training.datasets.source import Source
from ctedge_training.judging.evaluate import evaluate
from ctedge_training.judging.gradcam import heat_maps
from ctedge_training.learning import networks, weights
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SLICES
from made_once import made_once

SIDE = 64
CLASSES = ("clear", "covid")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures a class, of many sizes; the second class has a bright blob."""
    return made_once(tmp_path_factory.getbasetemp(), "pictures", write_pictures)


def write_pictures(folder: Path) -> None:
    rng = np.random.default_rng(8)
    for answer, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            rows, columns = rng.integers(40, 70, 2)
            levels = rng.integers(0, 90, (rows, columns)).astype(np.uint8)
            if answer:
                levels[10:30, 10:30] += 150
            Image.fromarray(levels).save(folder / name / f"{number:02d}.png")


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    def train(out: Path) -> None:
        arguments = [
            *("slices", str(pictures), "-o", str(out), "--classes", ",".join(CLASSES)),
            *("--grid", f"{SIDE}x{SIDE}", "--epochs", "2", "--workers", "1", "--feeders", "0"),
        ]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert "percent confident that CT scan is clear" in result.output

    return Run.open(made_once(tmp_path_factory.getbasetemp(), "slice-training", train))


def test_the_run_says_what_it_is(trained: Run) -> None:
    document = trained.document
    assert document["task"] == "slices"
    assert document["labels"] == list(CLASSES)
    assert document["input_shape"] == [SIDE, SIDE, 3]
    assert document["threshold"] == 0.5
    spec = SliceSpec.from_json(document["spec"])
    assert spec == replace(SLICE_STUDY, shape=(SIDE, SIDE), name=f"slice-study-{SIDE}x{SIDE}")
    assert document["data"]["splits"] == {"test": 6, "train": 28, "validation": 6}
    assert document["training"]["start_from"] is None
    assert document["training"]["imagenet"] is None
    for name in ("network.txt", "network.png", "input.png", "curves.png"):
        assert (trained.folder / name).stat().st_size > 1000
    assert "7,038,529" in (trained.folder / "network.txt").read_text()


def test_the_evaluation_has_every_count_and_a_sheet_of_heat_maps(
    trained: Run, pictures: Path, tmp_path: Path
) -> None:
    source = Source(folder=pictures, classes=CLASSES)
    metrics = evaluate(trained.folder, source, out=tmp_path)
    assert metrics["count"] == 6
    for name in ("accuracy", "loss", "misclassification_rate", "auc"):
        assert "value" in metrics[name]
    counts = metrics["counts"]
    kinds = ("true_positive", "true_negative", "false_positive", "false_negative")
    assert sum(counts[kind] for kind in kinds) == 6
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["metrics"]["counts"] == counts
    assert (tmp_path / "gradcam.png").read_bytes().startswith(b"\x89PNG")


def test_heat_maps_are_grad_cam(trained: Run, rng: np.random.Generator) -> None:
    """Against the definition, differentiated: here for TensorFlow only, which has the tape."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("the gradient that it is held against is TensorFlow's")
    import tensorflow as tf

    network = weights.load_network(trained)
    inputs = rng.random((2, SIDE, SIDE, 3), dtype=np.float32)
    kernel, bias = network.get_layer("output").get_weights()
    tail = keras.Model(
        network.inputs[0], [network.get_layer("relu").output, network.get_layer("average").output]
    )
    with tf.GradientTape() as tape:
        activations = tail(inputs, training=False)[0]
        tape.watch(activations)
        logit = tf.reduce_mean(activations, axis=(1, 2)) @ kernel + bias
    gradient = tape.gradient(logit, activations).numpy()
    alpha = gradient.mean(axis=(1, 2), keepdims=True)
    places = activations.shape[1] * activations.shape[2]
    expected = np.maximum((alpha * activations.numpy()).sum(axis=3), 0.0) * places
    np.testing.assert_allclose(heat_maps(network, inputs), expected, rtol=1e-4, atol=1e-4)


def notop_file(path: Path, network: keras.Model, *, spoil: str | None = None) -> Path:
    """A file laid out as Keras hands out DenseNet121 without its top, with random weights."""
    rng = np.random.default_rng(0)
    layers = [layer for layer in network.layers if layer.weights and layer.name != "output"]
    if spoil == "short":
        layers = layers[:-1]
    with h5py.File(path, "w") as file:
        names = []
        for layer in layers:
            name = layer.name.replace("conv1_", "conv1/", 1)
            group = file.create_group(name)
            names.append(name.encode())
            inside = []
            for variable in layer.weights:
                entry = f"{name}/{variable.name}:0"
                shape = tuple(variable.shape)
                if spoil == "shape":
                    shape = (*shape[:-1], shape[-1] + 1)
                values = rng.random(shape, dtype=np.float32)
                group.create_dataset(entry, data=values)
                inside.append(entry.encode())
            group.attrs["weight_names"] = inside
        file.attrs["layer_names"] = [b"input_1", *names]
        file.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
    return path


def published(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a file for the one that Keras hands out, which is not here."""
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr("ctedge_training.legacy.densenet.PUBLISHED_MD5", digest)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """For tests that leave it as it is."""
    return networks.build_network(SLICES, (SIDE, SIDE))


def test_imagenet_weights_land_in_their_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = networks.build_network(SLICES, (SIDE, SIDE))
    head = network.get_layer("output").get_weights()
    path = notop_file(tmp_path / "notop.h5", network)
    with pytest.raises(InvalidBundle, match="not the file that Keras hands out"):
        networks.start_from_imagenet(network, path)
    published(path, monkeypatch)
    networks.start_from_imagenet(network, path)
    with h5py.File(path) as file:
        stored = file["conv1/conv/conv1/conv/kernel:0"][()]
        last = file["bn/bn/moving_variance:0"][()]
    np.testing.assert_array_equal(network.get_layer("conv1_conv").get_weights()[0], stored)
    np.testing.assert_array_equal(network.get_layer("bn").get_weights()[3], last)
    for found, before in zip(network.get_layer("output").get_weights(), head, strict=True):
        np.testing.assert_array_equal(found, before)


@pytest.mark.parametrize("spoil", ["short", "shape", "missing", "text"])
def test_another_file_of_weights_is_refused(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    before = network.get_weights()
    path = tmp_path / "notop.h5"
    if spoil == "text":
        path.write_text("no weights")
    elif spoil != "missing":
        notop_file(path, network, spoil=spoil)
    if path.is_file():
        published(path, monkeypatch)
    with pytest.raises(InvalidBundle):
        networks.start_from_imagenet(network, path)
    for found, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_slice_network_is_no_start_for_volumes(trained: Run) -> None:
    network = networks.build_network(CLASSIFIER, (46, 46, 46))
    with pytest.raises(WrongTask, match="cannot be the start"):
        weights.start_from(network, CLASSIFIER, CLASSIFIER.spec, trained)
