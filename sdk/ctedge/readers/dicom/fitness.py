"""Which DICOM objects are CT slices at all; what is none is left out, with the reason."""

from __future__ import annotations

from typing import Any

#: CT Image, Enhanced CT Image, Legacy Converted Enhanced CT Image Storage, PS3.4 B.5.
CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)

#: The class of a DICOMDIR, PS3.4 B.5.
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

#: Image types that name a picture of something else than one slice, PS3.3 C.8.2.1.1.1 and vendors'.
_NO_SLICE = {
    "LOCALIZER": "a scout",
    "SCOUT": "a scout",
    "SCREEN SAVE": "a screen save",
    "SCREENSHOT": "a screen save",
    "DOSE": "a dose screen",
    "DOSE_INFO": "a dose screen",
    "CSA REPORT": "a report",
    "PERFUSION": "a perfusion map",
}

#: Rescale types whose values are HU; absent means HU, PS3.3 C.8.2.1.
_HOUNSFIELD = ("", "HU", "HU_MOD")


def reason_to_leave_out(header: Any) -> str | None:
    """Why an object is no CT slice; None for one that is.

    Args:
        header: a `pydicom.Dataset`.
    """
    meta = getattr(header, "file_meta", None) or {}
    if meta.get("MediaStorageSOPClassUID") == _MEDIA_DIRECTORY:
        return "a DICOMDIR, whose references are not followed"
    kind = header.get("SOPClassUID")
    if kind is not None and kind not in CT_CLASSES:
        return f"{getattr(kind, 'name', kind)}, no CT image"
    modality = header.get("Modality")
    if modality != "CT":
        return f"Modality {modality}, no CT" if modality else "no Modality"
    if header.get("Rows") is None:
        return "no image"
    return _other_picture(header) or _other_scale(header)


def _other_picture(header: Any) -> str | None:
    for part in _listed(header.get("ImageType")):
        name = str(part).strip().upper()
        if name in _NO_SLICE:
            return f"{_NO_SLICE[name]} (ImageType {name})"
    return None


def _other_scale(header: Any) -> str | None:
    for source in (header, *_value_macros(header)):
        scale = str(source.get("RescaleType") or "").strip().upper()
        if scale not in _HOUNSFIELD:
            return f"its values are {scale}, not HU (RescaleType)"
    return None


def _value_macros(header: Any) -> list[Any]:
    """The pixel value transformations of an enhanced image: shared, and of the first frame."""
    groups = [
        group
        for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for group in list(header.get(name) or ())[:1]
    ]
    return [
        macro for group in groups for macro in group.get("PixelValueTransformationSequence", ())
    ]


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
