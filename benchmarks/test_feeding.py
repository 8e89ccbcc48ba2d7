"""Feeding must not be the bottleneck: what batches cost beside the step that they feed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from ctedge_training import recipes  # noqa: E402
from ctedge_training.datasets.labels import Sample  # noqa: E402
from ctedge_training.datasets.store import store_array  # noqa: E402
from ctedge_training.learning.feeding import Feeder  # noqa: E402
from ctedge_training.learning.fit import compile_network  # noqa: E402
from ctedge_training.learning.job import Part  # noqa: E402
from ctedge_training.learning.networks import build_network  # noqa: E402
from ctedge_training.tasks import CLASSIFIER  # noqa: E402

#: Of the time of a step, at most this share may be spent on its batch.
MOST = 0.10
SCANS = 24
SEED = 0


class Constant(keras.utils.PyDataset):
    """The same batch again and again: what a step costs when it is fed for nothing."""

    def __init__(self, batch: Any, count: int) -> None:
        super().__init__()
        self._batch = batch
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._batch


@pytest.mark.parametrize("preset", ["published", "ctedge"])
def test_feeding(benchmark: Any, tmp_path: Path, preset: str) -> None:
    spec = CLASSIFIER.spec
    rng = np.random.default_rng(SEED)
    volumes = [
        store_array(
            Sample(name=f"{n}", path=tmp_path, answer=float(n % 2), split="train"),
            rng.random(spec.shape, dtype=np.float32),
            tmp_path,
        )
        for n in range(SCANS)
    ]
    settings = replace(recipes.preset(preset, CLASSIFIER), epochs=4)
    plan = Part.of(volumes, "train", CLASSIFIER, spec).epoch(settings, 1)
    network = build_network(CLASSIFIER, spec.shape)
    compile_network(network, CLASSIFIER, settings, len(plan))
    constant = Constant(plan.work(0).make(), len(plan))

    def seconds(batches: Any) -> float:
        started = time.perf_counter()
        network.fit(batches, epochs=1, shuffle=False, verbose=0)
        return time.perf_counter() - started

    with Feeder(1) as feeder:
        for batches in (constant, feeder.batches(plan)):
            seconds(batches)  # compiles, and starts the process
        pairs = []

        def one_pair() -> None:
            if len(pairs) % 2:  # in turns, so that a machine that drifts drifts for both
                fed = seconds(feeder.batches(plan))
                pairs.append((seconds(constant), fed))
            else:
                pairs.append((seconds(constant), seconds(feeder.batches(plan))))

        benchmark.pedantic(one_pair, rounds=6, iterations=1)
    shares = [1.0 - bare / fed for bare, fed in pairs]
    share = float(np.median(shares))
    benchmark.extra_info |= {
        "share_of_step": round(share, 4),
        "step_ms": round(1e3 * float(np.median([fed for _, fed in pairs])) / len(plan), 1),
        "batch_size": settings.batch_size,
        "shape": list(spec.shape),
    }
    assert share <= MOST
