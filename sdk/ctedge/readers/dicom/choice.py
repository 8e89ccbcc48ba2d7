"""`select="chest"`: which of a study's series is the chest that a lung model should see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctedge.errors import CTEdgeError, IrregularSeries, counted
from ctedge.readers.dicom.images import Series
from ctedge.readers.dicom.patients import strangers
from ctedge.readers.dicom.pixels import check_decodable
from ctedge.readers.dicom.saying import places_of
from ctedge.readers.dicom.series import listing
from ctedge.readers.dicom.slices import Slice
from ctedge.readers.dicom.volume import OnGap, Volume, assemble
from ctedge.scan import nearest_axes

#: A chest is at least this long from apex to base; a whole trunk may be longer.
LEAST_EXTENT_MM = 180.0

#: Fewer slices than this show no chest (as `predict` demands).
LEAST_SLICES = 16

#: A field of view narrower than this cuts the chest off at the sides.
LEAST_FIELD_MM = 220.0

#: What BodyPartExamined says of a chest; an empty one says nothing, and is no reason against.
CHEST_PARTS = ("CHEST", "LUNG", "THORAX")


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A series and the volume it makes, or why it makes none.

    Attributes:
        series: the series.
        slices: as its files hold them; none where a file cannot be read.
        volume: its slices in order.
        problem: why there is no volume, why it is no chest, or why it cannot be decoded; None for
            a chest.
        locked: what would be raised for a chest that nothing installed decodes.
    """

    series: Series
    slices: tuple[Slice, ...]
    volume: Volume | None
    problem: str | None
    locked: CTEdgeError | None = None


def candidate(
    label: str, series: Series, *, acquisition: int | None = None, on_gap: OnGap = "error"
) -> Candidate:
    """Try to make a volume of a series."""
    slices: tuple[Slice, ...] = ()
    try:
        slices = series.slices()
        volume = assemble(label, slices, acquisition=acquisition, on_gap=on_gap)
        nearest_axes(volume.affine, source=label)
    except CTEdgeError as error:
        return Candidate(series=series, slices=slices, volume=None, problem=_said(error, label))
    problem = _no_chest(series, volume)
    try:
        check_decodable(
            series.syntaxes(volume.slices),
            label=label,
            bits_stored={one.values.bits_stored for one in volume.slices},
        )
    except CTEdgeError as error:
        locked = error if problem is None else None
        said = _said(error, label)
        return Candidate(series=series, slices=slices, volume=volume, problem=said, locked=locked)
    return Candidate(series=series, slices=slices, volume=volume, problem=problem)


def _said(error: CTEdgeError, label: str) -> str:
    what = error.what.removeprefix(f"{label}: ")
    return what if error.found is None else f"{what}: {error.found}"


def choose_chest(
    label: str, series: Sequence[Series], *, acquisition: int | None, on_gap: OnGap
) -> tuple[Candidate, dict[str, str]]:
    """The chest among several series of one examination; one alone has to be a chest, too.

    A series is a candidate when it makes one regular axial volume of at least 16 slices and
    180 mm from end to end, with a field of at least 220 mm, whose body part, where it is said, is
    the chest; one that nothing installed decodes is left out where another candidate remains. Of
    several, in this order: one that says that it is the chest; original rather than derived; slices
    nearest to 1.5 mm apart or more, the thinnest of these; the most slices. Where two are alike in
    all of this, nothing is chosen.

    Returns:
        The chest, and why others are no candidates, by their keys.

    Raises:
        IrregularSeries: several patients, also where others' series are no candidates; no
            candidate, those of several examinations, or several that are alike.
        CodecUnavailable: candidates, but nothing installed decodes one of them.
    """
    _check_patient(label, series)
    tried = [candidate(label, one, acquisition=acquisition, on_gap=on_gap) for one in series]
    chests = [one for one in tried if one.volume is not None and one.problem is None]
    locked = [one.locked for one in tried if one.locked is not None]
    if not chests and locked:
        raise locked[0]
    if not chests:
        raise IrregularSeries(
            f"{label}: no series of a whole chest",
            found="; ".join(f"{one.series.key}: {one.problem}" for one in tried[:5]),
            expected=f"at least {LEAST_SLICES} slices over {LEAST_EXTENT_MM:g} mm, a field of"
            f" {LEAST_FIELD_MM:g} mm, and no other body part named",
            fix=f"look with `ctedge dicom list`, and name one: {places_of('series', 'UID')}",
        )
    _check_study(label, [one.series for one in chests])
    for preference in _PREFERENCES:
        best = max(preference(one) for one in chests)
        chests = [one for one in chests if preference(one) == best]
    if len(chests) > 1:
        raise IrregularSeries(
            f"{label}: several series show the chest equally well",
            found=listing([one.series for one in chests]),
            fix=f"name one: {places_of('series', 'UID')}",
        )
    problems = {one.series.key: one.problem for one in tried if one.problem is not None}
    return chests[0], problems


def _check_patient(label: str, series: Sequence[Series]) -> None:
    """Rules choose among the series of one patient, never a patient."""
    if strangers([image.patient for one in series for image in one.images]):
        raise IrregularSeries(
            f"{label}: series of several patients in one folder",
            found=listing(series),
            expected="one PatientID, PatientName and PatientBirthDate to choose a chest of",
            fix=f"name one (see `ctedge dicom list`): {places_of('series', 'UID')}",
        )


def _check_study(label: str, chests: Sequence[Series]) -> None:
    """Rules choose among the series of one examination: the thinnest may be of years ago."""
    if len({one.study for one in chests}) > 1:
        raise IrregularSeries(
            f"{label}: the chest of several examinations in one folder",
            found=listing(chests),
            expected="chests of one StudyInstanceUID",
            fix=f"name one (see `ctedge dicom list`): {places_of('series', 'UID')}",
        )


def spacing_mm(volume: Volume) -> float:
    """Distance between the planes of a volume, in mm."""
    step = volume.affine[:3, 2]
    return float((step @ step) ** 0.5)


def _no_chest(series: Series, volume: Volume) -> str | None:
    """Why a volume is no whole chest; None for one that may be."""
    extent = spacing_mm(volume) * (len(volume.planes) - 1)
    first = volume.slices[0]
    field = min(first.rows * first.spacing_mm[0], first.columns * first.spacing_mm[1])
    part = series.images[0].body_part
    if len(volume.planes) < LEAST_SLICES:
        return counted(len(volume.planes), "slice")
    if extent < LEAST_EXTENT_MM:
        return f"{extent:.0f} mm from end to end"
    if field < LEAST_FIELD_MM:
        return f"a field of {field:.0f} mm"
    if part and not _says_chest(series):
        return f"body part {part}"
    return None


def _says_chest(series: Series) -> bool:
    return any(word in series.images[0].body_part for word in CHEST_PARTS)


#: Slices thinner than this bring noise, and no more to see at the networks' 64 planes.
_THIN_ENOUGH_MM = 1.5

_PREFERENCES: tuple[Callable[[Candidate], float], ...] = (
    lambda one: _says_chest(one.series),
    lambda one: one.series.images[0].original,
    lambda one: -max(_spacing(one), _THIN_ENOUGH_MM),
    lambda one: -abs(_spacing(one) - _THIN_ENOUGH_MM),
    lambda one: 0 if one.volume is None else len(one.volume.planes),
)


def _spacing(one: Candidate) -> float:
    return 0.0 if one.volume is None else round(spacing_mm(one.volume), 2)
