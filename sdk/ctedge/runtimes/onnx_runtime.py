"""ONNX Runtime on the CPU, or on an NVIDIA GPU through its CUDA provider."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MAPS
from ctedge.bundle.variants import FP32
from ctedge.cpus import usable_cpus
from ctedge.errors import InferenceFailed, RuntimeUnavailable
from ctedge.extras import install_line, version_of
from ctedge.onnx_file.for_cpu import for_onnx_runtime
from ctedge.onnx_file.parts import answers_of, output_names, part_of

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

_EXTRAS = {"cpu": "cpu", "cuda": "gpu"}

#: Two distributions that install the same files over each other; pip does not object.
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


class OnnxRuntime:
    """One session on exactly one device.

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
        ort = _import_onnxruntime(device)
        provider = _PROVIDERS[device]
        available = ort.get_available_providers()
        if provider not in available:
            raise RuntimeUnavailable(
                f"ONNX Runtime cannot use the device {device!r} here",
                found=", ".join(available),
                expected=provider,
                fix=f"pip uninstall -y {DISTRIBUTIONS[0]}; {install_line(_EXTRAS[device])}",
            )
        self._ort, self._provider, self._called = ort, provider, name
        self._device, self._precision = device, precision
        self._model = model
        self.maps = tuple(output for output in output_names(model) if output in MAPS)
        session = self._open(answers_of(model))
        # ONNX Runtime lists GPU providers where there is no GPU, and then runs on the CPU.
        if session.get_providers()[0] != provider:
            raise RuntimeUnavailable(
                f"ONNX Runtime fell back from the device {device!r}",
                found=", ".join(session.get_providers()),
                expected=provider,
                fix="check the NVIDIA driver with nvidia-smi, or ask for device='cpu'",
            )
        self._session: Any = session
        self._input = session.get_inputs()[0].name
        self._answers = [output.name for output in session.get_outputs()]
        self._with_maps: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"onnxruntime-{self._device}-{self._precision}"

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        names = self._answers if outputs is None else list(outputs)
        session = self._session_for(names)
        try:
            results = session.run(names, {self._input: batch})
        except Exception as error:  # onnxruntime raises its own kinds, and RuntimeError
            raise InferenceFailed(
                "ONNX Runtime failed", found=error, fix="free memory, or use smaller batches"
            ) from error
        return dict(zip(names, results, strict=True))

    def close(self) -> None:
        with self._lock:
            self._session = None
            self._with_maps.clear()
            self._model = b""

    def _session_for(self, names: Sequence[str]) -> Any:
        """The session of the answers, or one that draws these maps too, opened when first asked."""
        with self._lock:
            if self._session is None:
                raise InferenceFailed("the model was closed", fix="load it again")
            if set(names) <= set(self._answers):
                return self._session
            wanted = tuple(sorted(names))
            if not set(wanted) <= {*self._answers, *self.maps}:
                raise InferenceFailed(
                    "the network has no such output",
                    found=", ".join(wanted),
                    expected=f"of {', '.join((*self._answers, *self.maps))}",
                )
            if wanted not in self._with_maps:
                self._with_maps[wanted] = self._open(part_of(self._model, wanted))
            return self._with_maps[wanted]

    def _open(self, model: bytes) -> Any:
        if self._device == "cpu":
            model = for_onnx_runtime(model)
        options = [(self._provider, _PROVIDER_OPTIONS[self._device])]
        try:
            return self._ort.InferenceSession(model, _session_options(self._ort), providers=options)
        except Exception as error:  # onnxruntime raises its own kinds, and RuntimeError
            raise RuntimeUnavailable(
                f"ONNX Runtime cannot load {self._called} on {self._device!r}",
                found=error,
                fix="run `ctedge doctor` to see what works on this machine",
            ) from error


def installed_distributions() -> dict[str, str]:
    """Which ONNX Runtime distributions are installed, with their versions."""
    versions = {name: version_of(name) for name in DISTRIBUTIONS}
    return {name: version for name, version in versions.items() if version is not None}


def _import_onnxruntime(device: str) -> Any:
    found = installed_distributions()
    if len(found) > 1:
        raise RuntimeUnavailable(
            "both ONNX Runtime distributions are installed; they overwrite each other's files",
            found=", ".join(f"{name} {version}" for name, version in found.items()),
            expected="one of them",
            fix=f"pip uninstall -y {' '.join(DISTRIBUTIONS)}; {install_line(_EXTRAS[device])}",
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeUnavailable(
            "no runtime is installed", found=error, fix=install_line(_EXTRAS[device])
        ) from error
    except Exception as error:  # a shared library that does not load
        raise _damaged_install(error, device) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise _damaged_install("a package without content", device)
    return onnxruntime


def _damaged_install(found: object, device: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "ONNX Runtime is installed in part; uninstalling one of two distributions leaves that",
        found=found,
        fix=f"pip uninstall -y {' '.join(DISTRIBUTIONS)}; {install_line(_EXTRAS[device])}",
    )


def _session_options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # its warnings are about providers that nobody asked for
    # Threads sleep between predictions: beside the scanner the box has other work to do.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
