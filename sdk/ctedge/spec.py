"""The preprocessing contract as data: what turns a CT scan into a network's input.

A spec is written once here, stored in every bundle, and read by the one implementation in
`ctedge.preprocessing`. Training, gates and prediction therefore cannot disagree about it.

Sources:
    keras-example   Zunair, "3D image classification from CT scans", Keras examples, 2020:
                    HU clipped to [-1000, 400], scaled to 0..1, rotated by 90 degrees in the
                    plane, resized by scipy.ndimage.zoom(order=1) to 128 x 128 x 64.
    severity-study  Kavin Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier",
                    PSG College of Technology, 2020: depth first, 64 x 128 x 128. The study fed
                    unwindowed integer HU; here they are windowed to 0..1 as above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ctedge.errors import InvalidBundle

#: Air to soft tissue and the softer bones, as in the Keras example.
HU_WINDOW = (-1000.0, 400.0)

#: Orientation of a scan without affine, and of MosMed's files as nibabel presents them:
#: voxel axes grow towards the patient's Left, Anterior and Superior side.
CANONICAL_AXES = "LAS"

#: No network input is larger, and no window wider: a spec beyond is damaged or hostile.
MAX_VOXELS = 512**3
MAX_HU = 1e5

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True, kw_only=True)
class PreprocessSpec:
    """How a scan becomes a network's input.

    Attributes:
        name: the name it is known by.
        shape: output size, in voxels, in the order of `axes`. Never changes for a given name.
        axes: the anatomical side each output axis grows towards, as in nibabel's axis codes.
            "PLS" is (row anterior to posterior, column towards Left, slice towards Superior).
        hu_window: lower and upper bound in HU; mapped to 0 and 1, clipped outside.
        interpolation: "linear-aligned-ends": output index i reads the input at
            i * (n_in - 1) / (n_out - 1), linearly, on every axis.
        lungs_only: voxels outside the lung mask take the lower end of the window.
    """

    name: str
    shape: tuple[int, int, int]
    axes: str
    hu_window: tuple[float, float] = HU_WINDOW
    interpolation: str = "linear-aligned-ends"
    lungs_only: bool = False

    def __post_init__(self) -> None:
        sides = [frozenset((side, _OPPOSITE.get(side, ""))) for side in self.axes]
        problems = {
            "shape": len(self.shape) != 3
            or min(self.shape) < 1
            or math.prod(self.shape) > MAX_VOXELS,
            "axes": len(sides) != 3 or len(set(sides)) != 3 or not set(self.axes) <= set(_OPPOSITE),
            "hu_window": len(self.hu_window) != 2
            or max(map(abs, self.hu_window)) > MAX_HU
            or not self.hu_window[1] - self.hu_window[0] >= 1.0,
            "interpolation": self.interpolation != "linear-aligned-ends",
        }
        for field, broken in problems.items():
            if broken:
                raise InvalidBundle(
                    f"preprocessing spec {self.name!r} has a {field} that ctedge does not know",
                    found=getattr(self, field),
                    fix="use a spec written by this version, or update ctedge",
                )

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PreprocessSpec:
        """Read a spec back.

        Raises:
            InvalidBundle: a field is missing, unknown, or of the wrong kind.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(document, Mapping) or set(document) != known:
            raise InvalidBundle(
                "the preprocessing spec has other fields than this version knows",
                found=sorted(document) if isinstance(document, Mapping) else document,
                expected=sorted(known),
                fix="export the bundle again with this version, or update ctedge",
            )
        try:
            shape = tuple(int(n) for n in document["shape"])
            low, high = (float(bound) for bound in document["hu_window"])
            return cls(
                name=str(document["name"]),
                shape=(shape[0], shape[1], shape[2]),
                axes=str(document["axes"]),
                hu_window=(low, high),
                interpolation=str(document["interpolation"]),
                lungs_only=bool(document["lungs_only"]),
            )
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise InvalidBundle(
                "the preprocessing spec is broken",
                found=error,
                fix="export the bundle again",
            ) from error


KERAS_EXAMPLE = PreprocessSpec(name="keras-example", shape=(128, 128, 64), axes="PLS")
SEVERITY_STUDY = PreprocessSpec(name="severity-study", shape=(64, 128, 128), axes="SPL")
