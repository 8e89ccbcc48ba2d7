"""Whether an engine's own answers have passed their gate: on this GPU, under this TensorRT."""

from __future__ import annotations

from pathlib import Path

from ctedge.engines.commands import bundle_of, rebuild
from ctedge.engines.machine import Machine
from ctedge.engines.record import FAILED, PASSED, EngineRecord
from ctedge.errors import EngineUnverified


def require_verified(record: EngineRecord, engine: Path, *, machine: Machine) -> None:
    """Refuse an engine whose own answers have not passed their gate on this GPU and TensorRT.

    Raises:
        EngineUnverified: the gate was not run, or failed, or passed on another GPU, or, of a
            version-compatible engine, under another TensorRT.
    """
    gate = record.device_gate
    site, here = machine.site, machine.versions.get(record.runtime)
    under = gated_under(record)
    found = f"device_gate: {gate.state}"
    if gate.machine is not None:
        found += f" on {gate.machine.gpu}"
    if under != here:
        found += f", {record.runtime} {under}"
    elsewhere = gate.machine is None or gate.machine.gpu != site.gpu or under != here
    if gate.state != PASSED or elsewhere:
        bundle = bundle_of(engine, record.bundle)
        fix = f"on the machine that shall run it: ctedge export verify {bundle}"
        if gate.state == FAILED:
            fix = f"build it again: {rebuild(record, bundle)}"
        raise EngineUnverified(
            f"the engine {engine.name} has not passed its own gate here",
            found=found,
            expected=f"device_gate: {PASSED} on {site.gpu}"
            + f", {record.runtime} {here}" * (under != here)
            + "; two builds of one model differ",
            fix=fix,
        )


def gated_under(record: EngineRecord) -> str:
    """The version of TensorRT that the gate ran under: of the builder, unless it says another."""
    said = record.device_gate.results.get("version")
    runtime, _, version = said.partition(" ") if isinstance(said, str) else ("", "", "")
    return version if runtime == record.runtime else record.runtime_version
