"""The inputs of a gate: nothing, everything, noise, structure, and synthetic chests.

Every one has 8-bit levels k/255, so that what a gate saw can be stored exactly.
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

_SEED = 20
_PHANTOM_SEED = 7

#: A healthy and a diseased chest, by the share of the lungs with lesions.
_CHESTS = {"healthy": 0.0, "diseased": 0.3}

#: Slices are taken from a quarter, half and three quarters of the way up: of five, these.
_LEVELS = {"low-slice": 1, "slice": 2, "high-slice": 3}

#: The inputs that a bundle keeps as golden cases.
GOLDEN_NAMES = ("healthy-chest", "diseased-chest", "healthy-slice", "diseased-slice")

_Values = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class GateInput:
    """A named input: uint8 levels of `spec.shape`; level k is the value k/255."""

    name: str
    levels: npt.NDArray[np.uint8]
    spec: Spec

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
    """Ten or more inputs that together reach every part of the network; the same on every run.

    They are kept (one byte a value), since drawing the chests takes seconds, and are read-only.
    """
    chests = _slices(spec) if isinstance(spec, SliceSpec) else _volumes(spec)
    shown = {**_patterns(spec.shape), **chests}
    return tuple(GateInput(name=n, levels=_levels(v), spec=spec) for n, v in shown.items())


def _patterns(shape: tuple[int, ...]) -> Mapping[str, _Values]:
    rng = np.random.default_rng(_SEED)
    axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij", sparse=True)
    index_sum = sum(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij", sparse=True))
    waves = [np.cos(turns * axis) for turns, axis in zip((7, 5, 3), axes, strict=False)]
    return {
        "zeros": np.zeros(shape),
        "ones": np.ones(shape),
        "noise": rng.random(shape),
        "low-noise": 0.25 + 0.05 * rng.standard_normal(shape),
        "smooth": 0.5 + 0.5 * functools.reduce(np.multiply, waves),
        "ramp": axes[0] * np.ones(shape),
        "checkerboard": np.asarray(index_sum) % 2 * np.ones(shape),
        "sparse": (rng.random(shape) < 0.001).astype(float),
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
