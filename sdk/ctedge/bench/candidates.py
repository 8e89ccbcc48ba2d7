"""Which candidates are measured where all are asked for: each engine of a bundle is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import engines_of
from ctedge.runtimes import Device, RuntimeName
from ctedge.runtimes.candidate import Candidate, fitting
from ctedge.runtimes.tensorrt_runtime import FASTEST_FIRST


def candidates(
    bundle: ModelBundle,
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
) -> tuple[Candidate, ...]:
    """Every candidate that fits what is named, fastest first; of engines each that lies there.

    Args:
        bundle: whose engines are looked for.
        device, runtime, precision: only those of these; the device "auto" means all, like None.

    Raises:
        RuntimeUnavailable: nothing fits.
    """
    wanted = fitting(device, runtime, precision, every=True)
    return tuple(each for one in wanted for each in _of_engines(bundle, one, precision))


def _of_engines(
    bundle: ModelBundle, candidate: Candidate, precision: str | None
) -> Sequence[Candidate]:
    """Once for each precision of its engines that is wanted; without any, the candidate itself."""
    there = engines_of(bundle, candidate.runtime)
    wanted = [one for one in FASTEST_FIRST if one in there and precision in (None, one)]
    return [replace(candidate, precision=one) for one in wanted] or [candidate]
