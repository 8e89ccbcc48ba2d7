"""Air inside the body: what is below the threshold and enclosed by tissue, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from ctedge.lungs.grid import HU, Mask, WorkingGrid

#: Below this a voxel holds air. Thresholds half-way between lung and tissue, as Hu, Hoffman and
#: Reinhardt find them ("Automatic lung segmentation", IEEE TMI 20, 2001), lie near -400 in healthy
#: lungs and would cut out ground glass, which reaches -200. Fat with its noise ends at -200.
AIR_BELOW_HU = -250

#: Table tops and clothes are thinner than this, chest walls thicker, mm.
THIN_MM = 6.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Air:
    """Both masks (Z, Y, X).

    Attributes:
        body: the trunk with everything that it encloses.
        inside: air that is enclosed in its slice, be it by the body or by the table.
    """

    body: Mask
    inside: Mask

    @property
    def middle(self) -> float:
        """The column with half of the body on either side: an arm against it hardly moves that."""
        before = self.body.sum(axis=(0, 1)).cumsum()
        return float(np.searchsorted(before, before[-1] / 2)) if before[-1] else before.size / 2


def find(grid: WorkingGrid, ndimage: ModuleType) -> Air:
    """Body, and the air in it."""
    air = (grid.hu < AIR_BELOW_HU) | _padding(grid.hu)
    flat = np.zeros((3, 3, 3), dtype=bool)  # four neighbours in the plane, none in other slices
    flat[1] = ndimage.generate_binary_structure(2, 1)
    thin = grid.voxels(THIN_MM / 2, 1)
    solid = ndimage.binary_erosion(~air, flat, iterations=thin, border_value=1)
    solid = ndimage.binary_dilation(_largest(solid, ndimage), flat, iterations=thin) & ~air
    body = ~_reaching_border(~solid, flat, ndimage)
    return Air(body=body, inside=air & ~_reaching_border(air, flat, ndimage))


def _padding(hu: HU) -> Mask:
    """Voxels outside a round field, whatever constant they hold: that of all four corners."""
    corners = hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    value = corners.flat[0]
    if (corners != value).any():
        return np.zeros(hu.shape, dtype=bool)
    return np.asarray(hu == value)


def _reaching_border(mask: Mask, flat: Mask, ndimage: ModuleType) -> Mask:
    """The parts of a mask that reach an edge of their slice."""
    labels, count = ndimage.label(mask, flat)
    reaching = np.zeros(count + 1, dtype=bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        reaching[edge] = True
    reaching[0] = False
    return np.asarray(reaching[labels])


def _largest(mask: Mask, ndimage: ModuleType) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())
