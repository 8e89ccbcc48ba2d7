"""From the slices of one series to one volume: regular, or refused by name, or as was asked for.

One volume is: one orientation, one pixel grid, and positions that lie evenly along the slice normal
(within 1 %). AcquisitionNumber alone splits nothing, because step-and-shoot scanners change it with
every slice; acquisitions are told apart only where the positions of all slices together repeat or
break the spacing. Geometry: PS3.3 C.7.6.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries
from ctedge.readers.dicom.slices import MAX_FRAMES, Slice

Floats = npt.NDArray[np.float64]
OnGap = Literal["error", "resample"]

#: Slice distances may differ by this share of their median.
SPACING_TOLERANCE = 0.01

#: In-plane drift of the slice origins, in mm: more is a tilted gantry.
DRIFT_TOLERANCE_MM = 0.5

#: `on_gap="resample"` bridges no more than this: beyond it, nothing is known of what lies between.
MAX_GAP_MM = 25.0

#: Must not differ between slices by more than this, in their own unit (pixels, mm, cosines).
_SAME_FOR_ALL = {
    "rows": ("Rows", 0.0),
    "columns": ("Columns", 0.0),
    "spacing_mm": ("PixelSpacing", 1e-4),
    "orientation": ("ImageOrientationPatient", 1e-4),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """One plane of the volume: a slice, or a mixture of two neighbours.

    Attributes:
        lower, upper: places among the volume's slices; equal for a plane that is a slice.
        share: of the upper one.
    """

    lower: int
    upper: int
    share: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Slices in order along their normal, and the planes made of them.

    Attributes:
        slices: from the lowest position along the normal to the highest.
        planes: evenly spaced.
        affine: (4, 4), (column, row, plane) to mm in RAS+.
        acquisition: the one that was taken out of several; None where all slices are in use.
    """

    slices: tuple[Slice, ...]
    planes: tuple[Plane, ...]
    affine: Floats
    acquisition: int | None

    @property
    def interpolated(self) -> int:
        """Planes that no slice holds."""
        return sum(plane.share > 0.0 for plane in self.planes)


def assemble(
    label: str,
    slices: Sequence[Slice],
    *,
    acquisition: int | None = None,
    on_gap: OnGap = "error",
    alone: bool = False,
) -> Volume:
    """Order the slices of one series into a volume.

    Args:
        label: the source's name in messages.
        slices: of one series.
        acquisition: take only the slices with this AcquisitionNumber.
        on_gap: what to do where slices are missing or lie unevenly: "resample" fills in by linear
            interpolation along the normal.
        alone: a single slice is a volume too; how far the next would be is not known, and 1 mm is
            put in its place.

    Raises:
        IrregularSeries: a single slice, unlike slices, not axial, a tilted gantry, repeated
            positions, several acquisitions, or a gap.
    """
    chosen = list(slices)
    if acquisition is not None:
        chosen = [one for one in slices if one.acquisition == acquisition]
        if not chosen:
            raise IrregularSeries(
                f"{label}: no such acquisition",
                found=_acquisitions(slices),
                expected=acquisition,
                fix="pass one of the acquisition numbers found",
            )
    merged = _several_acquisitions(chosen)
    try:
        if alone and len(chosen) == 1:
            _normal(label, chosen)
            ordered, planes = chosen, [Plane(lower=0, upper=0)]
        else:
            ordered, planes = _ordered(label, chosen, "error" if merged else on_gap)
    except IrregularSeries as error:
        if not merged:
            raise
        raise IrregularSeries(
            f"{label}: several acquisitions under one series",
            found=f"{_acquisitions(chosen)}; together, {error.what.removeprefix(f'{label}: ')}"
            f" ({error.found})",
            expected="one acquisition, or slices that lie evenly all together",
            fix="choose one, as in acquisition=2",
        ) from error
    return Volume(
        slices=tuple(ordered),
        planes=tuple(planes),
        affine=_affine(ordered, len(planes)),
        acquisition=acquisition,
    )


def _ordered(label: str, slices: Sequence[Slice], on_gap: OnGap) -> tuple[list[Slice], list[Plane]]:
    """The slices from the lowest to the highest, and the planes they make."""
    _check_alike(label, slices)
    normal = _normal(label, slices)
    heights = np.array([one.position_mm for one in slices]) @ normal
    order = np.argsort(heights, kind="stable")
    ordered, heights = [slices[place] for place in order], heights[order]
    planes = _planes(label, ordered, heights, on_gap)
    _check_drift(label, ordered, heights, normal)
    return ordered, planes


def _check_alike(label: str, slices: Sequence[Slice]) -> None:
    for field, (keyword, tolerance) in _SAME_FOR_ALL.items():
        values = np.array([np.atleast_1d(getattr(one, field)) for one in slices], np.float64)
        if np.ptp(values, axis=0).max() > tolerance:
            kinds, where = np.unique(values, axis=0, return_index=True)
            examples = [
                f"{kind.tolist()} ({slices[place].name})"
                for kind, place in zip(kinds[:4], where, strict=False)
            ]
            raise IrregularSeries(
                f"{label}: the slices differ in {keyword}",
                found=", ".join(examples),
                expected="the same on every slice",
                fix="pass one regular axial series; move the others out",
            )


def _normal(label: str, slices: Sequence[Slice]) -> Floats:
    orientation = np.asarray(slices[0].orientation)
    along_row, along_column = orientation[:3], orientation[3:]
    normal = np.cross(along_row, along_column)
    perpendicular = abs(along_row @ along_column) <= 1e-3
    if not np.allclose(orientation @ orientation, 2.0, atol=1e-3) or not perpendicular:
        raise IrregularSeries(
            f"{label}: the slices do not say how they lie",
            found=f"ImageOrientationPatient {orientation.tolist()} ({slices[0].name})",
            expected="two perpendicular directions of length 1",
            fix="export the series from the scanner again",
        )
    if np.abs(normal).argmax() != 2:
        view = "sagittal" if np.abs(normal).argmax() == 0 else "coronal"
        raise IrregularSeries(
            f"{label}: the slices are not axial",
            found=f"{view}, normal {np.round(normal, 3).tolist()} ({slices[0].name})",
            fix="pass the axial reconstruction of the scan",
        )
    return normal


def _planes(label: str, slices: Sequence[Slice], heights: Floats, on_gap: OnGap) -> list[Plane]:
    if len(slices) < 2:
        raise IrregularSeries(
            f"{label}: a single slice",
            found=slices[0].name,
            expected="at least 16",
            fix="pass a whole series; a model for slices judges one alone",
        )
    steps = np.diff(heights)
    step = float(np.median(steps))
    repeated = np.flatnonzero(steps <= SPACING_TOLERANCE * abs(step))
    if step <= 0 or repeated.size:
        pairs = [f"{slices[i].name} and {slices[i + 1].name}" for i in repeated[:3]]
        raise IrregularSeries(
            f"{label}: slices lie at the same position",
            found=", ".join(pairs)
            + (f" and {len(repeated) - 3} more" if len(repeated) > 3 else ""),
            expected="every position once",
            fix="export one acquisition; remove the copies",
        )
    uneven = np.flatnonzero(np.abs(steps - step) > SPACING_TOLERANCE * step)
    if not uneven.size:
        return [Plane(lower=place, upper=place) for place in range(len(slices))]
    few_enough = float(heights[-1] - heights[0]) <= MAX_FRAMES * step
    if on_gap == "resample" and steps.max() <= MAX_GAP_MM and few_enough:
        return _resampled(heights, step)
    gaps = [f"{slices[i].name} -> {slices[i + 1].name}: {steps[i]:.3f} mm" for i in uneven[:3]]
    raise IrregularSeries(
        f"{label}: the slices do not lie evenly",
        found=", ".join(gaps) + (f" and {len(uneven) - 3} more" if len(uneven) > 3 else ""),
        expected=f"{step:.3f} mm between neighbours, within {SPACING_TOLERANCE:.0%}",
        fix="a slice is missing: export the series again, or fill in with on_gap='resample'"
        f" (gaps up to {MAX_GAP_MM:g} mm)",
    )


def _resampled(heights: Floats, step: float) -> list[Plane]:
    """Planes one median step apart over the same extent."""
    count = round(float(heights[-1] - heights[0]) / step) + 1
    wanted = np.linspace(heights[0], heights[-1], count)
    upper = np.clip(np.searchsorted(heights, wanted), 1, len(heights) - 1)
    share = (wanted - heights[upper - 1]) / (heights[upper] - heights[upper - 1])
    planes = []
    for high, part in zip(upper.tolist(), share.tolist(), strict=True):
        if part < SPACING_TOLERANCE or part > 1 - SPACING_TOLERANCE:  # a slice lies there
            place = high - 1 if part < SPACING_TOLERANCE else high
            planes.append(Plane(lower=place, upper=place))
        else:
            planes.append(Plane(lower=high - 1, upper=high, share=part))
    return planes


def _check_drift(label: str, slices: Sequence[Slice], heights: Floats, normal: Floats) -> None:
    positions = np.array([one.position_mm for one in slices])
    sideways = positions - positions[0] - np.outer(heights - heights[0], normal)
    drift = np.linalg.norm(sideways, axis=1)
    if drift.max() > DRIFT_TOLERANCE_MM:
        raise IrregularSeries(
            f"{label}: the gantry was tilted",
            found=f"{slices[int(drift.argmax())].name} lies {drift.max():.1f} mm sideways",
            expected=f"at most {DRIFT_TOLERANCE_MM} mm",
            fix="reconstruct the series without tilt",
        )


def _affine(slices: Sequence[Slice], planes: int) -> Floats:
    """(column, row, plane) to mm in RAS+."""
    first = slices[0]
    orientation = np.asarray(first.orientation)
    row_spacing, column_spacing = first.spacing_mm
    normal = np.cross(orientation[:3], orientation[3:])
    travel = np.asarray(slices[-1].position_mm) - np.asarray(first.position_mm)
    affine = np.eye(4)
    affine[:3, 0] = orientation[:3] * column_spacing
    affine[:3, 1] = orientation[3:] * row_spacing
    affine[:3, 2] = travel / (planes - 1) if planes > 1 else normal
    affine[:3, 3] = first.position_mm
    affine[:2] *= -1.0  # DICOM's LPS to RAS
    return affine


def _several_acquisitions(slices: Sequence[Slice]) -> bool:
    """Whether the numbers tell acquisitions apart: step-and-shoot has one for every slice."""
    counts = Counter(one.acquisition for one in slices)
    return len(counts) > 1 and max(counts.values()) > 1


def _acquisitions(slices: Sequence[Slice]) -> str:
    """The acquisitions with their numbers of slices, in words."""
    tally = Counter(one.acquisition for one in slices)
    counts = sorted(tally.items(), key=lambda pair: (pair[0] is None, pair[0] or 0))
    shown = [
        f"acquisition {'not said' if number is None else number}: {count} slices"
        for number, count in counts[:8]
    ]
    return ", ".join(shown) + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
