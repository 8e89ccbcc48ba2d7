"""What an engine would run on here: GPU, driver, CUDA, and the TensorRTs that are installed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from ctedge.engines.record import EngineRuntime, Site
from ctedge.errors import RuntimeUnavailable
from ctedge.extras import import_package, install_line
from ctedge.runtimes.cuda_driver import find_device
from ctedge.runtimes.versions import require_version

#: What adds TensorRT's Python package where JetPack brought TensorRT.
ON_A_JETSON = "apt install python3-libnvinfer"

#: The Python module of each runtime.
MODULES: dict[EngineRuntime, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A place where engines are built or run.

    Attributes:
        versions: of the TensorRTs that are installed, by runtime.
        site: GPU, driver and CUDA; nothing but None where there is no GPU.
    """

    versions: Mapping[EngineRuntime, str]
    site: Site

    @classmethod
    def here(cls) -> Machine:
        """Ask the driver for its GPU, and the installed TensorRTs for their versions."""
        return cls(versions=installed_versions(), site=site_here())


def site_here() -> Site:
    """The first GPU here and its driver; nothing but None without one."""
    device = find_device()
    if device is None:
        return Site()
    return Site(
        gpu=device.gpu,
        compute_capability=device.compute_capability,
        driver=device.driver,
        cuda=device.cuda,
    )


def installed_versions() -> dict[EngineRuntime, str]:
    """Versions of the TensorRTs that can be imported here, by runtime.

    One that ctedge does not run on is not even imported.
    """
    found: dict[EngineRuntime, str] = {}
    for runtime in MODULES:
        with contextlib.suppress(RuntimeUnavailable):
            version = imported_version(runtime)
            if version is not None:
                found[runtime] = version
    return found


def line_that_installs(runtime: EngineRuntime) -> str:
    """The command that adds a TensorRT; TensorRT itself comes on a Jetson with JetPack."""
    line = install_line(runtime)
    return f"{line}; on a Jetson: {ON_A_JETSON}" if runtime == "tensorrt" else line


def imported_version(runtime: EngineRuntime) -> str | None:
    """The version of a TensorRT, which is imported for it; None where there is none.

    Raises:
        RuntimeUnavailable: it is there and cannot be imported, or ctedge does not run on it.
    """
    require_version(runtime)
    module = MODULES[runtime]
    try:
        return str(import_package(module).__version__)
    except Exception as error:  # without its C libraries, or damaged: whatever it then raises
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return None
        raise RuntimeUnavailable(
            f"the Python package {module} is there and cannot be imported",
            found=f"{type(error).__name__}: {error}",
            expected=f"{module} with the C libraries of its own version",
            fix=line_that_installs(runtime),
        ) from error
