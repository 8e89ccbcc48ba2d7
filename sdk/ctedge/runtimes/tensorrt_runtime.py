"""TensorRT and TensorRT-RTX, called directly: a bundle's engine on an NVIDIA GPU.

An engine is executable code for one GPU, one TensorRT and one model. Nothing of it reaches TensorRT
before a driver was found, its identity record was held against this machine, its own gate had
passed on this GPU, and its digest was compared.
"""

from __future__ import annotations

from typing import Any

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import engines_of, find_engine
from ctedge.engines.machine import MODULES, Machine, line_that_installs
from ctedge.engines.record import ENGINE_PRECISIONS, EngineRecord, EngineRuntime
from ctedge.errors import BundleError, CTEdgeError, EngineUnverified, RuntimeUnavailable
from ctedge.extras import import_package
from ctedge.runtimes.cuda_driver import require_device
from ctedge.runtimes.tensorrt_engine import TensorrtEngine

#: By the rate of multiplication on tensor cores (NVIDIA's data sheets, Ampere and newer).
FASTEST_FIRST = ("int8", "fp16", "bf16", "fp32")


def open_engine(
    bundle: ModelBundle, *, runtime: EngineRuntime, precision: str | None
) -> TensorrtEngine:
    """Load the engine of a bundle that may run on this machine's GPU.

    Args:
        bundle: a verified bundle.
        runtime: "tensorrt" or "tensorrt-rtx".
        precision: "fp32", "fp16", "bf16" or "int8"; None takes the fastest whose gates passed here.

    Raises:
        RuntimeUnavailable: no GPU, no TensorRT, no such engine, or too little GPU memory.
        EngineMismatch: the engine was built for another machine or model.
        EngineUnverified: it has not passed its own gate on this GPU.
        DigestMismatch: it is not the file that its record describes.
        InvalidBundle: its record is missing or broken, or TensorRT does not open it.
    """
    require_device(f"running a {runtime} engine")  # first: TensorRT crashes without a driver
    trt = _import(runtime)
    record, plan = _choose(bundle, runtime, precision)
    return TensorrtEngine(trt, plan, record)


def _import(runtime: EngineRuntime) -> Any:
    module = MODULES[runtime]
    try:
        return import_package(module)
    except Exception as error:  # absent, damaged, or a libnvinfer of another major version
        raise RuntimeUnavailable(
            f"the Python package {module} cannot be imported",
            found=f"{type(error).__name__}: {error}",
            expected=f"{module} with the C libraries of its own version",
            fix=line_that_installs(runtime),
        ) from error


def _choose(
    bundle: ModelBundle, runtime: EngineRuntime, precision: str | None
) -> tuple[EngineRecord, bytes]:
    """The engine to run: the one named, or the first by speed that may run here."""
    if precision is not None and precision not in ENGINE_PRECISIONS:
        raise RuntimeUnavailable(
            "no engine has such a precision",
            found=precision,
            expected=" or ".join(ENGINE_PRECISIONS),
            fix="name one of them, or leave it out",
        )
    machine = Machine.here()
    files = engines_of(bundle, runtime)
    there = [one for one in FASTEST_FIRST if one in files]
    if precision is not None or not there:
        wanted = precision or "fp16"
        return find_engine(bundle, precision=wanted, runtime=runtime, machine=machine)
    refusals: list[CTEdgeError] = []
    for one in there:
        try:
            return find_engine(bundle, precision=one, runtime=runtime, machine=machine)
        except (BundleError, RuntimeUnavailable) as error:
            refusals.append(error)
    # What only waits for its gate says more than what was made for another machine.
    raise min(refusals, key=lambda error: not isinstance(error, EngineUnverified))
