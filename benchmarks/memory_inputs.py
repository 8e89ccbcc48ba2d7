"""What `memory.py` judges: phantoms as files, and a bundle of the smallest network."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctedge.files import atomic_folder
from ctedge.phantom import Phantom, draw_patient, render, write_nifti

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import dicom_factory
import precision_factory
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.manifest import TASK_OUTPUTS
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.network.maps import explain
from ctedge_export.writer import write_bundle

#: Of the small scan that is judged ten thousand times; its DICOM folder has as many files.
SMALL_SHAPE = (48, 48, 16)

#: Of the patient in all of them.
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Paths of what is judged.

    Attributes:
        scans: .nii.gz by shape.
        small: the small scan, by "array", "nii.gz" and "dicom".
        bundle: the published network with 4 to 8 channels on 46 voxels an axis, with its maps.
    """

    scans: dict[tuple[int, int, int], Path]
    small: dict[str, Path]
    bundle: Path


def make(folder: Path, shapes: tuple[tuple[int, int, int], ...]) -> Inputs:
    """Make what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return Inputs(
        scans={shape: _scan(folder, shape) for shape in shapes},
        small=_small(folder),
        bundle=_bundle(folder / "smallest.ctedge"),
    )


def _chest(shape: tuple[int, int, int]) -> Phantom:
    return render(draw_patient(SEED, lesion_share=0.2), shape=shape)


def _name(shape: tuple[int, int, int]) -> str:
    return "x".join(map(str, shape))


def _scan(folder: Path, shape: tuple[int, int, int]) -> Path:
    path = folder / f"chest-{_name(shape)}.nii.gz"
    return path if path.is_file() else write_nifti(_chest(shape), path)


def _small(folder: Path) -> dict[str, Path]:
    paths = {
        "array": folder / f"chest-{_name(SMALL_SHAPE)}.npy",
        "nii.gz": _scan(folder, SMALL_SHAPE),
        "dicom": folder / f"chest-{_name(SMALL_SHAPE)}-dicom",
    }
    if not all(path.exists() for path in paths.values()):
        voxels = _chest(SMALL_SHAPE).voxels
        np.save(paths["array"], voxels)
        if not paths["dicom"].exists():
            with atomic_folder(paths["dicom"]) as made:
                dicom_factory.write_series(made, voxels[:, ::-1].transpose(2, 1, 0))
    return paths


def _bundle(path: Path) -> Path:
    if path.exists():
        return path
    drawn = explain(
        precision_factory.network(precision_factory.weights()), task="classifier", finest="cam"
    )
    data = drawn.model.SerializeToString(deterministic=True)
    spec = precision_factory.SPEC
    levels = np.random.default_rng(8).integers(0, 256, spec.shape, dtype=np.uint8)
    batch = levels[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
    answers = OnnxRuntime(data, name=path.stem).run(batch)
    model = {
        "member": "model.onnx",
        "opset": 17,
        "input": {"name": "volume", "shape": [1, *spec.shape]},
        "outputs": [{"name": name, "shape": [1]} for name in TASK_OUTPUTS["classifier"]],
        "maps": drawn.to_json(),
    }
    case = {"name": "noise", "input": "golden/noise.npy.gz"}
    description = {
        "task": "classifier",
        "labels": ["normal", "abnormal"],
        "threshold": 0.5,
        "spec": spec.to_json(),
        "model": model,
        "golden": [case | {"outputs": {name: one.item() for name, one in answers.items()}}],
        "metrics": {},
        "provenance": {},
        "gates": {"onnx": {"passed": True}},
    }
    members = {
        "model.onnx": data,
        "golden/noise.npy.gz": pack_levels(levels),
        "MODEL_CARD.md": b"# smallest\n",
    }
    write_bundle(path, description=description, members=members)
    return path
