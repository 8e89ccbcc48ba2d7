"""The NVIDIA driver and its GPUs, asked through ctypes: no package, and no crash without one.

TensorRT wraps a null pointer where no driver is, and dies of it later, so this is asked first.

Source: docs.nvidia.com/cuda/cuda-driver-api (cuInit, cuDeviceGet...) and /deploy/nvml-api.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from ctedge.errors import RuntimeUnavailable

CUDA_LIBRARY = "libcuda.so.1"
_NVML_LIBRARY = "libnvidia-ml.so.1"

# CUdevice_attribute
_CAPABILITY_MAJOR = 75
_CAPABILITY_MINOR = 76

_TEXT_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class CudaDevice:
    """The first GPU of a machine, and what drives it.

    Attributes:
        gpu: its name, "NVIDIA RTX A4000".
        compute_capability: "8.6".
        memory_bytes: of the GPU.
        driver: the driver's version, "580.65.06"; None where the driver does not say (Jetson).
        cuda: the newest CUDA that the driver serves, "13.0".
    """

    gpu: str
    compute_capability: str
    memory_bytes: int
    driver: str | None
    cuda: str


def find_device() -> CudaDevice | None:
    """The first GPU, or None where there is no driver or no GPU; never raises."""
    try:
        library = ctypes.CDLL(CUDA_LIBRARY)
        return _first_device(library)
    except (OSError, AttributeError, _NoAnswerError):
        return None


def require_device(purpose: str) -> CudaDevice:
    """The first GPU.

    Args:
        purpose: what it is needed for, as in "running a TensorRT engine".

    Raises:
        RuntimeUnavailable: no driver, or no GPU.
    """
    device = find_device()
    if device is None:
        raise no_device(
            f"{purpose} needs an NVIDIA GPU and its driver",
            fix="install the driver, or go on with the device cpu",
        )
    return device


def no_device(what: str | None = None, *, fix: str) -> RuntimeUnavailable:
    """The refusal where there is no GPU.

    Args:
        what: what cannot be without one; None says only what stands in the way.
        fix: what to do then.
    """
    return RuntimeUnavailable(
        why_no_device() if what is None else what,
        found=None if what is None else why_no_device(),
        expected="a driver that sees a GPU (nvidia-smi lists it)",
        fix=fix,
    )


def why_no_device() -> str:
    """What stands in the way of a GPU: no driver, or a driver that sees none."""
    try:
        library = ctypes.CDLL(CUDA_LIBRARY)
    except OSError as error:
        return f"no NVIDIA driver ({error})"
    try:
        _first_device(library)
    except (AttributeError, _NoAnswerError) as error:
        return f"the NVIDIA driver answers {error}"
    return "a GPU"


class _NoAnswerError(Exception):
    """A driver call that did not succeed."""


def _first_device(cuda: ctypes.CDLL) -> CudaDevice:
    def ask(name: str, *arguments: object) -> None:
        code = getattr(cuda, name)(*arguments)
        if code:
            raise _NoAnswerError(f"{name}: CUresult {code}")

    ask("cuInit", ctypes.c_uint(0))
    version, count, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    ask("cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise _NoAnswerError("cuDeviceGetCount: no GPU")
    ask("cuDriverGetVersion", ctypes.byref(version))
    ask("cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(_TEXT_BYTES)
    ask("cuDeviceGetName", name, _TEXT_BYTES, device)
    major, minor, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    ask("cuDeviceGetAttribute", ctypes.byref(major), _CAPABILITY_MAJOR, device)
    ask("cuDeviceGetAttribute", ctypes.byref(minor), _CAPABILITY_MINOR, device)
    ask("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return CudaDevice(
        gpu=name.value.decode("ascii", "replace"),
        compute_capability=f"{major.value}.{minor.value}",
        memory_bytes=memory.value,
        driver=_driver_version(),
        cuda=f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _driver_version() -> str | None:
    """The version that nvidia-smi shows."""
    try:
        nvml = ctypes.CDLL(_NVML_LIBRARY)
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        if nvml.nvmlInit_v2():
            return None
        answered = nvml.nvmlSystemGetDriverVersion(text, ctypes.c_uint(_TEXT_BYTES)) == 0
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return None
    return text.value.decode("ascii", "replace") if answered else None
