"""The right door for a bundle, by the task its manifest names."""

from __future__ import annotations

import os
from typing import Any

from ctedge.bundle import ModelBundle
from ctedge.classifier import Classifier
from ctedge.door import Door
from ctedge.errors import WrongTask
from ctedge.runtimes import Device, RuntimeName, open_runtime
from ctedge.severity import SeverityRegressor

_DOORS: dict[str, type[Door[Any]]] = {door.task: door for door in (Classifier, SeverityRegressor)}


def load_door(
    bundle: str | os.PathLike[str],
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
) -> Door[Any]:
    """Load a bundle into the door for its task.

    Raises:
        BundleError: not there, damaged, unsafe, or of a task that has no door.
        RuntimeUnavailable: the device or runtime cannot be had on this machine.
    """
    verified = ModelBundle.load(bundle)
    if verified.task not in _DOORS:
        raise WrongTask(
            f"{verified.name}: this version has no door for that task",
            found=verified.task,
            expected=", ".join(_DOORS),
            fix="update ctedge",
        )
    return _DOORS[verified.task](verified, open_runtime(verified, device=device, runtime=runtime))
