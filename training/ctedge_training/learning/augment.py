"""Augmentation: changed copies of a volume that leave a chest a chest, and its label true.

Each recipe has one verb, `apply(volume, rng)`. What comes out depends on the volume and on the
generator's state alone, so a batch that is drawn from (seed, epoch, row) can be drawn again.

Sources:
    PublishedRotation   Zunair, "3D image classification from CT scans", Keras examples, 2020.
    mixup               Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk
                        Minimization", ICLR 2018.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.spec import AXIS_ENDS, HU_WINDOW
from ctedge_training.learning.rotation import ANGLES_DEGREES, rotate, weight_matrix

Floats = npt.NDArray[np.float32]

#: Uniform draws in -1..1 that one `Augmentation.apply` takes, whatever is switched off.
_DRAWS = 9


@dataclass(frozen=True, kw_only=True)
class PublishedRotation:
    """The Keras example's only augmentation: one of six angles, a cubic spline, clipped to 0..1.

    Attributes:
        plane: the axes (row, column) of the volume; see `plane_of`.
    """

    plane: tuple[int, int] = (0, 1)

    def apply(self, volume: Floats, rng: np.random.Generator) -> Floats:
        """A turned copy of a volume, float32 in 0..1; its corners are 0, as published."""
        degrees = ANGLES_DEGREES[int(rng.integers(len(ANGLES_DEGREES)))]
        turned = rotate(volume, degrees, plane=self.plane)
        return np.clip(turned, 0.0, 1.0, out=turned)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {
            "kind": "published-rotation",
            "plane": list(self.plane),
            "angles_degrees": list(ANGLES_DEGREES),
        }


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What differs between scanners and patients and not between labels; 0 switches a part off.

    Applied in this order: flip; zoom, turn and shift in one linear interpolation, edges repeated;
    noise; HU window; clip to 0..1. Amounts are drawn evenly between minus and plus the largest.
    Where the body touches the border of the volume, repeated edges draw it out into a band.

    Attributes:
        axes: the side each axis grows towards, as `PreprocessSpec.axes`: "PLS", "SPL".
        window_hu: both ends of the HU window move, each on its own, by this much at most.
            Volumes hold 0..1 of [-1000, 400] HU and nothing beyond. So an end that moves inwards
            is exact; where one moves outwards, what lay beyond it stays at -1000 or 400 HU: with
            30 HU, air comes out as 0.02 instead of 0, and bone as 0.98 instead of 1.
        scale: zoom about the centre, the same on all axes: 1 - scale ... 1 + scale.
        shift: largest shift along each axis, as a fraction of its length.
        rotate_degrees: largest turn in the axial plane, in pixels that are taken to be square.
        noise: standard deviation of white Gaussian noise, in units of the window (1400 HU), drawn
            from 0 ... noise. Added before the window and the clip, so air gets it on one side only.
        flip: half of the volumes, by chance, are mirrored left to right. Both lungs are alike and
            neither class nor severity depends on the side; but it mirrors the heart, the liver
            and the aortic arch too, and shows the network a situs inversus, which is rare.
    """

    axes: str = "PLS"
    window_hu: float = 30.0
    scale: float = 0.08
    shift: float = 0.05
    rotate_degrees: float = 5.0
    noise: float = 0.01
    flip: bool = True

    def __post_init__(self) -> None:
        plane_of(self.axes)
        limits = {
            "window_hu": (HU_WINDOW[1] - HU_WINDOW[0]) / 2,
            "scale": 1.0,
            "shift": 1.0,
            "rotate_degrees": 180.0,
            "noise": 1.0,
        }
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) < limit:
                raise ValueError(f"{name} is {getattr(self, name)}, not in 0 ... below {limit:g}")

    def apply(self, volume: Floats, rng: np.random.Generator) -> Floats:
        """A changed copy of a volume.

        Args:
            volume: float32 in 0..1, three axes as `axes` says. Not changed.
            rng: decides everything. Switching one part off leaves the others' amounts as they are.

        Returns:
            float32 in 0..1, same shape, C order.
        """
        draws = [float(draw) for draw in rng.uniform(-1.0, 1.0, _DRAWS)]
        low, high, zoom, turn, *shifts, noise, side = draws
        plane = plane_of(self.axes)
        if self.flip and side < 0:
            volume = np.flip(volume, plane[1])
        if self.scale or self.shift or self.rotate_degrees:
            changed = _resample(
                volume,
                plane,
                zoom=1.0 + self.scale * zoom,
                degrees=self.rotate_degrees * turn,
                shift=[self.shift * s * n for s, n in zip(shifts, volume.shape, strict=True)],
            )
        else:
            changed = np.array(volume, np.float32, order="C")
        if self.noise:
            grain = rng.standard_normal(changed.shape, dtype=np.float32)
            grain *= np.float32(self.noise * abs(noise))
            changed += grain
        if self.window_hu:
            _move_window(changed, self.window_hu * low, self.window_hu * high)
        return np.clip(changed, 0.0, 1.0, out=changed)

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {"kind": "augmentation", **asdict(self)}


def plane_of(axes: str) -> tuple[int, int]:
    """Which axes are (row, column), that is along anterior-posterior and along left-right.

    Args:
        axes: as `PreprocessSpec.axes`: "PLS" gives (0, 1), "SPL" gives (1, 2).

    Raises:
        ValueError: not one letter each of L or R, A or P, S or I.
    """
    along = {side: pair for pair in AXIS_ENDS for side in pair}
    order = [along.get(side, "") for side in axes]
    if sorted(order) != ["AP", "LR", "SI"]:
        raise ValueError(f"axes is {axes!r}, not three sides as in 'PLS'")
    return order.index("AP"), order.index("LR")


def mixup(
    volumes: Floats, targets: Floats, rng: np.random.Generator, alpha: float
) -> tuple[Floats, Floats]:
    """Mix each volume of a batch, and its target, with another of the same batch.

    Args:
        volumes: (n, *shape) float32. Not changed.
        targets: (n,) float32: probabilities or scores, so that a mean of two has a meaning.
        rng: decides the partners, a permutation of the batch, and a share for each pair.
        alpha: the shares are drawn from Beta(alpha, alpha); 0 leaves the batch as it is.

    Returns:
        New volumes and targets, of the same shapes and dtypes.

    Raises:
        ValueError: alpha is negative, or there is not one target a volume.
    """
    if not alpha >= 0 or targets.shape != volumes.shape[:1]:
        raise ValueError(
            f"mixup needs alpha >= 0 and a target a volume; got {alpha=}, targets of shape "
            f"{targets.shape} for volumes of shape {volumes.shape}"
        )
    if alpha == 0:
        return volumes.copy(), targets.copy()
    partner = rng.permutation(len(volumes))
    share = rng.beta(alpha, alpha, len(volumes)).astype(np.float32)
    mixed_targets = share * targets + (1 - share) * targets[partner]
    share = share.reshape(-1, *[1] * (volumes.ndim - 1))
    mixed = volumes[partner]
    mixed += share * (volumes - mixed)
    return mixed, mixed_targets


def _move_window(volume: Floats, low_hu: float, high_hu: float) -> None:
    """Express 0..1 of the stored window in one whose ends have moved; in place, not clipped."""
    width = HU_WINDOW[1] - HU_WINDOW[0]
    volume -= np.float32(low_hu / width)
    volume *= np.float32(width / (width + high_hu - low_hu))


def _resample(
    volume: Floats, plane: tuple[int, int], *, zoom: float, degrees: float, shift: list[float]
) -> Floats:
    """Zoom and turn about the centre, then move by `shift` voxels along each axis."""
    (depth_axis,) = {0, 1, 2} - set(plane)
    slices_last = np.moveaxis(volume, plane, (0, 1))
    rows, columns, slices = slices_last.shape
    along = _slice_weights(slices, zoom, shift[depth_axis])
    across = _plane_weights(rows, columns, zoom, degrees, (shift[plane[0]], shift[plane[1]]))
    moved = across @ (slices_last.reshape(rows * columns, slices) @ along)
    result = np.empty(volume.shape, np.float32)
    target = np.moveaxis(result, plane, (0, 1))
    for row, values in zip(target, moved.reshape(slices_last.shape), strict=True):
        row[...] = values
    return result


def _slice_weights(slices: int, zoom: float, shift: float) -> npt.NDArray[np.float32]:
    """(slices read, slices written): how much each written slice takes of each read one."""
    centre = (slices - 1) / 2
    lower, upper, share = _between((np.arange(slices) - centre - shift) / zoom + centre, slices)
    weights = np.zeros((slices, slices), np.float32)
    written = np.arange(slices)
    weights[lower, written] = 1 - share
    weights[upper, written] += share
    return weights


def _plane_weights(
    rows: int, columns: int, zoom: float, degrees: float, shift: tuple[float, float]
) -> Any:
    """A `weight_matrix`: the four pixels that each is interpolated from."""
    turn = math.radians(degrees)
    cosine, sine = math.cos(turn) / zoom, math.sin(turn) / zoom
    centre_row, centre_column = (rows - 1) / 2, (columns - 1) / 2
    row = np.arange(rows)[:, np.newaxis] - (centre_row + shift[0])
    column = np.arange(columns) - (centre_column + shift[1])
    top, bottom, down = _between((centre_row + cosine * row + sine * column).ravel(), rows)
    left, right, over = _between((centre_column - sine * row + cosine * column).ravel(), columns)
    top *= columns
    bottom *= columns
    taps = np.stack([top + left, top + right, bottom + left, bottom + right], axis=1)
    up, back = 1 - down, 1 - over
    shares = np.stack([up * back, up * over, down * back, down * over], axis=1)
    return weight_matrix(taps, shares, np.ones(rows * columns, bool))


def _between(
    position: npt.NDArray[np.floating], count: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The neighbours of each position and the upper one's share; edges are repeated."""
    position = np.clip(position, 0, count - 1)
    lower = position.astype(np.int32)
    return lower, np.minimum(lower + 1, count - 1), (position - lower).astype(np.float32)
