"""Whether the gates of a precision passed on a candidate, and what would run them."""

from __future__ import annotations

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes.candidate import Candidate
from ctedge.runtimes.cpu_flags import LEAVE_PRECISION_OUT, require_native

#: What a gate needs to run on a candidate, besides the extra `export`.
_NEEDS = {
    ("onnxruntime", "cpu"): "onnxruntime",
    ("onnxruntime", "cuda"): "onnxruntime-gpu, which takes the place of onnxruntime",
    ("openvino", "cpu"): "openvino",
    ("openvino", "gpu"): "openvino and Intel's GPU driver",
}


def require_gate(bundle: ModelBundle, candidate: Candidate) -> None:
    """Refuse a candidate whose precision was not gated on it; FP32 and engines are gated elsewhere.

    Raises:
        RuntimeUnavailable: the gates never ran on it, did not pass, or hold for other CPUs.
    """
    if candidate.precision in (None, FP32):
        return
    variant = bundle.variant(candidate.precision)
    if (candidate.runtime, candidate.device) == ("openvino", "cpu"):
        require_native(candidate.precision)  # where it is not, an export would not gate it either
    if variant.runtimes.get(candidate.name):
        return
    ran = candidate.name in variant.runtimes
    raise RuntimeUnavailable(
        f"the gates of {candidate.precision} {'did not pass' if ran else 'never ran'}"
        f" on {candidate.name}",
        found=f"passed on {', '.join(name for name, held in variant.runtimes.items() if held)}",
        fix=LEAVE_PRECISION_OUT if ran else _gating(bundle, candidate),
    )


def _gating(bundle: ModelBundle, candidate: Candidate) -> str:
    """What runs the gates of a candidate: they run where it does, so on a machine like this."""
    return (
        f"`{bundle.line_that_adds(candidate.precision or FP32)} --overwrite` on this machine,"
        f" with {_NEEDS[candidate.runtime, candidate.device]}"
    )
