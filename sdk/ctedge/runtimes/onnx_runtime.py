"""ONNX Runtime on the CPU, or on an NVIDIA GPU through its CUDA provider."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MAPS
from ctedge.bundle.variants import FP32
from ctedge.cpus import usable_cpus
from ctedge.errors import DeviceLost, InferenceFailed, RuntimeUnavailable
from ctedge.extras import MORE_OF_BOTH
from ctedge.lifetime import model_closed
from ctedge.onnx_file.for_cpu import for_onnx_runtime
from ctedge.onnx_file.parts import answers_of, output_names, part_of
from ctedge.runtimes.asked import require_batch, require_known
from ctedge.runtimes.cpu_flags import why_int8_saturates
from ctedge.runtimes.onnxruntime_package import import_onnxruntime, install_from

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

#: Of the GPU's memory, several times what one scan takes; the rest is the scanner's own.
_CUDA_MEMORY_BYTES = 4 << 30

#: TF32 rounds products to 10 bits; what is called fp32 must be fp32. An exhaustive search, which is
#: the default, tries every convolution of cuDNN at the first run; the heuristic asks cuDNN instead.
#: The memory grows by what is needed, not to the next power of two.
#: Source: onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    "cuda": {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": str(_CUDA_MEMORY_BYTES),
        "arena_extend_strategy": "kSameAsRequested",
    },
}

#: As ONNX Runtime words what the driver answered: "CUDA failure 700: an illegal memory access was".
_CUDA_CODE = re.compile(r"CUDA failure (\d+)")
_NO_MEMORY = re.compile(
    r"failed to allocate memory|out of memory|bad_alloc|_STATUS_ALLOC_FAILED", re.IGNORECASE
)
_TOO_LITTLE = re.compile(r"PosixThread|pthread|alloc|memory", re.IGNORECASE)
_OF_THE_GPU = re.compile(r"CUDA|CUDNN|CUBLAS|EP_FAIL")

_START_AGAIN = "start the process again, and see with nvidia-smi whether the GPU is still there"


class OnnxRuntime:
    """Sessions on exactly one device: one of the answers, and one for each set of maps asked for.

    A GPU that is lost is said with `DeviceLost`, in that call and in every later one.

    Args:
        model: the bytes of an ONNX file that was checked before.
        name: what to call it in messages.
        device: "cpu" or "cuda"; nothing else is tried instead.
        precision: of the file, which alone decides what is computed.

    Raises:
        RuntimeUnavailable: not installed, installed twice, or not on that device.
    """

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        device: str = "cpu",
        precision: str = FP32,
    ) -> None:
        ort = import_onnxruntime(device)
        provider = _PROVIDERS[device]
        available = ort.get_available_providers()
        if provider not in available:
            raise RuntimeUnavailable(
                f"ONNX Runtime cannot use the device {device!r} here",
                found=", ".join(available),
                expected=provider,
                fix=f"pip uninstall -y onnxruntime; {install_from(device)}",
            )
        self._ort, self._provider, self._called = ort, provider, name
        self._device, self._precision = device, precision
        self._model = model
        self.maps = tuple(output for output in output_names(model) if output in MAPS)
        self._lost: str | None = None
        session = self._open(answers_of(model))
        self._session: Any = session
        entry = session.get_inputs()[0]
        self._input = entry.name
        self._sizes = [size if isinstance(size, int) else None for size in entry.shape[1:]]
        self._answers = [output.name for output in session.get_outputs()]
        self._with_maps: dict[tuple[str, ...], Any] = {}
        self._lock = threading.RLock()  # a signal handler may predict within a prediction

    @property
    def name(self) -> str:
        return f"onnxruntime-{self._device}-{self._precision}"

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        names = self._answers if outputs is None else list(outputs)
        session = self._session_for(names)
        require_batch(batch, self._sizes)
        try:
            results = self._results(session, names, batch)
        except Exception as error:  # onnxruntime raises its own kinds, and RuntimeError
            raise self._failed(error) from error
        return dict(zip(names, results, strict=True))

    def close(self) -> None:
        with self._lock:
            self._session = None
            self._with_maps.clear()
            self._model = b""

    def _results(
        self, session: Any, names: Sequence[str], batch: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[np.float32]]:
        """What the session answers, in arrays of the caller's own.

        On a GPU the input is uploaded when it is bound, into the session's own capped memory, and
        only the outputs that are named come back. Each call binds for itself, so threads share
        nothing, and no later call writes over an answer.
        Source: onnxruntime.ai/docs/api/python/api_summary.html ("Data on device", scenario 1).
        """
        if self._device == "cpu":
            return list(session.run(names, {self._input: batch}))
        binding = session.io_binding()
        binding.bind_cpu_input(self._input, batch)
        for name in names:
            binding.bind_output(name)  # to the CPU
        session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    def _failed(self, error: Exception) -> InferenceFailed:
        """Our error for a run that failed; after a lost GPU, every later one is refused as well."""
        from ctedge.runtimes.cuda_memory import PASSING

        code = _CUDA_CODE.search(str(error))
        if self._device != "cuda" or code is None or int(code[1]) in PASSING:
            return InferenceFailed("ONNX Runtime failed", found=error, fix=_advice(error))
        self._lost = str(error)  # the error itself would hold this frame
        return DeviceLost("the GPU failed", found=error, fix=_START_AGAIN)

    def _session_for(self, names: Sequence[str]) -> Any:
        """The session of the answers, or one that draws these maps too, opened when first asked."""
        with self._lock:
            if self._session is None:
                raise model_closed()
            if self._lost is not None:
                raise DeviceLost(
                    "the GPU was lost in an earlier call", found=self._lost, fix=_START_AGAIN
                )
            if set(names) <= set(self._answers):
                return self._session
            wanted = tuple(sorted(names))
            require_known(wanted, (*self._answers, *self.maps))
            if wanted not in self._with_maps:
                self._with_maps[wanted] = self._open(part_of(self._model, wanted))
            return self._with_maps[wanted]

    def _open(self, model: bytes) -> Any:
        """A session on the device that was asked for, and on no other."""
        # To add exactly it writes each convolution's weights anew: those that slabs share fail.
        if self._device == "cpu" and not _adds_exactly(self._precision):
            model = for_onnx_runtime(model, self._precision)
        providers = [(self._provider, _PROVIDER_OPTIONS[self._device])]
        options = session_options(self._ort, self._precision)
        try:
            # With its fall-back, which is the default, a session whose GPU fails makes itself anew
            # on the CPU, when it is opened and when it runs, and prints that.
            session = self._ort.InferenceSession(
                model, options, providers=providers, enable_fallback=0
            )
        except Exception as error:  # onnxruntime raises its own kinds, and RuntimeError
            raise RuntimeUnavailable(
                f"ONNX Runtime cannot load {self._called} on {self._device!r}",
                found=error,
                fix=MORE_OF_BOTH
                if _TOO_LITTLE.search(str(error))
                else "run `ctedge doctor` to see what works on this machine",
            ) from error
        # ONNX Runtime lists GPU providers where there is no GPU, and then runs on the CPU.
        if session.get_providers()[0] != self._provider:
            raise RuntimeUnavailable(
                f"ONNX Runtime fell back from the device {self._device!r}",
                found=", ".join(session.get_providers()),
                expected=self._provider,
                fix="check the NVIDIA driver with nvidia-smi, or ask for the device cpu",
            )
        return session


def _advice(error: Exception) -> str:
    """What helps against a failure that is no lost GPU."""
    said = str(error)
    if _OF_THE_GPU.search(said) and not _NO_MEMORY.search(said):
        return "load the model again; see with nvidia-smi whether the GPU is still there"
    return "free memory, or use smaller batches"


def session_options(ort: Any, precision: str) -> Any:
    """What a session is opened with; benchmarks of other graphs open theirs with the same."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about providers that nobody asked for
    if _adds_exactly(precision):
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Threads sleep between predictions: beside the scanner the box has other work to do.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _adds_exactly(precision: str) -> bool:
    """Without VNNI sums of int8 would saturate; ONNX Runtime can add them exactly, more slowly."""
    return precision == "int8" and why_int8_saturates() is not None
