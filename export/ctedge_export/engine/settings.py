"""What a build was asked for, and what it can run on afterwards."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ctedge.engines.files import slug
from ctedge.engines.record import Site, Target
from ctedge.errors import RuntimeUnavailable
from ctedge_export.engine.flavours import Flavour

#: The engine that TensorRT-RTX makes when no compute capability is named.
#: Source: docs.nvidia.com/deeplearning/tensorrt-rtx, "CPU-Only AOT": 8.0 and later.
PORTABLE = Target(name="portable", gpu=None, compute_capabilities=("8.0",), or_newer=True)

#: HardwareCompatibilityLevel.AMPERE_PLUS.
AMPERE_PLUS = Target(name="ampere-plus", gpu=None, compute_capabilities=("8.0",), or_newer=True)

_SM = re.compile(r"sm(\d{1,2})(\d)")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The builder's options.

    Attributes:
        max_batch: the engine takes batches of 1 to this.
        workspace_bytes: scratch memory a layer may use; None means all of the GPU's.
        optimization_level: 0 to 5; None means the builder's own.
        version_compatible: newer TensorRTs of the same major version run it as well.
        hardware_compatible: GPUs of compute capability 8.0 and newer run it as well.
        target: what an ahead-of-time build is for: "sm86", "sm86,sm120" or "portable"; None means
            the GPU that is here, and "portable" where there is none.
        explain: the engine draws the Grad-CAM of its model too, with every answer.
    """

    max_batch: int = 1
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    target: str | None = None
    explain: bool = False


def choose_target(flavour: Flavour, settings: Settings, site: Site) -> Target:
    """What the engine of these settings may run on.

    Args:
        flavour: the TensorRT that builds.
        settings: what was asked for.
        site: the GPU that is here.

    Raises:
        RuntimeUnavailable: this TensorRT cannot build for that.
    """
    if flavour.ahead_of_time:
        return _ahead_of_time(flavour, settings, site)
    if settings.target is not None:
        raise RuntimeUnavailable(
            f"{flavour.runtime} builds for the GPU it runs on, and for no other",
            found=f"--target {settings.target}",
            fix="leave --target out, or take --hardware-compatible, or --runtime tensorrt-rtx",
        )
    if settings.hardware_compatible:
        trt = flavour.trt
        if not hasattr(trt, "HardwareCompatibilityLevel"):
            raise _lacks(flavour, "--hardware-compatible")
        return AMPERE_PLUS
    capability = str(site.compute_capability)
    return Target(
        name=f"{_sm(capability)}-{slug(str(site.gpu))}",
        gpu=site.gpu,
        compute_capabilities=(capability,),
        or_newer=False,
    )


def check_options(
    flavour: Flavour, settings: Settings, *, timing_cache: str | os.PathLike[str] | None = None
) -> None:
    """Refuse what this TensorRT does not offer, before anything is made or built.

    Raises:
        RuntimeUnavailable: an option that it lacks.
    """
    trt = flavour.trt
    if timing_cache is not None and flavour.ahead_of_time:
        raise RuntimeUnavailable(
            f"{flavour.runtime} times nothing while it builds",
            found=f"--timing-cache {os.fspath(timing_cache)}",
            fix="leave --timing-cache out",
        )
    offers_level = hasattr(trt.IBuilderConfig, "builder_optimization_level")
    if settings.optimization_level is not None and not offers_level:
        raise _lacks(flavour, "--optimization-level")
    if settings.version_compatible and not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
        raise _lacks(flavour, "--version-compatible")


def _ahead_of_time(flavour: Flavour, settings: Settings, site: Site) -> Target:
    if settings.hardware_compatible:
        raise RuntimeUnavailable(
            f"{flavour.runtime} has no hardware-compatible level: it names its targets",
            found="--hardware-compatible",
            fix="leave it out: --target portable is for every GPU from 8.0 on",
        )
    wanted = settings.target
    if wanted is None:
        here = site.compute_capability
        wanted = _sm(here) if here in flavour.capabilities else PORTABLE.name
    if wanted == PORTABLE.name:
        return PORTABLE
    found = [_SM.fullmatch(part.strip()) for part in wanted.lower().split(",")]
    chosen = {f"{match[1]}.{match[2]}" for match in found if match}
    if None in found or not chosen <= set(flavour.capabilities):
        raise RuntimeUnavailable(
            f"{flavour.runtime} {flavour.version} does not build for that target",
            found=wanted,
            expected=f"{PORTABLE.name}, or of {', '.join(map(_sm, flavour.capabilities))}",
            fix="name one of them with --target",
        )
    ordered = tuple(sorted(chosen, key=lambda text: tuple(map(int, text.split(".")))))
    return Target(
        name="-".join(map(_sm, ordered)), gpu=None, compute_capabilities=ordered, or_newer=False
    )


def _sm(capability: str) -> str:
    return f"sm{capability.replace('.', '')}"


def _lacks(flavour: Flavour, option: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"{flavour.runtime} {flavour.version} does not offer {option}",
        fix=f"leave {option} out, or build with a newer TensorRT",
    )
