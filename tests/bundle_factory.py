"""Small bundles to load and to spoil: the mean of an 8 x 8 x 8 volume, times 2, minus 1."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ctedge.bundle import ModelBundle
from ctedge.golden import pack_volume
from ctedge.manifest import TASK_OUTPUTS, manifest_bytes
from ctedge.spec import PreprocessSpec
from ctedge_export.writer import write_bundle

SPEC = PreprocessSpec(name="tiny", shape=(8, 8, 8), axes="PLS")


def tiny_model(task: str = "classifier") -> onnx.ModelProto:
    first = TASK_OUTPUTS[task][0]
    nodes = [
        helper.make_node("GlobalAveragePool", ["volume"], ["average"], "average"),
        helper.make_node("Flatten", ["average"], ["flatten"], "flatten", axis=1),
        helper.make_node("Gemm", ["flatten", "weight", "bias"], [first], "dense1"),
    ]
    if task != "severity":
        nodes.append(helper.make_node("Sigmoid", [first], ["probability"], "sigmoid"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["batch", 1, *SPEC.shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
            for name in TASK_OUTPUTS[task]
        ],
        [
            numpy_helper.from_array(np.full((1, 1), 2, np.float32), "weight"),
            numpy_helper.from_array(np.full(1, -1, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def write_tiny(
    path: Path, *, task: str = "classifier", model: bytes | None = None, **changes: Any
) -> ModelBundle:
    """Write a tiny bundle; `changes` replace keys of its manifest."""
    levels = np.random.default_rng(3).integers(0, 256, SPEC.shape, dtype=np.uint8)
    raw = 2 * float(levels.mean()) / 255 - 1
    answers = {"logit": raw, "probability": 1 / (1 + math.exp(-raw)), "score": raw}
    description = {
        "task": task,
        "labels": ["normal", "abnormal"],
        "spec": SPEC.to_json(),
        "model": {
            "member": "model.onnx",
            "opset": 17,
            "input": {"name": "volume", "shape": [1, *SPEC.shape]},
            "outputs": [{"name": name, "shape": [1]} for name in TASK_OUTPUTS[task]],
        },
        "golden": [
            {
                "name": "noise",
                "input": "golden/noise.npy.gz",
                "outputs": {name: answers[name] for name in TASK_OUTPUTS[task]},
            }
        ],
        "metrics": {"auc": {"value": 0.9, "ci95": [0.8, 0.95]}},
        "provenance": {"run": {}},
        "gates": {"onnx": {"passed": True}},
    }
    members = {
        "model.onnx": tiny_model(task).SerializeToString() if model is None else model,
        "MODEL_CARD.md": b"# tiny\n",
        "golden/noise.npy.gz": pack_volume(levels),
    }
    return write_bundle(path, description={**description, **changes}, members=members)


def read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return document


def seal(folder: Path, manifest: bytes | Mapping[str, Any]) -> None:
    """Give a bundle another manifest together with the digest that fits it."""
    raw = manifest if isinstance(manifest, bytes) else manifest_bytes(manifest)
    (folder / "manifest.json").write_bytes(raw)
    (folder / "manifest.sha256").write_text(hashlib.sha256(raw).hexdigest() + "\n")


def replace_member(folder: Path, name: str, data: bytes) -> None:
    """Give a bundle another member together with the digests that fit it."""
    (folder / name).write_bytes(data)
    document = read_document(folder)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document["members"][name] = record
    seal(folder, document)
