"""Is this picture of a slice fit to be judged?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ctedge.errors import UnreadableScan, UnsupportedGeometry
from ctedge.quality.flag import Flag
from ctedge.quality.judge import MIN_PIXELS
from ctedge.quality.quality import PictureQuality
from ctedge.spec import SliceSpec


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
        Flag(
            code="picture-assumed",
            severity="note",
            message="orientation and window of a picture are not stated; taken as the radiological"
            f" view of {low:g} to {high:g} HU",
        )
    ]
    wanted_rows, wanted_columns = spec.shape
    changes = {
        "stretched": rows * wanted_columns != columns * wanted_rows,
        "enlarged": rows < wanted_rows or columns < wanted_columns,
    }
    if any(changes.values()):
        what = " and ".join(change for change, done in changes.items() if done)
        message = f"{what}: {columns} x {rows} to {wanted_columns} x {wanted_rows} pixels"
        flags.append(Flag(code="picture-resized", severity="note", message=message))
    return PictureQuality(
        rows=rows,
        columns=columns,
        lowest_level=lowest,
        highest_level=highest,
        flags=tuple(flags),
    )
