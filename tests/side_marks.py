"""Where R and L stand in a picture of slices, found by their shapes alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.montage import GLYPHS

#: A mark is drawn plain or twice as large.
SCALES = (1, 2)

#: A caption of letters twice as large, which are not to be taken for marks, and its margins.
CAPTION_ROWS = 22


def marks(pixels: npt.NDArray[Any]) -> dict[str, list[tuple[float, float]]]:
    """Centres (row, column) of each letter: all its pixels white, all that touch them black.

    Args:
        pixels: (rows, columns, 3), 0..255.
    """
    white, black = (pixels == 255).all(axis=2), (pixels == 0).all(axis=2)
    return {
        letter: sorted(place for scale in SCALES for place in _places(white, black, letter, scale))
        for letter in "RL"
    }


def _places(
    white: npt.NDArray[np.bool_], black: npt.NDArray[np.bool_], letter: str, scale: int
) -> list[tuple[float, float]]:
    bits = [
        [row >> place & 1 for place in (4, 3, 2, 1, 0)] for row in bytes.fromhex(GLYPHS[letter])
    ]
    ink = np.pad(np.kron(np.array(bits), np.ones((scale, scale), int)), scale).astype(bool)
    edge = np.zeros_like(ink)
    for row, column in np.argwhere(ink):
        edge[row - 1 : row + 2, column - 1 : column + 2] = True
    edge &= ~ink
    rows, columns = (white.shape[axis] - ink.shape[axis] + 1 for axis in (0, 1))
    if rows < 1 or columns < 1:
        return []
    there = np.ones((rows, columns), bool)
    for mask, image in ((ink, white), (edge, black)):
        for row, column in np.argwhere(mask):
            there &= image[row : row + rows, column : column + columns]
    middle = [(length - 1) / 2 for length in ink.shape]
    return [tuple(place + middle) for place in np.argwhere(there)]
