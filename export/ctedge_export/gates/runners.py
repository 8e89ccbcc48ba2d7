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
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctedge.bundle.variants import FP32
from ctedge.extras import version_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_runtime import COMPUTES_IN, OpenVinoRuntime, has_native_bf16
from ctedge_export.precision.rounded import write_out_roundings

Batch = npt.NDArray[np.float32]


class Run(Protocol):
    """Runs a batch."""

    def __call__(self, batch: Batch, *, outputs: Sequence[str] | None = None) -> dict[str, Batch]:
        """As `ctedge.runtimes.Runtime.run`."""
        ...


HALF_PRECISIONS = ("fp16", "bf16")


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
    if precision in COMPUTES_IN and importlib.util.find_spec("openvino"):
        found += _openvino(onnx_bytes, precision)
    return tuple(found)


def _openvino(onnx_bytes: bytes, precision: str) -> list[Runner]:
    if precision == "bf16" and not has_native_bf16():
        return []
    runtime = OpenVinoRuntime(
        onnx_bytes, name=f"the {precision} model", device="cpu", precision=precision
    )
    version = f"openvino {_version('openvino')}, CPU, {COMPUTES_IN[precision]}"
    return [Runner(name=runtime.name, version=version, run=runtime.run)]


def _version(distribution: str) -> str:
    return version_of(distribution) or version_of(f"{distribution}-gpu") or "of unknown version"
