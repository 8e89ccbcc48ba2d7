"""Which DICOM objects are CT slices at all; what is none is left out, with the reason."""

from __future__ import annotations

from typing import Any

from ctedge.readers.dicom.elements import Frame
from ctedge.readers.dicom.opening import Header, damaged

#: CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image Storage, PS3.4 B.5.
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)

#: The class of a DICOMDIR, PS3.4 B.5.
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

#: Image types that name a picture of something else than one slice, PS3.3 C.8.2.1.1.1 and C.8.16.1,
#: and vendors'.
_NO_SLICE = {
    "LOCALIZER": "a scout",
    "SCOUT": "a scout",
    "SCREEN SAVE": "a screen save",
    "SCREENSHOT": "a screen save",
    "DOSE": "a dose screen",
    "DOSE_INFO": "a dose screen",
    "CSA REPORT": "a report",
    "PERFUSION": "a perfusion map",
    **dict.fromkeys(
        ("MIP", "MAX_IP", "MAXIMUM", "MINIP", "MIN_IP", "MINIMUM"), "a projection of many slices"
    ),
    **dict.fromkeys(("VRT", "VOLUME_RENDER", "SSD", "SURFACE_RENDER"), "a rendering"),
    "CURVED_MPR": "a curved reconstruction",
    **dict.fromkeys(
        ("SUBTRACTION", "DIVISION", "MULTIPLICATION", "STD_DEVIATION", "QUANTITY"),
        "a map calculated of other images",
    ),
}

#: Rescale types whose values are HU; absent means HU, PS3.3 C.8.2.1.
_HOUNSFIELD = ("", "HU", "HU_MOD")


def reason_to_leave_out(header: Header, name: str, trailing: int | None) -> str | None:
    """Why an object is no CT slice; None for one that is.

    Args:
        header: with the elements `elements.WANTED`.
        name: of the object, for messages.
        trailing: how many bytes follow the header, where that can be told.

    Raises:
        UnreadableScan: the file began as a CT slice, and what makes it one is lost, or its pixels
            are; or it ends before it says what it is.
    """
    begun = header.get("MediaStorageSOPClassUID")
    if begun == _MEDIA_DIRECTORY:
        return "a DICOMDIR, whose references are not followed"
    kind, modality = header.get("SOPClassUID"), header.get("Modality")
    _check_whole(header, name, begun, trailing)
    kind = begun if kind is None else kind
    if kind is not None and kind not in CT_CLASSES:
        return f"{getattr(kind, 'name', kind)}, no CT image"
    if modality != "CT":
        return f"Modality {modality}, no CT" if modality else "no Modality"
    if header.get("Rows") is None:
        return "no image"
    return _other_picture(header, "ImageType") or _reason_of_frames(header)


def _reason_of_frames(header: Header) -> str | None:
    """Why no frame is a slice; None where one is: others are then refused as slices are read."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    places = range(len(groups)) if groups else (None,)
    reasons = (reason_of_frame(Frame(header, place)) for place in places)
    first = next(reasons)
    return first if first and all(reasons) else None


def reason_of_frame(frame: Frame) -> str | None:
    """Why a frame of an object of CT is no picture of a slice in HU; None for one that is."""
    scale = str(frame.get("RescaleType") or "").strip().upper()
    other = None if scale in _HOUNSFIELD else f"its values are {scale}, not HU (RescaleType)"
    kind = _other_picture(frame, "FrameType")
    return kind or _other_picture(frame, "VolumeBasedCalculationTechnique") or other


def _other_picture(source: Any, keyword: str) -> str | None:
    for part in _listed(source.get(keyword)):
        name = str(part).strip().upper()
        if name in _NO_SLICE:
            return f"{_NO_SLICE[name]} ({keyword} {name})"
    return None


def _check_whole(header: Header, name: str, begun: Any, trailing: int | None) -> None:
    """A file that was cut off still says at its beginning what it was."""
    kind = header.get("SOPClassUID")
    lost = [word for word in ("Modality", "Rows", "Columns") if header.get(word) in (None, "")]
    known = getattr(begun, "name", begun) != begun  # else it may be the beginning of one
    if kind is None and "Modality" in lost and not known:
        raise damaged(name, "it ends before it says what it is")
    if begun not in CT_CLASSES and (begun is not None or kind not in CT_CLASSES):
        return
    if trailing is not None and trailing <= 0:
        raise damaged(name, "it ends before its pixels")
    if begun in CT_CLASSES and kind is not None and kind != begun:
        raise damaged(name, f"it begins as {begun.name} and goes on as another class")
    if lost:
        raise damaged(name, f"it is of CT and lacks its {', '.join(lost)}")


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
