"""What a training step is made of: one trace of the network, whatever is counted beside it."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from ctedge_training.learning.fit import compile_network
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task

STEPS = 4


class Counting(keras.layers.Layer):  # type: ignore[misc]
    """Passes on what it is given, and counts how often Python runs it for a training step."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def call(self, inputs: Any, training: bool = False) -> Any:
        self.times += bool(training)
        return inputs


@pytest.mark.parametrize("averaging", [0.0, 0.9])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("task", [CLASSIFIER, SEVERITY], ids=lambda task: task.name)
def test_the_network_is_traced_once(
    rng: np.random.Generator, task: Task, smoothing: float, averaging: float
) -> None:
    if keras.config.backend() != "tensorflow":
        pytest.skip("other backends trace otherwise, or not at all")
    counting = Counting()
    inputs = keras.Input((3,))
    network = keras.Model(inputs, keras.layers.Dense(1, task.activation)(counting(inputs)))
    settings = Settings(label_smoothing=smoothing, averaging=averaging)
    compile_network(network, task, settings, STEPS)
    values = rng.random((2 * STEPS, 3), dtype=np.float32)
    for _ in range(2):
        fitted = network.fit(values, values[:, :1], batch_size=2, shuffle=False, verbose=0)
    assert counting.times == 1
    counted = task.binary and not smoothing
    assert set(fitted.history) == ({"loss", "accuracy"} if counted else {"loss"})
