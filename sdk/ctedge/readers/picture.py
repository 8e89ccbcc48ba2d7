"""Pictures of one CT slice: 8-bit grey PNG or JPEG, as published collections hold them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.errors import CTEdgeError, ScanNotFound, UnreadableScan, UnsupportedGeometry
from ctedge.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}

#: Fewer pixels show no lung; more is no picture of a 512 x 512 slice.
PICTURE_PIXELS = (16, 8192)

#: A colour picture whose channels differ by no more than this many grey levels is grey: JPEG's
#: conversion between colour spaces rounds by as much.
_COLOUR_ROUNDING = 3


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the name of a picture, and is no folder."""
    return Path(path).suffix.lower() in PICTURE_SUFFIXES and not Path(path).is_dir()


def read_picture(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a picture of one axial slice.

    Args:
        path: PNG or JPEG, 8-bit grey, in the radiological view: rows run from anterior to
            posterior, columns towards the patient's left.

    Returns:
        (rows, columns) grey levels, 0 black, 255 white.

    Raises:
        ScanNotFound: no such file.
        UnreadableScan: no such picture, damaged, another format than its name says, or not grey.
        UnsupportedGeometry: too small, or too large for a slice.
        MissingExtra: Pillow is absent.
    """
    source = Path(path)
    if not source.is_file():
        raise ScanNotFound(f"{source}: no such picture", fix="check the path")
    pillow = require("PIL.Image", extra="pictures", purpose="reading a picture")
    expected = PICTURE_SUFFIXES.get(source.suffix.lower())
    if expected is None:
        raise UnreadableScan(
            f"{source}: no picture that ctedge reads",
            found=source.suffix or "a name without suffix",
            expected=", ".join(PICTURE_SUFFIXES),
            fix="save the slice as 8-bit grey PNG",
        )
    try:
        with pillow.open(source) as picture:
            _check(picture, source, expected)
            levels = np.asarray(picture)
    except CTEdgeError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UnreadableScan(
            f"{source}: the picture cannot be read",
            found=str(error).replace(str(source), source.name),
            fix="save the slice again as 8-bit grey PNG",
        ) from error
    return _grey(levels, source)


def _check(picture: Image, source: Path, expected: str) -> None:
    """Refuse by the header, before a pixel is decoded."""
    if picture.format != expected:
        raise UnreadableScan(
            f"{source}: the picture is of another format than its name says",
            found=picture.format,
            expected=expected,
            fix="correct the suffix; a JPEG in between may have changed the grey levels",
        )
    if picture.mode not in ("L", "RGB"):
        raise UnreadableScan(
            f"{source}: the picture is not 8-bit grey",
            found=f"mode {picture.mode} ({_MODES.get(picture.mode, 'unusual')})",
            expected="mode L, one channel of 8 bits",
            fix="convert it to 8-bit grey; what a palette or transparency means is not guessed",
        )
    least, most = PICTURE_PIXELS
    if not all(least <= side <= most for side in picture.size):
        raise UnsupportedGeometry(
            f"{source}: the picture has an unlikely size",
            found="{} x {} pixels".format(*picture.size),
            expected=f"{least} to {most} on both sides",
            fix="give one slice at its own resolution",
        )
    if "transparency" in picture.info:
        raise UnreadableScan(
            f"{source}: parts of the picture are transparent",
            fix="save the slice as 8-bit grey without transparency",
        )
    turned = picture.getexif().get(_EXIF_ORIENTATION, _EXIF_UPRIGHT)
    if turned != _EXIF_UPRIGHT:
        raise UnreadableScan(
            f"{source}: the picture is to be turned before it is shown",
            found=f"EXIF orientation {turned}",
            expected=_EXIF_UPRIGHT,
            fix="save the slice as it is to be seen, anterior up, the patient's left on the right",
        )
    if getattr(picture, "n_frames", 1) != 1:
        raise UnreadableScan(
            f"{source}: the picture moves",
            found=f"{getattr(picture, 'n_frames', 0)} frames",
            expected="one",
            fix="save the one slice you mean",
        )


def _grey(levels: npt.NDArray[np.uint8], source: Path) -> npt.NDArray[np.uint8]:
    if levels.ndim == 2:
        return levels
    spread = int((levels.max(axis=2).astype(np.int16) - levels.min(axis=2)).max())
    if spread > _COLOUR_ROUNDING:
        raise UnreadableScan(
            f"{source}: the picture is in colour",
            found=f"channels that differ by up to {spread} levels",
            expected="equal channels",
            fix="use the slice without markings, as 8-bit grey",
        )
    return levels[..., 1]


_EXIF_ORIENTATION = 0x0112
_EXIF_UPRIGHT = 1

_MODES = {
    "1": "black and white",
    "P": "palette",
    "PA": "palette with transparency",
    "LA": "grey with transparency",
    "RGBA": "colour with transparency",
    "I;16": "16-bit grey",
    "I": "32-bit grey",
    "F": "floating point",
    "CMYK": "printing colours",
}
