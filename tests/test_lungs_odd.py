"""Whatever is given, the answer is a mask or one of our errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ctedge import CTEdgeError, CTScan, LungMask, affected_share, segment_lungs

pytest.importorskip("scipy", exc_type=ImportError)

#: Every axis from one voxel on; 16 cubed is the least that doors take.
SHAPES = [
    *itertools.permutations((1, 2, 40)),
    (1, 1, 1),
    (1, 64, 64),
    (64, 1, 64),
    (64, 64, 1),
    (2, 2, 2),
    (16, 16, 16),
    (400, 3, 3),
    (5, 5, 300),
]


def answered(scan: CTScan) -> LungMask | None:
    """A whole answer, or none because of an error of ours."""
    try:
        lungs = segment_lungs(scan)
        fine = segment_lungs(scan, full_resolution=True)
    except CTEdgeError:
        return None
    assert lungs.on(scan).shape == fine.labels.shape == scan.shape
    assert set(np.unique(lungs.labels)) <= {0, 1, 2}
    assert 0 <= affected_share(scan, lungs).dense.both <= 1
    return lungs


def scan_of(voxels: np.ndarray, spacing_mm: tuple[float, float, float] = (3, 3, 3)) -> CTScan:
    x, y, z = spacing_mm
    return CTScan.from_oriented(voxels, np.diag([-x, y, z, 1.0]), source="odd")


@pytest.mark.parametrize("value", [-3024, -1000, -800, -250, -249, 0, 40, 1500, 32767], ids=str)
def test_constant_volumes_hold_no_lungs(value):
    for shape in ((16, 16, 16), (1, 1, 1)):
        assert answered(scan_of(np.full(shape, value, np.int16), (10, 10, 10))) is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_shape_is_answered(shape, rng):
    for values in ((-1000, 400), (-900, -700), (200, 1500)):
        voxels = rng.integers(*values, shape).astype(np.int16)
        answered(scan_of(voxels))
        answered(CTScan.from_array(voxels.astype(np.float32)))


@pytest.mark.parametrize("seed", range(24))
def test_random_boxes_of_tissue_air_and_bone_are_answered(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(3, 56, 3))
    voxels = np.full(shape, rng.choice([-1000, -2000, 40]), rng.choice(["i2", "f4", "f8", ">i2"]))
    for _ in range(rng.integers(1, 12)):
        corner = [int(rng.integers(0, n)) for n in shape]
        size = [int(rng.integers(1, n + 1)) for n in shape]
        box = tuple(slice(low, low + n) for low, n in zip(corner, size, strict=True))
        voxels[box] = rng.choice([-1000, -850, -500, -240, -100, 40, 180, 900, 3000])
    voxels = voxels + rng.normal(0, rng.choice([0, 30]), shape).astype(voxels.dtype)
    x, y, z = rng.uniform(0.3, 19.0, 3)
    answered(scan_of(voxels, (x, y, z)))


@pytest.mark.parametrize("spacing", [(0.2, 0.2, 0.2), (19, 19, 19), (0.2, 0.2, 19), (19, 0.2, 1)])
def test_absurd_but_possible_voxel_sizes_are_answered(spacing, rng):
    voxels = np.full((48, 40, 32), 40, np.int16)
    voxels[6:20, 8:32, 4:28] = voxels[28:42, 8:32, 4:28] = -850
    voxels[[0, -1]] = voxels[:, [0, -1]] = -1000
    answered(scan_of(voxels, spacing))


def test_all_bone_around_two_lungs_is_answered():
    voxels = np.full((64, 64, 32), -1000, np.int16)
    voxels[2:-2, 2:-2] = 1000
    voxels[8:28, 12:52, 4:28] = voxels[36:56, 12:52, 4:28] = -850
    lungs = answered(scan_of(voxels, (5, 4, 8)))
    assert lungs is not None
    assert lungs.complete
