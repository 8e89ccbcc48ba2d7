"""Lung without air: what is found of it, and what is never taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge import CTScan, segment_lungs
from ctedge.phantom import Phantom, draw_patient, render

ndimage = pytest.importorskip("scipy.ndimage", exc_type=ImportError)

GRID = (128, 128, 48)

#: Deeper in heart, liver, chest wall than this is no matter of where a border is drawn, mm.
DEEP_MM = 9.0


def scan_of(voxels: np.ndarray, phantom: Phantom) -> CTScan:
    return CTScan.from_oriented(voxels, phantom.affine, source="phantom")


def millilitres(mask: np.ndarray, phantom: Phantom) -> float:
    return float(mask.sum() * np.prod(phantom.spacing_mm) / 1000)


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return render(draw_patient(2, lesion_share=0.0), shape=GRID)


def filled(phantom: Phantom, side: int, low: float, high: float, back: float) -> np.ndarray:
    """Which voxels of one lung lie in a share of its height, and in the back of it."""
    part = phantom.lung_mask.copy()
    if side < 0:
        part[GRID[0] // 2 :] = False
    else:
        part[: GRID[0] // 2] = False
    rows, heights = (np.flatnonzero(part.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    part[:, int(rows[0] + back * (rows[-1] - rows[0])) :] = False
    part[:, :, : int(heights[0] + low * (heights[-1] - heights[0]))] = False
    part[:, :, int(heights[0] + high * (heights[-1] - heights[0])) :] = False
    return part


@pytest.mark.parametrize("side", [-1, 1], ids=["right", "left"])
def test_consolidation_beside_the_spine_is_found(healthy, side):
    dense = filled(healthy, side, 0.4, 0.65, 0.25)
    voxels = healthy.voxels.copy()
    voxels[dense] = 30
    found = segment_lungs(scan_of(voxels, healthy)).on(scan_of(voxels, healthy))
    # Room is left beside the spine, on the left beside the aorta: 20 to 25 mm.
    assert (found & dense).sum() / dense.sum() > (0.85 if side < 0 else 0.6)
    assert millilitres(found & ~healthy.lung_mask, healthy) < 150


@pytest.mark.parametrize("seed", [3, 7, 10, 15, 16])
def test_heart_and_liver_of_a_healthy_chest_are_no_lung(seed):
    phantom = render(draw_patient(seed, lesion_share=0.0), shape=GRID)
    found = segment_lungs(scan_of(phantom.voxels, phantom)).on(scan_of(phantom.voxels, phantom))
    away = ndimage.distance_transform_edt(~phantom.lung_mask, sampling=phantom.spacing_mm)
    soft = ndimage.uniform_filter(phantom.voxels.astype(np.float32), 3) > 0
    assert millilitres(found & (away > DEEP_MM) & soft, phantom) < 10


def test_a_liver_that_stands_high_is_no_lung(healthy):
    """The right diaphragm raised: below the middle of the lung everything is liver."""
    raised = filled(healthy, -1, 0.0, 0.35, 1.1)
    voxels = healthy.voxels.copy()
    voxels[ndimage.binary_dilation(raised, iterations=2) & ~(voxels > 200)] = 58
    found = segment_lungs(scan_of(voxels, healthy)).on(scan_of(voxels, healthy))
    assert (found & raised).sum() / raised.sum() < 0.1


def test_muscles_of_the_back_are_no_lung(healthy):
    found = segment_lungs(scan_of(healthy.voxels, healthy)).on(scan_of(healthy.voxels, healthy))
    rows = np.flatnonzero(healthy.lung_mask.any(axis=(0, 2)))
    assert millilitres(found[:, : rows[0]], healthy) < 5


def test_a_wide_aorta_beside_the_spine_is_no_lung(healthy):
    """It runs 30 to 70 mm left of the middle through the upper two thirds, in aerated lung."""
    dx, dy, _ = healthy.spacing_mm
    rows = np.flatnonzero(healthy.lung_mask.any(axis=(0, 2)))
    x = (np.arange(GRID[0]) - GRID[0] / 2)[:, None] * dx
    y = (np.arange(GRID[1]) - rows[0])[None] * dy
    aorta = np.hypot(x - 50, y - 45) < 20
    tube = np.zeros(GRID, dtype=bool)
    tube[:, :, 16:40] = aorta[:, :, None]
    assert millilitres(tube & healthy.lung_mask, healthy) > 100  # it stands in lung
    voxels = healthy.voxels.copy()
    voxels[tube & (voxels < 100)] = 45
    found = segment_lungs(scan_of(voxels, healthy)).on(scan_of(voxels, healthy))
    core = ndimage.binary_erosion(tube, np.ones((5, 5, 1)))
    assert (found & core).sum() / core.sum() < 0.5  # lung closes over what it surrounds
