"""What the network's own input shows of the chest, in a millisecond and with NumPy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctedge.planes import evenly_spaced
from ctedge.quality.outline import HU, around, outline
from ctedge.quality.peaks import air_peak, tissue_peak
from ctedge.quality.quality import Sight
from ctedge.spec import AXIS_ENDS, CANONICAL_AXES, PreprocessSpec

#: Rows and columns looked at, and planes: voxels of about 6 x 6 x 12 mm.
_PLANE_SAMPLES, _HEIGHT_SAMPLES = 64, 24

#: An input of fewer rows, columns and planes shows no chest wall.
_LEAST_SAMPLES, _LEAST_PLANES = 32, 16

#: A window that ends within these, HU, hides air or soft tissue.
_LEAST_WINDOW = (-1000.0, 150.0)

#: Tissue with air in it: open air lies below, where gas in bowel and windpipe belongs; fat above.
AERATED_HU = (-950.0, -250.0)

#: A plane shows lung from this share of the largest aerated area on.
_SHOWS_LUNG = 0.1

#: A grid of this many voxels is enough for a histogram.
_HISTOGRAM_STEP = 2


def sight(
    volume: npt.NDArray[np.float32],
    spec: PreprocessSpec,
    field_mm: tuple[float, float, float] | None,
) -> Sight | None:
    """Look at a network's input.

    Args:
        volume: of `spec.shape`, 0..1.
        spec: what it was made by; not for lungs only.
        field_mm: what it covers along Left, Anterior, Superior, where that is known.

    Returns:
        None where the input is too coarse, or its window too narrow, to show a chest.
    """
    upright = _upright(volume, spec)
    if len(upright) < _LEAST_PLANES or min(upright.shape[1:]) < _LEAST_SAMPLES:
        return None
    low, high = spec.hu_window
    if low > _LEAST_WINDOW[0] or high < _LEAST_WINDOW[1]:
        return None
    hu = _sampled(upright) * np.float32(high - low) + np.float32(low)
    body = outline(hu)
    aerated = body.inside & (hu > AERATED_HU[0]) & (hu < AERATED_HU[1])
    areas = np.count_nonzero(aerated, axis=(1, 2))
    largest = max(int(areas.max()), 1)
    voxels = int(areas.sum())
    step = (slice(None), slice(None, None, _HISTOGRAM_STEP), slice(None, None, _HISTOGRAM_STEP))
    few, inside = hu[step], body.inside[step]
    # What the window clips at its upper end is no peak.
    soft = inside & (few < high)
    return Sight(
        air_peak_hu=air_peak(few, around(inside)),
        tissue_peak_hu=tissue_peak(few, soft),
        aerated_ml=None if field_mm is None else voxels / hu.size * float(np.prod(field_mm)) / 1000,
        aerated_share=voxels / max(int(np.count_nonzero(body.inside)), 1),
        top_share=int(areas[-1]) / largest,
        bottom_share=int(areas[0]) / largest,
        height_share=float(np.mean(areas >= _SHOWS_LUNG * largest)),
        side_contact=body.side_contact,
    )


def _upright(volume: npt.NDArray[np.float32], spec: PreprocessSpec) -> HU:
    """The input as a view (Z, Y, X) whose axes grow towards Superior, Anterior and Left."""
    places, flips = [], []
    for side in reversed(CANONICAL_AXES):
        pair = next(pair for pair in AXIS_ENDS if side in pair)
        place = next(axis for axis, end in enumerate(spec.axes) if end in pair)
        places.append(place)
        flips.append(slice(None, None, 1 if spec.axes[place] == side else -1))
    return volume.transpose(places)[tuple(flips)]


def _sampled(upright: HU) -> HU:
    """Some of its planes, the first and the last among them, and every n-th row and column."""
    depth, rows, columns = upright.shape
    planes = evenly_spaced(depth, _HEIGHT_SAMPLES)
    y, x = (max(1, round(count / _PLANE_SAMPLES)) for count in (rows, columns))
    return np.ascontiguousarray(upright[:, ::y, ::x][planes])
