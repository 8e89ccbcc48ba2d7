"""An opened TensorRT engine: what it says of itself, its contexts, and the answers it gives."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MAPS
from ctedge.engines.record import EngineRecord
from ctedge.errors import (
    CTEdgeError,
    EngineMismatch,
    InferenceFailed,
    InvalidBundle,
    RuntimeUnavailable,
)
from ctedge.interrupts import interrupts_deferred
from ctedge.lifetime import forget_frames, model_closed
from ctedge.runtimes.asked import require_known, require_shape
from ctedge.runtimes.cuda_memory import Cuda, CudaFailure
from ctedge.runtimes.pinned_inputs import PinnedInputs
from ctedge.runtimes.tensorrt_lane import Lane, Tensors, kept_log, last_words
from ctedge.runtimes.tensorrt_pool import Answer, LanePool

#: Of TensorRT's DataType: what numpy has as well, and an answer can be.
_DTYPES: dict[str, npt.DTypeLike] = {"FLOAT": np.float32, "HALF": np.float16}

_MEMORY = re.compile(r"out of ?memory|insufficient memory|bad_alloc|cudaError 2\b", re.IGNORECASE)
_OTHER = re.compile(r"not compatible with this version|version tag|incompatible device", re.I)

_BUILD_AGAIN = "build it again with `ctedge export build-engine BUNDLE --overwrite`"


class TensorrtEngine:
    """An opened engine; see `ctedge.runtimes.Runtime`.

    Args:
        trt: the Python module of its TensorRT.
        plan: the engine, whose digest and identity were checked.
        record: its identity record.

    Raises:
        RuntimeUnavailable: no GPU, or too little of its memory.
        EngineMismatch: TensorRT says that it was built for another version or GPU.
        InvalidBundle: TensorRT does not open it, or it is not what its record says.
    """

    _pool: LanePool | None = None

    def __init__(self, trt: Any, plan: bytes, record: EngineRecord) -> None:
        self._record, self._trt = record, trt
        self._log: Any = kept_log(trt)
        self._deserialiser: Any = None
        self._engine: Any = None
        try:
            with interrupts_deferred():  # else memory that was just given may be nobody's
                self._load(plan)
        except CudaFailure as failure:
            raise RuntimeUnavailable(
                "the GPU cannot take the engine", found=failure, fix=failure.fix
            ) from failure

    @property
    def name(self) -> str:
        """Runtime, device and precision, for instance "tensorrt-cuda-fp16"."""
        return f"{self._record.runtime}-cuda-{self._record.precision}"

    @property
    def maps(self) -> tuple[str, ...]:
        """Outputs of the engine that are maps, finest last; it calculates them with every run."""
        return tuple(name for name in MAPS if name in self._tensors.outputs)

    @property
    def uncaptured(self) -> str | None:
        """Why runs are not launched as one CUDA graph; None where they are, or were not tried."""
        return self._pool.uncaptured if self._pool else None

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """As `ctedge.runtimes.Runtime.run`; batches beyond the engine's largest go in parts.

        What `lend_input` gave, whole, is uploaded from where it is; all else is copied first.

        Raises:
            InferenceFailed: a shape or output that the engine does not have, the GPU failed or is
                lost, the model was closed, or this is a child of the process that loaded it.
        """
        tensors = self._tensors
        require_shape(batch.shape, tensors.shape)
        names = [name for name in tensors.outputs if name not in MAPS]
        names = names if outputs is None else list(outputs)
        require_known(names, tensors.outputs)
        most = tensors.max_batch
        parts = self.on_lane(
            lambda lane: [
                lane.run(batch[at : at + most], names) for at in range(0, len(batch), most)
            ]
        )
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def lend_input(self) -> npt.NDArray[Any] | None:
        """As `ctedge.runtimes.Lender.lend_input`; None also of a closed model, or of a lost GPU."""
        pool = self._pool
        return self._inputs.lend() if pool and pool.here and pool.lost is None else None

    def on_lane(self, work: Callable[[Lane], Answer]) -> Answer:
        """Do some work with an execution context of the calling thread alone, as `LanePool.run`."""
        if self._pool is None:
            raise model_closed()
        return self._pool.run(work)

    def information(self) -> str:
        """The inspector's JSON: layers with precisions, formats, tactics."""

        def inspected(_lane: Lane) -> str:
            trt, engine = self._trt, self._engine
            inspector = engine.create_engine_inspector()
            return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))

        return self.on_lane(inspected)

    def close(self) -> None:
        """Wait for the calls that run, then free the engine and its memory.

        In a child of the process that loaded it nothing is freed: the GPU is the parent's.
        """
        if self._pool is None or not self._pool.here:
            return
        failures = self._pool.close()
        with interrupts_deferred():  # else what is being freed may be forgotten
            failures += self._inputs.close()
            failures += self._forget()
        if failures and self._pool.lost is None:  # else it was said, and its memory is gone
            text = "; ".join(failures)
            warnings.warn(f"the GPU did not take all memory back: {text}", stacklevel=2)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be half gone
            self.close()

    def _load(self, plan: bytes) -> None:
        self._cuda = Cuda("running a TensorRT engine")
        try:
            with self._cuda.current():
                first = self._open(plan)
        except BaseException as error:
            forget_frames(error)
            self._forget()
            raise
        of_input = self._tensors.dtypes[self._tensors.input]
        self._inputs = PinnedInputs(self._cuda, self._tensors.shape, of_input)
        self._pool = LanePool(self._cuda, first, self._new_lane)

    def _open(self, plan: bytes) -> Lane:
        trt = self._trt
        try:
            self._deserialiser = deserialiser = trt.Runtime(self._log)
            if self._record.builder.get("version_compatible") is True:
                # Such an engine brings its own runtime; its digest and gate vouch for that, too.
                deserialiser.engine_host_code_allowed = True
            self._engine = deserialiser.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise self._unopened()
            self._tensors = self._checked_tensors()
            lane = self._new_lane()
        except (RuntimeError, TypeError) as error:  # pybind11 raises these of its own
            raise self._unopened(error) from error
        except InferenceFailed as error:
            raise self._unopened(error.what) from error
        if lane is None:
            raise self._unopened()
        return lane

    def _checked_tensors(self) -> Tensors:
        """What the engine itself says of its tensors, held against its record."""
        record, trt, engine = self._record, self._trt, self._engine
        names = [str(engine.get_tensor_name(index)) for index in range(engine.num_io_tensors)]
        kind = trt.TensorIOMode.INPUT
        inputs = [name for name in names if engine.get_tensor_mode(name) == kind]
        outputs = tuple(name for name in names if name not in inputs)
        types = {name: engine.get_tensor_dtype(name).name for name in names}
        shape = tuple(engine.get_tensor_shape(inputs[0]))[1:] if inputs else ()
        found = (inputs, shape, sorted(outputs))
        wanted = ([record.input_name], record.input_shape, sorted(record.outputs))
        if found != wanted or not set(types.values()) <= set(_DTYPES):
            raise InvalidBundle(
                "the engine is not what its record says",
                found=(*found, types),
                expected=(*wanted, "types " + " or ".join(_DTYPES)),
                fix=_BUILD_AGAIN,
            )
        return Tensors(
            input=record.input_name,
            shape=shape,
            outputs=outputs,
            dtypes={name: _DTYPES[kind] for name, kind in types.items()},
            max_batch=record.max_batch,
        )

    def _new_lane(self) -> Lane | None:
        """One more lane; None where TensorRT makes no further context."""
        trt, engine = self._trt, self._engine
        if hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            # Compiled before the first answer, not exchanged behind the caller's back later.
            running = engine.create_runtime_config()
            strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
            running.dynamic_shapes_kernel_specialization_strategy = strategy
            context = engine.create_execution_context(running)
        else:
            context = engine.create_execution_context()
        # Before TensorRT 10 contexts do not share the one profile: a second one has none.
        if context is None or context.active_optimization_profile < 0:
            return None
        return Lane(self._cuda, context, self._tensors, self._log)

    def _unopened(self, error: object = None) -> CTEdgeError:
        """The error that TensorRT's words mean."""
        said = last_words(self._log) if error is None else f"{error}; {last_words(self._log)}"
        if _MEMORY.search(said):
            return RuntimeUnavailable(
                "too little GPU memory for the engine",
                found=said,
                fix="free GPU memory (nvidia-smi shows who has it)",
            )
        if _OTHER.search(said):
            return EngineMismatch(
                "TensorRT says that the engine was built for another version or GPU",
                found=said,
                fix=_BUILD_AGAIN,
            )
        return InvalidBundle("TensorRT does not open the engine", found=said, fix=_BUILD_AGAIN)

    def _forget(self) -> list[str]:
        """Drop engine and GPU context, in this order; what the driver refused."""
        self._engine = self._deserialiser = None
        try:
            self._cuda.close()
        except CudaFailure as failure:
            return [str(failure)]
        return []
