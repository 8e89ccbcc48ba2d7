"""Whether an engine fits a machine, its TensorRT, GPU and driver; and the refusal where not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ctedge.engines.commands import rebuild
from ctedge.engines.machine import Machine
from ctedge.engines.record import EngineRecord, EngineRuntime, Site, Target
from ctedge.errors import EngineMismatch


@dataclass(frozen=True)
class Built:
    """An engine's record, what names its bundle in a command, and where it is to run if known."""

    record: EngineRecord
    bundle: str
    site: Site | None

    def for_another(  # noqa: PLR0913 (what is wanted instead is keyword-only)
        self,
        what: str,
        found: object,
        here: object,
        *,
        instead: str = "",
        precision: str | None = None,
        runtime: EngineRuntime | None = None,
        max_batch: int | None = None,
    ) -> EngineMismatch:
        """The refusal: what the engine was built for, and what there is."""
        command = rebuild(
            self.record,
            self.bundle,
            precision=precision,
            runtime=runtime,
            max_batch=max_batch,
            same_gpu=self.site is None or _fits_gpu(self.record.target, self.site),
        )
        return EngineMismatch(
            f"the {self.record.precision} engine of {self.record.bundle} was built for"
            f" another {what}",
            found=found,
            expected=here,
            fix=f"{instead}{command}",
        )


def check_tensorrt(built: Built, machine: Machine) -> None:
    """Refuse, as EngineMismatch, an engine that the TensorRT here does not run."""
    record = built.record
    here = machine.versions.get(record.runtime)
    fits = here == record.runtime_version
    if here and record.builder.get("version_compatible") is True:
        then, now = _numbers(record.runtime_version), _numbers(here)
        fits = then[0] == now[0] and then <= now
    if not fits:
        installed = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        raise built.for_another(
            "TensorRT",
            f"{record.runtime} {record.runtime_version}",
            installed or "no TensorRT is installed here",
        )


def check_gpu(built: Built, site: Site) -> None:
    """Refuse, as EngineMismatch, an engine for another GPU."""
    target, capability = built.record.target, site.compute_capability
    if not _fits_gpu(target, site):
        wanted = f"{target.gpu or 'any GPU'}, compute capability"
        wanted += f" {', '.join(target.compute_capabilities)}{' or newer' * target.or_newer}"
        here = f"{site.gpu}, compute capability {capability}" if capability else "no GPU"
        raise built.for_another("GPU", wanted, here)


def _fits_gpu(target: Target, site: Site) -> bool:
    capability = site.compute_capability
    fits = capability in target.compute_capabilities
    if capability and target.or_newer:
        fits = _numbers(capability) >= min(map(_numbers, target.compute_capabilities))
    return fits and target.gpu in (None, site.gpu)


def check_driver(built: Built, site: Site) -> None:
    """The driver compiles as well: a gate that was passed under another says nothing."""
    known = built.record.device_gate.machine or built.record.machine
    if known.compute_capability is None:
        return
    if (known.driver, known.cuda) != (site.driver, site.cuda):
        raise built.for_another(
            "driver",
            f"driver {known.driver}, CUDA {known.cuda}",
            f"driver {site.driver}, CUDA {site.cuda}",
            instead=f"ctedge export verify {built.bundle}, or build it again: ",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
