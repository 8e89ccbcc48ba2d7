"""Networks to build engines of, in each precision, and bundles of them.

A 3D chain of convolutions as the real network's, small, and DenseNet, small and whole; their heads
in float. Half precision and 8-bit weights are in the graph itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bundle_factory import description_of, variant_of
from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import record_path
from ctedge.engines.record import DeviceGate, EngineRecord, Layers, Site, Target
from ctedge.spec import PreprocessSpec
from ctedge_export.writer import write_bundle

SIZE = 46  # the smallest grid that four convolutions and poolings leave something of
SPEC = PreprocessSpec(name="small", shape=(SIZE, SIZE, SIZE), axes="PLS")

_FIRST_POOLS = 2


class _Graph:
    """Nodes and weights, written one after another; `last` is the tensor to read next."""

    def __init__(self, precision: str, source: str) -> None:
        self.precision, self.last = precision, source
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(1)

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs or [self.last], [name], name, **attributes))
        self.last = name
        return name

    def keep(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def cast(self, name: str, kind: int) -> None:
        if self.precision == "fp16":
            self.add("Cast", name, to=kind)

    def activate(self, name: str, channels: int) -> None:
        kind = np.float16 if self.precision == "fp16" else np.float32
        for operator in ("Mul", "Add"):
            factor = self.keep(f"{name}.{operator}", np.full((1, channels, 1, 1), 0.5, kind))
            self.add(operator, f"{name}.{operator}.out", self.last, factor)
        self.add("Relu", f"{name}.relu")

    def conv(
        self,
        name: str,
        channels: tuple[int, int],
        axes: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        pad: int = 0,
        float_: bool = False,
    ) -> str:
        cin, cout = channels
        shape = (cout, cin) + (kernel,) * axes
        weight = (
            self.rng.standard_normal(shape).astype(np.float32)
            / np.float32(cin * kernel**axes) ** 0.5
        )
        data, weight_name = self.last, f"{name}.weight"
        bias = np.zeros(cout, np.float32)
        if self.precision == "int8" and not float_:
            data, weight_name = self._quantised(name, data, weight)
        elif self.precision == "fp16":
            self.keep(weight_name, weight.astype(np.float16))
            bias = bias.astype(np.float16)
        else:
            self.keep(weight_name, weight)
        bias_name = self.keep(f"{name}.bias", bias)
        places = {"kernel_shape": [kernel] * axes, "strides": [stride] * axes}
        return self.add("Conv", name, data, weight_name, bias_name, **places, pads=[pad] * 2 * axes)

    def _quantised(self, name: str, data: str, weight: np.ndarray) -> tuple[str, str]:
        scale = self.keep(f"{name}.scale", np.float32(0.02))
        zero = self.keep(f"{name}.zero", np.int8(0))
        self.add("QuantizeLinear", f"{name}.q", data, scale, zero)
        read = self.add("DequantizeLinear", f"{name}.dq", f"{name}.q", scale, zero)
        scales = np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(127)
        steps = scales.reshape((-1,) + (1,) * (weight.ndim - 1))
        self.keep(f"{name}.w8", np.round(weight / steps).astype(np.int8))
        self.keep(f"{name}.w8.scale", scales.astype(np.float32))
        self.keep(f"{name}.w8.zero", np.zeros(len(weight), np.int8))
        parts = [f"{name}.w8", f"{name}.w8.scale", f"{name}.w8.zero"]
        return read, self.add("DequantizeLinear", f"{name}.w", *parts, axis=0)

    def model(self, task: str, channels: int, shape: tuple[int, ...]) -> bytes:
        """Close with average, dense layer and outputs, all in float."""
        first = TASK_OUTPUTS[task][0]
        self.cast("to_float", TensorProto.FLOAT)
        self.add("GlobalAveragePool", "average")
        self.add("Flatten", "flatten", axis=1)
        weight = self.keep("w", self.rng.standard_normal((channels, 1)).astype(np.float32))
        self.add("Gemm", first, self.last, weight, self.keep("b", np.zeros(1, np.float32)))
        if len(TASK_OUTPUTS[task]) > 1:
            self.add("Sigmoid", "probability")
        value = helper.make_tensor_value_info
        outputs = [value(name, TensorProto.FLOAT, ["batch", 1]) for name in TASK_OUTPUTS[task]]
        inputs = [value(TASK_INPUTS[task], TensorProto.FLOAT, ["batch", *shape])]
        graph = helper.make_graph(self.nodes, "small", inputs, outputs, self.weights)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def chain(precision: str = "fp32", *, task: str = "classifier", kept_float: int = 0) -> bytes:
    """Four 3D convolutions, the first `kept_float` of them in float where the rest is int8."""
    graph = _Graph(precision, TASK_INPUTS[task])
    graph.cast("to_half", TensorProto.FLOAT16)
    widths = (1, 8, 8, 16, 16)
    for index in range(4):
        float_ = index < kept_float
        graph.conv(f"conv{index + 1}", (widths[index], widths[index + 1]), 3, float_=float_)
        graph.add("Relu", f"relu{index + 1}")
        if index < _FIRST_POOLS:
            graph.add("MaxPool", f"pool{index + 1}", kernel_shape=[2] * 3, strides=[2] * 3)
    return graph.model(task, widths[-1], (1, SIZE, SIZE, SIZE))


def densenet(
    precision: str = "fp32",
    *,
    blocks: tuple[int, ...] = (2, 1),
    growth: int = 8,
    size: int = 32,
) -> bytes:
    """DenseNet by its paper (Huang 2017): normalise, rectify, convolve; a layer reads all before.

    Normalisation is a Mul and an Add, as it is in the exported file.
    """
    graph = _Graph(precision, "image")
    graph.cast("to_half", TensorProto.FLOAT16)
    width = 2 * growth
    graph.conv("stem", (3, width), 2, kernel=7, stride=2)
    graph.activate("stem", width)
    graph.add("MaxPool", "stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for block, layers in enumerate(blocks):
        for layer in range(layers):
            name, before = f"b{block}.{layer}", graph.last
            graph.activate(f"{name}.a", width)
            graph.conv(f"{name}.narrow", (width, 4 * growth), 2, kernel=1)
            graph.activate(f"{name}.b", 4 * growth)
            graph.conv(f"{name}.grow", (4 * growth, growth), 2, pad=1)
            graph.add("Concat", f"{name}.join", before, graph.last, axis=1)
            width += growth
        if block < len(blocks) - 1:
            graph.activate(f"t{block}", width)
            graph.conv(f"t{block}.halve", (width, width // 2), 2, kernel=1)
            width //= 2
            graph.add("AveragePool", f"t{block}.pool", kernel_shape=[2, 2], strides=[2, 2])
    graph.activate("last", width)
    return graph.model("slices", width, (3, size, size))


def densenet121(precision: str = "fp32") -> bytes:
    """The real one, with random weights."""
    return densenet(precision, blocks=(6, 12, 24, 16), growth=32, size=224)


def write_engine_bundle(
    path: Path,
    *,
    variants: tuple[str, ...] = (),
    model: bytes | None = None,
    **changes: Any,
) -> ModelBundle:
    """A bundle of the chain or `model`, with the precisions named, all said to be gated.

    `changes` replace keys of its manifest.
    """
    description = description_of(
        "classifier",
        SPEC,
        variants={precision: variant_of(precision, {"cpu": True}) for precision in variants},
        **changes,
    )
    members = {"model.onnx": model or chain(), "MODEL_CARD.md": b"# small\n"}
    members |= {f"model.{precision}.onnx": chain(precision) for precision in variants}
    return write_bundle(path, description=description, members=members)


WORKSTATION = Site(gpu="NVIDIA RTX A4000", compute_capability="8.6", driver="580.65", cuda="13.0")


def record_for(bundle: ModelBundle, plan: bytes, **changes: Any) -> EngineRecord:
    """The record of an FP16 engine that TensorRT 10.3 built on the workstation, and gated."""
    record = EngineRecord(
        sha256=hashlib.sha256(plan).hexdigest(),
        size_bytes=len(plan),
        runtime="tensorrt",
        runtime_version="10.3.0",
        machine=WORKSTATION,
        target=Target(
            name="sm86-rtx-a4000",
            gpu=WORKSTATION.gpu,
            compute_capabilities=("8.6",),
            or_newer=False,
        ),
        bundle=bundle.name,
        onnx_member="model.fp16.onnx",
        onnx_sha256=hashlib.sha256(bundle.model_bytes("fp16")).hexdigest(),
        precision="fp16",
        layers=Layers(
            source="inspector",
            shares={"fp16": 1.0},
            convolutions={"fp16": 1.0},
            listed=(("conv1", "CONVOLUTION", "fp16"),),
        ),
        input_name=bundle.input_name,
        input_shape=bundle.input_shape,
        outputs=bundle.output_names,
        max_batch=4,
        builder={"version_compatible": False},
        gates={},
        device_gate=DeviceGate(
            state="passed",
            machine=WORKSTATION,
            results={name: {"passed": True} for name in ("numeric", "task")},
        ),
    )
    return replace(record, **changes)


def put_engine(bundle: ModelBundle, name: str, plan: bytes, record: EngineRecord) -> Path:
    """Lay an engine and its record into a bundle."""
    path = bundle.path / "engines" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(plan)
    record_path(path).write_bytes(record.to_bytes())
    return path
