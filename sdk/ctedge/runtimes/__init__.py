"""What runs a network: one module an engine, behind one Protocol, each strict about its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.lifetime import given_to_runtime

Device = Literal["auto", "cpu", "cuda", "gpu"]
RuntimeName = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]


class Runtime(Protocol):
    """A loaded network. `run` may be called from many threads at once."""

    @property
    def name(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        ...

    @property
    def maps(self) -> tuple[str, ...]:
        """Outputs of the file that are maps (see `ctedge.bundle.maps`), finest last."""
        ...

    def run(
        self, batch: npt.NDArray[np.float32], *, outputs: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Outputs by tensor name, for a float32 batch (N, *bundle.input_shape).

        Args:
            batch: what the network is shown.
            outputs: which ones. None: all answers, each (N, 1), without maps, which cost nothing
                where they are not named.
        """
        ...

    def close(self) -> None:
        """Free what the runtime holds; calling it twice is harmless."""
        ...


@runtime_checkable
class Lender(Protocol):
    """A runtime that can take an input from where preprocessing writes it, and copies no more."""

    def lend_input(self) -> npt.NDArray[Any] | None:
        """Memory (1, *bundle.input_shape) for one input, float32 or float16, to be written and run.

        It is the caller's alone until the last array of it is gone. None: nothing can be lent now;
        `run` takes any other array as well.
        """
        ...


def lend_input(runtime: Runtime) -> npt.NDArray[Any] | None:
    """What a runtime lends; None of one that lends nothing. Never waits, and raises nothing."""
    return runtime.lend_input() if isinstance(runtime, Lender) else None


def open_runtime(
    bundle: ModelBundle,
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
) -> Runtime:
    """Load a bundle's network with what `ctedge.runtimes.choice` takes; what is named is strict.

    Args:
        bundle: a verified bundle.
        device: "cpu"; "cuda", an NVIDIA GPU; "gpu", an Intel GPU; or "auto" (None means the same).
        runtime: one of RuntimeName; None takes the fastest.
        precision: "fp32", "fp16", "bf16" or "int8"; None takes the fastest.

    Raises:
        RuntimeUnavailable: what is named is not there, or nothing runs the bundle here.
        EngineMismatch, EngineUnverified: of an engine for TensorRT, where it alone was named.
    """
    from ctedge.runtimes.choice import choose

    chosen = given_to_runtime(choose, bundle, device=device, runtime=runtime, precision=precision)
    return chosen.runtime
