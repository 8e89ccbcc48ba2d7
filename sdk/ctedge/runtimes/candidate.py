"""What might run a bundle: a runtime, a device and a precision; all there are, and which fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ctedge.bundle.variants import FP32, PRECISIONS
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes import Device, RuntimeName


@dataclass(frozen=True)
class Candidate:
    """What might run a bundle; `precision` None is whatever the bundle's engine has."""

    runtime: RuntimeName
    device: Device
    precision: str | None = None

    @property
    def name(self) -> str:
        """As "openvino-cpu-int8"; the key of its gates in the manifest."""
        return "-".join(part for part in (self.runtime, self.device, self.precision) if part)


#: Fastest first; of the CPU as measured (docs/speed.md), of GPUs as expected: nobody has measured
#: one. ONNX Runtime's int8 is slower than its fp32 and comes last; an Intel GPU ("gpu") has been
#: run by nobody, and is taken only where it is named.
ORDER = (
    Candidate("tensorrt", "cuda"),
    Candidate("tensorrt-rtx", "cuda"),
    Candidate("onnxruntime", "cuda", "fp16"),
    Candidate("onnxruntime", "cuda", FP32),
    Candidate("openvino", "gpu", "int8"),
    Candidate("openvino", "gpu", FP32),
    Candidate("openvino", "cpu", "int8"),
    Candidate("openvino", "cpu", "bf16"),
    Candidate("openvino", "cpu", FP32),
    Candidate("onnxruntime", "cpu", FP32),
    Candidate("onnxruntime", "cpu", "int8"),
)

_AUTO: tuple[Device, ...] = ("cpu", "cuda")

#: For whoever asks for the device "gpu", which is one of Intel's here.
NVIDIA_IS_CUDA = "an NVIDIA GPU is the device cuda"


def fitting(
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
    *,
    every: bool = False,
) -> tuple[Candidate, ...]:
    """The candidates that fit what is named, fastest first.

    Args:
        device, runtime, precision: as `ctedge.runtimes.open_runtime` takes them.
        every: "auto" means every device, also the one that it never takes.

    Raises:
        RuntimeUnavailable: nothing of that name, or nothing fits all of them.
    """
    for what, named, known in (
        ("device", device, get_args(Device)),
        ("runtime", runtime, get_args(RuntimeName)),
        ("precision", precision, (FP32, *PRECISIONS)),
    ):
        if named is not None and named not in known:
            raise RuntimeUnavailable(
                f"unknown {what}",
                found=named,
                expected=" or ".join(known),
                fix=f"name one of them, or leave {what} out to take what works here",
            )
    devices = _devices(device, every=every)
    wanted = tuple(
        candidate
        for candidate in ORDER
        if candidate.device in devices
        and runtime in (None, candidate.runtime)
        and (precision is None or candidate.precision in (None, precision))
    )
    if not wanted:
        raise RuntimeUnavailable(
            "no runtime fits what is named",
            found=", ".join(part for part in (runtime, device, precision) if part),
            expected="one of " + ", ".join(candidate.name for candidate in ORDER),
            fix="leave out what need not be so",
        )
    return wanted


def _devices(device: Device | None, *, every: bool) -> tuple[Device, ...]:
    if device not in (None, "auto"):
        return (device,)
    return get_args(Device) if every else _AUTO
