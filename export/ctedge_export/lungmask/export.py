"""From the published weights of the U-Net R231 to a bundle: read, build, compare with torch, write.

    ctedge export lungmask unet_r231-d5d2fc3d.pth -o lungs-r231.ctedge

torch reads the weights and gives the answers that the ONNX file is held against; the bundle needs
no torch.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctedge import __version__
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.manifest import CARD_NAME, MODEL_NAME, TASK_INPUTS, TASK_OUTPUTS
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.extras import require, version_of
from ctedge.lung_spec import LUNG_LABELS, LUNGMASK, LungMaskSpec
from ctedge_export.lock import written_by_one
from ctedge_export.lungmask import gate, network
from ctedge_export.lungmask.gate import Agreement, Reference
from ctedge_export.lungmask.network import TASK, Weights
from ctedge_export.lungmask.weights import read_weights, state_dict, torch_reference
from ctedge_export.network.tf_to_onnx import OPSET
from ctedge_export.writer import check_target, write_bundle

Say = Callable[[str], None]

_EXTRA = "lungmask"
_PURPOSE = "exporting the network of lungmask"
_GOLDEN = ("healthy-slice", "diseased-slice")
_VERSIONS = ("numpy", "onnx", "onnxruntime", "scipy", "torch")


def export_lungmask(
    weights: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    say: Say | None = None,
) -> ModelBundle:
    """Turn the weights of the U-Net R231 into a bundle that `LungSegmenter` runs without torch.

    Args:
        weights: the file that its authors publish, a state dict of torch; nothing in it is run.
        bundle: the folder `NAME.ctedge` to write.
        overwrite: replace a bundle that stands there.
        say: told of each step, one line at a time.

    Raises:
        BundleNotFound: there is no such file.
        UnsafeModel: the file wants more of Python than tensors.
        InvalidBundle: it is damaged, or holds the weights of another network.
        GateFailed: the ONNX model answers otherwise than torch; nothing is written.
        OutputError: the bundle exists, is being written, or cannot be; nothing is left.
        MissingExtra: torch, onnx, scipy or ONNX Runtime is not installed.
    """
    say = say or (lambda line: None)
    target = Path(bundle)
    check_target(target, overwrite=overwrite)
    torch = require("torch", extra=_EXTRA, purpose=_PURPOSE)
    data = read_weights(Path(weights))
    state = state_dict(data, torch)
    say(f"weights: {sum(map(np.size, state.values())):,} numbers, those of a U-Net R231")
    return export_weights(
        state,
        target,
        reference=torch_reference(state, torch),
        provenance={"weights_sha256": hashlib.sha256(data).hexdigest()},
        overwrite=overwrite,
        say=say,
    )


def export_weights(  # noqa: PLR0913 (keyword-only options)
    weights: Weights,
    target: Path,
    *,
    reference: Reference,
    provenance: Mapping[str, Any],
    spec: LungMaskSpec = LUNGMASK,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> ModelBundle:
    """Build the network of weights in memory, hold it against a reference, and write the bundle.

    Args:
        weights: the state dict's tensors, by name.
        target: the folder `NAME.ctedge`.
        reference: what the network has to answer.
        provenance: where the weights come from, for the manifest.
        spec: the contract of the slices.
        overwrite: replace a bundle that stands there.
        say: told of each step.

    Raises:
        As `export_lungmask`.
    """
    for module, extra in (("onnx", _EXTRA), ("onnxruntime", "cpu"), ("scipy", "lungs")):
        require(module, extra=extra, purpose=_PURPOSE)
    with written_by_one(target):
        return _export(weights, target, reference, provenance, spec, overwrite=overwrite, say=say)


def _export(  # noqa: PLR0913 (what export_weights was told)
    weights: Weights,
    target: Path,
    reference: Reference,
    provenance: Mapping[str, Any],
    spec: LungMaskSpec,
    *,
    overwrite: bool,
    say: Say,
) -> ModelBundle:
    """What `export_weights` does while it holds the bundle's lock."""
    network.check_weights(weights)
    properties = {"task": TASK, "architecture": "U-Net R231"}
    model = network.build(weights, spec, properties).SerializeToString(deterministic=True)
    say(f"built: {len(model) / 1e6:.0f} MB, checker passed")
    shown = gate.gate_slices(spec)
    agreements = gate.compare(reference, model, shown)
    gate.require_pass(agreements)
    worst = max(one.difference for one in agreements)
    say(f"gate passed: max |dlog p| {worst:.2g} <= {gate.TOLERANCE:g} on {len(shown)} slices")
    golden = [one for one in agreements if one.name in _GOLDEN]
    files = {f"golden/{one.name}.npy.gz": pack_levels(shown[one.name]) for one in golden}
    written = write_bundle(
        target,
        description={
            "task": TASK,
            "labels": list(LUNG_LABELS),
            "threshold": None,
            "spec": spec.to_json(),
            "model": _model(spec),
            "golden": [
                {"name": one.name, "input": file, "outputs": one.shares}
                for one, file in zip(golden, files, strict=True)
            ],
            "metrics": {},
            "provenance": {**provenance, "export": {"versions": _versions(), "opset": OPSET}},
            "gates": {"onnx": _record(agreements)},
            "variants": {},
        },
        members={MODEL_NAME: model, CARD_NAME: _card(target.name, spec, worst).encode(), **files},
        overwrite=overwrite,
    )
    say(f"written: {target}, manifest {written.digest[:12]}")
    return written


def _record(agreements: list[Agreement]) -> dict[str, Any]:
    return {
        "passed": True,
        "output": "log-probability",
        "tolerance": gate.TOLERANCE,
        "max_abs_difference": max(one.difference for one in agreements),
        "tied_pixels_that_differ": sum(one.ties for one in agreements),
        "inputs": [{"name": one.name, "abs_difference": one.difference} for one in agreements],
    }


def _model(spec: LungMaskSpec) -> dict[str, Any]:
    (output,) = TASK_OUTPUTS[TASK]
    return {
        "member": MODEL_NAME,
        "opset": OPSET,
        "input": {"name": TASK_INPUTS[TASK], "shape": [1, *spec.shape]},
        "outputs": [{"name": output, "shape": [len(LUNG_LABELS), *spec.shape]}],
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "ctedge": __version__}
    return found | {name: version for name in _VERSIONS if (version := version_of(name))}


def _card(name: str, spec: LungMaskSpec, worst: float) -> str:
    low, high = spec.hu_window
    size = " x ".join(map(str, spec.shape))
    return f"""# {name.removesuffix(".ctedge")}

> **Not a medical device.** Not approved for clinical use by anyone, anywhere.

## Intended use

Finds the right and the left lung in axial slices of chest CT. The architecture is the U-Net R231 of
Hofmanninger et al., European Radiology Experimental 4, 50, 2020; the weights are whatever the file
held that was exported, and what they are worth is not recorded here. For research and teaching.

## Input and output

- One slice, cropped to the body, {size} pixels, axes growing towards {", ".join(spec.axes)}.
- HU from {low:g} to {high:g} become 0 to 1.
- Classes: {", ".join(f"`{label}`" for label in LUNG_LABELS)}.

## Conversion

torch to ONNX (FP32). Largest difference of a log-probability: {worst:.2g}
(allowed: {gate.TOLERANCE:g}).
"""
