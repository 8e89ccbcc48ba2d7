"""The scanner: the table, and noise that is right at any matrix size."""

from __future__ import annotations

import numpy as np

from ctedge.phantom import tissue
from ctedge.phantom.lattice import Floats, Points, cover, linear_weights
from ctedge.phantom.patient import NATIVE_PIXELS, STREAM_NOISE, Patient

_TABLE_HALF_WIDTH_MM = 215.0


def table(patient: Patient, x_mm: Points, y_mm: Points, back_y_mm: float) -> Floats:
    """Air and table, HU (rows, columns): a carbon-fibre cradle filled with foam."""
    scanner = patient.scanner
    x = (x_mm - scanner.offset_mm[0])[None, :].astype(np.float32)
    y = y_mm[:, None].astype(np.float32)
    top = np.float32(back_y_mm - scanner.table_gap_mm) + x * x / (2 * scanner.table_radius_mm)
    bottom = np.float32(back_y_mm - 62.0) + x * x / (1.2 * scanner.table_radius_mm)
    inside = np.minimum(top - y, np.minimum(y - bottom, _TABLE_HALF_WIDTH_MM - np.abs(x)))
    inside = inside.astype(np.float32)
    hu = np.full(inside.shape, tissue.AIR, dtype=np.float32)
    hu += (tissue.TABLE_SKIN - tissue.AIR) * cover(inside, 1.2)
    hu += (tissue.TABLE_FOAM - tissue.TABLE_SKIN) * cover(inside - 2.5, 1.2)
    return hu


class Noise:
    """Noise of the reconstruction kernel, as a matrix of any size sees it.

    At the native size white noise is blurred (or sharpened) by the kernel. A coarser matrix reads
    the native one linearly between two pixels; its noise is drawn with exactly the covariance that
    this reading has. In the plane the covariance is separable.
    """

    def __init__(self, patient: Patient, rows: Points, columns: Points) -> None:
        """`rows` and `columns` are positions in native pixels."""
        self._patient = patient
        self._shape = (len(rows), len(columns))
        centre, first, second = patient.scanner.kernel
        taps = np.array([second, first, centre, first, second])
        self._taps = (taps / np.sqrt(np.square(taps).sum())).astype(np.float32)
        native = all(np.array_equal(axis, np.arange(NATIVE_PIXELS)) for axis in (rows, columns))
        self._factors = None if native else (self._factor(rows), self._factor(columns))

    def plane(self, index: int) -> Floats:
        """Noise of native slice `index`, standard deviation 1 at native size."""
        rng = self._patient.rng(STREAM_NOISE, index)
        if self._factors is None:
            rows, columns = self._shape
            white = rng.standard_normal((rows + 4, columns + 4), dtype=np.float32)
            return self._blur(self._blur(white, rows, 0), columns, 1)
        left, right = self._factors
        white = rng.standard_normal(self._shape, dtype=np.float32)
        return np.asarray(left @ white @ right.T, dtype=np.float32)

    def _blur(self, plane: Floats, count: int, axis: int) -> Floats:
        def shifted(by: int) -> Floats:
            window = slice(by, by + count)
            return plane[window] if axis == 0 else plane[:, window]

        result = self._taps[2] * shifted(2)
        for tap, near, far in ((self._taps[1], 1, 3), (self._taps[0], 0, 4)):
            if tap:
                pair = shifted(near) + shifted(far)
                pair *= tap
                result += pair
        return np.asarray(result, dtype=np.float32)

    def _factor(self, positions: Points) -> Floats:
        reading = linear_weights(positions, np.arange(NATIVE_PIXELS, dtype=float))
        blur = np.zeros((NATIVE_PIXELS, NATIVE_PIXELS + 4), dtype=np.float32)
        index = np.arange(NATIVE_PIXELS)
        for offset, tap in enumerate(self._taps):
            blur[index, index + offset] = tap
        read = (reading @ blur).astype(np.float64)
        covariance = read @ read.T + 1e-6 * np.eye(len(positions))
        return np.linalg.cholesky(covariance).astype(np.float32)
