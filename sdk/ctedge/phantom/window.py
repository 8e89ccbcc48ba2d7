"""The part of the image that an organ can reach: nothing is painted outside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctedge.phantom.anatomy import Anatomy
from ctedge.phantom.lattice import Floats, PlaneReader, Points


@dataclass(frozen=True, kw_only=True)
class Window:
    """A box of the image, with a reader of lattice fields over it."""

    box: tuple[slice, slice]
    reader: PlaneReader

    @classmethod
    def around(cls, model: Anatomy, extent: Floats, x_mm: Points, y_mm: Points) -> Window:
        """The box where `extent` (lattice rows, columns) is not far below zero."""
        lattice = model.lattice
        rows, columns = bounding(extent > -8)
        y_low, y_high = lattice.y_mm[rows.start], lattice.y_mm[rows.stop - 1]
        x_low, x_high = lattice.x_mm[columns.start], lattice.x_mm[columns.stop - 1]
        box = (
            slice(*np.searchsorted(y_mm, [y_low, y_high]).tolist()),
            slice(*np.searchsorted(x_mm, [x_low, x_high]).tolist()),
        )
        reader = PlaneReader.over(lattice, x_mm=x_mm[box[1]], y_mm=y_mm[box[0]])
        return cls(box=box, reader=reader)

    def whole(self, plane: Floats, shape: tuple[int, ...]) -> Floats:
        """The plane in an image of -9 elsewhere."""
        image = np.full(shape, -9.0, dtype=np.float32)
        image[self.box] = plane
        return image


def bounding(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
