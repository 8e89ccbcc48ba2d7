"""From the slices of one series to one volume: regular, or refused by name, or as was asked for.

One volume is: one orientation, one pixel grid, and positions that lie evenly along the slice normal
(within 1 %). AcquisitionNumber alone splits nothing, because step-and-shoot scanners change it with
every shot; acquisitions are told apart by where they lie. Geometry: PS3.3 C.7.6.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries
from ctedge.readers.dicom.acquisitions import Acquisitions
from ctedge.readers.dicom.alike import (
    check_alike,
    check_drift,
    check_one_reconstruction,
    heights_of,
    normal_of,
)
from ctedge.readers.dicom.saying import places_of
from ctedge.readers.dicom.slices import MAX_FRAMES, Slice

Floats = npt.NDArray[np.float64]
OnGap = Literal["error", "resample"]

#: Slice distances may differ by this share of their median.
SPACING_TOLERANCE = 0.01

#: `on_gap="resample"` bridges no more than this: beyond it, nothing is known of what lies between.
MAX_GAP_MM = 25.0


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


def assemble(  # noqa: PLR0913 - as `read_scan`, and what messages name
    label: str,
    slices: Sequence[Slice],
    *,
    acquisition: int | None = None,
    on_gap: OnGap = "error",
    alone: bool = False,
    left_out: Sequence[str] = (),
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
        left_out: files that might be what is missing from a gap, each with the reason.

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
                found=Acquisitions(slices),
                expected=acquisition,
                fix="pass one of the acquisition numbers found",
            )
    if alone and len(chosen) == 1:
        normal_of(label, chosen)
        ordered, planes = chosen, [Plane(lower=0, upper=0)]
    else:
        ordered, planes = _ordered(label, chosen, on_gap, left_out)
    return Volume(
        slices=tuple(ordered),
        planes=tuple(planes),
        affine=_affine(ordered, len(planes)),
        acquisition=acquisition,
    )


def _ordered(
    label: str, slices: Sequence[Slice], on_gap: OnGap, left_out: Sequence[str]
) -> tuple[list[Slice], list[Plane]]:
    """The slices from the lowest to the highest, and the planes they make."""
    acquisitions = Acquisitions(slices)

    def together(check: Callable[[Sequence[Slice]], object], *, of: Sequence[Slice]) -> None:
        """Where only all acquisitions together fail a check, they are what is wrong."""
        try:
            check(of)
        except IrregularSeries as error:
            if not acquisitions.pass_alone(check):
                raise
            raise acquisitions.refusal(label, _said(error, label)) from error

    together(lambda some: check_alike(label, some), of=slices)
    normal = normal_of(label, slices)
    order = np.argsort(heights_of(slices, normal), kind="stable")
    ordered = [slices[place] for place in order]
    planes = _planes_of(label, ordered, normal, on_gap, acquisitions, left_out)
    together(lambda some: check_drift(label, some, normal), of=ordered)
    check_one_reconstruction(label, ordered)
    return ordered, planes


def _planes_of(  # noqa: PLR0913, PLR0917 - what messages name
    label: str,
    ordered: Sequence[Slice],
    normal: Floats,
    on_gap: OnGap,
    acquisitions: Acquisitions,
    left_out: Sequence[str],
) -> list[Plane]:
    """The planes of slices in order, unless several acquisitions lie through each other."""

    def height(one: Slice) -> float:
        return float(np.dot(one.position_mm, normal))

    entangled = acquisitions.entangled(height)
    try:
        planes = _planes(
            label, ordered, heights_of(ordered, normal), "error" if entangled else on_gap, left_out
        )
    except IrregularSeries as error:
        if not entangled and acquisitions.farthest_mm(height) <= MAX_GAP_MM:
            raise
        raise acquisitions.refusal(label, _said(error, label)) from error
    if acquisitions.interleaved(height):
        raise acquisitions.refusal(label, "slices of one lie between those of another")
    return planes


def _said(error: IrregularSeries, label: str) -> str:
    return f"{error.what.removeprefix(f'{label}: ')} ({error.found})"


def _planes(
    label: str,
    slices: Sequence[Slice],
    heights: Floats,
    on_gap: OnGap,
    left_out: Sequence[str],
) -> list[Plane]:
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
            found=_some(pairs, len(repeated)),
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
    fix = f"export the series again; gaps of more than {MAX_GAP_MM:g} mm are not filled in"
    if on_gap != "resample":
        fix = (
            "a slice is missing: export the series again, or fill in gaps of up to"
            f" {MAX_GAP_MM:g} mm: {places_of('on_gap', 'resample')}"
        )
    raise IrregularSeries(
        f"{label}: the slices do not lie evenly",
        found=_some(gaps, len(uneven)) + (f"; left out: {_some(left_out)}" if left_out else ""),
        expected=f"{step:.3f} mm between neighbours, within {SPACING_TOLERANCE:.0%}",
        fix=fix,
    )


def _some(shown: Sequence[str], count: int | None = None) -> str:
    """The first three, and how many more there are."""
    count = len(shown) if count is None else count
    return ", ".join(shown[:3]) + (f" and {count - 3} more" if count > 3 else "")


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
