"""The right door for a bundle, by the task its manifest names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.doors.door import Door
from ctedge.errors import BundleNotFound, WrongTask
from ctedge.extras import INSTALL_AGAIN
from ctedge.runtimes import Device, RuntimeName, open_runtime
from ctedge.runtimes.opening import open_in_thread
from ctedge.uses import holding

#: By task: the module, and the class in it. Only that one is imported which is asked for.
_DOORS = {
    "classifier": ("classifier", "Classifier"),
    "severity": ("severity", "SeverityRegressor"),
    "slices": ("slices", "SliceClassifier"),
}


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
    return holding(door, verified, opened)


def load_doors(
    bundles: Sequence[str | os.PathLike[str]],
    *,
    device: Device | None = None,
    runtime: RuntimeName | None = None,
    precision: str | None = None,
) -> list[Door[Any]]:
    """Load bundles for one answer soon: verified now, their networks opened in a thread.

    Meanwhile the doors read and preprocess; none of them answers before all networks are there.
    That one cannot be had is raised by whatever waits for it; see `wait_for_networks`.

    Args:
        bundles, device, runtime, precision: as of `load_door`.

    Raises:
        BundleError: as `load_door`, of any of them; or there is none.
    """
    if not bundles:
        raise BundleNotFound(
            "there is no model to ask",
            expected="the models that ctedge ships, or one that is named",
            fix=f"`{INSTALL_AGAIN}`, or name a bundle with --model",
        )
    verified = [ModelBundle.load(bundle) for bundle in bundles]
    doors = [door_class(bundle) for bundle in verified]
    opening = open_in_thread(verified, device=device, runtime=runtime, precision=precision)
    try:
        return [
            door(bundle, network)
            for door, bundle, network in zip(doors, verified, opening, strict=True)
        ]
    except BaseException:
        for one in opening:
            one.close()
        raise


def wait_for_networks(doors: Iterable[Door[Any]]) -> None:
    """Wait until all networks of `load_doors` are open.

    Raises:
        RuntimeUnavailable: the device, runtime or precision cannot be had on this machine.
    """
    for door in doors:
        _ = door.runtime


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
    module, name = _DOORS[bundle.task]
    door: type[Door[Any]] = getattr(importlib.import_module(f"ctedge.{module}"), name)
    return door
