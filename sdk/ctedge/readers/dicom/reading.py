"""One regular axial CT series of DICOM as a scan, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from ctedge.errors import IrregularSeries, counted
from ctedge.readers.dicom.choice import choose_chest
from ctedge.readers.dicom.gather import gather
from ctedge.readers.dicom.pixels import check_decodable
from ctedge.readers.dicom.planes import DicomPlanes
from ctedge.readers.dicom.saying import places_of
from ctedge.readers.dicom.series import choose, find_series, listing
from ctedge.readers.dicom.slices import Slice, kernel_of
from ctedge.readers.dicom.volume import OnGap, Volume, assemble
from ctedge.scan import CTScan, nearest_axes, turned_affine


def read_dicom(  # noqa: PLR0913 - as `read_scan`, and one more
    source: Any,
    *,
    series: str | None = None,
    acquisition: int | None = None,
    select: Literal["chest"] | None = None,
    on_gap: OnGap = "error",
    alone: bool = False,
) -> CTScan:
    """Read one series into a volume in LAS order; pixels are decoded when they are asked for.

    Args:
        source: a folder (with its sub-folders), a file, a binary stream, a `pydicom.Dataset`, or a
            list of files, streams or data sets.
        series, acquisition, select, on_gap: as in `ctedge.read_scan`.
        alone: a single slice is a scan too.

    Raises:
        ScanNotFound: no DICOM object.
        IrregularSeries: several series, or one that is not one regular axial volume.
        CodecUnavailable: nothing installed decodes the transfer syntax.
        UnreadableScan: a file is damaged.
        UnsupportedGeometry: oblique by more than 20 degrees, or absurd spacing.
        MissingExtra: pydicom is not installed.
    """
    found = find_series(gather(source))
    named = found.series if series is None else (choose(found, series),)
    problems: dict[str, str] = {}
    if select == "chest":
        best, problems = choose_chest(found.label, named, acquisition=acquisition, on_gap=on_gap)
        chosen, slices = best.series, best.slices
    elif len(named) == 1:
        chosen, slices = named[0], named[0].slices()
    else:
        raise IrregularSeries(
            f"{found.label}: several series in one folder",
            found=listing(found.series),
            fix=f"name one (see `ctedge dicom list`): {places_of('series', 'UID')};"
            " or let select='chest' (--select chest), in the same places, choose",
        )
    volume = assemble(
        found.label,
        slices,
        acquisition=acquisition,
        on_gap=on_gap,
        alone=alone,
        left_out=found.excluded,
    )
    depths = {one.values.bits_stored for one in volume.slices}
    check_decodable(chosen.syntaxes(volume.slices), label=found.label, bits_stored=depths)
    others = [
        f"{image.item.name}: of another series" + _because(problems.get(one.key))
        for one in found.series
        if one is not chosen
        for image in one.images
    ]
    excluded = [*found.excluded, *others, *_unused(slices, volume), *_passed_over(volume)]
    return _scan(found.label, volume, tuple(excluded))


def _scan(label: str, volume: Volume, excluded: tuple[str, ...]) -> CTScan:
    first = volume.slices[0]
    order, flips = nearest_axes(volume.affine, source=label)
    shape = (first.columns, first.rows, len(volume.planes))
    return CTScan(
        planes=DicomPlanes(volume, order, flips),
        affine=turned_affine(volume.affine, shape, order, flips),
        source=label,
        excluded=excluded,
        interpolated=volume.interpolated,
        kernel=kernel_of(volume.slices),
    )


def _because(problem: str | None) -> str:
    return "" if problem is None else f" ({problem})"


def _unused(slices: Sequence[Slice], volume: Volume) -> list[str]:
    """Objects, or frames of one, that the chosen acquisition leaves out."""
    items = {id(one.item): one.item.name for one in slices}
    used = Counter(id(one.item) for one in volume.slices)
    left_out = Counter(id(one.item) for one in slices)
    left_out.subtract(used)
    return [
        f"{items[key]}: {counted(count, 'frame') + ' ' if used[key] else ''}of another acquisition"
        for key, count in left_out.items()
        if count
    ]


def _passed_over(volume: Volume) -> list[str]:
    """Slices that no plane is made of: those nearer to each other than the resampled planes."""
    read = {place for plane in volume.planes for place in (plane.lower, plane.upper)}
    return [
        f"{one.name}: between two planes of the resampled volume"
        for place, one in enumerate(volume.slices)
        if place not in read
    ]
