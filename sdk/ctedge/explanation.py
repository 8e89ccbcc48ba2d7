"""Where in the scan an answer comes from: a network's map, on the scan's own grid.

The network draws a coarse map over its input (see `ctedge.bundle.maps`). The input is the scan
resampled along its axes with aligned ends, so the way back is the same arithmetic: a voxel's
index, as an index of the input, as a place between the centres of the map's cells, interpolated
linearly; beyond the outermost centres the outermost cells go on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MapRecord
from ctedge.montage import drawable, montage_png, require_png, sides_known
from ctedge.nifti_writer import write_volume
from ctedge.planes import evenly_spaced
from ctedge.scan import CTScan
from ctedge.spec import AXIS_ENDS, CANONICAL_AXES, PreprocessSpec

Floats = npt.NDArray[np.float32]

#: A heat map is stored in steps of 1/255.
_LEVELS = 255

#: Slices of an overlay picture.
OVERLAY_SLICES = 24


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """A map of one answer. It is relative: 1 is the hottest place of this scan, whatever its class.

    It shows what the network looked at, not what is there: on synthetic chests most of its heat
    lies outside the lesions (docs/explanation.md has the figures).

    Attributes:
        cells: the map as the network drew it, float32 >= 0, axes as the spec's.
        scan: what was judged.
        spec: how it became the network's input.
        record: what kind of map it is, and where its cells lie in that input.
    """

    cells: Floats
    scan: CTScan
    spec: PreprocessSpec
    record: MapRecord

    @property
    def method(self) -> str:
        """What kind of map: "layer-cam" or "grad-cam"."""
        return self.record.method

    def heatmap(self, slices: Sequence[int] | None = None) -> Floats:
        """The map on the scan's own grid.

        Args:
            slices: indices, 0 the most inferior; None is all. 512 x 512 x 300 take 315 MB.

        Returns:
            (X, Y, Z) float32, 0..1, axes growing towards Left, Anterior and Superior as those of
            `CTScan.voxels`; 1 is the hottest cell. All 0 where no cell is above 0.
        """
        largest = float(self.cells.max())
        values = self.cells / np.float32(largest) if largest > 0 else self.cells
        order = [_axis_of(side) for side in self.spec.axes]
        wanted = [np.arange(n) for n in self.scan.shape]
        if slices is not None:
            wanted[2] = np.asarray(slices, np.intp)
        # The longest axes last: the work grows with what was made before.
        for place in sorted(range(3), key=lambda k: len(wanted[order[k]])):
            axis = order[place]
            at = self._cell_of(place, wanted[axis], self.scan.shape[axis])
            values = _between(values, place, at)
        return np.ascontiguousarray(values.transpose(np.argsort(order)))

    @property
    def peak(self) -> tuple[int, int, int]:
        """The scan's voxel nearest to the centre of the hottest cell, (X, Y, Z) in LAS order."""
        hottest = np.unravel_index(int(self.cells.argmax()), self.cells.shape)
        voxel = [0, 0, 0]
        for place, side in enumerate(self.spec.axes):
            axis = _axis_of(side)
            indices = np.arange(self.scan.shape[axis])
            distance = np.abs(self._cell_of(place, indices, len(indices)) - hottest[place])
            voxel[axis] = int(distance.argmin())
        return (voxel[0], voxel[1], voxel[2])

    @property
    def peak_mm(self) -> tuple[float, float, float] | None:
        """The same in mm of the patient's RAS+ frame; None where the scan does not state it."""
        if self.scan.orientation_assumed:
            return None
        x, y, z, _ = self.scan.affine @ np.array([*self.peak, 1.0])
        return (round(float(x), 3), round(float(y), 3), round(float(z), 3))

    def write_nifti(self, path: str | os.PathLike[str]) -> Path:
        """Write the heat map as `.nii` or `.nii.gz` with the scan's geometry, in steps of 1/255.

        Raises:
            OutputError: another suffix, or it cannot be written.
        """
        levels = np.empty(self.scan.shape, np.uint8, order="F")
        for index in range(self.scan.shape[2]):
            np.rint(
                self.heatmap([index])[:, :, 0] * _LEVELS, out=levels[:, :, index], casting="unsafe"
            )
        return write_volume(
            path,
            levels,
            None if self.scan.orientation_assumed else self.scan.affine,
            spacing_mm=self.scan.spacing_mm,
            slope=1 / _LEVELS,
            description=f"ctedge {self.method} heat map",
        )

    def write_overlay(self, path: str | os.PathLike[str], *, caption: str | None = None) -> Path:
        """Write a PNG of evenly picked slices with the heat over them.

        R and L mark the sides of the patient, where the scan states how it lies.

        Raises:
            OutputError: its suffix is not .png, or it cannot be written.
            UnreadableScan: the scan's file has gone, or is not what it was when it was judged.
        """
        require_png(path)
        picked = evenly_spaced(self.scan.shape[2], OVERLAY_SLICES)
        voxels = np.stack(list(self.scan.planes.each(picked)), axis=2)
        return montage_png(
            voxels,
            path,
            hu_window=self.spec.hu_window,
            heat=self.heatmap(picked),
            mark_sides=sides_known(self.scan),
            count=len(picked),
            caption=None if caption is None else drawable(caption),
        )

    @classmethod
    def of_slice(
        cls, scan: CTScan, spec: PreprocessSpec, cells: Floats, record: MapRecord
    ) -> Explanation:
        """The map of one slice.

        Args:
            scan: the slice alone, (X, Y, 1).
            spec: of shape (rows, columns, 1).
            cells: (rows, columns).
            record: of two axes.
        """
        third = replace(
            record,
            shape=(*record.shape, 1),
            origin=(*record.origin, 0.0),
            step=(*record.step, 1.0),
        )
        return cls(cells=cells[..., np.newaxis], scan=scan, spec=spec, record=third)

    def to_json(self) -> dict[str, Any]:
        """What a result says of it: no map, only its place and kind."""
        return {
            "method": self.method,
            "cells": list(self.cells.shape),
            "peak_voxel": list(self.peak),
            "peak_mm": None if self.peak_mm is None else list(self.peak_mm),
        }

    def _cell_of(
        self, place: int, indices: npt.NDArray[np.intp], n_in: int
    ) -> npt.NDArray[np.float64]:
        """Where voxels of one axis lie among the cells, 0 the first centre, inside the map."""
        side, n_out = self.spec.axes[place], self.spec.shape[place]
        flipped = side != CANONICAL_AXES[_axis_of(side)]
        along = n_in - 1 - indices if flipped else indices
        inputs = along * ((n_out - 1) / (n_in - 1)) if n_in > 1 else along * 0.0
        cells = (inputs - self.record.origin[place]) / self.record.step[place]
        return np.clip(cells, 0, self.cells.shape[place] - 1)


def _between(values: Floats, axis: int, at: npt.NDArray[np.float64]) -> Floats:
    """Linear interpolation along one axis."""
    lower = np.minimum(np.floor(at).astype(np.intp), values.shape[axis] - 1)
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = len(at)
    share = (at - lower).astype(np.float32).reshape(shape)
    mixed: Floats = values.take(upper, axis=axis)
    below = values.take(lower, axis=axis)
    mixed -= below
    mixed *= share
    mixed += below
    return mixed


def _axis_of(side: str) -> int:
    """The axis of an LAS array that runs along a side."""
    return next(axis for axis, pair in enumerate(AXIS_ENDS) if side in pair)
