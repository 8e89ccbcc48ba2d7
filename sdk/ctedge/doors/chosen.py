"""A scan that options of `read_scan` choose: no door takes them, so it is read before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ctedge.clock import Clock, with_earlier
from ctedge.doors.door import Door
from ctedge.doors.sources import Source
from ctedge.readers import read_scan, read_slices


def predict_chosen(
    door: Door[Any], source: Source, reading: Mapping[str, Any], **asked: bool
) -> Any:
    """What a door answers; where the source is read with options, reading is timed as by the door.

    Args:
        door: which answers.
        source: as `predict` takes it; with options, where the scan lies.
        reading: options of `read_scan` by their names; without any, the door itself reads.
        asked: assess, strict and explain, as of `predict`.

    Raises:
        CTEdgeError: as of `read_scan`, and of `predict`.
    """
    if not reading:
        return door.predict(source, **asked)
    read = read_slices if door.bundle.task == "slices" else read_scan
    clock = Clock()
    with clock.stage("read"):
        scan = read(source, **reading)
    result = door.predict(scan, **asked)
    return replace(result, timings_ms=with_earlier(result.timings_ms, clock.stages_ms))
