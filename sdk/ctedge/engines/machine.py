"""What an engine would run on here: GPU, driver, CUDA, and the TensorRTs that are installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from ctedge.engines.record import RuntimeName, Site
from ctedge.runtimes.cuda_driver import find_device
from ctedge.runtimes.versions import fits

#: The Python module of each runtime.
MODULES: dict[RuntimeName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A place where engines are built or run.

    Attributes:
        versions: of the TensorRTs that are installed, by runtime.
        site: GPU, driver and CUDA; nothing but None where there is no GPU.
    """

    versions: Mapping[RuntimeName, str]
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


def installed_versions() -> dict[RuntimeName, str]:
    """Versions of the TensorRTs that can be imported here, by runtime.

    One that ctedge does not run on is not even imported.
    """
    found: dict[RuntimeName, str] = {}
    for runtime, module in MODULES.items():
        if not fits(runtime):
            continue
        try:
            found[runtime] = str(importlib.import_module(module).__version__)
        except (ImportError, OSError, AttributeError):  # absent, or without its C libraries
            continue
    return found
