"""What runs a file in a gate, each under a name of its own: runtime, device, precision.

Half precision on the CPU. ONNX Runtime has no half-precision convolution there: it computes in
float32 and drops the roundings between the operators, so an overflow would not show. The gate runs
the same graph with every rounding written out (`ctedge_export.precision.rounded`); the name ends in
"-rounded". OpenVINO computes in bfloat16 where the CPU does (AVX512-BF16, AMX).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ctedge.bundle.variants import FP32
from ctedge.extras import version_of
from ctedge.onnx_file.parts import answers_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime, usable_cpus
from ctedge.runtimes.openvino_runtime import has_native_bf16, import_openvino
from ctedge_export.precision.rounded import write_out_roundings

Batch = npt.NDArray[np.float32]


class Run(Protocol):
    """Runs a batch."""

    def __call__(self, batch: Batch, *, outputs: Sequence[str] | None = None) -> dict[str, Batch]:
        """As `ctedge.runtimes.Runtime.run`."""
        ...


HALF_PRECISIONS = ("fp16", "bf16")

#: What OpenVINO computes in, by the precision of the file; fp16 it would widen to float32.
_OPENVINO = {FP32: "f32", "bf16": "bf16", "int8": "f32"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Runner:
    """A file loaded into a runtime; a `ctedge.runtimes.Runtime`.

    Attributes:
        name: runtime, device and precision.
        version: of the runtime, and how it ran.
        run: as `ctedge.runtimes.Runtime.run`.
    """

    name: str
    version: str
    run: Run

    def close(self) -> None:
        """Nothing to free before it is forgotten."""


def onnx_runner(onnx_bytes: bytes, precision: str = FP32) -> Runner:
    """The file on ONNX Runtime's CPU provider; it decides whether a file may leave."""
    name = f"onnxruntime-cpu-{precision}"
    version = f"onnxruntime {_version('onnxruntime')}, CPUExecutionProvider"
    if precision in HALF_PRECISIONS:
        name += "-rounded"
        version += ", float32 sums, each operator's result rounded"
    session = OnnxRuntime(runnable(onnx_bytes, precision), name=f"the {precision} model")
    return Runner(name=name, version=version, run=session.run)


def runnable(onnx_bytes: bytes, precision: str) -> bytes:
    """What ONNX Runtime's CPU provider is given: of half precision, with its roundings."""
    return write_out_roundings(onnx_bytes) if precision in HALF_PRECISIONS else onnx_bytes


def runners(onnx_bytes: bytes, precision: str = FP32) -> tuple[Runner, ...]:
    """Every runtime here that runs the file in its precision, ONNX Runtime first."""
    found = [onnx_runner(onnx_bytes, precision)]
    if precision in _OPENVINO and importlib.util.find_spec("openvino"):
        found += _openvino(onnx_bytes, precision)
    return tuple(found)


def _openvino(onnx_bytes: bytes, precision: str) -> list[Runner]:
    if precision == "bf16" and not has_native_bf16():
        return []
    core = import_openvino().Core()
    options = {
        "INFERENCE_PRECISION_HINT": _OPENVINO[precision],
        "INFERENCE_NUM_THREADS": usable_cpus(),
    }
    compiled = core.compile_model(core.read_model(answers_of(onnx_bytes)), "CPU", options)

    def run(batch: Batch, *, outputs: Sequence[str] | None = None) -> dict[str, Any]:
        answers = compiled([batch])
        named = {port.get_any_name(): np.asarray(answers[port]) for port in compiled.outputs}
        return {name: named[name] for name in (named if outputs is None else outputs)}

    version = f"openvino {_version('openvino')}, CPU, {_OPENVINO[precision]}"
    return [Runner(name=f"openvino-cpu-{precision}", version=version, run=run)]


def _version(distribution: str) -> str:
    return version_of(distribution) or version_of(f"{distribution}-gpu") or "of unknown version"
