"""The right door for a bundle, by the task its manifest names."""

from __future__ import annotations

import os
from typing import Any

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.classifier import Classifier
from ctedge.doors.door import Door
from ctedge.errors import WrongTask
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
    precision: str | None = None,
) -> Door[Any]:
    """Load a bundle into the door for its task.

    Args:
        bundle, device, runtime, precision: as of `Classifier.load`.

    Raises:
        BundleError: not there, damaged, unsafe, or of a task that has no door.
        RuntimeUnavailable: the device or runtime cannot be had on this machine.
    """
    verified = ModelBundle.load(bundle)
    door = door_class(verified)
    opened = open_runtime(verified, device=device, runtime=runtime, precision=precision)
    return door(verified, opened)


def door_class(bundle: ModelBundle) -> type[Door[Any]]:
    """The door that opens a bundle.

    Raises:
        WrongTask: its network judges no scan.
    """
    if bundle.task not in _DOORS:
        raise WrongTask(
            f"{bundle.name} judges no scan",
            found=bundle.task,
            expected=" or ".join(_DOORS),
            fix="find lungs with LungSegmenter.load(bundle).segment(scan)",
        )
    return _DOORS[bundle.task]
