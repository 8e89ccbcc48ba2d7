"""The body and the air around it, by lines of sight: no labelling, no loop, a fraction of a ms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Denser than this is tissue: fat ends at -200 HU with its noise, lung rarely reaches -300.
TISSUE_ABOVE_HU = -300.0

HU = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int16]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """What lies inside the body, and how much of it reaches the sides of the field.

    Attributes:
        inside: (Z, Y, X) booleans: tissue to the left and right, in front and behind.
        side_contact: see `ctedge.quality.quality.Sight`.
    """

    inside: Mask
    side_contact: float


def outline(hu: HU) -> Outline:
    """Find the body in (Z, Y, X) HU whose voxels are a few millimetres wide.

    Only tissue two voxels thick counts, along the line of sight: a chest wall is thicker, table
    tops and clothes are thinner.
    """
    tissue = hu > TISSUE_ABOVE_HU
    left, right = _ends(tissue[:, :, 1:] & tissue[:, :, :-1], axis=2)
    back, front = _ends(tissue[:, 1:] & tissue[:, :-1], axis=1)
    x = np.arange(hu.shape[2], dtype=np.int16)
    y = np.arange(hu.shape[1], dtype=np.int16)[:, np.newaxis]
    inside = (x >= left[:, :, np.newaxis]) & (x <= right[:, :, np.newaxis])
    inside &= (y >= back[:, np.newaxis]) & (y <= front[:, np.newaxis])
    thickness = np.maximum(front - back, 0)
    depth = thickness.max(axis=1)
    shown = depth > 0
    if not shown.any():
        return Outline(inside=inside, side_contact=0.0)
    sides = thickness[shown][:, [0, -1]] / depth[shown, np.newaxis]
    return Outline(inside=inside, side_contact=float(sides.mean(axis=0).max()))


def _ends(pairs: Mask, axis: int) -> tuple[Places, Places]:
    """First and last voxel of the pairs along an axis; last before first where there are none."""
    count = pairs.shape[axis]
    first = pairs.argmax(axis=axis).astype(np.int16)
    last = (count - np.flip(pairs, axis).argmax(axis=axis)).astype(np.int16)
    last[~pairs.any(axis=axis)] = -1
    return first, last


def around(inside: Mask) -> Mask:
    """What lies outside the body and inside the circle that scanners reconstruct.

    Beyond that circle files hold padding, whose value says nothing.
    """
    _, rows, columns = inside.shape
    y = np.linspace(-1, 1, rows)[:, np.newaxis]
    x = np.linspace(-1, 1, columns)
    # A little less than the circle itself: its rim is half padding.
    circle: Mask = (x * x + y * y < 0.95) & ~inside
    return circle
