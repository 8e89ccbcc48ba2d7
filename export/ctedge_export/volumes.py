"""The volumes of a gate: nothing, everything, noise, structure, and synthetic chests.

Every one has 8-bit levels k/255, so that what a gate saw can be stored exactly.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.phantom import draw_patient, render
from ctedge.preprocessing import preprocess
from ctedge.spec import PreprocessSpec

_SEED = 20
_PHANTOM_SEED = 7

#: The volumes that a bundle keeps as golden cases.
GOLDEN_NAMES = ("healthy-chest", "diseased-chest")


@dataclass(frozen=True, kw_only=True, eq=False)
class GateVolume:
    """A named volume: uint8 levels of `spec.shape`; level k is the network input k/255."""

    name: str
    levels: npt.NDArray[np.uint8]

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 of `spec.shape`, 0..1."""
        values: npt.NDArray[np.float32] = self.levels.astype(np.float32) / np.float32(255)
        return values


@functools.lru_cache(maxsize=2)
def gate_volumes(spec: PreprocessSpec) -> tuple[GateVolume, ...]:
    """Ten volumes that together reach every part of the network; the same on every run.

    They are kept (one byte a voxel), since drawing the chests takes seconds, and are read-only.
    """
    shape = spec.shape
    rng = np.random.default_rng(_SEED)
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij", sparse=True)
    index_sum = sum(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True))
    volumes = {
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "noise": rng.random(shape),
        "low-noise": 0.25 + 0.05 * rng.standard_normal(shape),
        "smooth": 0.5 + 0.5 * np.cos(7 * axes[0]) * np.cos(5 * axes[1]) * np.cos(3 * axes[2]),
        "ramp": axes[0] * np.ones(shape),
        "checkerboard": np.asarray(index_sum) % 2 * np.ones(shape),
        "sparse": (rng.random(shape) < 0.001).astype(float),
        "healthy-chest": _chest(spec, lesion_share=0.0),
        "diseased-chest": _chest(spec, lesion_share=0.3),
    }
    return tuple(GateVolume(name=name, levels=_levels(v)) for name, v in volumes.items())


def _levels(values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    levels: npt.NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    levels.flags.writeable = False
    return levels


def _chest(spec: PreprocessSpec, *, lesion_share: float) -> npt.NDArray[np.float32]:
    """A synthetic chest as the network sees it, from a scan of about the network's resolution."""
    phantom = render(draw_patient(_PHANTOM_SEED, lesion_share=lesion_share), shape=(160, 160, 80))
    mask = phantom.lung_mask if spec.lungs_only else None
    return preprocess(phantom.voxels, spec, lung_mask=mask)
