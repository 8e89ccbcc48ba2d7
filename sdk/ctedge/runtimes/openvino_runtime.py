"""OpenVINO on a CPU, or on an Intel GPU.

Latency is the only hint, and there is no model cache, which would be one more file that a native
library trusts; docs/runtimes.md says what throughput and a cache would gain.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MAPS
from ctedge.bundle.variants import FP32
from ctedge.cpus import usable_cpus
from ctedge.errors import CTEdgeError, InferenceFailed, RuntimeUnavailable
from ctedge.lifetime import given_to_runtime, model_closed
from ctedge.onnx_file.for_cpu import for_openvino
from ctedge.onnx_file.parts import answers_of, output_names, part_of
from ctedge.runtimes.asked import require_batch, require_known
from ctedge.runtimes.cpu_flags import LEAVE_PRECISION_OUT, NATIVE_BF16, require_native
from ctedge.runtimes.openvino_package import DEVICES, family, openvino_core, require_device

_Batch = npt.NDArray[np.float32]

#: What the operators compute in, by the precision of the file. Left alone, OpenVINO rounds float32
#: to bfloat16 or float16 wherever the device can. What INT8 leaves unquantised stays float32.
COMPUTES_IN = {FP32: "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoRuntime:
    """One network compiled for exactly one device.

    Maps are calculated only where they are named: the network without them is compiled first, one
    with them when it is asked for.

    Args:
        model: the bytes of an ONNX file that was checked before.
        name: what to call it in messages.
        device: "cpu", or "gpu", an Intel GPU; nothing else is tried instead.
        precision: of the file: "fp32", "bf16" or "int8".

    Raises:
        RuntimeUnavailable: not installed, or not on that device or in that precision.
    """

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        device: str = "cpu",
        precision: str = FP32,
    ) -> None:
        self._device, self._precision = device, precision
        self._lock = threading.RLock()  # a signal handler may predict within a prediction
        self._answering: _Compiled | None = None
        self._explaining: dict[tuple[str, ...], _Compiled] = {}
        try:
            require_device(device)
            self._require_precision()
            names = output_names(model)
            self.maps = tuple(output for output in names if output in MAPS)
            self._answers = [output for output in names if output not in MAPS]
            self._answering = self._compile(answers_of(model))
            self._model = model if self.maps else b""
        except CTEdgeError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError, TypeError and others
            raise RuntimeUnavailable(
                f"OpenVINO cannot load {name} on {device!r} in {precision}",
                found=_first_line(error),
                fix="run `ctedge doctor` to see what works on this machine",
            ) from error

    @property
    def name(self) -> str:
        return f"openvino-{self._device}-{self._precision}"

    def run(self, batch: _Batch, *, outputs: Sequence[str] | None = None) -> dict[str, _Batch]:
        names = self._answers if outputs is None else list(outputs)
        try:
            network = self._network_for(names)
            require_batch(batch, network.sizes)
            answers = network.run(batch)
            return {name: answers[name] for name in names}
        except CTEdgeError:
            raise
        except Exception as error:  # OpenVINO raises RuntimeError and others
            raise InferenceFailed(
                "OpenVINO failed",
                found=_first_line(error),
                fix="free memory, or use smaller batches",
            ) from error

    def close(self) -> None:
        # A thread that runs at this moment holds what it needs until it is done.
        with self._lock:
            self._answering = None
            self._explaining.clear()
            self._model = b""

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.__dict__ and not ending():  # else it was never made
            given_to_runtime(self.close)

    def _network_for(self, names: Sequence[str]) -> _Compiled:
        """The compiled network of the answers, or, where maps are named, that of these outputs."""
        with self._lock:
            if self._answering is None:
                raise model_closed()
            require_known(names, (*self._answers, *self.maps))
            if not set(names) & set(self.maps):
                return self._answering
            wanted = tuple(sorted(names))
            if wanted not in self._explaining:
                self._explaining[wanted] = self._compile(part_of(self._model, wanted))
            return self._explaining[wanted]

    def _compile(self, model: bytes) -> _Compiled:
        cut = for_openvino(model, self._precision) if self._device == "cpu" else model
        core = openvino_core()
        network = core.read_model(cut)
        if cut is not model:
            network.reshape([1, *list(network.inputs[0].partial_shape)[1:]])
        options = compile_options(self._precision, self._device)
        compiled = core.compile_model(network, DEVICES[self._device], options)
        found = {
            "device": sorted({family(one) for one in compiled.get_property("EXECUTION_DEVICES")}),
            "precision": compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
        }
        expected = {
            "device": [DEVICES[self._device]],
            "precision": COMPUTES_IN[self._precision],
        }
        if found != expected:
            raise RuntimeUnavailable(
                "OpenVINO took another device or precision than was asked for",
                found=found,
                expected=expected,
                fix="leave device and precision out to take what works here",
            )
        return _Compiled(compiled, one_by_one=cut is not model)

    def _require_precision(self) -> None:
        if self._precision not in COMPUTES_IN:
            raise RuntimeUnavailable(
                f"OpenVINO is not used in {self._precision}",
                expected=" or ".join(COMPUTES_IN),
                fix=LEAVE_PRECISION_OUT,
            )
        if self._device == "cpu":
            require_native(self._precision)
        if self._precision != "bf16":
            return
        able = openvino_core().get_property(DEVICES[self._device], "OPTIMIZATION_CAPABILITIES")
        if "BF16" not in able:
            raise RuntimeUnavailable(
                "this CPU does not compute in bfloat16",
                found=", ".join(able),
                expected=" or ".join(NATIVE_BF16),
                fix=LEAVE_PRECISION_OUT,
            )


class _Compiled:
    """A compiled network, and its requests: as many as threads ran at the same time.

    With `one_by_one` it takes a single volume, and batches are run volume after volume.
    """

    def __init__(self, compiled: Any, *, one_by_one: bool) -> None:
        self._compiled, self._one_by_one = compiled, one_by_one
        self._names = [port.get_any_name() for port in compiled.outputs]
        self._idle: list[Any] = []
        axes = list(compiled.inputs[0].partial_shape)[1:]
        #: Of the input, (channel, *axes); None where it takes any.
        self.sizes = [None if axis.is_dynamic else axis.get_length() for axis in axes]

    def run(self, batch: _Batch) -> dict[str, _Batch]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        single = self._one_by_one and len(batch) != 1
        parts = np.split(batch, len(batch)) if single else [batch]
        # Copied in and out: the next run of this request overwrites its tensors.
        ran = [request.infer([part], share_inputs=False, share_outputs=False) for part in parts]
        answers = {
            name: np.concatenate([results[place] for results in ran]) if single else ran[0][place]
            for place, name in enumerate(self._names)
        }
        self._idle.append(request)
        return answers


def compile_options(precision: str, device: str) -> dict[str, Any]:
    """What a network is compiled with; benchmarks of other graphs compile theirs with the same."""
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": COMPUTES_IN[precision]}
    if device != "cpu":
        return hints
    # Threads that are bound to a core cannot make way for the scanner's own work.
    return {**hints, "INFERENCE_NUM_THREADS": usable_cpus(), "ENABLE_CPU_PINNING": False}


def _first_line(error: Exception) -> str:
    """OpenVINO's messages begin with the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return f"{type(error).__name__}: {(telling or lines or [''])[0]}"
