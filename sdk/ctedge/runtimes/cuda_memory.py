"""GPU memory, pinned memory, streams and graphs: the NVIDIA driver's own calls, through ctypes.

Not `cuda-bindings`: these calls have had one binary interface since CUDA 11.4, the driver is
there wherever a GPU works, and a Jetson's Python has no package of the bindings to match its
driver. Each call is declared, and each answer checked.

Source: docs.nvidia.com/cuda/cuda-driver-api (prototypes; CUresult).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes.cuda_driver import CUDA_LIBRARY, require_device

_Int, _UInt, _Size = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t
_Handle, _Address = ctypes.c_void_p, ctypes.c_uint64
_ToInt, _ToHandle = ctypes.POINTER(_Int), ctypes.POINTER(_Handle)

#: Arguments of each call; all return a CUresult.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuGetErrorName": (_Int, ctypes.POINTER(ctypes.c_char_p)),
    "cuDeviceGet": (_ToInt, _Int),
    "cuDevicePrimaryCtxRetain": (_ToHandle, _Int),
    "cuDevicePrimaryCtxRelease_v2": (_Int,),
    "cuCtxPushCurrent_v2": (_Handle,),
    "cuCtxPopCurrent_v2": (_ToHandle,),
    "cuStreamCreate": (_ToHandle, _UInt),
    "cuStreamSynchronize": (_Handle,),
    "cuStreamDestroy_v2": (_Handle,),
    "cuMemAlloc_v2": (ctypes.POINTER(_Address), _Size),
    "cuMemFree_v2": (_Address,),
    "cuMemHostAlloc": (_ToHandle, _Size, _UInt),
    "cuMemFreeHost": (_Handle,),
    "cuMemHostRegister_v2": (_Handle, _Size, _UInt),
    "cuMemHostUnregister": (_Handle,),
    "cuMemcpyHtoDAsync_v2": (_Address, _Handle, _Size, _Handle),
    "cuMemcpyDtoHAsync_v2": (_Handle, _Address, _Size, _Handle),
    "cuStreamBeginCapture_v2": (_Handle, _Int),
    "cuStreamEndCapture": (_Handle, _ToHandle),
    "cuGraphInstantiateWithFlags": (_ToHandle, _Handle, ctypes.c_ulonglong),
    "cuGraphLaunch": (_Handle, _Handle),
    "cuGraphExecDestroy": (_Handle,),
    "cuGraphDestroy": (_Handle,),
}

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: no waiting for the legacy default stream

#: CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads allocate meanwhile is no matter.
_THREAD_LOCAL = 1

OUT_OF_MEMORY = 2

#: After these the GPU goes on: no memory, too large a launch, and what a capture may not hold.
#: After any other the context is lost, or nobody knows: nothing more is asked of it.
PASSING = {OUT_OF_MEMORY, 701, 800, 801, *range(900, 911)}


class CudaFailure(Exception):
    """A driver call that did not succeed. The runtime makes one of our errors of it.

    Attributes:
        name: of its CUresult, "CUDA_ERROR_OUT_OF_MEMORY".
        final: nothing more can be asked of this GPU context.
    """

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{name} ({call})")
        self.code, self.name = code, name

    @property
    def final(self) -> bool:
        return self.code not in PASSING

    @property
    def fix(self) -> str:
        """What the user can do."""
        if self.code == OUT_OF_MEMORY:
            return "free GPU memory (nvidia-smi shows who has it), or use smaller batches"
        if not self.final:
            return "free GPU memory, or ask for the device cpu"
        return (
            "load the model again; if that fails as well, start the process again, and see with"
            " nvidia-smi whether the GPU is still there"
        )


class Cuda:
    """The first GPU's primary context, which TensorRT uses as well, and the calls into it.

    What is made for an owner is given back when the owner's `ExitStack` closes.

    Args:
        purpose: what it is needed for, as in "running a TensorRT engine".

    Raises:
        RuntimeUnavailable: no driver, no GPU, or a driver older than CUDA 11.4.
        CudaFailure: the GPU cannot be had.
    """

    def __init__(self, purpose: str) -> None:
        self.device = require_device(purpose)
        self._library = _declared(ctypes.CDLL(CUDA_LIBRARY))
        self._handle, context = ctypes.c_int(), ctypes.c_void_p()
        self("cuDeviceGet", ctypes.byref(self._handle), 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._handle)
        self._context: int | None = context.value

    def __call__(self, name: str, *arguments: object) -> None:
        """Call the driver; anything but success is a `CudaFailure`."""
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            known = text.value or f"CUresult {code}".encode()
            raise CudaFailure(name, code, known.decode("ascii", "replace"))

    def enter(self) -> None:
        """Make this the calling thread's context; what it had comes back with `leave`."""
        self("cuCtxPushCurrent_v2", self._context)

    def leave(self) -> None:
        self("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Every other call is made inside of this."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def stream(self, owner: ExitStack) -> int:
        """A stream; its handle."""
        stream = ctypes.c_void_p()
        self("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        owner.callback(self, "cuStreamDestroy_v2", stream.value)
        return stream.value or 0

    def allocate(self, size_bytes: int, owner: ExitStack) -> int:
        """Memory of the GPU; its address."""
        pointer = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(pointer), size_bytes)
        owner.callback(self, "cuMemFree_v2", pointer.value)
        return pointer.value

    def pinned(self, count: int, dtype: npt.DTypeLike, owner: ExitStack) -> npt.NDArray[Any]:
        """A flat array in memory that the GPU copies from and to by itself.

        It ends with its owner: copy out of it what is to be kept.
        """
        pointer, size = ctypes.c_void_p(), count * np.dtype(dtype).itemsize
        self("cuMemHostAlloc", ctypes.byref(pointer), size, 0)
        owner.callback(self, "cuMemFreeHost", pointer.value)
        held = (ctypes.c_ubyte * size).from_address(pointer.value or 0)
        return np.frombuffer(memoryview(held), np.dtype(dtype))

    def lock(self, array: npt.NDArray[Any], owner: ExitStack) -> None:
        """Let the GPU copy from and to an array's own memory by itself, until its owner ends."""
        self("cuMemHostRegister_v2", array.ctypes.data, array.nbytes, 0)
        owner.callback(self, "cuMemHostUnregister", array.ctypes.data)

    def upload(self, address: int, array: npt.NDArray[Any], stream: int) -> None:
        """Copy a contiguous array to the GPU, in the stream's order."""
        self("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def download(self, array: npt.NDArray[Any], address: int, stream: int) -> None:
        """Copy from the GPU into a contiguous array, in the stream's order."""
        self("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def wait(self, stream: int) -> None:
        """Until the stream has done everything."""
        self("cuStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """From here to `end_capture` the stream's work is written down, and not done."""
        self("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int, owner: ExitStack) -> int:
        """What was written down, to be launched at once; its handle."""
        graph, runnable = ctypes.c_void_p(), ctypes.c_void_p()
        self("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            self("cuGraphInstantiateWithFlags", ctypes.byref(runnable), graph, 0)
            owner.callback(self, "cuGraphExecDestroy", runnable.value)
        finally:
            self("cuGraphDestroy", graph)
        return runnable.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Do what a graph holds, in the stream's order."""
        self("cuGraphLaunch", graph, stream)

    def close(self) -> None:
        """Give the context back; calling it twice is harmless."""
        if self._context is not None:
            self._context = None
            self("cuDevicePrimaryCtxRelease_v2", self._handle)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    for name, arguments in PROTOTYPES.items():
        function = getattr(library, name, None)
        if function is None:
            raise RuntimeUnavailable(
                "the NVIDIA driver is too old to run TensorRT",
                found=f"it has no {name}",
                expected="a driver for CUDA 11.4 or newer",
                fix="install a newer driver, or go on with the device cpu",
            )
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library
