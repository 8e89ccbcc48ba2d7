"""Augmentation of one volume on one core, the published rotation against SciPy in the same run."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage
from threadpoolctl import threadpool_limits

from ctedge_training.learning.augment import Augmentation
from ctedge_training.learning.rotation import ANGLES_DEGREES, rotate

#: The promise for the published layout: this many times faster than scipy.ndimage.rotate, one core
#: each. Where slices stand first, which no published training turns, the axes change places twice.
TIMES_FASTER = {"PLS": 10, "SPL": 7}

MAX_DIFFERENCE = 1e-6

SEED = 0

ORDERS = {"PLS": ((128, 128, 64), (0, 1)), "SPL": ((64, 128, 128), (1, 2))}


def core_seconds(work: Callable[[], object]) -> float:
    """Processor time over all threads: what one core spends, whoever else is on the machine."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.fixture(autouse=True)
def one_core():
    with threadpool_limits(limits=1):
        yield


@pytest.mark.parametrize("axes", ORDERS)
def test_rotate(benchmark, axes):
    shape, plane = ORDERS[axes]
    volume = np.random.default_rng(SEED).random(shape, dtype=np.float32)
    published_s, ours_s, differences = [], [], []
    for degrees in ANGLES_DEGREES:
        # the first call works the weights out, once for all volumes
        turned = rotate(volume, degrees, plane=plane)
        published = ndimage.rotate(volume, degrees, axes=plane, reshape=False)
        differences.append(float(np.abs(turned - published).max()))
    for degrees in ANGLES_DEGREES * 3:
        theirs = functools.partial(ndimage.rotate, volume, degrees, axes=plane, reshape=False)
        published_s.append(core_seconds(theirs))
        ours_s.append(core_seconds(functools.partial(rotate, volume, degrees, plane=plane)))
    ratio = statistics.median(published_s) / statistics.median(ours_s)
    benchmark.extra_info |= {
        "published_core_s": round(statistics.median(published_s), 4),
        "times_faster": round(ratio, 1),
        "max_difference": max(differences),
    }
    benchmark.pedantic(rotate, (volume, 20), {"plane": plane}, rounds=20, warmup_rounds=2)
    assert max(differences) <= MAX_DIFFERENCE
    assert ratio >= TIMES_FASTER[axes]


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("PLS", (128, 128, 64)), ("SPL", (64, 128, 128)), ("PLS", (46, 46, 46))],
    ids=["classifier", "severity", "smallest"],
)
def test_augmentation(benchmark, axes, shape):
    volume = np.random.default_rng(SEED).random(shape, dtype=np.float32)
    recipe, rng = Augmentation(axes=axes), np.random.default_rng(SEED + 1)
    changed = benchmark.pedantic(recipe.apply, (volume, rng), rounds=20, warmup_rounds=2)
    assert changed.shape == shape
