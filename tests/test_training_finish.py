"""The preset `finish`: the last epochs of a network whose BatchNorm statistics stay."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training import recipes
from ctedge_training.learning.job import Job
from ctedge_training.learning.networks import build_network, freeze_statistics
from ctedge_training.learning.settings import spec_on_grid
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from ctedge_training.train import run_job

GRID = (46, 46, 46)


def norms_of(network: keras.Model) -> list[np.ndarray]:
    return [
        values
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for values in layer.get_weights()
    ]


def test_statistics_stay_while_the_convolutions_learn(rng: np.random.Generator) -> None:
    keras.utils.set_random_seed(0)
    frozen, moving = (build_network(SEVERITY, GRID) for _ in range(2))
    freeze_statistics(frozen)
    inputs = rng.random((2, *GRID, 1), dtype=np.float32)
    for network, stays in ((frozen, True), (moving, False)):
        before = [*norms_of(network), network.get_layer("conv_2").get_weights()[0]]
        network.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
        network.fit(inputs, np.array([0.1, 0.9], np.float32), epochs=1, verbose=0)
        after = [*norms_of(network), network.get_layer("conv_2").get_weights()[0]]
        same = [np.array_equal(*pair) for pair in zip(before, after, strict=True)]
        assert all(same[:-1]) == stays
        assert not same[-1]


def test_the_frozen_weights_fit_the_network_that_is_saved(rng: np.random.Generator) -> None:
    frozen, saved = (build_network(SEVERITY, GRID) for _ in range(2))
    freeze_statistics(frozen)
    saved.set_weights(frozen.get_weights())
    inputs = rng.random((1, *GRID, 1), dtype=np.float32)
    np.testing.assert_array_equal(
        *(np.asarray(network(inputs, training=False)) for network in (frozen, saved))
    )


def test_finish_is_for_severity_and_needs_a_start(tmp_path: Path) -> None:
    settings = recipes.preset("finish", SEVERITY)
    assert settings.keep_statistics
    assert not settings.settle
    assert "finish" not in recipes.names(CLASSIFIER)
    job = Job(
        task=SEVERITY,
        spec=spec_on_grid(SEVERITY.spec, GRID),
        settings=settings,
        volumes=[],
        labels=("Low", "Mild", "Moderate", "Severe", "Critical"),
        source=None,
        imagenet=None,
        folder=tmp_path,
        feeders=0,
        command=(),
        reporter=Reporter.silent(),
    )
    with pytest.raises(DatasetError, match="'finish' goes on from a network") as caught:
        run_job(job)
    assert "--start-from" in str(caught.value)
    assert not list(tmp_path.iterdir())
