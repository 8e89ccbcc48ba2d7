"""An engine on the GPU: opened after its identity was checked, run with the driver's own calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ctedge.cuda_driver import require_device
from ctedge.engine_record import EngineRecord
from ctedge.errors import InferenceFailed, InvalidBundle, RuntimeUnavailable
from ctedge.manifest import EXPLANATION
from ctedge_export.engine.flavours import Flavour
from ctedge_export.engine.log import captured_log

_NON_BLOCKING = 1


class Cuda:
    """The few driver calls that running takes: memory, copies, one stream.

    Raises:
        RuntimeUnavailable: no driver, no GPU, or a call failed.
    """

    def __init__(self) -> None:
        self.device = require_device("running an engine")
        self._library = ctypes.CDLL("libcuda.so.1")
        self._handle, self._context = ctypes.c_int(), ctypes.c_void_p()
        self.stream = ctypes.c_void_p()
        self._memory: list[ctypes.c_uint64] = []
        self("cuDeviceGet", ctypes.byref(self._handle), 0)
        self("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._handle)
        self("cuCtxSetCurrent", self._context)
        self("cuStreamCreate", ctypes.byref(self.stream), _NON_BLOCKING)

    def __call__(self, name: str, *arguments: object) -> None:
        """Call the driver; anything but success is an error."""
        code = getattr(self._library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(text))
            raise RuntimeUnavailable(
                f"the NVIDIA driver failed in {name}",
                found=(text.value or str(code).encode()).decode("ascii", "replace"),
                fix="free GPU memory (nvidia-smi shows who has it), or restart the driver",
            )

    def allocate(self, size_bytes: int) -> int:
        """Memory of the GPU; its address. `close` frees it."""
        pointer = ctypes.c_uint64()
        self("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size_bytes))
        self._memory.append(pointer)
        return pointer.value

    def upload(self, address: int, array: npt.NDArray[np.float32]) -> None:
        """Copy a contiguous array to the GPU, in the stream's order."""
        source = ctypes.c_void_p(array.ctypes.data)
        size = ctypes.c_size_t(array.nbytes)
        self("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, size, self.stream)

    def download(self, array: npt.NDArray[np.float32], address: int) -> None:
        """Copy from the GPU into a contiguous array, in the stream's order."""
        target = ctypes.c_void_p(array.ctypes.data)
        size = ctypes.c_size_t(array.nbytes)
        self("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), size, self.stream)

    def wait(self) -> None:
        """Until the stream has done everything."""
        self("cuStreamSynchronize", self.stream)

    def close(self) -> None:
        """Free memory, stream and context; calling it twice is harmless."""
        while self._memory:
            self("cuMemFree_v2", self._memory.pop())
        if self.stream:
            self("cuStreamDestroy_v2", self.stream)
            self.stream = ctypes.c_void_p()
            self("cuDevicePrimaryCtxRelease_v2", self._handle)


class DeviceEngine:
    """An opened engine. The caller has checked digest and identity.

    Raises:
        RuntimeUnavailable: no GPU.
        InvalidBundle: TensorRT does not open it.
    """

    def __init__(self, flavour: Flavour, plan: bytes, record: EngineRecord) -> None:
        self.cuda = Cuda()  # first: without a driver TensorRT's Runtime is a null pointer
        trt = flavour.trt
        self._record, self._trt, self._log = record, trt, captured_log(trt)
        self._deserialiser = deserialiser = trt.Runtime(self._log)
        self._engine = engine = deserialiser.deserialize_cuda_engine(plan)
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            self.cuda.close()
            raise InvalidBundle(
                "TensorRT does not open the engine",
                found="; ".join(text for _, text in self._log.lines[-3:]) or "no reason given",
                fix="build it again with `ctedge export build-engine BUNDLE --overwrite`",
            )
        self._context = context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kind = trt.TensorIOMode.INPUT
        self._input = next(name for name in names if engine.get_tensor_mode(name) == kind)
        self._outputs = [name for name in names if name != self._input]
        self._sizes: dict[str, int] = {}
        self._addresses: dict[str, int] = {}

    @property
    def name(self) -> str:
        """Runtime, device and precision, for instance "tensorrt-cuda-fp16"."""
        return f"{self._record.runtime}-cuda-{self._record.precision}"

    def information(self) -> str:
        """The inspector's JSON: layers with precisions, formats, tactics."""
        trt, engine = self._trt, self._engine
        inspector = engine.create_engine_inspector()
        return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """As `ctedge.runtimes.Runtime.run`; large batches go in several runs."""
        most = self._record.max_batch
        parts = [self._run(batch[at : at + most]) for at in range(0, len(batch), most)]
        answers = [name for name in self._outputs if name != EXPLANATION]
        wanted = answers if outputs is None else outputs
        return {name: np.concatenate([part[name] for part in parts]) for name in wanted}

    def _run(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        context, batch = self._context, np.ascontiguousarray(batch, np.float32)
        context.set_input_shape(self._input, batch.shape)
        answers = {
            name: np.empty(tuple(context.get_tensor_shape(name)), np.float32)
            for name in self._outputs
        }
        for name, array in {self._input: batch, **answers}.items():
            context.set_tensor_address(name, self._address(name, array.nbytes))
        self.cuda.upload(self._addresses[self._input], batch)
        self.enqueue()
        for name, array in answers.items():
            self.cuda.download(array, self._addresses[name])
        self.cuda.wait()
        return answers

    def enqueue(self) -> None:
        """Run once more on what is already on the GPU; `cuda.wait` waits for it."""
        context = self._context
        if not context.execute_async_v3(self.cuda.stream.value):
            raise InferenceFailed(
                "TensorRT failed",
                found="; ".join(text for _, text in self._log.lines[-3:]),
                fix="free GPU memory, or use smaller batches",
            )

    def close(self) -> None:
        """Free the engine and its memory."""
        self._context = self._engine = None
        self.cuda.close()

    def _address(self, name: str, size_bytes: int) -> int:
        if self._sizes.get(name, 0) < size_bytes:
            self._addresses[name] = self.cuda.allocate(size_bytes)
            self._sizes[name] = size_bytes
        return self._addresses[name]
