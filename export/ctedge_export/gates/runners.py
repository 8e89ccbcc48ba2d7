"""What runs a file in a gate, each under a name of its own: runtime, device, precision.

Half precision on the CPU. ONNX Runtime has no half-precision convolution there: it computes in
float32 and drops the roundings between the operators, so an overflow would not show. The gate runs
the same graph with every rounding written out (`ctedge_export.precision.rounded`); the name ends in
"-rounded". OpenVINO computes in bfloat16 where the CPU does (AVX512-BF16, AMX).

Besides, a file is gated wherever `ctedge.runtimes.choice` might take it: on an NVIDIA or an Intel
GPU where this machine has one that opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctedge.bundle.variants import FP32
from ctedge.errors import RuntimeUnavailable
from ctedge.extras import version_of
from ctedge.runtimes.candidate import ORDER, Candidate
from ctedge.runtimes.cuda_driver import require_device
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_runtime import COMPUTES_IN, OpenVinoRuntime
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
    session = OnnxRuntime(
        runnable(onnx_bytes, precision), name=f"the {precision} model", precision=precision
    )
    return Runner(name=name, version=version, run=session.run)


def runnable(onnx_bytes: bytes, precision: str) -> bytes:
    """What ONNX Runtime's CPU provider is given: of half precision, with its roundings."""
    return write_out_roundings(onnx_bytes) if precision in HALF_PRECISIONS else onnx_bytes


def runners(
    onnx_bytes: bytes, precision: str = FP32, *, say: Callable[[str], None] | None = None
) -> tuple[Runner, ...]:
    """Every runtime here that runs the file in its precision, ONNX Runtime on the CPU first.

    Args:
        onnx_bytes: the file.
        precision: of the file.
        say: told which of those that may be chosen elsewhere cannot be had here, and why.
    """
    found = [onnx_runner(onnx_bytes, precision)]
    for candidate in ORDER:
        first = candidate.runtime == "onnxruntime" and candidate.device == "cpu"
        if candidate.precision != precision or first:
            continue
        try:
            found.append(_runner(candidate, onnx_bytes, precision))
        except RuntimeUnavailable as error:
            if say is not None:
                say(f"{candidate.name} is not gated here: {error.in_one_line()}")
    return tuple(found)


def _runner(candidate: Candidate, onnx_bytes: bytes, precision: str) -> Runner:
    """The file on a candidate and nothing else."""
    name, device = f"the {precision} model", candidate.device
    runtime: OnnxRuntime | OpenVinoRuntime
    if candidate.runtime == "openvino":
        runtime = OpenVinoRuntime(onnx_bytes, name=name, device=device, precision=precision)
        version = f"openvino {_version('openvino')}, {device.upper()}, {COMPUTES_IN[precision]}"
    else:
        gpu = require_device(f"a gate on {candidate.name}").gpu
        runtime = OnnxRuntime(onnx_bytes, name=name, device=device, precision=precision)
        version = f"onnxruntime {_version('onnxruntime')}, CUDAExecutionProvider, {gpu}"
    return Runner(name=runtime.name, version=version, run=runtime.run)


def _version(distribution: str) -> str:
    return version_of(distribution) or version_of(f"{distribution}-gpu") or "of unknown version"
