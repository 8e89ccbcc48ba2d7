"""Is this input fit to be judged? What the header, and what was read of it, show.

Two kinds of answer: what makes a prediction meaningless is an error; what a reader of the result
should know is a flag with its number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.errors import NotHounsfield, UnreadableScan, UnsupportedGeometry
from ctedge.preprocessing import NetworkInput
from ctedge.scan import CTScan
from ctedge.spec import SliceSpec

#: Fewer slices than this show no chest.
MIN_SLICES = 16

#: Slices of fewer pixels show no chest; slices this much longer than wide are rarely axial.
MIN_PIXELS = 16
MAX_ASPECT = 1.5

#: Every chest CT holds air, in the lungs and around the body, and tissue denser than fat.
AIR_BELOW_HU = -500.0
TISSUE_ABOVE_HU = -150.0

#: Beyond what any scanner writes, metal included (extended scales end near 2^15).
HU_LIMIT = 40_000.0

#: MosMed's studies have slices of 8 mm; beyond this, small lesions fall between slices.
THICK_SLICES_MM = 10.0


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was seen of the input.

    Attributes:
        slices: number of slices.
        spacing_mm: voxel size along Left, Anterior, Superior; (1, 1, 1) for a bare array.
        lowest_hu, highest_hu: extremes among the voxels that the network's input read.
        excluded: files left out of the volume, each with the reason.
        flags: what a reader of the result should know; empty when nothing stands out.
    """

    slices: int
    spacing_mm: tuple[float, float, float]
    lowest_hu: float
    highest_hu: float
    excluded: tuple[str, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PictureQuality:
    """What was seen of a picture.

    Attributes:
        rows, columns: its size in pixels.
        lowest_level, highest_level: extremes of its grey levels, 0..255.
        flags: what a reader of the result should know.
    """

    rows: int
    columns: int
    lowest_level: int
    highest_level: int
    flags: tuple[str, ...]


def judge(scan: CTScan, network_input: NetworkInput, *, least_slices: int = MIN_SLICES) -> Quality:
    """Check one scan and what was read of it.

    Args:
        scan: the whole scan.
        network_input: what the network will see of it, with the extremes that were read.
        least_slices: a network for single slices can do with 1.

    Raises:
        UnsupportedGeometry: too few slices, or slices of fewer than 16 pixels a side.
        NotHounsfield: the values are no HU: 0..1, 0..255, without air, or beyond any scanner.
    """
    slices = scan.shape[2]
    if slices < least_slices:
        raise UnsupportedGeometry(
            f"{scan.source}: too few slices to judge a chest",
            found=f"{slices} slices",
            expected=f"at least {least_slices}, along the last axis",
            fix="pass the whole series",
        )
    columns, rows = scan.shape[:2]
    if min(columns, rows) < MIN_PIXELS:
        raise UnsupportedGeometry(
            f"{scan.source}: the slices are too small to show a chest",
            found=f"{columns} x {rows} pixels",
            expected=f"at least {MIN_PIXELS} x {MIN_PIXELS}",
            fix="pass the scan as the scanner reconstructed it",
        )
    _check_hounsfield(scan.source, network_input.lowest_hu, network_input.highest_hu)
    flags = []
    if scan.orientation_assumed:
        flags.append("orientation not stated; taken as Left, Anterior, Superior")
    if scan.spacing_mm[2] > THICK_SLICES_MM:
        flags.append(f"slices {scan.spacing_mm[2]:g} mm apart, over {THICK_SLICES_MM:g} mm")
    if max(columns, rows) > MAX_ASPECT * min(columns, rows):
        flags.append(f"slices of {columns} x {rows} pixels; is the array in (X, Y, Z) order?")
    if scan.excluded:
        flags.append(f"{len(scan.excluded)} files left out of the volume")
    return Quality(
        slices=slices,
        spacing_mm=scan.spacing_mm,
        lowest_hu=network_input.lowest_hu,
        highest_hu=network_input.highest_hu,
        excluded=scan.excluded,
        flags=tuple(flags),
    )


def judge_picture(
    levels: npt.NDArray[np.uint8], spec: SliceSpec, *, source: str = "array"
) -> PictureQuality:
    """Check one picture.

    Args:
        levels: (rows, columns) grey levels.
        spec: the contract that it will be brought to.
        source: where the picture came from, for messages.

    Raises:
        UnsupportedGeometry: fewer than 16 pixels a side.
        UnreadableScan: it shows nothing but one grey level.
    """
    rows, columns = levels.shape
    if min(rows, columns) < MIN_PIXELS:
        raise UnsupportedGeometry(
            f"{source}: the picture is too small to show a chest",
            found=f"{columns} x {rows} pixels",
            expected=f"at least {MIN_PIXELS} x {MIN_PIXELS}",
            fix="give one slice at its own resolution",
        )
    lowest, highest = int(levels.min()), int(levels.max())
    if lowest == highest:
        raise UnreadableScan(
            f"{source}: the picture shows nothing",
            found=f"the grey level {lowest} everywhere",
            fix="give a slice of a chest",
        )
    low, high = spec.hu_window
    flags = [
        "orientation and window of a picture are not stated; taken as the radiological view"
        f" of {low:g} to {high:g} HU"
    ]
    wanted_rows, wanted_columns = spec.shape
    changes = {
        "stretched": rows * wanted_columns != columns * wanted_rows,
        "enlarged": rows < wanted_rows or columns < wanted_columns,
    }
    if any(changes.values()):
        what = " and ".join(change for change, done in changes.items() if done)
        flags.append(f"{what}: {columns} x {rows} to {wanted_columns} x {wanted_rows} pixels")
    return PictureQuality(
        rows=rows,
        columns=columns,
        lowest_level=lowest,
        highest_level=highest,
        flags=tuple(flags),
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
