"""Finding the lungs: threshold, parts, airways, sides, dense lung, closing. No model, no download.

The steps up to the sides follow Hu, Hoffman and Reinhardt, "Automatic lung segmentation for
accurate quantitation of volumetric X-ray CT images", IEEE Transactions on Medical Imaging 20(6),
2001; dense lung is told from the chest wall by the ribs (`ctedge.lungs.cage`), and looked for
beside the spine (`ctedge.lungs.gutter`).
"""

from __future__ import annotations

import os
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.errors import InputError, NoLungs
from ctedge.extras import require
from ctedge.lungs import air, airways, cage, grid, gutter, parts, shapes, sides
from ctedge.lungs.grid import Labels, Mask, WorkingGrid
from ctedge.lungs.mask import LEFT, RIGHT, LungMask
from ctedge.lungs.parts import Parts
from ctedge.lungs.refine import refine
from ctedge.scan import CTScan

#: Vessels, small nodules and the rims of lesions are narrower than twice this, mm.
CLOSING_MM = 10.0

#: Main and lobar bronchi are up to this wide, and lead on so far from where the airway was lost, in
#: mm: lobar bronchi are 10 to 20 mm long.
BRONCHUS_MM, HILUM_MM = 12.0, 20.0

#: Less than this is no lung of an adult, even of a scan that shows its base alone.
LEAST_LUNGS_ML = 200.0

#: A lung smaller than this beside the other one counts as not found.
LEAST_LUNG_ML = 60.0


def segment_lungs(scan: CTScan | npt.ArrayLike, *, full_resolution: bool = False) -> LungMask:
    """Find both lungs of a chest CT.

    Works on voxels about 3 mm apart, which is what the networks see; of a 512 x 512 x 300 scan
    every fourth row and column of every third slice. Dense lesions count as lung where aerated
    lung or the ribs enclose them, and beside the spine; those that border on heart or liver alone
    are not found. Effusion cannot be told from them.

    Args:
        scan: HU in LAS order, or an (X, Y, Z) array of them. Where a bare array states no voxel
            size, a chest of usual size is assumed, and the result says so.
        full_resolution: carry the borders over to the scan's own voxels, plane by plane.

    Returns:
        The lungs on the grid that they were looked for on, or on the scan's own.

    Raises:
        NoLungs: there is no lung in the scan.
        InputError: neither a scan nor an array of HU.
        UnreadableScan, CodecUnavailable: a slice cannot be read or decoded.
        MissingExtra: scipy is not installed.
    """
    scan = as_scan(scan)
    ndimage = require("scipy.ndimage", extra="lungs", purpose="finding the lungs")
    working = grid.pick(scan)
    body_air = air.find(working, ndimage)
    airway = airways.find(working, body_air, ndimage)
    sorted_air = parts.sort(working, body_air, airway, ndimage)
    _check_volume(sorted_air.lungs, working, scan.source)
    labels = _label(working, body_air.middle, airway, sorted_air, ndimage)
    if full_resolution:
        labels = refine(scan, working, labels, airway | sorted_air.other, sorted_air.threshold)
    labels = labels.transpose(2, 1, 0)
    present = [np.count_nonzero(labels == side) for side in (RIGHT, LEFT)]
    return LungMask(
        labels=labels,
        affine=scan.affine.copy() if full_resolution else working.affine,
        spacing_stated=working.stated,
        complete=all(present),
        cut_at_top=bool(labels[:, :, -1].any()),
        cut_at_bottom=bool(labels[:, :, 0].any()),
        source=scan.source,
    )


def as_scan(scan: CTScan | npt.ArrayLike) -> CTScan:
    """The scan that was given, or that of an (X, Y, Z) array of HU.

    Raises:
        InputError: a path, or no array of HU.
    """
    if isinstance(scan, CTScan):
        return scan
    if isinstance(scan, (str, bytes, os.PathLike)):
        raise InputError(
            f"{os.fsdecode(scan)}: a path is no scan",
            expected="a CTScan, or an (X, Y, Z) array of HU",
            fix="read it first: read_scan(path)",
        )
    return CTScan.from_array(scan)


def _check_volume(lungs: Mask, working: WorkingGrid, source: str) -> None:
    volume = np.count_nonzero(lungs) * working.voxel_ml
    if volume < LEAST_LUNGS_ML:
        raise NoLungs(
            f"{source}: no lungs can be found",
            found=f"{volume:.0f} mL of aerated tissue inside the body",
            expected=f"at least {LEAST_LUNGS_ML:.0f} mL",
            fix="pass CT of the chest in HU, with the chest wall inside the field of view",
        )


def _label(
    working: WorkingGrid, middle: float, airway: Mask, found: Parts, ndimage: ModuleType
) -> Labels:
    """(Z, Y, X) labels of both lungs with everything that belongs to them."""
    ribs = cage.find(working, found.lungs, ndimage)
    aerated = found.lungs | _islands(found, ribs)
    columns = sides.septum(working, middle, ndimage)
    before = np.arange(aerated.shape[2]) < columns[:, :, np.newaxis]
    by_side = sides.divide(parts.numbered(aerated, ndimage), before)
    beside = gutter.find(working, ribs, by_side, ndimage)
    known = np.maximum(by_side, beside)
    solid = cage.dense(working, ribs, known, before, ndimage)
    threads = _threads(aerated, airway, working, ndimage)
    keep_out = ndimage.binary_dilation(airway) | found.other
    labels = np.zeros(aerated.shape, dtype=np.uint8)
    for side, half in ((RIGHT, before), (LEFT, ~before)):
        lung = by_side == side
        if np.count_nonzero(lung) * working.voxel_ml < LEAST_LUNG_ML:
            continue
        lung |= (solid & half) | (beside == side)
        whole = shapes.closed(lung & ~threads, CLOSING_MM, working.size_mm, ndimage)
        whole = shapes.filled(lung | (whole & ~keep_out), ndimage)
        labels[whole & (labels == 0)] = side
    labels[by_side == LEFT] = LEFT  # what closing the right lung took from the left one
    return labels


def _threads(aerated: Mask, airway: Mask, working: WorkingGrid, ndimage: ModuleType) -> Mask:
    """Bronchi that lead on from the airway: between them and lung nothing is closed."""
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = ndimage.generate_binary_structure(2, 1)
    steps = working.voxels(BRONCHUS_MM / 2, 1)
    near = [2 * working.voxels(HILUM_MM, axis) + 1 for axis in range(3)]
    thin = aerated & ~ndimage.binary_opening(aerated, flat, iterations=steps)
    return np.asarray(thin & (ndimage.maximum_filter(airway.astype(np.uint8), near) > 0))


def _islands(found: Parts, ribs: cage.Cage) -> Mask:
    """Small aerated parts that lie in the chest, between top and bottom of the lungs."""
    heights = np.flatnonzero(found.lungs.any(axis=(1, 2)))
    islands = found.fragments & ribs.within
    islands[: heights[0]] = False
    islands[heights[-1] + 1 :] = False
    return islands
