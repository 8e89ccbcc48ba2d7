"""Our rotation against SciPy's, which is the published one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import ndimage

from ctedge_training.learning import rotation
from ctedge_training.learning.rotation import ANGLES_DEGREES, rotate

#: Volumes in 0..1. Largest measured 5e-7, mean 4e-8: float32 against SciPy's float64.
TOLERANCE = 1e-6
MEAN_TOLERANCE = 1e-7

SHAPES = [(48, 48, 5), (31, 48, 4), (48, 30, 3), (7, 9, 2), (3, 2, 6), (2, 2, 1)]
PLANES = [(0, 1), (1, 2), (0, 2)]


def published(volume: np.ndarray, degrees: float, plane: tuple[int, int]) -> np.ndarray:
    return ndimage.rotate(volume, degrees, axes=plane, reshape=False)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_equals_scipy(shape, plane, rng) -> None:
    volume = np.moveaxis(rng.random(shape, dtype=np.float32), (0, 1), plane)
    for degrees in (*ANGLES_DEGREES, 0, 33.3, 90, 180):
        turned = rotate(volume, degrees, plane=plane)
        difference = np.abs(turned - published(volume, degrees, plane))
        assert difference.max() <= TOLERANCE, degrees
        assert difference.mean() <= MEAN_TOLERANCE, degrees
        assert turned.dtype == np.float32
        assert turned.shape == volume.shape
        assert turned.flags.c_contiguous


def test_it_equals_scipy_at_the_size_of_the_network(rng) -> None:
    volume = rng.random((128, 128, 64), dtype=np.float32)
    assert np.abs(rotate(volume, -20) - published(volume, -20, (0, 1))).max() <= TOLERANCE


def test_any_memory_order_will_do_and_the_input_stays(rng) -> None:
    volume = rng.random((20, 24, 6), dtype=np.float32)
    kept = volume.copy()
    expected = rotate(volume, 10)
    np.testing.assert_array_equal(rotate(np.asfortranarray(volume), 10), expected)
    np.testing.assert_array_equal(rotate(volume[::-1][::-1], 10), expected)
    volume.flags.writeable = False
    np.testing.assert_array_equal(rotate(volume, 10), expected)
    np.testing.assert_array_equal(volume, kept)


@pytest.mark.parametrize("plane", PLANES)
def test_results_do_not_share_memory(plane, rng) -> None:
    volumes = [rng.random((16, 16, 16), dtype=np.float32) for _ in range(4)]
    turned = [rotate(volume, 5, plane=plane) for volume in volumes]
    for volume, result in zip(volumes, turned, strict=True):
        np.testing.assert_array_equal(result, rotate(volume, 5, plane=plane))


def test_threads_do_not_disturb_each_other(rng) -> None:
    volumes = [rng.random((24, 24, 8), dtype=np.float32) for _ in range(4)]
    expected = [rotate(volume, 20, plane=(1, 2)) for volume in volumes]
    with ThreadPoolExecutor(4) as pool:
        turned = list(pool.map(lambda volume: rotate(volume, 20, plane=(1, 2)), volumes * 10))
    for result, one in zip(turned, expected * 10, strict=True):
        np.testing.assert_array_equal(result, one)


def test_the_cache_is_bounded(rng) -> None:
    volume = rng.random((8, 8, 2), dtype=np.float32)
    for degrees in range(40):
        rotate(volume, degrees)
    information = rotation._weights.cache_info()
    assert information.currsize <= information.maxsize == 12


@pytest.mark.parametrize(
    ("shape", "plane"),
    [((8, 8), (0, 1)), ((8, 8, 4), (1, 1)), ((8, 8, 4), (0, 3)), ((1, 8, 4), (0, 1))],
)
def test_what_cannot_be_turned_is_refused(shape, plane) -> None:
    with pytest.raises(ValueError, match="cannot turn"):
        rotate(np.zeros(shape, np.float32), 5, plane=plane)
