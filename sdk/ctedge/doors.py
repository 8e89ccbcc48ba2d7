"""The right door for a bundle, by the task its manifest names."""

from __future__ import annotations

import os
from typing import Any

from ctedge.bundle import ModelBundle
from ctedge.classifier import Classifier
from ctedge.door import Door
from ctedge.runtimes import Device, RuntimeName, open_runtime
from ctedge.severity import SeverityRegressor
from ctedge.slices import SliceClassifier

_KINDS: tuple[type[Door[Any]], ...] = (Classifier, SeverityRegressor, SliceClassifier)
_DOORS = {door.task: door for door in _KINDS}


def load_door(
    bundle: str | os.PathLike[str],
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
) -> Door[Any]:
    """Load a bundle into the door for its task.

    Raises:
        BundleError: not there, damaged or unsafe.
        RuntimeUnavailable: the device or runtime cannot be had on this machine.
    """
    verified = ModelBundle.load(bundle)
    return _DOORS[verified.task](verified, open_runtime(verified, device=device, runtime=runtime))
