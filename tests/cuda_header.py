"""The driver's prototypes as cuda.h (CUDA 13) has them, written once more to hold ours against;
and functions that put their arguments through them, whatever their caller declared.
"""

# ruff: noqa: N802 (the names are the driver's)
from __future__ import annotations

import ctypes
from typing import Any

I, U, Z, H, A = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint64  # noqa: E741
P = ctypes.POINTER

CUDA_H: dict[str, tuple[Any, ...]] = {
    "cuInit": (U,),
    "cuDriverGetVersion": (P(I),),
    "cuDeviceGetCount": (P(I),),
    "cuDeviceGetName": (H, I, I),
    "cuDeviceGetAttribute": (P(I), I, I),
    "cuDeviceTotalMem_v2": (P(Z), I),
    "cuGetErrorName": (I, P(ctypes.c_char_p)),
    "cuDeviceGet": (P(I), I),
    "cuDevicePrimaryCtxRetain": (P(H), I),
    "cuDevicePrimaryCtxRelease_v2": (I,),
    "cuCtxPushCurrent_v2": (H,),
    "cuCtxPopCurrent_v2": (P(H),),
    "cuStreamCreate": (P(H), U),
    "cuStreamSynchronize": (H,),
    "cuStreamDestroy_v2": (H,),
    "cuMemAlloc_v2": (P(A), Z),
    "cuMemFree_v2": (A,),
    "cuMemHostAlloc": (P(H), Z, U),
    "cuMemFreeHost": (H,),
    "cuMemcpyHtoDAsync_v2": (A, H, Z, H),
    "cuMemcpyDtoHAsync_v2": (H, A, Z, H),
    "cuStreamBeginCapture_v2": (H, I),
    "cuStreamEndCapture": (H, P(H)),
    "cuGraphInstantiateWithFlags": (P(H), H, ctypes.c_ulonglong),
    "cuGraphLaunch": (H, H),
    "cuGraphExecDestroy": (H,),
    "cuGraphDestroy": (H,),
}

ERRORS = {2: "OUT_OF_MEMORY", 3: "NOT_INITIALIZED", 46: "DEVICE_UNAVAILABLE", 100: "NO_DEVICE"}
ERRORS |= {214: "ECC_UNCORRECTABLE", 700: "ILLEGAL_ADDRESS", 719: "LAUNCH_FAILED"}
ERRORS |= {801: "NOT_SUPPORTED", 900: "STREAM_CAPTURE_UNSUPPORTED"}
ERRORS |= {901: "STREAM_CAPTURE_INVALIDATED", 908: "STREAM_CAPTURE_WRONG_THREAD"}
PASSING = {2, 801, 900, 901, 908}
ANYWHERE = {name for name in CUDA_H if name.startswith(("cuInit", "cuD", "cuGetE", "cuCtx"))}


class Function:
    """One call: arguments go through its C prototype, whatever the caller declared."""

    def __init__(self, driver: Any, name: str) -> None:
        self._driver, self._name = driver, name
        self.restype: Any = ctypes.c_int

    @property
    def argtypes(self) -> Any:
        return CUDA_H[self._name]

    @argtypes.setter
    def argtypes(self, declared: Any) -> None:
        if tuple(declared) != CUDA_H[self._name]:
            raise self._driver.wrong(f"{self._name} is declared as {declared}")

    def __call__(self, *arguments: Any) -> int:
        raised: list[BaseException] = []

        def within(*converted: Any) -> int:
            try:
                return self._driver.answer(self._name, converted)
            except BaseException as error:  # noqa: BLE001 (ctypes would only print it)
                raised.append(error)
                return 999

        code: int = ctypes.CFUNCTYPE(ctypes.c_int, *CUDA_H[self._name])(within)(*arguments)
        if raised:
            raise raised[0]
        return code


class FakeNvml:
    """What `ctypes.CDLL("libnvidia-ml.so.1")` gives."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        text.value = b"580.65"
        return 0
