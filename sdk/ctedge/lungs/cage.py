"""The rib cage, and dense lung between it and aerated lung.

Consolidation has the density of the chest wall; only the ribs tell the two apart. Their inner edge
is read around the chest, angle by angle. Soft tissue that a ball cannot leave between aerated lung
and that shell is lung. Towards heart, vessels and liver there is no shell, so there nothing is
filled here; beside the spine `ctedge.lungs.gutter` looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ctedge.lungs.grid import Labels, Mask, WorkingGrid
from ctedge.lungs.mask import LEFT, RIGHT
from ctedge.lungs.shapes import box_around, closed

Table = npt.NDArray[np.float32]

#: Ribs reach this, unenhanced soft tissue does not.
BONE_ABOVE_HU = 180

#: Fat (-120 to -60 HU) between ribs and lung is no lung; consolidation is denser than this.
SOFT_ABOVE_HU = -30

#: Angles around the chest; 0 degrees is straight back, 180 straight forward, on either side.
ANGLES = 120
DEGREES = np.abs((np.arange(ANGLES) + 0.5) / ANGLES * 360.0 - 180.0)

#: Thoracic transverse processes end 23 to 38 mm beside the middle (Panjabi et al., "Thoracic human
#: vertebrae", Spine 16, 1991), some 75 mm behind the centre of the chest: ribs are read from there
#: on. The shell behind the spine runs straight.
RIBS_FROM_DEGREES = 27.0

#: Dense lung is looked for where the shell, smoothed over three angles to either side, is made of
#: ribs alone, and as far forwards as the heart touches none: its tip lies 90 mm left of the middle
#: (Gray's Anatomy), on a front wall 75 mm before the centre.
DENSE_DEGREES = (36.0, 130.0)

#: Ribs cross a slice obliquely: the next one above or below closes the gap between two, mm.
RIB_PITCH_MM = 28.0

#: A dent in the aerated lung is dense lung from this depth on, mm.
DENT_MM = 6.0

#: The ball that cannot leave: dense lung up to twice as thick is found, mm.
BALL_MM = 45.0

#: The apex rises 25 to 40 mm above the front end of the first rib (Gray's Anatomy): near the top
#: muscles and the vessels of the arm lie between lung and ribs. No dense lung is looked for there.
APEX_MM = 40.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Around:
    """Angle (0..ANGLES) and distance in mm of every pixel of a slice from the chest's centre."""

    angle: npt.NDArray[np.intp]
    radius: Table

    @classmethod
    def of(cls, grid: WorkingGrid, lungs: Mask) -> _Around:
        _, dy, dx = grid.size_mm
        _, rows, columns = grid.hu.shape
        box = box_around(lungs)
        assert box is not None  # noqa: S101 - there is no chest without a lung
        y = (np.arange(rows) - (box[1].start + box[1].stop - 1) / 2)[:, np.newaxis] * dy
        x = (np.arange(columns) - (box[2].start + box[2].stop - 1) / 2)[np.newaxis] * dx
        turn = np.arctan2(x, -y) / (2 * np.pi) + 0.5
        return cls(
            angle=np.minimum((turn * ANGLES).astype(np.intp), ANGLES - 1),
            radius=np.hypot(x, y).astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Cage:
    """The shell of the ribs around aerated lung.

    Attributes:
        around: where every pixel lies.
        reached: how far aerated lung reaches, mm; (slices, angles), 0 where there is none.
        shell: how far the ribs' inner side lies, mm; 0 where it is not known.
    """

    around: _Around
    reached: Table
    shell: Table

    @property
    def within(self) -> Mask:
        """(Z, Y, X): nearer than the shell, where it is known."""
        return np.asarray(self.around.radius <= self.shell[:, self.around.angle])

    @property
    def beyond(self) -> Mask:
        """(Z, Y, X): further than the shell, where it is known."""
        known = np.where(self.shell > 0, self.shell, np.float32(np.inf))
        return np.asarray(self.around.radius > known[:, self.around.angle])


def find(grid: WorkingGrid, lungs: Mask, ndimage: ModuleType) -> Cage:
    """Read the ribs around aerated lung (Z, Y, X), which must not be empty."""
    around = _Around.of(grid, lungs)
    z, y, x = np.nonzero(lungs)
    reached = np.zeros((lungs.shape[0], ANGLES), dtype=np.float32)
    np.maximum.at(reached, (z, around.angle[y, x]), around.radius[y, x])
    shell = _across_spine(_smooth(grid, _ribs(grid, around, reached, ndimage), ndimage))
    # Between rib and lung lie pleura and fascia: as much as where lung comes nearest to the ribs.
    beside = (reached > 0) & (shell > 0) & (DEGREES > 35) & (DEGREES < 145)
    gaps = [
        np.percentile((shell - reached)[row][beside[row]], 10) if beside[row].any() else np.nan
        for row in range(len(shell))
    ]
    known = np.flatnonzero(np.isfinite(gaps))
    if not len(known):
        return Cage(around=around, reached=reached, shell=np.zeros_like(shell))
    gap = np.interp(np.arange(len(gaps)), known, np.array(gaps)[known])
    gap = ndimage.median_filter(gap, _rows_of_a_rib(grid), mode="nearest")
    shell = np.where(shell > 0, shell - gap[:, np.newaxis] - 1.0, 0.0).astype(np.float32)
    return Cage(around=around, reached=reached, shell=shell)


def dense(
    grid: WorkingGrid, cage: Cage, aerated: Labels, before: Mask, ndimage: ModuleType
) -> Mask:
    """Dense lung between aerated lung and the shell.

    Args:
        grid: the scan.
        cage: its ribs.
        aerated: (Z, Y, X), 1 right lung, 2 left lung.
        before: (Z, Y, X), the right of the septum.
        ndimage: scipy.ndimage.
    """
    found = np.zeros(aerated.shape, dtype=bool)
    dents = _dents(grid, cage, aerated > 0, ndimage)
    if not dents.any():
        return found
    # A ball this large needs no fine grid.
    steps = [grid.voxels(6.0, axis) for axis in range(3)]
    coarse = tuple(slice(None, None, step) for step in steps)
    z, y, x = (size * step for size, step in zip(grid.size_mm, steps, strict=True))
    low, high = DENSE_DEGREES
    shell = cage.beyond & ((low < DEGREES) & (high > DEGREES))[cage.around.angle]
    for side, half in ((RIGHT, before), (LEFT, ~before)):
        kept = (aerated == side) | (shell & half)
        ball = closed(kept[coarse], BALL_MM, (z, y, x), ndimage)
        for axis, step in enumerate(steps):
            ball = ball.repeat(step, axis)
        found |= ball[tuple(map(slice, found.shape))] & half
    found &= cage.within & dents[:, cage.around.angle]
    mean = ndimage.uniform_filter(grid.hu.astype(np.float32), 3)
    found &= (mean > SOFT_ABOVE_HU) & (grid.hu < BONE_ABOVE_HU)
    return np.asarray(ndimage.binary_opening(found))


def _ribs(grid: WorkingGrid, around: _Around, reached: Table, ndimage: ModuleType) -> Table:
    """Inner edge of the bones outside aerated lung; infinite where none is met."""
    z, y, x = np.nonzero(grid.hu > BONE_ABOVE_HU)
    angle, radius = around.angle[y, x], around.radius[y, x]
    # Where nothing is aerated, what is aerated within 45 degrees says how far ribs are at least.
    wide = ndimage.maximum_filter(reached, (1, ANGLES // 4 + 1), mode=("nearest", "wrap"))
    least = np.maximum(reached, np.float32(0.7) * wide)[z, angle] - 3
    rib = (radius > least) & (radius < wide[z, angle] + 40) & (DEGREES[angle] > RIBS_FROM_DEGREES)
    table = np.full(reached.shape, np.inf, dtype=np.float32)
    np.minimum.at(table, (z[rib], angle[rib]), radius[rib])
    return table


def _rows_of_a_rib(grid: WorkingGrid) -> int:
    return 2 * grid.voxels(RIB_PITCH_MM / 2, 0) + 1


def _smooth(grid: WorkingGrid, ribs: Table, ndimage: ModuleType) -> Table:
    """Each angle takes the innermost rib near it, in the slices around too; 0 without any."""
    mode = ("nearest", "wrap")
    # Between two ribs the shoulder blade comes first: the innermost bone is the rib.
    inner = ndimage.minimum_filter(ribs, (_rows_of_a_rib(grid), 3), mode=mode)
    known = np.isfinite(inner)
    weight = ndimage.uniform_filter(known.astype(np.float32), (3, 7), mode=mode)
    total = ndimage.uniform_filter(np.where(known, inner, np.float32(0)), (3, 7), mode=mode)
    mean = total / np.maximum(weight, np.float32(1e-6))
    return np.where(weight > 0.2, mean, 0.0).astype(np.float32)


def _across_spine(shell: Table) -> Table:
    """Behind the spine the shell runs straight from one side's ribs to the other's."""
    behind = np.flatnonzero(DEGREES < RIBS_FROM_DEGREES + 6)
    first, last = shell[:, behind[:1]], shell[:, behind[-1:]]
    share = np.linspace(0, 1, len(behind), dtype=np.float32)
    turn = np.radians(DEGREES[behind])
    chord = np.cos(turn[0]) / np.cos(turn)
    line = (first * (1 - share) + last * share) * chord.astype(np.float32)
    result = shell.copy()
    result[:, behind] = np.where((first > 0) & (last > 0), line, 0)
    return result


def _dents(grid: WorkingGrid, cage: Cage, aerated: Mask, ndimage: ModuleType) -> Mask:
    """(slices, angles) where aerated lung stays well short of the shell."""
    near = ndimage.maximum_filter1d((cage.reached > 0).astype(np.uint8), 9, axis=1, mode="wrap")
    rows = np.arange(len(near))[:, np.newaxis]
    # Below the lowest aerated lung at an angle lies the abdomen.
    lowest = np.where(near.any(axis=0), near.argmax(axis=0), len(near))
    top = np.flatnonzero(aerated.any(axis=(1, 2)))[-1] - APEX_MM / grid.size_mm[0]
    low, high = DENSE_DEGREES
    return np.asarray(
        (low < DEGREES)
        & (high > DEGREES)
        & (cage.shell > 0)
        & (cage.shell - cage.reached >= DENT_MM)
        & (rows >= lowest)
        & (rows <= top)
    )
