"""Small bundles to load and to spoil: the mean of an input, times 2, minus 1.

Inputs are 8 x 8 x 8 volumes, or slices of 24 x 20 pixels in three channels.
"""

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

from ctedge.bundle.golden import pack_levels
from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS, manifest_bytes
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.lung_spec import LUNG_LABELS, LungMaskSpec
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge_export.writer import write_bundle

SPEC = PreprocessSpec(name="tiny", shape=(8, 8, 8), axes="PLS")
SLICE_SPEC = SliceSpec(name="tiny-slice", shape=(24, 20))

#: Of every tiny bundle, in the order of the manifest.
MEMBERS = ("MODEL_CARD.md", "golden/noise.npy.gz", "model.onnx")


def spec_of(task: str) -> Spec:
    return SLICE_SPEC if task == "slices" else SPEC


def tensor_shape(spec: Spec | LungMaskSpec) -> list[int]:
    return [spec.input_shape[-1], *spec.shape]


def tiny_model(task: str = "classifier") -> onnx.ModelProto:
    first = TASK_OUTPUTS[task][0]
    channels, *_ = shape = tensor_shape(spec_of(task))
    nodes = [
        helper.make_node("GlobalAveragePool", [TASK_INPUTS[task]], ["average"], "average"),
        helper.make_node("Flatten", ["average"], ["flatten"], "flatten", axis=1),
        helper.make_node("Gemm", ["flatten", "weight", "bias"], [first], "dense1"),
    ]
    if task != "severity":
        nodes.append(helper.make_node("Sigmoid", [first], ["probability"], "sigmoid"))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(TASK_INPUTS[task], TensorProto.FLOAT, ["batch", *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
            for name in TASK_OUTPUTS[task]
        ],
        [
            numpy_helper.from_array(np.full((channels, 1), 2 / channels, np.float32), "weight"),
            numpy_helper.from_array(np.full(1, -1, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def description_of(task: str, spec: Spec | LungMaskSpec, **changes: Any) -> dict[str, Any]:
    """What a manifest says of a model that passed its gate; `changes` replace its keys."""
    labels, answer = ["normal", "abnormal"], [1]
    if task == "lungs":
        labels, answer = [*LUNG_LABELS], [len(LUNG_LABELS), *spec.shape]
    return {
        "task": task,
        "labels": labels,
        "threshold": 0.5 if "probability" in TASK_OUTPUTS[task] else None,
        "spec": spec.to_json(),
        "model": {
            "member": "model.onnx",
            "opset": 17,
            "input": {"name": TASK_INPUTS[task], "shape": tensor_shape(spec)},
            "outputs": [{"name": name, "shape": answer} for name in TASK_OUTPUTS[task]],
        },
        "golden": [],
        "metrics": {},
        "provenance": {},
        "gates": {"onnx": {"passed": True}},
        **changes,
    }


def golden_case(name: str, outputs: Mapping[str, float]) -> dict[str, Any]:
    return {"name": name, "input": f"golden/{name}.npy.gz", "outputs": outputs}


def variant_of(precision: str, passed: Mapping[str, bool]) -> dict[str, Any]:
    """What a manifest says of another precision, and whether it passed its gates, by runtime."""
    verdicts = {
        name: {"version": "1", "numeric": {"passed": held}, "task": {"passed": held}}
        for name, held in passed.items()
    }
    return {
        "member": f"model.{precision}.onnx",
        "opset": 22 if precision == "bf16" else 17,
        "kept_float": [],
        "weights": {},
        "calibration": None,
        "gates": {"structural": {"passed": True}, "runtimes": verdicts},
    }


def write_tiny(
    path: Path, *, task: str = "classifier", model: bytes | None = None, **changes: Any
) -> ModelBundle:
    """Write a tiny bundle; `changes` replace keys of its manifest."""
    spec = spec_of(task)
    levels = np.random.default_rng(3).integers(0, 256, spec.shape, dtype=np.uint8)
    raw = 2 * float(levels.mean()) / 255 - 1
    answers = {"logit": raw, "probability": 1 / (1 + math.exp(-raw)), "score": raw}
    description = description_of(
        task,
        spec,
        golden=[golden_case("noise", {name: answers[name] for name in TASK_OUTPUTS[task]})],
        metrics={"auc": {"value": 0.9, "ci95": [0.8, 0.95]}},
        provenance={"run": {}},
    )
    members = {
        "model.onnx": tiny_model(task).SerializeToString() if model is None else model,
        "MODEL_CARD.md": b"# tiny\n",
        "golden/noise.npy.gz": pack_levels(levels),
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


def put_member(folder: Path, document: dict[str, Any], name: str, data: bytes) -> None:
    """Write a member, and its digest into the document of a manifest."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document["members"][name] = record


def replace_member(folder: Path, name: str, data: bytes) -> None:
    """Give a bundle another member together with the digests that fit it."""
    document = read_document(folder)
    put_member(folder, document, name, data)
    seal(folder, document)
