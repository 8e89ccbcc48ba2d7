"""Several acquisitions under one series: told apart by where they lie, never by number alone.

Step-and-shoot scanners change AcquisitionNumber with every shot, and shots lie one after the other:
they are one scan. Acquisitions that lie through each other are two scans, and are not merged, even
where their slices happen to lie evenly together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby, pairwise

from ctedge.errors import IrregularSeries, counted
from ctedge.readers.dicom.saying import places_of
from ctedge.readers.dicom.slices import Slice

#: Positions are written to a hundredth of a millimetre: what is nearer lies at the same place.
_SAME_PLACE_MM = 0.01

#: Fewer slices are a shot of a scan, and no scan of their own (as `predict` demands).
_LEAST_SLICES = 16


class Acquisitions:
    """The slices of a series by AcquisitionNumber.

    Args:
        slices: of one series.
    """

    def __init__(self, slices: Sequence[Slice]) -> None:
        ordered = sorted(slices, key=_number)
        self._parts = [list(part) for _, part in groupby(ordered, _number)]

    @property
    def several(self) -> bool:
        """Whether the numbers may tell scans apart: not where each slice has its own."""
        return len(self._parts) > 1 and any(len(part) > 1 for part in self._parts)

    @property
    def _scans(self) -> bool:
        """Whether one of several has enough slices to be chosen."""
        return self.several and max(map(len, self._parts)) >= _LEAST_SLICES

    def pass_alone(self, check: Callable[[Sequence[Slice]], object]) -> bool:
        """Whether each of several scans passes a check that all together do not."""
        if not self._scans:
            return False
        try:
            for part in self._parts:
                check(part)
        except IrregularSeries:
            return False
        return True

    def entangled(self, height: Callable[[Slice], float]) -> bool:
        """Whether slices of one lie at or between those of another that has more than one."""
        return self._overlap(height, -_SAME_PLACE_MM, 1)

    def interleaved(self, height: Callable[[Slice], float]) -> bool:
        """Whether the ranges of two that have more than one slice overlap."""
        return self._overlap(height, _SAME_PLACE_MM, 2)

    def farthest_mm(self, height: Callable[[Slice], float]) -> float:
        """The widest gap between one and the next, where they may be scans of their own."""
        ranges = self._ranges(height, 1) if self._scans else []
        return max((after[0] - before[1] for before, after in pairwise(ranges)), default=0.0)

    def _overlap(self, height: Callable[[Slice], float], least_mm: float, count: int) -> bool:
        reached, by = float("-inf"), 0
        for low, high, size in self._ranges(height, count) if self.several else ():
            if reached - low > least_mm and max(size, by) > 1:
                return True
            if high > reached:
                reached, by = high, size
        return False

    def _ranges(
        self, height: Callable[[Slice], float], least: int
    ) -> list[tuple[float, float, int]]:
        """From where to where those of so many slices lie, and how many they have."""
        heights = [[height(one) for one in part] for part in self._parts if len(part) >= least]
        return sorted((min(part), max(part), len(part)) for part in heights)

    def refusal(self, label: str, together: str) -> IrregularSeries:
        """What to raise where they are not one volume.

        Args:
            label: the source's name.
            together: what is wrong with all of them together.
        """
        largest = max(self._parts, key=len)[0].acquisition
        return IrregularSeries(
            f"{label}: several acquisitions under one series",
            found=f"{self}; together, {together}",
            expected="one acquisition, or slices that lie evenly all together",
            fix="remove the slices that state no acquisition"
            if largest is None
            else f"choose one: {places_of('acquisition', largest)}; or export the series again",
        )

    def __str__(self) -> str:
        shown = [
            f"acquisition {'not said' if part[0].acquisition is None else part[0].acquisition}:"
            f" {counted(len(part), 'slice')}"
            for part in self._parts[:8]
        ]
        rest = len(self._parts) - 8
        return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _number(one: Slice) -> tuple[bool, int]:
    return one.acquisition is None, one.acquisition or 0
