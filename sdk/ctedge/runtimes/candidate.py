"""A runtime, a device and a precision: what might run a bundle."""

from __future__ import annotations

from dataclasses import dataclass

from ctedge.runtimes import Device, RuntimeName


@dataclass(frozen=True)
class Candidate:
    """What might run a bundle; `precision` None is whatever the bundle's engine has."""

    runtime: RuntimeName
    device: Device
    precision: str | None = None

    @property
    def name(self) -> str:
        """As "openvino-cpu-int8"; the key of its gates in the manifest."""
        return "-".join(part for part in (self.runtime, self.device, self.precision) if part)
