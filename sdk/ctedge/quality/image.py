"""What the scan's own voxels show: peaks without a window, noise, metal, contrast medium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctedge.lungs import LungMask
from ctedge.planes import PlanesInMemory
from ctedge.quality.noise import NoiseMeter
from ctedge.quality.outline import HU, Mask, around, outline
from ctedge.quality.peaks import air_peak, tissue_peak
from ctedge.quality.quality import ImageMeasures
from ctedge.scan import SPACING_RANGE_MM, CTScan

#: Most planes that are looked at, and about so many rows and columns of the coarse picture.
_MOST_PLANES, _COARSE_SAMPLES = 64, 128

#: Scales of 12 bits end at 3071 HU, and enamel, the densest tissue, stays below 3000.
METAL_ABOVE_HU = 3000.0

#: Soft tissue between the lungs: partial volume with lung and fat lies below, metal above.
_MEDIASTINUM_HU = (0.0, 1000.0)


def measure(
    scan: CTScan, lungs: LungMask | None, field_mm: tuple[float, float, float] | None
) -> ImageMeasures:
    """Look at up to 64 planes of a scan.

    Args:
        scan: HU in LAS order.
        lungs: its lungs, where they were found.
        field_mm: what it covers, where that is known.
    """
    seen = _walk(scan)
    inside = outline(seen.hu).inside
    mask = np.zeros(seen.hu.shape, dtype=bool)
    if lungs is not None:
        mask = lungs.on(seen.coarse).transpose(2, 1, 0)
    level, frequency = seen.noise.answer()
    per_mm = None if frequency is None or field_mm is None else frequency / scan.spacing_mm[0]
    return ImageMeasures(
        air_peak_hu=air_peak(seen.hu, around(inside)),
        tissue_peak_hu=tissue_peak(seen.hu, inside),
        noise_hu=level,
        noise_frequency=frequency,
        noise_frequency_per_mm=per_mm,
        metal_ml=None if field_mm is None else seen.metal * float(np.prod(field_mm)) / 1000,
        lung_hu=_median(seen.hu[mask]),
        mediastinum_hu=_mediastinum(seen.hu, mask),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A coarse picture, (Z, Y, X) HU, and as a scan of its own; the noise; the share of metal."""

    hu: HU
    coarse: CTScan
    noise: NoiseMeter
    metal: float


def _walk(scan: CTScan) -> _Seen:
    """Every plane that is looked at, once."""
    x, y = (max(1, round(count / _COARSE_SAMPLES)) for count in scan.shape[:2])
    farthest = max(1, int(SPACING_RANGE_MM[1] / scan.spacing_mm[2]))
    z = min(-(-scan.shape[2] // _MOST_PLANES), farthest)
    noise, metal, looked_at, coarse = NoiseMeter(), 0, 0, []
    for plane in scan.planes.each(range(0, scan.shape[2], z)):
        noise.add(plane.T)
        metal += int(np.count_nonzero(plane > METAL_ABOVE_HU))
        looked_at += plane.size
        coarse.append(plane.T[::y, ::x].astype(np.float32))
    hu = np.stack(coarse)
    return _Seen(
        hu=hu,
        coarse=CTScan(
            planes=PlanesInMemory(hu.transpose(2, 1, 0)),
            affine=scan.affine @ np.diag([x, y, z, 1.0]),
            source=scan.source,
        ),
        noise=noise,
        metal=metal / looked_at,
    )


def _mediastinum(hu: HU, mask: Mask) -> float | None:
    """Median HU of the soft tissue between the lungs, in front of their middle."""
    between = _between(mask)
    rows = np.arange(mask.shape[1])[:, np.newaxis]
    for index, lung in enumerate(mask):
        held = np.flatnonzero(lung.any(axis=1))
        if len(held):
            # The spine lies behind the middle, heart and great vessels around it and before.
            between[index] &= rows > (held[0] + held[-1]) / 2
    low, high = _MEDIASTINUM_HU
    return _median(hu[between & (hu > low) & (hu < high)])


def _median(values: HU) -> float | None:
    return float(np.median(values)) if len(values) else None


def _between(mask: Mask) -> Mask:
    """What lies between the first and the last lung voxel of its row, and is no lung."""
    before = np.logical_or.accumulate(mask, axis=2)
    behind = np.logical_or.accumulate(mask[:, :, ::-1], axis=2)[:, :, ::-1]
    found: Mask = before & behind & ~mask
    return found
