"""The preprocessing contract of a network that finds lungs, as data; stored in its bundle.

Source: Hofmanninger et al., "Automatic lung segmentation in routine imaging is primarily a data
diversity problem, not a methodology problem", European Radiology Experimental 4, 50, 2020, and the
package `lungmask` 0.2.22 that its authors maintain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctedge.errors import InvalidBundle
from ctedge.spec import SliceSpec, as_invalid_bundle, check_fields, plain_json

#: Names of the classes: their index is the value in `LungMask.labels`.
LUNG_LABELS = ("background", "right lung", "left lung")


@dataclass(frozen=True, kw_only=True)
class LungMaskSpec:
    """How one axial slice becomes the input of a network that finds lungs.

    HU, rounded to whole numbers, are clipped to the window, cropped to the box around the body,
    resized to whole numbers again, and mapped to 0..1 (`ctedge.lungs.slices`).

    Attributes:
        name: the name it is known by.
        shape: rows (anterior to posterior) and columns (towards Left), in pixels.
        hu_window: lower and upper bound in HU; mapped to 0 and 1, clipped outside.
        body_above_hu: what is denser is body; the slice is cropped to the body's largest part.
        interpolation: "linear-aligned-ends", see `PreprocessSpec`. Rows and columns are resized
            independently: a box that is not square is stretched.
    """

    name: str
    shape: tuple[int, int]
    hu_window: tuple[float, float] = (-1024.0, 600.0)
    body_above_hu: float = -500.0
    interpolation: str = "linear-aligned-ends"

    def __post_init__(self) -> None:
        # Shape, window and interpolation are checked as those of a slice are.
        SliceSpec(
            name=self.name,
            shape=self.shape,
            hu_window=self.hu_window,
            interpolation=self.interpolation,
        )
        low, high = self.hu_window
        whole = all(bound.is_integer() and abs(bound) < 2**15 for bound in self.hu_window)
        if not whole or not low < self.body_above_hu < high:
            raise InvalidBundle(
                f"preprocessing spec {self.name!r} has HU that ctedge does not know",
                found=f"window {low:g} to {high:g}, body above {self.body_above_hu:g}",
                expected="a window of whole numbers of 16 bits, and the body's bound inside it",
                fix="use a spec written by this version, or update ctedge",
            )

    @property
    def axes(self) -> str:
        """The anatomical side that rows and columns grow towards: Posterior and Left."""
        return "PL"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Rows, columns, and one channel, of the network's input."""
        return (*self.shape, 1)

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return plain_json(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LungMaskSpec:
        """Read a spec back.

        Raises:
            InvalidBundle: a field is missing, unknown, or of the wrong kind.
        """
        check_fields(cls, document)
        with as_invalid_bundle():
            rows, columns = (int(n) for n in document["shape"])
            low, high = (float(bound) for bound in document["hu_window"])
            return cls(
                name=str(document["name"]),
                shape=(rows, columns),
                hu_window=(low, high),
                body_above_hu=float(document["body_above_hu"]),
                interpolation=str(document["interpolation"]),
            )


LUNGMASK = LungMaskSpec(name="lungmask", shape=(256, 256))
