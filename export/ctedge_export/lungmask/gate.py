"""The numeric gate of the U-Net R231: the ONNX file must answer as torch does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctedge.bundle.manifest import TASK_OUTPUTS
from ctedge.errors import GateFailed, counted
from ctedge.extras import require
from ctedge.lung_spec import LungMaskSpec
from ctedge.lungs.slices import network_slice, oriented, shares
from ctedge.phantom import draw_patient, render
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.lungmask.network import TASK

Floats = npt.NDArray[np.float32]

#: Gives the logarithms of the classes' probabilities, (N, 3, rows, columns), for (N, 1, ...).
Reference = Callable[[Floats], Floats]

#: Largest |difference| of the logarithm of a probability, relative to it where it is beyond 1 (a
#: class that is out of the question has -100, of which float32 holds no more). Rounding through 23
#: convolutions gives about 1e-5. Labels may differ where two classes lie within twice this: ties.
TOLERANCE = 1e-4

_SEED = 20
_PHANTOM_SEED = 7
_CHESTS = {"healthy": 0.0, "diseased": 0.3}
_LEVELS = {"low-slice": 1, "slice": 2, "high-slice": 3}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far torch and ONNX are apart on one slice.

    Attributes:
        name: what the slice shows.
        difference: largest |difference| of a log-probability, relative to it where it is beyond 1;
            infinite when one is no number.
        ties: pixels whose label differs where torch's two best classes are a tie.
        other_labels: pixels whose label differs elsewhere.
        shares: of the pixels, which torch gives to each lung.
    """

    name: str
    difference: float
    ties: int
    other_labels: int
    shares: dict[str, float]


def gate_slices(spec: LungMaskSpec) -> dict[str, npt.NDArray[np.uint8]]:
    """Slices of synthetic chests, and noise, as 8-bit levels: level k is the value k/255."""
    ndimage = require("scipy.ndimage", extra="lungs", purpose="drawing the slices of the gate")
    shown: dict[str, npt.NDArray[np.floating]] = {
        "noise": np.random.default_rng(_SEED).random(spec.shape)
    }
    for name, share in _CHESTS.items():
        phantom = render(draw_patient(_PHANTOM_SEED, lesion_share=share), shape=(256, 256, 5))
        for level, index in _LEVELS.items():
            plane = oriented(phantom.voxels[:, :, index])
            shown[f"{name}-{level}"] = network_slice(plane, spec, ndimage)[0]
    return {name: np.rint(values * 255).astype(np.uint8) for name, values in shown.items()}


def compare(
    reference: Reference, model: bytes, shown: Mapping[str, npt.NDArray[np.uint8]]
) -> list[Agreement]:
    """Run every slice through both; the ONNX file answers with logits."""
    session = OnnxRuntime(model, name="the converted model")
    (output,) = TASK_OUTPUTS[TASK]
    agreements = []
    for name, levels in shown.items():
        batch = levels[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
        expected = reference(batch).astype(np.float64)
        found = _log_softmax(session.run(batch)[output].astype(np.float64))
        difference = (np.abs(found - expected) / np.maximum(1, np.abs(expected))).max()
        *_, second, best = np.sort(expected, axis=1).swapaxes(0, 1)
        differs = expected.argmax(axis=1) != found.argmax(axis=1)
        tied = best - second <= 2 * TOLERANCE
        agreements.append(
            Agreement(
                name=name,
                difference=float(difference) if np.isfinite(difference) else float("inf"),
                ties=int(np.count_nonzero(differs & tied)),
                other_labels=int(np.count_nonzero(differs & ~tied)),
                shares=shares(expected),
            )
        )
    return agreements


def require_pass(agreements: list[Agreement]) -> None:
    """Return when torch and ONNX agree on every slice.

    Raises:
        GateFailed: names the worst slice.
    """
    worst = max(agreements, key=lambda one: (one.other_labels, one.difference))
    if worst.other_labels or not worst.difference <= TOLERANCE:
        raise GateFailed(
            "the ONNX model does not answer as torch does",
            found=f"max |dlog p| {worst.difference:.3g} on {worst.name!r},"
            f" {counted(worst.other_labels, 'pixel')} with another label",
            expected=f"at most {TOLERANCE:g} on {len(agreements)} slices, and the same labels",
            fix="export with the versions of the `lungmask` extra, and report both",
        )


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
