"""Values of a header's elements, wherever the object keeps them, as finite numbers or an error.

A plain CT image has them at its top, an enhanced one in functional groups, PS3.3 C.7.6.16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries, counted
from ctedge.readers.dicom.opening import Header, check_value
from ctedge.readers.dicom.patients import IDENTITY

#: Elements that are read of every header; the sequences are those of enhanced images.
WANTED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    *IDENTITY,
    "Modality",
    "ImageType",
    "VolumeBasedCalculationTechnique",
    "BodyPartExamined",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "PixelSpacing",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)

#: Where a frame's functional groups keep what a plain image has at its top.
_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "AcquisitionNumber": "FrameContentSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "VolumeBasedCalculationTechnique": "CTImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
}
_NAME_IN_GROUP = {"AcquisitionNumber": "FrameAcquisitionNumber"}

#: Nothing in a header is larger: squares of it, and its products with pixels, still are numbers.
_LARGEST = 1e100

_POSITIVE = {"Rows", "Columns", "PixelSpacing", "RescaleSlope"}


class Frame:
    """Element values of one frame.

    Args:
        header: of the object, with the elements `WANTED`.
        index: of the frame; None for an object without functional groups.
    """

    def __init__(self, header: Header, index: int | None) -> None:
        self._header = header
        self._index = index

    def get(self, keyword: str) -> Any:
        """The value; None where the element is absent."""
        if self._index is not None and keyword in _GROUP_OF:
            per_frame = self._header["PerFrameFunctionalGroupsSequence"][self._index]
            shared = self._header.get("SharedFunctionalGroupsSequence") or ()
            for group in (per_frame, *shared):
                check_value(group, _GROUP_OF[keyword])
                for macro in group.get(_GROUP_OF[keyword]) or ():
                    name = _NAME_IN_GROUP.get(keyword, keyword)
                    check_value(macro, name)
                    value = macro.get(name)
                    if value is not None:
                        return value
        return self._header.get(keyword)


def numbers(
    name: str, source: Any, keyword: str, count: int, *, default: float | None = None
) -> tuple[float, ...]:
    """The values of an element as finite numbers.

    Args:
        name: of the slice, for messages.
        source: a `Frame`, a header, or a `pydicom.Dataset`.
        keyword: of the element.
        count: how many values it has to have.
        default: where the element is absent.

    Raises:
        IrregularSeries: absent, another count, not finite, or not above 0 where it must be.
    """
    raw = source.get(keyword)
    if raw is None and default is not None:
        return (default,)
    try:
        values = np.atleast_1d(np.asarray(raw, dtype=np.float64))
    except (TypeError, ValueError):
        values = np.empty(0)
    positive = keyword not in _POSITIVE or (values > 0).all()
    if values.size != count or not (np.abs(values) <= _LARGEST).all() or not positive:
        raise IrregularSeries(
            f"{name}: the slice does not say its {keyword}",
            found=None if raw is None else _shown(values),
            expected=counted(count, "finite number") + (" above 0" if keyword in _POSITIVE else ""),
            fix="export the series from the scanner again",
        )
    return tuple(values.tolist())


def text_of(source: Any, keyword: str) -> str:
    """The text of an element, of several values with backslashes; empty where it is absent.

    Args:
        source: a `Frame` or a header.
        keyword: of the element.
    """
    value = source.get(keyword)
    parts = [] if value is None else [value] if isinstance(value, str) else list(value)
    return "\\".join(str(part).strip() for part in parts)


def _shown(values: npt.NDArray[np.float64]) -> str:
    if not values.size:
        return "no numbers"
    return ", ".join(f"{value:g}" for value in values.flat[:8]) + (
        ", ..." if values.size > 8 else ""
    )
