"""A small bundle whose manifest says on which runtimes the gates of a precision passed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bundle_factory import read_document, seal
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from engine_factory import write_engine_bundle
from precision_factory import SPEC, network, weights


def write_small(path: Path) -> ModelBundle:
    """A small network of the published shape with one golden case."""
    bundle = write_engine_bundle(path, model=network(weights()).SerializeToString())
    levels = np.random.default_rng(8).integers(0, 256, SPEC.shape, dtype=np.uint8)
    batch = levels[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
    answers = OnnxRuntime(bundle.model, name="small").run(batch)
    document = read_document(path)
    _add_member(path, document, "golden/noise.npy.gz", pack_levels(levels))
    case = {"name": "noise", "input": "golden/noise.npy.gz"}
    case["outputs"] = {name: values.item() for name, values in answers.items()}
    seal(path, document | {"golden": [case]})
    return ModelBundle.load(path)


def gated_copy(
    plain: Path,
    folder: Path,
    files: Mapping[str, bytes],
    precisions: Mapping[str, Mapping[str, bool]],
) -> ModelBundle:
    """A copy with these precisions, of these files, that passed their gates or did not."""
    shutil.copytree(plain, folder)
    document = read_document(folder)
    for precision, passed in precisions.items():
        _add_member(folder, document, f"model.{precision}.onnx", files[precision])
        verdicts = {
            name: {"version": "1", "numeric": {"passed": held}, "task": {"passed": held}}
            for name, held in passed.items()
        }
        document["variants"][precision] = {
            "member": f"model.{precision}.onnx",
            "opset": 22 if precision == "bf16" else 17,
            "kept_float": [],
            "weights": {},
            "calibration": None,
            "gates": {"structural": {"passed": True}, "runtimes": verdicts},
        }
    seal(folder, document)
    return ModelBundle.load(folder)


def _add_member(folder: Path, document: dict[str, Any], name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document["members"][name] = record
