"""A sheet of axial slices as a PNG, written with zlib alone."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ctedge.errors import misnamed_output
from ctedge.files import write_atomic
from ctedge.planes import evenly_spaced
from ctedge.scan import CTScan
from ctedge.spec import HU_WINDOW

Pixels = NDArray[np.uint8]

#: Larger tiles are averaged down to this many pixels a side at most.
TILE_PIXELS = 192
#: Tiles with a shorter side have no room for R and L; from the second on both are twice as large.
MARKED_PIXELS, _LARGE_MARKS_PIXELS = 48, 96
_MARK_MARGIN = 2
#: A corner this near to the origin of the patient's frame was never measured.
_ORIGIN_MM = 1e-3
_GAP_PIXELS = 2
_GAP_GREY = 40
_TINT = np.array([255.0, 40.0, 40.0])
_TINT_SHARE = 0.35

#: Heat from none to most: transparent, then red, then yellow.
_WARM, _HOT = np.array([230.0, 30.0, 0.0]), np.array([255.0, 240.0, 60.0])
_HEAT_SHARE = 0.75

#: 5 x 7 glyphs, a row of five bits after the other.
GLYPHS = {
    "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e",
    "E": "1f10101e10101f", "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111",
    "I": "0e04040404040e", "J": "0702020202120c", "K": "11121418141211", "L": "1010101010101f",
    "M": "111b1515111111", "N": "11191513111111", "O": "0e11111111110e", "P": "1e11111e101010",
    "Q": "0e11111115120d", "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404",
    "U": "1111111111110e", "V": "11111111110a04", "W": "11111115151b11", "X": "11110a040a1111",
    "Y": "11110a04040404", "Z": "1f01020408101f", "0": "0e11131519110e", "1": "040c040404040e",
    "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202", "5": "1f101e0101110e",
    "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    " ": "00000000000000", ".": "00000000000c0c", "%": "18190204081303", "-": "0000001f000000",
    ":": "000c0c000c0c00", "/": "01010204081010",
}  # fmt: skip


_WITHOUT_GLYPH = re.compile(f"[^{re.escape(''.join(GLYPHS))}]")


def drawable(text: str) -> str:
    """Text in the glyphs that there are: in capitals, and a space for what has none."""
    return _WITHOUT_GLYPH.sub(" ", text.upper())


def require_png(path: str | os.PathLike[str]) -> None:
    """Refuse a name by which nobody would look for a PNG.

    Raises:
        OutputError: another suffix.
    """
    if Path(path).suffix.lower() != ".png":
        raise misnamed_output(
            f"{os.fspath(path)} is no name of a PNG", expected="a suffix .png", fix="name it so"
        )


def sides_known(scan: CTScan) -> bool:
    """Whether a scan says which of its sides is the patient's right.

    False also where a corner of its slices lies at the origin of the patient's frame: programs that
    know no orientation write the identity, or the voxel sizes alone. A scanner's origin is inside
    the field of view.
    """
    columns, rows, _ = scan.shape
    corners = scan.affine @ np.array([[0, 0, 0, 1], [columns - 1, rows - 1, 0, 1]]).T
    at_origin = (np.abs(corners[:2]) < _ORIGIN_MM).any(axis=1).all()
    return not (scan.orientation_assumed or at_origin)


def montage_png(  # noqa: PLR0913 - one keyword an independent choice
    volume: ArrayLike,
    path: str | os.PathLike[str],
    *,
    hu_window: tuple[float, float] = HU_WINDOW,
    columns: int = 8,
    count: int = 24,
    overlay: ArrayLike | None = None,
    heat: ArrayLike | None = None,
    mark_sides: bool = False,
    caption: str | None = None,
) -> Path:
    """Write evenly picked slices, from inferior to superior, as a radiologist looks at them.

    Anterior is up, and the patient's left is on the right of the picture.

    Args:
        volume: (X, Y, Z) HU, axes growing towards Left, Anterior, Superior.
        path: of the PNG.
        hu_window: shown as black and white.
        columns: tiles in a row.
        count: tiles at most; a volume of fewer slices shows each once.
        overlay: mask like `volume`, tinted red.
        heat: like `volume`, 0..1: nothing, then red, then yellow.
        mark_sides: write R and L, the patient's right and left, into tiles of at least 48 pixels
            a side. Only where it is known how the voxels lie: `sides_known(scan)`.
        caption: burnt in at the top, and stored as text; letters of A-Z 0-9 . % - : / only.

    Raises:
        ValueError: an argument out of range.
        OutputError: it cannot be written.
    """
    voxels = np.asarray(volume)
    mask = None if overlay is None else np.asarray(overlay)
    warmth = None if heat is None else np.asarray(heat)
    low, high = hu_window
    if voxels.ndim != 3 or not voxels.size:
        raise ValueError(f"volume must be (X, Y, Z), got shape {voxels.shape}")
    for name, given in (("overlay", mask), ("heat", warmth)):
        if given is not None and given.shape != voxels.shape:
            raise ValueError(f"{name} has shape {given.shape}, the volume {voxels.shape}")
    if columns < 1 or count < 1 or not low < high:
        raise ValueError(
            f"columns and count must be positive, hu_window ascending; got {columns=}, {count=}, "
            f"{hu_window=}"
        )
    tiles = []
    for index in evenly_spaced(voxels.shape[2], count):
        grey = (_display(voxels[:, :, index]) - low) * (255.0 / (high - low))
        tile = np.repeat(np.clip(grey, 0, 255)[:, :, None], 3, axis=2)
        if mask is not None:
            share = _display(mask[:, :, index])[:, :, None] * _TINT_SHARE
            tile = tile * (1 - share) + _TINT * share
        if warmth is not None:
            tile = _heated(tile, _display(warmth[:, :, index])[:, :, None])
        tiles.append(np.rint(tile).astype(np.uint8))
        if mark_sides:
            _mark_sides(tiles[-1])
    sheet = _sheet(tiles, columns)
    if caption is not None:
        sheet = np.concatenate([_strip(caption.upper(), sheet.shape[1]), sheet])
    return write_atomic(path, png_of(sheet, caption))


def _heated(tile: NDArray[np.float64], heat: NDArray[np.float64]) -> NDArray[np.float64]:
    colour = _WARM + (_HOT - _WARM) * heat**2
    share = _HEAT_SHARE * np.minimum(1.5 * heat, 1.0)
    heated: NDArray[np.float64] = tile * (1 - share) + colour * share
    return heated


def _display(plane: NDArray[np.generic]) -> NDArray[np.float64]:
    """(X, Y) to (row, column), averaged down by whole pixels."""
    picture = np.rot90(plane).astype(np.float64)
    block = -(-max(picture.shape) // TILE_PIXELS)
    rows, columns = (max(n // block, 1) for n in picture.shape)
    picture = picture[: rows * block, : columns * block]
    step = tuple(n // m for n, m in zip(picture.shape, (rows, columns), strict=True))
    averaged: NDArray[np.float64] = picture.reshape(rows, step[0], columns, step[1]).mean((1, 3))
    return averaged


def _mark_sides(tile: Pixels) -> None:
    """R at the left edge and L at the right one, half-way up: white, outlined in black."""
    shorter = min(tile.shape[:2])
    if shorter < MARKED_PIXELS:
        return
    scale = 2 if shorter >= _LARGE_MARKS_PIXELS else 1
    for letter in "RL":
        ink = np.pad(_letters(letter)[:, :-1], 1)
        around = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        dark = np.any([np.roll(ink, step, (0, 1)) for step in around], axis=0)
        ink, dark = (np.kron(mask, np.ones((scale, scale), dtype=bool)) for mask in (ink, dark))
        top = (tile.shape[0] - ink.shape[0]) // 2
        left = _MARK_MARGIN if letter == "R" else tile.shape[1] - _MARK_MARGIN - ink.shape[1]
        place = tile[top : top + ink.shape[0], left : left + ink.shape[1]]
        place[dark] = 0
        place[ink] = 255


def _sheet(tiles: list[Pixels], columns: int) -> Pixels:
    height, width = tiles[0].shape[:2]
    across = min(columns, len(tiles))
    down = -(-len(tiles) // across)
    size = (down * (height + _GAP_PIXELS), across * (width + _GAP_PIXELS))
    sheet = np.full((*size, 3), _GAP_GREY, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row = index // across * (height + _GAP_PIXELS)
        column = index % across * (width + _GAP_PIXELS)
        sheet[row : row + height, column : column + width] = tile
    return sheet


def _strip(text: str, width: int) -> Pixels:
    """White text on black, as wide as the sheet; double size where that fits."""
    unknown = sorted(set(text) - set(GLYPHS))
    if unknown:
        raise ValueError(f"the caption has characters without a glyph: {''.join(unknown)!r}")
    ink = _letters(text)
    scale = 2 if 2 * ink.shape[1] + 8 <= width else 1
    ink = np.kron(ink, np.ones((scale, scale), dtype=bool))
    strip = np.zeros((ink.shape[0] + 8, width, 3), dtype=np.uint8)
    shown = min(width - 4, ink.shape[1])
    if shown > 0:
        strip[4 : 4 + ink.shape[0], 4 : 4 + shown][ink[:, :shown]] = 255
    return strip


def _letters(text: str) -> NDArray[np.bool_]:
    """(7, 6 a letter): where there is ink; the last column of a letter is the gap after it."""
    ink = np.zeros((7, max(6 * len(text), 1)), dtype=bool)
    for index, letter in enumerate(text):
        for row, bits in enumerate(bytes.fromhex(GLYPHS[letter])):
            for column in range(5):
                ink[row, 6 * index + column] = bits >> (4 - column) & 1
    return ink


def png_of(pixels: Pixels, text: str | None) -> bytes:
    """(rows, columns, 3) as PNG (ISO/IEC 15948), 8-bit RGB without filters."""
    rows, columns = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    lines = np.concatenate(
        [np.zeros((rows, 1), dtype=np.uint8), pixels.reshape(rows, columns * 3)], axis=1
    )
    chunks = [_chunk(b"IHDR", header)]
    if text is not None:
        chunks.append(_chunk(b"tEXt", b"Description\0" + text.encode("latin-1", "replace")))
    chunks += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
