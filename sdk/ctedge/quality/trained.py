"""What geometry a model has learnt from: as its bundle states it, or as its data are known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctedge.errors import InvalidBundle

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """Least and most of what the scans of a training measured.

    Attributes:
        slices: number of slices.
        spacing_mm: distance from slice to slice.
        field_mm: width of the field of view.
        source: whose ranges these are, for messages.
    """

    slices: Range
    spacing_mm: Range
    field_mm: Range
    source: str

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> TrainedOn:
        """The ranges that a bundle's `provenance.run.data.geometry` states.

            "geometry": {"slices": [19, 241], "spacing_mm": [1.5, 8.0], "field_mm": [300, 480]}

        Where it states none: those of the phantoms for a model of synthetic chests, else those of
        usual chest CT.

        Raises:
            InvalidBundle: a geometry that is none.
        """
        run = provenance.get("run")
        data = run.get("data") if isinstance(run, dict) else None
        data = data if isinstance(data, dict) else {}
        if "geometry" in data:
            return _stated(data["geometry"])
        return SYNTHETIC if data.get("synthetic") is True else USUAL


#: What `ctedge.phantom.patient` draws: fields of 300 to 480 mm, slices 1.5 to 8 mm apart, and lungs
#: of 133 to 290 mm with 16 to 71 mm above and below them.
SYNTHETIC = TrainedOn(
    slices=(19, 241), spacing_mm=(1.5, 8.0), field_mm=(300.0, 480.0), source="the phantoms"
)

#: Chest CT as it is made: volumes of half a millimetre to MosMed's 8 mm and the 10 mm of older
#: scanners; fields up to the 500 mm that a gantry measures. Narrower ones cut an adult off.
USUAL = TrainedOn(
    slices=(16, 1000), spacing_mm=(0.4, 10.0), field_mm=(250.0, 500.0), source="usual chest CT"
)


def _stated(geometry: object) -> TrainedOn:
    ranges = {}
    for name in ("slices", "spacing_mm", "field_mm"):
        ends = geometry.get(name) if isinstance(geometry, dict) else None
        if not isinstance(ends, list) or len(ends) != 2:
            raise _unknown(name, ends)
        low, high = ends
        if not all(type(end) in (int, float) for end in ends) or not 0 < low <= high < math.inf:
            raise _unknown(name, ends)
        ranges[name] = (float(low), float(high))
    return TrainedOn(**ranges, source="the training's scans")


def _unknown(name: str, found: object) -> InvalidBundle:
    return InvalidBundle(
        f"provenance.run.data.geometry.{name} is no range",
        found=str(found)[:80],
        expected="two numbers above 0, the smaller one first",
        fix="export the bundle again",
    )
