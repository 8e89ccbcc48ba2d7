"""Which runtimes are measured: one, chosen as `predict` chooses, or every one that opens here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import list_engines
from ctedge.engines.record import ENGINE_PRECISIONS
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes.candidate import Candidate
from ctedge.runtimes.choice import ORDER


def candidates(
    bundle: ModelBundle, *, device: str | None = None, precision: str | None = None
) -> tuple[Candidate, ...]:
    """Every candidate of `ctedge.runtimes.choice`, fastest first; of engines each that lies there.

    Args:
        bundle: whose engines are looked for.
        device: only those of this device; "auto" and None mean all.
        precision: only those of this precision.

    Raises:
        RuntimeUnavailable: nothing fits.
    """
    wanted = tuple(
        candidate
        for one in ORDER
        if device in (None, "auto", one.device)
        for candidate in _of_engines(bundle, one)
        if precision is None or candidate.precision in (None, precision)
    )
    if not wanted:
        raise RuntimeUnavailable(
            "no runtime fits what is named",
            found=", ".join(part for part in (device, precision) if part),
            expected="one of " + ", ".join(candidate.name for candidate in ORDER),
            fix="leave out what need not be so",
        )
    return wanted


def _of_engines(bundle: ModelBundle, candidate: Candidate) -> Iterator[Candidate]:
    """The candidate itself; one whose precision is its engine's, once for each engine."""
    files = [path.name for path in list_engines(bundle)]
    there = [
        one
        for one in ENGINE_PRECISIONS
        if any(name.startswith(f"{one}-{candidate.runtime}-") for name in files)
    ]
    if candidate.precision is not None or not there:
        yield candidate
        return
    for precision in there:
        yield replace(candidate, precision=precision)
