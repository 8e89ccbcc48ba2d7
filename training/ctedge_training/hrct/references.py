"""The CT reference number of a study: what tells, after anonymisation, one scan from another.

Source: Kavin Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier", PSG College of
Technology, 2020, section 5.4 and appendix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ctedge.errors import DatasetError
from ctedge.extras import require

#: Scheduled Procedure Step ID in the Request Attributes Sequence (DICOM PS3.3 C.7.3.1): the
#: study's CT reference number, of which it compared this many characters.
REQUEST_ATTRIBUTES = 0x00400275
REFERENCE_TAG = 0x00400009
REFERENCE_CHARACTERS = 9

#: The storage class of a DICOMDIR, DICOM PS3.4 B.5.
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


def scan_reference(folder: Path) -> str | None:
    """The CT reference number of a study, from the DICOM headers alone.

    The first nine characters of the Scheduled Procedure Step ID (0040,0009) in the first item of
    the Request Attributes Sequence (0040,0275), the same in every file. Files that are no DICOM
    are passed over, as `ctedge.read_scan` does.

    Returns:
        The number, or None where no file carries one.

    Raises:
        DatasetError: no DICOM file, a damaged one, or files that differ.
        MissingExtra: pydicom is not installed.
    """
    pydicom = require("pydicom", extra="dicom", purpose="reading the reference number of a study")
    first: dict[str | None, str] = {}
    for path in sorted(entry for entry in folder.iterdir() if entry.is_file()):
        try:
            header = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=[REQUEST_ATTRIBUTES]
            )
            directory = header.file_meta.get("MediaStorageSOPClassUID") == _MEDIA_DIRECTORY
            reference = None if directory else _reference_in(header)
        except pydicom.errors.InvalidDicomError:
            continue
        except Exception as error:  # pydicom raises many kinds on damaged headers
            raise DatasetError(
                f"{path}: the DICOM file is damaged",
                found=f"{type(error).__name__}: {error}",
                fix="copy the file again from its source",
            ) from error
        if not directory:
            first.setdefault(reference, path.name)
    if not first:
        raise DatasetError(
            f"{folder}: no DICOM file in this study folder",
            fix="copy the study again, or remove the folder and its row",
        )
    if len(first) > 1:
        raise DatasetError(
            f"{folder}: the files of one study folder disagree on their reference",
            found=", ".join(f"{name}: {value or 'no reference'}" for value, name in first.items()),
            expected="one CT reference number (0040,0009) in all files of a folder",
            fix="move the files of another scan out; copy those without a reference again",
        )
    return next(iter(first))


def _reference_in(header: Any) -> str | None:
    items = header.get(REQUEST_ATTRIBUTES)
    if items is None or not items.value or REFERENCE_TAG not in items.value[0]:
        return None
    text = str(items.value[0][REFERENCE_TAG].value or "").strip()
    return text[:REFERENCE_CHARACTERS] or None
