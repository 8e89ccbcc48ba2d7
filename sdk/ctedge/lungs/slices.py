"""Axial slices as a network that finds lungs takes them, and its labels back in the scan's pixels.

The steps are those of the package `lungmask` 0.2.22, which the weights of R231 were trained with:
what it does to a slice is part of the network. Masks and their boxes are (row, column).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.lung_spec import LungMaskSpec
from ctedge.lungs.grid import HU, Labels, Mask
from ctedge.lungs.mask import LEFT, RIGHT

Box = tuple[slice, slice]

#: The body is looked for in so many pixels along either axis, whatever the slice has.
BODY_PIXELS = 128

#: What is thinner than twice this many of these pixels, as a table top is, is no body.
THIN_PIXELS = 2

_SQUARE = np.ones((3, 3), dtype=bool)
_INT16 = np.iinfo(np.int16)


def oriented(plane: npt.NDArray[Any]) -> HU:
    """A plane (X, Y) of a scan in LAS order as (row, column): rows to Posterior, columns to Left.

    HU that are no whole numbers are rounded, so that a scan's number type changes nothing.
    """
    rows = plane[:, ::-1].T
    if not np.can_cast(rows.dtype, np.int16):
        rows = np.clip(np.rint(rows), _INT16.min, _INT16.max)
    return np.ascontiguousarray(rows, dtype=np.int16)


def network_slice(
    hu: HU, spec: LungMaskSpec, ndimage: ModuleType
) -> tuple[npt.NDArray[np.float32], Box]:
    """One slice as the network takes it.

    Args:
        hu: (row, column) int16.
        spec: the contract.
        ndimage: scipy.ndimage.

    Returns:
        float32 of `spec.shape`, 0..1, and the box of the slice that it shows.
    """
    low, high = (int(bound) for bound in spec.hu_window)
    clipped = np.clip(hu, low, high)
    box = body_box(clipped, spec.body_above_hu, ndimage)
    shown = _resized(clipped[box], spec.shape, ndimage, order=1).astype(np.float64)
    return ((shown - low) / (high - low)).astype(np.float32), box


def body_box(hu: HU, above_hu: float, ndimage: ModuleType) -> Box:
    """The box around the body; the whole slice where there is none."""
    small = _resized(hu, (BODY_PIXELS, BODY_PIXELS), ndimage, order=0)
    body = ndimage.binary_closing(small > above_hu)
    body = ndimage.binary_fill_holes(body, structure=_SQUARE)
    body = ndimage.binary_erosion(body, iterations=THIN_PIXELS)
    parts, count = ndimage.label(body)
    if count:
        largest = np.bincount(parts.ravel())[1:].argmax() + 1
        body = ndimage.binary_dilation(parts == largest, iterations=THIN_PIXELS)
    whole = _resized(body, hu.shape, ndimage, order=0)
    boxes: list[Box] = ndimage.find_objects(ndimage.label(whole, _SQUARE)[0], 1)
    return boxes[0] if boxes and boxes[0] else (slice(0, hu.shape[0]), slice(0, hu.shape[1]))


def scan_labels(labels: Labels, box: Box, shape: tuple[int, int], ndimage: ModuleType) -> Labels:
    """The network's labels in the pixels of the slice; outside the box there is no lung.

    Args:
        labels: (row, column) as the network sees them.
        box: of the slice, as `network_slice` gave it.
        shape: rows and columns of the slice.
        ndimage: scipy.ndimage.
    """
    result = np.zeros(shape, dtype=np.uint8)
    rows, columns = (part.stop - part.start for part in box)
    result[box] = _resized(labels, (rows, columns), ndimage, order=0)
    return result


def _resized(
    image: HU | Labels | Mask, shape: tuple[int, ...], ndimage: ModuleType, *, order: int
) -> npt.NDArray[Any]:
    """Ends aligned, in the image's own type: whole numbers stay whole."""
    factors = np.asarray(shape) / np.asarray(image.shape)
    resized: npt.NDArray[Any] = ndimage.zoom(image, factors, order=order)
    return resized


def shares(logits: npt.NDArray[np.floating]) -> dict[str, float]:
    """Each lung's share of the pixels, of (1, classes, rows, columns): a golden case records it."""
    labels = logits.argmax(axis=1)
    return {
        name: float(np.count_nonzero(labels == side) / labels.size)
        for name, side in (("right", RIGHT), ("left", LEFT))
    }
