"""What is in an engine or an ONNX file: layers, precisions, tactics, formats, memory, identity."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctedge.bundle.files import read_file
from ctedge.engines.files import ENGINE_SUFFIX, read_engine, read_record
from ctedge.engines.machine import installed_versions
from ctedge.engines.record import MAX_ENGINE_BYTES, EngineRecord, Layers
from ctedge.errors import CTEdgeError, InvalidBundle
from ctedge.extras import require
from ctedge.onnx_file.guard import inspect_model
from ctedge.runtimes.cuda_driver import find_device, why_no_device
from ctedge_export.engine.inspector import LayerRow, inspector_rows
from ctedge_export.engine.typed_network import is_convolution, shares_of

_ONNX_SUFFIX = ".onnx"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        path: of the file.
        source: who says so: "inspector", "identity record" or "ONNX file".
        unopened: why the engine itself was not opened; None where it was, or is none.
        rows: its layers, in order.
        layers: precision shares; those of the record where the inspector gives none.
        memory: sizes in bytes, by what they are of.
        record: the identity record of an engine.
    """

    path: Path
    source: str
    unopened: str | None = None
    rows: tuple[LayerRow, ...]
    layers: Layers
    memory: Mapping[str, int]
    record: EngineRecord | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "path": str(self.path),
            "source": self.source,
            "unopened": self.unopened,
            "memory": dict(self.memory),
            "facts": dict(self.facts),
            "shares": dict(self.layers.shares),
            "convolutions": dict(self.layers.convolutions),
            "shares_by": self.layers.source,
            "layers": [asdict(row) for row in self.rows],
            "record": None if self.record is None else self.record.to_json(),
        }


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Look into an engine or an ONNX file.

    An engine is opened where a GPU and its TensorRT are at hand, after its digest was compared with
    its record's; elsewhere its record speaks, and `unopened` says why.

    Raises:
        InvalidBundle: neither kind, missing, or an engine without a record.
        DigestMismatch: the engine is not the file that its record describes.
        UnsafeModel: the ONNX file holds what no bundle may.
    """
    file = Path(path)
    if not file.exists():
        raise InvalidBundle(
            f"there is no file {file}",
            expected=f"NAME{ENGINE_SUFFIX} or NAME{_ONNX_SUFFIX}",
            fix="check the path; engines lie in BUNDLE/engines/",
        )
    if file.suffix == _ONNX_SUFFIX:
        return _inspect_onnx(file)
    if file.suffix == ENGINE_SUFFIX:
        return _inspect_engine(file)
    raise InvalidBundle(
        f"{file} is neither an engine nor an ONNX file",
        found=file.suffix or "no suffix",
        expected=f"NAME{ENGINE_SUFFIX} or NAME{_ONNX_SUFFIX}",
        fix="of a bundle, `ctedge inspect BUNDLE` shows what is in it",
    )


def _inspect_engine(path: Path) -> Inspection:
    record = read_record(path)
    plan = read_engine(path, record)
    text, unopened = "", _why_closed(record)
    if unopened is None:
        text, unopened = _open(record, plan)
    rows = inspector_rows(text)
    if unopened is None and not rows:
        unopened = "the inspector gives no layers"
    listed = record.layers.listed
    return Inspection(
        path=path,
        source="inspector" if rows else "identity record",
        unopened=unopened,
        rows=rows or tuple(LayerRow(name=n, kind=k, precision=p) for n, k, p in listed),
        layers=record.layers,
        memory={"engine": record.size_bytes} | _weights(rows),
        record=record,
    )


def _why_closed(record: EngineRecord) -> str | None:
    """Why this engine cannot be opened here; asked before TensorRT is, which would crash."""
    if find_device() is None:
        return why_no_device()
    here = installed_versions().get(record.runtime)
    if here != record.runtime_version:
        return f"{record.runtime} {record.runtime_version} is needed; here is {here or 'none'}"
    return None


def _open(record: EngineRecord, plan: bytes) -> tuple[str, str | None]:
    from ctedge.runtimes.tensorrt_engine import TensorrtEngine
    from ctedge_export.engine.flavours import load_flavour

    try:
        opened = TensorrtEngine(load_flavour(record.runtime).trt, plan, record)
    except CTEdgeError as error:
        return "", error.in_one_line()
    try:
        return opened.information(), None
    finally:
        opened.close()


def _inspect_onnx(path: Path) -> Inspection:
    data = read_file(path.parent, path.name, most=MAX_ENGINE_BYTES)
    model_facts = inspect_model(data)  # refuses what is not plain arithmetic, before onnx parses
    rows = _onnx_rows(data)
    working = [
        (row.name, "CONVOLUTION" if is_convolution(row.kind) else row.kind, row.precision)
        for row in rows
        if row.precision
    ]
    return Inspection(
        path=path,
        source="ONNX file",
        rows=rows,
        layers=shares_of(working, source="ONNX file"),
        memory={"file": len(data)} | _weights(rows),
        facts={"opset": model_facts.opset, "ir_version": model_facts.ir_version},
    )


def _onnx_rows(data: bytes) -> tuple[LayerRow, ...]:
    onnx = require("onnx", extra="export", purpose="looking into an ONNX file")
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    graph = model.graph
    kinds = onnx.TensorProto.DataType
    names = {1: "fp32", 10: "fp16", 16: "bf16", 3: "int8", 17: "fp8", 18: "fp8"}
    types = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    sizes = {t.name: onnx.numpy_helper.to_array(t).nbytes for t in graph.initializer}
    eight_bit = {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and names.get(types.get(node.input[0], 0)) == "int8"
    }
    rows = []
    for node in graph.node:
        product = node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        tensor = node.input[0] if product else node.output[0]
        kind = names.get(types.get(tensor, 0), "")
        rows.append(
            LayerRow(
                name=node.name or node.output[0],
                kind=node.op_type,
                precision="int8" if product and tensor in eight_bit else kind,
                format=kinds.Name(types.get(node.output[0], 0)).lower(),
                weight_bytes=sum(sizes.get(name, 0) for name in node.input) or None,
            )
        )
    return tuple(rows)


def _weights(rows: tuple[LayerRow, ...]) -> dict[str, int]:
    total = sum(row.weight_bytes or 0 for row in rows)
    return {"weights": total} if total else {}
