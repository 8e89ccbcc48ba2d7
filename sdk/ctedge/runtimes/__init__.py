"""What runs a network: one module an engine, behind one Protocol, each strict about its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ctedge.bundle import ModelBundle
from ctedge.errors import RuntimeUnavailable

Device = Literal["auto", "cpu", "cuda"]
RuntimeName = Literal["onnxruntime"]


class Runtime(Protocol):
    """A loaded network. `run` may be called from many threads at once."""

    @property
    def name(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        ...

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs by tensor name, for a float32 batch (N, *bundle.input_shape).

        Args:
            batch: what the network is shown.
            outputs: which ones. None: all answers, each (N, 1), without the map "cam", which is
                calculated only where it is named.
        """
        ...

    def close(self) -> None:
        """Free what the runtime holds; calling it twice is harmless."""
        ...


def open_runtime(
    bundle: ModelBundle, *, device: Device | None = None, runtime: RuntimeName | None = None
) -> Runtime:
    """Load a bundle's network on the device asked for, or say why that cannot be had.

    Args:
        bundle: a verified bundle.
        device: "cpu", "cuda", or "auto" (None means the same), in this version always the CPU.
        runtime: "onnxruntime", or None, which means the same in this version.

    Raises:
        RuntimeUnavailable: the runtime or device is not there; nothing else is tried instead.
    """
    device = "auto" if device is None else device
    if device not in get_args(Device):
        raise RuntimeUnavailable(
            "unknown device",
            found=device,
            expected=" or ".join(get_args(Device)),
            fix="name one of them, or leave device out",
        )
    if runtime not in (None, *get_args(RuntimeName)):
        raise RuntimeUnavailable(
            "this version does not run that runtime",
            found=runtime,
            expected=" or ".join(get_args(RuntimeName)),
            fix="leave runtime out to take what works here",
        )
    from ctedge.runtimes.onnx_runtime import OnnxRuntime

    return OnnxRuntime(bundle.model, name=bundle.name, device="cpu" if device == "auto" else device)
