"""What is no whole chest, drawn with a few ellipsoids: a head, an abdomen, halves of a chest.

HU are textbook figures (Bushberg, "The Essential Physics of Medical Imaging", ch. 10). Voxels are
(X, Y, Z) in LAS order; coordinates are in mm, the origin in the middle of the volume.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from ctedge import CTScan
from ctedge.phantom import Phantom, draw_patient, render

SHAPE = (128, 128, 64)

Voxels = npt.NDArray[np.int16]
Grid = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


@cache
def chest(seed: int = 0, share: float = 0.0) -> Phantom:
    """A synthetic chest at the size of a network's input; of lesions this share of the lungs."""
    return render(draw_patient(seed, lesion_share=share), shape=SHAPE)


def scan_of(phantom: Phantom, voxels: npt.NDArray[np.generic] | None = None) -> CTScan:
    """A phantom as a scan, or other voxels in its geometry."""
    values = phantom.voxels if voxels is None else voxels
    return CTScan.from_oriented(values, phantom.affine, source="phantom")


def half(part: str, seed: int = 0) -> CTScan:
    """The upper, lower, right or left half of a chest."""
    phantom = chest(seed)
    cut = {
        "upper": np.s_[:, :, 32:],
        "lower": np.s_[:, :, :32],
        "right": np.s_[:64],
        "left": np.s_[64:],
    }[part]
    return scan_of(phantom, phantom.voxels[cut])


def without_lungs(seed: int = 0) -> CTScan:
    """A chest whose lungs are filled."""
    phantom = chest(seed)
    filling = np.random.default_rng(3).normal(40, 12, SHAPE).round().astype(np.int16)
    return scan_of(phantom, np.where(phantom.lung_mask, filling, phantom.voxels))


def water() -> CTScan:
    """The cylinder that scanners are calibrated with."""
    grid, size = _grid((300.0, 300.0, 250.0))
    x, y, _ = grid
    return _scan(np.where(np.hypot(x, y) < 100, 0.0, -1000.0) + 0 * grid[2], size)


def head() -> CTScan:
    """Skull, brain, sinuses and mastoid cells, in a holder that is filled with foam."""
    grid, size = _grid((240.0, 240.0, 180.0))
    x, y, z = grid
    hu = np.full(SHAPE, -1000.0)
    cradle = np.hypot(x, y - 10)
    hu[(cradle > 102) & (cradle < 114) & (y < 0) & (z == z)] = -930
    for radius, value in ((1.0, 20.0), (0.95, 900.0), (0.87, 35.0)):
        hu[_ball(grid, (0, 0, 10), (75 * radius, 95 * radius, 85 * radius))] = value
    hu[_ball(grid, (0, -10, -75), (55, 60, 40))] = 50
    for side in (-1, 1):
        hu[_ball(grid, (side * 22, 65, -20), (14, 14, 18))] = -1000
        cells = _ball(grid, (side * 55, -15, -25), (12, 14, 16))
        hu[cells] = np.random.default_rng(0).uniform(-900, 600, int(cells.sum()))
    hu[_ball(grid, (0, 30, -60), (8, 15, 30))] = -1000
    return _scan(hu, size)


def abdomen(*, lung_bases: bool = False) -> CTScan:
    """Liver, spleen, kidneys, spine, gas and stool; on request the lowest part of the lungs."""
    grid, size = _grid((380.0, 380.0, 300.0))
    x, y, z = grid
    hu = np.full(SHAPE, -1000.0)
    for radius, value in ((1.0, -100.0), (0.86, 50.0), (0.78, -95.0)):
        hu[np.hypot(x / (165 * radius), y / (115 * radius)) + 0 * z < 1] = value
    hu[np.hypot(x, y + 60) + 0 * z < 22] = 200
    for place, radii, value in (
        ((-65, 20, 80), (65, 70, 75), 60.0),
        ((85, -20, 90), (30, 40, 50), 50.0),
        ((-60, -45, 0), (25, 25, 50), 35.0),
        ((60, -45, 0), (25, 25, 50), 35.0),
        ((0, 20, -80), (80, 50, 50), 15.0),
        ((60, 45, 90), (35, 25, 30), -1000.0),  # the stomach's gas
        ((-80, 20, -70), (20, 20, 45), -1000.0),  # and that of the colon
        ((0, 60, 0), (60, 14, 14), -1000.0),
    ):
        hu[_ball(grid, place, radii)] = value
    stool = _ball(grid, (85, 10, -60), (22, 22, 70))
    hu[stool] = np.random.default_rng(1).uniform(-700, 100, int(stool.sum()))
    if lung_bases:
        inner = np.hypot(x / 125, y / 85) + 0 * z < 1
        above = z > 150 - 35 * np.clip(np.hypot((np.abs(x) - 70) / 60, y / 80), 0, 1) ** 2
        hu[inner & above & (np.abs(x) > 15)] = -850
    return _scan(hu, size)


def _grid(field_mm: tuple[float, float, float]) -> tuple[Grid, tuple[float, float, float]]:
    sizes = tuple(field / count for field, count in zip(field_mm, SHAPE, strict=True))
    axes = [
        (np.arange(count) - (count - 1) / 2) * size
        for count, size in zip(SHAPE, sizes, strict=True)
    ]
    x, y, z = np.ix_(*axes)
    return (x, y, z), (sizes[0], sizes[1], sizes[2])


def _ball(
    grid: Grid, place: tuple[float, float, float], radii: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    parts = [
        ((axis - centre) / radius) ** 2
        for axis, centre, radius in zip(grid, place, radii, strict=True)
    ]
    inside: npt.NDArray[np.bool_] = parts[0] + parts[1] + parts[2] < 1
    return inside


def _scan(hu: npt.NDArray[np.float64], size: tuple[float, float, float]) -> CTScan:
    """With the noise of a scanner."""
    noisy = hu + np.random.default_rng(2).normal(0, 12, hu.shape)
    voxels = np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)
    affine = np.diag([-size[0], size[1], size[2], 1.0])
    return CTScan.from_oriented(voxels, affine, source="phantom")
