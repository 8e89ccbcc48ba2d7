"""TensorRT and TensorRT-RTX: one API under two module names, and what each of them can do.

What differs between versions is asked of the module itself, never read off a version number:

    8.5, 8.6         types are hints; a flag allows half precision          GPU needed
    10.0 to 10.16    strong types on request: the ONNX file's types hold    GPU needed
    11               strong types always                                    GPU needed
    TensorRT-RTX     strong types always; compiles ahead of time, for compute capabilities that
                     are named or for every GPU from 8.0 on                 no GPU needed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ctedge.engines.machine import MODULES, ON_A_JETSON, installed_versions
from ctedge.engines.record import EngineRuntime
from ctedge.errors import MissingExtra, RuntimeUnavailable
from ctedge.extras import install_line, require
from ctedge.runtimes.cuda_driver import find_device, no_device


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One installed TensorRT.

    Attributes:
        runtime: "tensorrt" or "tensorrt-rtx".
        trt: its Python module.
    """

    runtime: EngineRuntime
    trt: Any

    @property
    def version(self) -> str:
        """As the module gives it: "10.3.0"."""
        trt = self.trt
        return str(trt.__version__)

    @property
    def strongly_typed(self) -> bool:
        """The types of the ONNX file are those that run."""
        trt = self.trt
        return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def ahead_of_time(self) -> bool:
        """Engines are compiled for named compute capabilities, with no GPU and no timing."""
        trt = self.trt
        return hasattr(trt, "ComputeCapability")

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Compute capabilities that an ahead-of-time build can name: "8.6" and the like."""
        if not self.ahead_of_time:
            return ()
        trt = self.trt
        names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        return tuple(f"{name[2:-1]}.{name[-1]}" for name in names)

    @property
    def network_flags(self) -> int:
        """What `create_network` takes: strong types; where there are none, the batch axis."""
        trt = self.trt
        if self.strongly_typed:
            return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def load_flavour(runtime: EngineRuntime | None = None) -> Flavour:
    """Import a TensorRT.

    Args:
        runtime: None means "tensorrt" where it is installed and finds a GPU, else
            "tensorrt-rtx", which builds without one.

    Raises:
        MissingExtra: it is not installed.
        RuntimeUnavailable: no such runtime, or it needs a GPU to build and there is none.
    """
    if runtime is None:
        runtime = _what_works()
    if runtime not in MODULES:
        raise RuntimeUnavailable(
            "no such runtime builds engines",
            found=runtime,
            expected=" or ".join(MODULES),
            fix="name one of them, or leave --runtime out",
        )
    purpose = f"building a {runtime} engine"
    flavour = Flavour(
        runtime=runtime, trt=require(MODULES[runtime], extra=runtime, purpose=purpose)
    )
    if not flavour.ahead_of_time and find_device() is None:
        raise no_device(
            f"{purpose} needs an NVIDIA GPU: it times what it builds",
            fix="run this on the machine that shall run the engine, or build with"
            " --runtime tensorrt-rtx, which needs no GPU",
        )
    return flavour


def _what_works() -> EngineRuntime:
    installed = installed_versions()
    if not installed:
        raise MissingExtra(
            "building an engine needs TensorRT or TensorRT-RTX",
            found="neither is installed",
            fix=f"{install_line('tensorrt-rtx')}; on a Jetson TensorRT comes with JetPack:"
            f" {ON_A_JETSON}",
        )
    if "tensorrt" in installed and (find_device() is not None or len(installed) == 1):
        return "tensorrt"
    return "tensorrt-rtx"
