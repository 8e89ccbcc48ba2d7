"""What prediction itself asks of a scan: the header, and what the network's input shows.

Two kinds of answer: what cannot be judged at all is an error; the rest are flags.
"""

from __future__ import annotations

from ctedge.errors import NotHounsfield, UnfitScan, UnsupportedGeometry, counted
from ctedge.lungs.grid import states_spacing
from ctedge.preprocessing import NetworkInput
from ctedge.quality.quality import PictureQuality, Quality
from ctedge.quality.rules import with_flags
from ctedge.quality.sight import sight
from ctedge.quality.trained import TrainedOn
from ctedge.scan import CTScan
from ctedge.spec import PreprocessSpec

#: Fewer slices than this show no chest.
MIN_SLICES = 16

#: Slices of fewer pixels show no chest.
MIN_PIXELS = 16

#: Every chest CT holds air, in the lungs and around the body, and tissue denser than fat.
AIR_BELOW_HU = -500.0
TISSUE_ABOVE_HU = -150.0

#: Beyond what any scanner writes, metal included (extended scales end near 2^15).
HU_LIMIT = 40_000.0


def judge(
    scan: CTScan,
    network_input: NetworkInput,
    *,
    least_slices: int = MIN_SLICES,
    spec: PreprocessSpec | None = None,
    trained: TrainedOn | None = None,
) -> Quality:
    """Check one scan and what was read of it. NumPy alone, a few milliseconds.

    Args:
        scan: the whole scan; only its header is looked at.
        network_input: what the network will see of it, with the extremes that were read.
        least_slices: a network for single slices can do with 1.
        spec: what the input was made by; None of single slices, which show no whole chest.
        trained: what the model has learnt from; None holds the geometry against nothing.

    Raises:
        UnsupportedGeometry: too few slices, or slices of fewer than 16 pixels a side.
        NotHounsfield: the values are no HU: 0..1, 0..255, without air, or beyond any scanner.
    """
    _check_geometry(scan, least_slices)
    _check_hounsfield(scan.source, network_input.lowest_hu, network_input.highest_hu)
    field_mm = field_of(scan)
    seen = None
    if spec is not None and not spec.lungs_only:
        seen = sight(network_input.volume, spec, field_mm)
    quality = Quality(
        slices=scan.shape[2],
        spacing_mm=scan.spacing_mm,
        field_mm=field_mm,
        lowest_hu=network_input.lowest_hu,
        highest_hu=network_input.highest_hu,
        excluded=scan.excluded,
        sight=seen,
        flags=(),
    )
    return with_flags(quality, scan, trained)


def field_of(scan: CTScan) -> tuple[float, float, float] | None:
    """What a scan covers along Left, Anterior, Superior, mm; None where no voxel size is stated."""
    if not states_spacing(scan):
        return None
    x, y, z = (n * size for n, size in zip(scan.shape, scan.spacing_mm, strict=True))
    return (x, y, z)


def insist(quality: Quality | PictureQuality, source: str) -> None:
    """What `strict=True` asks for.

    Raises:
        UnfitScan: there are red flags.
    """
    if quality.red:
        raise UnfitScan(
            f"{source}: not fit to be judged",
            found="; ".join(flag.message for flag in quality.red),
            expected="a whole chest in HU, as the model has learnt from",
            fix="look at the scan and pass the right series, or predict without strict and weigh"
            " the flags",
        )


def _check_geometry(scan: CTScan, least_slices: int) -> None:
    columns, rows, slices = scan.shape
    if slices < least_slices:
        raise UnsupportedGeometry(
            f"{scan.source}: too few slices to judge a chest",
            found=counted(slices, "slice"),
            expected=f"at least {least_slices}, along the last axis",
            fix="pass the whole series",
        )
    if min(columns, rows) < MIN_PIXELS:
        raise UnsupportedGeometry(
            f"{scan.source}: the slices are too small to show a chest",
            found=f"{columns} x {rows} pixels",
            expected=f"at least {MIN_PIXELS} x {MIN_PIXELS}",
            fix="pass the scan as the scanner reconstructed it",
        )


def _check_hounsfield(source: str, lowest: float, highest: float) -> None:
    if lowest >= -0.5 and highest <= 1.5:
        reason, fix = "already normalised to 0..1", "pass the raw scan; ctedge normalises it itself"
    elif lowest >= 0 and highest <= 255:
        reason, fix = "those of an 8-bit picture", "pass the scan in HU, not an exported picture"
    elif lowest >= 0 and highest > 1000:
        reason = "stored values without their intercept"
        fix = "subtract the rescale intercept (mostly 1024), or pass the DICOM or NIfTI file itself"
    elif max(-lowest, highest) > HU_LIMIT:
        reason, fix = "beyond any CT scanner", "check the rescale slope and the byte order"
    elif lowest > AIR_BELOW_HU:
        reason, fix = "values without air", "pass CT of the chest in HU"
    elif highest < TISSUE_ABOVE_HU:
        reason, fix = "values without tissue", "pass CT of the chest in HU"
    else:
        return
    raise NotHounsfield(
        f"{source}: the values are no Hounsfield units; they look like {reason}",
        found=f"{lowest:g} to {highest:g}",
        expected="about -1000 (air) to over 400 (bone)",
        fix=fix,
    )
