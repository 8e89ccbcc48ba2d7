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
    slice-study     one axial slice for a DenseNet121 with three equal channels, 224 x 224, as in
                    the published slice classifiers after Huang et al., 2017; mean and deviation
                    of ImageNet only for a network that started from ImageNet.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ctedge.errors import InvalidBundle

#: Air to soft tissue and the softer bones, as in the Keras example.
HU_WINDOW = (-1000.0, 400.0)

#: Orientation of a scan without affine, and of MosMed's files as nibabel presents them:
#: voxel axes grow towards the patient's Left, Anterior and Superior side.
CANONICAL_AXES = "LAS"

#: The ends of each of those axes, either of which an output's axis may grow towards.
AXIS_ENDS = ("LR", "AP", "SI")

#: No network input is larger, and no window wider: a spec beyond is damaged or hostile.
MAX_VOXELS = 512**3
MAX_HU = 1e5

#: No channel is shifted or scaled by more: inputs are 0..1, ImageNet's figures below 1.
MAX_CHANNEL = 10.0

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

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """The three axes, and one channel, of the network's input."""
        return (*self.shape, 1)

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return plain_json(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PreprocessSpec:
        """Read a spec back.

        Raises:
            InvalidBundle: a field is missing, unknown, or of the wrong kind.
        """
        check_fields(cls, document)
        with as_invalid_bundle():
            first, second, third = (int(n) for n in document["shape"])
            low, high = (float(bound) for bound in document["hu_window"])
            return cls(
                name=str(document["name"]),
                shape=(first, second, third),
                axes=str(document["axes"]),
                hu_window=(low, high),
                interpolation=str(document["interpolation"]),
                lungs_only=bool(document["lungs_only"]),
            )


@dataclass(frozen=True, kw_only=True)
class SliceSpec:
    """How one axial slice becomes a network's input of three equal channels.

    A slice of a scan is windowed and resized as a volume is. A picture's grey levels are taken as
    an already windowed slice, black 0 and white 1. Each channel is then (value - mean) / deviation.

    Attributes:
        name: the name it is known by.
        shape: rows (anterior to posterior) and columns (towards Left), in pixels.
        hu_window: lower and upper bound in HU; mapped to 0 and 1, clipped outside.
        interpolation: "linear-aligned-ends", see `PreprocessSpec`. Rows and columns are resized
            independently: a picture that is not square is stretched.
        mean, deviation: of the three channels, in units of 0..1; (0, 0, 0) and (1, 1, 1) change
            nothing.
    """

    name: str
    shape: tuple[int, int]
    hu_window: tuple[float, float] = HU_WINDOW
    interpolation: str = "linear-aligned-ends"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        self.plane  # noqa: B018 - shape, window and interpolation are checked by the plane's spec
        channels = {"mean": self.mean, "deviation": self.deviation}
        for field, values in channels.items():
            least = 1e-3 if field == "deviation" else -MAX_CHANNEL
            if len(values) != 3 or not all(least <= value <= MAX_CHANNEL for value in values):
                raise InvalidBundle(
                    f"preprocessing spec {self.name!r} has a {field} that ctedge does not know",
                    found=values,
                    expected=f"three numbers from {least:g} to {MAX_CHANNEL:g}",
                    fix="use a spec written by this version, or update ctedge",
                )

    @property
    def axes(self) -> str:
        """The anatomical side that rows and columns grow towards: Posterior and Left."""
        return "PL"

    @property
    def plane(self) -> PreprocessSpec:
        """The contract of the slice as a volume of one: (rows, columns, 1), 0..1."""
        rows, columns = self.shape if len(self.shape) == 2 else (0, 0)
        return PreprocessSpec(
            name=self.name,
            shape=(rows, columns, 1),
            axes=f"{self.axes}S",
            hu_window=self.hu_window,
            interpolation=self.interpolation,
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Rows, columns, channels of the network's input."""
        return (*self.shape, 3)

    def to_json(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        return plain_json(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> SliceSpec:
        """Read a spec back.

        Raises:
            InvalidBundle: a field is missing, unknown, or of the wrong kind.
        """
        check_fields(cls, document)
        with as_invalid_bundle():
            rows, columns = (int(n) for n in document["shape"])
            low, high = (float(bound) for bound in document["hu_window"])
            mean_red, mean_green, mean_blue = (float(value) for value in document["mean"])
            red, green, blue = (float(value) for value in document["deviation"])
            return cls(
                name=str(document["name"]),
                shape=(rows, columns),
                hu_window=(low, high),
                interpolation=str(document["interpolation"]),
                mean=(mean_red, mean_green, mean_blue),
                deviation=(red, green, blue),
            )


Spec = PreprocessSpec | SliceSpec


def spec_from_json(document: Mapping[str, Any], *, task: str) -> Spec:
    """Read back the spec of a network of this task ("classifier", "severity" or "slices").

    Raises:
        InvalidBundle: a field is missing, unknown, or of the wrong kind.
    """
    return (SliceSpec if task == "slices" else PreprocessSpec).from_json(document)


def plain_json(spec: Any) -> dict[str, Any]:
    """A frozen spec as plain JSON values."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(spec).items()
    }


def check_fields(kind: type[Any], document: Mapping[str, Any]) -> None:
    """Refuse a document that has other fields than a spec of this kind."""
    known = {field.name for field in fields(kind)}
    if not isinstance(document, Mapping) or set(document) != known:
        raise InvalidBundle(
            "the preprocessing spec has other fields than this version knows",
            found=sorted(document) if isinstance(document, Mapping) else document,
            expected=sorted(known),
            fix="export the bundle again with this version, or update ctedge",
        )


@contextlib.contextmanager
def as_invalid_bundle() -> Iterator[None]:
    """Values of the wrong kind are a broken spec."""
    try:
        yield
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise InvalidBundle(
            "the preprocessing spec is broken", found=error, fix="export the bundle again"
        ) from error


KERAS_EXAMPLE = PreprocessSpec(name="keras-example", shape=(128, 128, 64), axes="PLS")
SEVERITY_STUDY = PreprocessSpec(name="severity-study", shape=(64, 128, 128), axes="SPL")
SLICE_STUDY = SliceSpec(name="slice-study", shape=(224, 224))

#: Mean and standard deviation of ImageNet's channels, 0..1, as published networks use them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
