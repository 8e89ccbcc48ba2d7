"""The inputs of a gate: nothing, everything, noise, structure, and synthetic chests; 32 in all.

Every one has 8-bit levels k/255, so that what a gate saw can be stored exactly. What depends on the
network that is looked at is in `undecided`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.phantom import draw_patient, render
from ctedge.preprocessing import preprocess
from ctedge.scan import CTScan
from ctedge.slice_input import slice_of_scan
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge.tensor import network_batch

#: Inputs of a gate, at least.
_COUNT = 32

_SEED = 20
_PHANTOM_SEED = 7

#: A healthy and a diseased chest, by the share of the lungs with lesions.
_CHESTS = {"healthy": 0.0, "diseased": 0.3}

#: Slices are taken from a quarter, half and three quarters of the way up: of five, these.
_LEVELS = {"low-slice": 1, "slice": 2, "high-slice": 3}

#: The inputs that a bundle keeps as golden cases.
GOLDEN_NAMES = ("healthy-chest", "diseased-chest", "healthy-slice", "diseased-slice")

#: Further chests, by the share of the lungs with lesions: scanned at the network's grid, and finer
#: than it, as scanners do. Slight shares are where a network is undecided, and rounding shows most.
_MORE_CHESTS = (
    *((0.0, 1), (0.01, 2), (0.02, 1), (0.005, 2)),
    *((0.1, 1), (0.02, 2), (0.4, 1), (0.03, 2)),
)

#: The chest that is turned, darkened, cut and so on.
_CHANGED_SHARE = 0.1

#: Inputs of which hardly two neighbours are alike.
NOISE = ("noise", "low-noise")

_Values = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class GateInput:
    """A named input: uint8 levels of `spec.shape`; level k is the value k/255.

    `undecided` says that it was searched for, where the network is least sure.
    """

    name: str
    levels: npt.NDArray[np.uint8]
    spec: Spec
    undecided: bool = False

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 of `spec.shape`, 0..1."""
        values: npt.NDArray[np.float32] = self.levels.astype(np.float32) / np.float32(255)
        return values

    @property
    def batch(self) -> npt.NDArray[np.float32]:
        """The ONNX input, a batch of one: (1, 1, *spec.shape), of a slice (1, 3, *spec.shape)."""
        return network_batch(self.values[np.newaxis], self.spec)


@functools.lru_cache(maxsize=2)
def gate_inputs(spec: Spec) -> tuple[GateInput, ...]:
    """The 32 inputs, which together reach every part of the network; the same on every run.

    They are kept (one byte a value), since drawing the chests takes seconds, and are read-only.
    """
    patterns = _patterns(spec.shape)
    changed = _changed(draw_chest(spec, _PHANTOM_SEED, _CHANGED_SHARE).values)
    chests = _slices(spec) if isinstance(spec, SliceSpec) else _volumes(spec)
    more = _more_chests(spec, _COUNT - len(patterns) - len(changed) - len(chests))
    shown = {**patterns, **more, **changed, **chests}
    return tuple(GateInput(name=n, levels=_levels(v), spec=spec) for n, v in shown.items())


#: A healthy and a diseased chest of one patient, scanned alike.
Twins = tuple[GateInput, GateInput]


@functools.lru_cache(maxsize=2)
def gate_twins(spec: Spec) -> tuple[Twins, ...]:
    """The diseased chests of `gate_inputs`, each with its healthy twin."""
    shown = {one.name: one for one in gate_inputs(spec)}
    name = "slice" if isinstance(spec, SliceSpec) else "chest"
    twins = [(shown[f"healthy-{name}"], shown[f"diseased-{name}"])]
    for number, (share, finer) in enumerate(_MORE_CHESTS, start=1):
        if share and (diseased := shown.get(f"chest-{number}")) is not None:
            healthy = draw_chest(spec, _PHANTOM_SEED + number, 0.0, finer=finer)
            twins.append((gate_input(f"healthy-{diseased.name}", healthy.values, spec), diseased))
    return tuple(twins)


def gate_input(name: str, values: npt.NDArray[np.floating], spec: Spec) -> GateInput:
    """Values of `spec.shape`, 0..1, rounded to 8-bit levels."""
    return GateInput(name=name, levels=_levels(values), spec=spec)


def _patterns(shape: tuple[int, ...]) -> Mapping[str, _Values]:
    rng = np.random.default_rng(_SEED)
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij", sparse=True)
    index_sum = sum(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True))
    waves = [np.cos(turns * axis) for turns, axis in zip((7, 5, 3), axes, strict=False)]
    radius = np.sqrt(sum((axis - 0.5) ** 2 for axis in axes))
    point = np.zeros(shape)
    point[tuple(n // 2 for n in shape)] = 1
    return {
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "noise": rng.random(shape),
        "low-noise": 0.25 + 0.05 * rng.standard_normal(shape),
        "smooth": 0.5 + 0.5 * functools.reduce(np.multiply, waves),
        "ramp": axes[0] * np.ones(shape),
        "checkerboard": np.asarray(index_sum) % 2 * np.ones(shape),
        "sparse": (rng.random(shape) < 0.001).astype(float),
        "grey": np.full(shape, 0.5),
        "point": point,
        "ball": (radius < 0.3).astype(float),
        "shells": 0.5 + 0.5 * np.cos(40 * radius),
        "step": (axes[1] > 0.5) * np.ones(shape),
        "black-and-white-noise": (rng.random(shape) < 0.5).astype(float),
    }


def _changed(chest: _Values) -> Mapping[str, _Values]:
    """A chest as it should not come: turned, inverted, too dark, too bright, noisy, cut."""
    rng = np.random.default_rng(_SEED + 1)
    cut = chest.copy()
    cut[: len(cut) // 2] = 0
    return {
        "chest-upside-down": chest[::-1],
        "chest-mirrored": chest[:, ::-1],
        "chest-inverted": 1 - chest,
        "chest-dark": 0.5 * chest,
        "chest-bright": 0.5 + 0.5 * chest,
        "chest-noisy": chest + 0.1 * rng.standard_normal(chest.shape),
        "chest-cut": cut,
        "chest-two-levels": (chest > 0.4).astype(float),
    }


def _levels(values: _Values) -> npt.NDArray[np.uint8]:
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels


def _volumes(spec: PreprocessSpec) -> Mapping[str, _Values]:
    """Synthetic chests as the network sees them, from scans of about the network's resolution."""
    volumes = {}
    for name, share in _CHESTS.items():
        phantom = render(draw_patient(_PHANTOM_SEED, lesion_share=share), shape=(160, 160, 80))
        mask = phantom.lung_mask if spec.lungs_only else None
        volumes[f"{name}-chest"] = preprocess(phantom.voxels, spec, lung_mask=mask)
    return volumes


def _slices(spec: SliceSpec) -> Mapping[str, _Values]:
    """Slices of the same chests, from three levels of the lungs."""
    slices = {}
    for name, share in _CHESTS.items():
        phantom = render(draw_patient(_PHANTOM_SEED, lesion_share=share), shape=(256, 256, 5))
        scan = CTScan.from_array(phantom.voxels)
        for level, index in _LEVELS.items():
            slices[f"{name}-{level}"] = slice_of_scan(scan, index, spec).volume[:, :, 0]
    return slices


def _more_chests(spec: Spec, count: int) -> Mapping[str, _Values]:
    kinds = [_MORE_CHESTS[i % len(_MORE_CHESTS)] for i in range(count)]
    return {
        f"chest-{number}": draw_chest(spec, _PHANTOM_SEED + number, share, finer=finer).values
        for number, (share, finer) in enumerate(kinds, start=1)
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Chest:
    """A synthetic chest as the network takes it.

    Attributes:
        values: `spec.shape`, 0..1.
        affected: whether what is shown holds a lesion.
        score: 0..100, the affected share of the lungs.
    """

    values: _Values
    affected: bool
    score: float


def draw_chest(spec: Spec, seed: int, lesion_share: float, *, finer: int = 1) -> Chest:
    """A chest rendered at the size of the network's grid, or so many times finer, and preprocessed.

    Of a slice network its middle slice.
    """
    patient = draw_patient(seed, lesion_share=lesion_share)
    if isinstance(spec, SliceSpec):
        side = finer * max(spec.shape)
        phantom = render(patient, shape=(side, side, 5))
        scan, middle = CTScan.from_array(phantom.voxels), _LEVELS["slice"]
        return Chest(
            values=slice_of_scan(scan, middle, spec).volume[:, :, 0],
            affected=bool(phantom.lesion_mask[:, :, middle].any()),
            score=phantom.score,
        )
    grid = (finer * size for size in spec.shape)
    sizes = dict(zip((_AXIS[side] for side in spec.axes), grid, strict=True))
    phantom = render(patient, shape=(sizes[0], sizes[1], sizes[2]))
    mask = phantom.lung_mask if spec.lungs_only else None
    return Chest(
        values=preprocess(phantom.voxels, spec, lung_mask=mask),
        affected=lesion_share > 0,
        score=phantom.score,
    )


#: Which axis of a phantom (X, Y, Z) runs between these sides.
_AXIS = {"L": 0, "R": 0, "A": 1, "P": 1, "S": 2, "I": 2}
