"""Reading one regular axial CT series of DICOM, or saying why there is none.

gather    what the caller gave -> DICOM objects
series    headers -> series; what is no CT slice is left out and named
volume    slices of one series -> evenly spaced planes and their affine
planes    decoded in threads, and only when they are asked for
"""

from __future__ import annotations

from typing import Any, Literal

from ctedge.errors import IrregularSeries
from ctedge.readers.dicom.choice import choose_chest
from ctedge.readers.dicom.gather import gather
from ctedge.readers.dicom.images import Series
from ctedge.readers.dicom.pixels import check_decodable
from ctedge.readers.dicom.planes import DicomPlanes
from ctedge.readers.dicom.series import choose, find_series, listing
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
    problems: dict[str, str] = {}
    named = found.series if series is None else (choose(found, series),)
    if select == "chest":
        chosen, problems = choose_chest(found.label, named, acquisition=acquisition, on_gap=on_gap)
    elif len(named) == 1:
        chosen = named[0]
    else:
        raise IrregularSeries(
            f"{found.label}: several series in one folder",
            found=listing(found.series),
            fix='name one with series="..." (--series; see `ctedge dicom list`), or let'
            ' select="chest" (--select chest) choose',
        )
    volume = assemble(
        found.label,
        chosen.slices(),
        acquisition=acquisition,
        on_gap=on_gap,
        alone=alone,
        left_out=found.excluded,
    )
    depths = {one.values.bits_stored for one in volume.slices}
    check_decodable(_syntaxes(chosen), label=found.label, bits_stored=depths)
    others = [
        f"{image.item.name}: of another series" + _because(problems.get(one.key))
        for one in found.series
        if one is not chosen
        for image in one.images
    ]
    excluded = [*found.excluded, *others, *_unused(chosen, volume)]
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
    )


def _because(problem: str | None) -> str:
    return "" if problem is None else f" ({problem})"


def _unused(series: Series, volume: Volume) -> list[str]:
    """Objects of the series that the chosen acquisition leaves out."""
    used = {id(one.item) for one in volume.slices}
    return [
        f"{image.item.name}: of another acquisition"
        for image in series.images
        if id(image.item) not in used
    ]


def _syntaxes(series: Series) -> dict[str, str]:
    return {image.syntax: image.syntax_name for image in series.images}
