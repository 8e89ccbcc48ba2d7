"""Writing a phantom as NIfTI or as a DICOM series, always labelled synthetic."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.extras import require
from ctedge.files import atomic_folder
from ctedge.nifti_writer import write_volume
from ctedge.phantom.render import Phantom

#: Root for UIDs made from random numbers, without registration (DICOM PS3.5, B.2).
_UID_ROOT = "2.25."
_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_INTERCEPT = -1024

#: Most characters of a DICOM short string (PS3.5, 6.2).
_SHORT_STRING = 16


def write_nifti(phantom: Phantom, path: str | os.PathLike[str]) -> Path:
    """Write `.nii` or `.nii.gz`: int16 HU, sform and qform, mm. The same phantom, the same bytes.

    Raises:
        OutputError: another suffix, or it cannot be written.
    """
    return _save(phantom.voxels, phantom, path)


def write_lung_mask(phantom: Phantom, path: str | os.PathLike[str]) -> Path:
    """Write the true lungs as `.nii` or `.nii.gz`: uint8, 1 is lung, with the phantom's geometry.

    Raises:
        OutputError: another suffix, or it cannot be written.
    """
    return _save(phantom.lung_mask.astype(np.uint8), phantom, path)


def _save(values: npt.NDArray[Any], phantom: Phantom, path: str | os.PathLike[str]) -> Path:
    seed = phantom.patient.seed
    description = f"SYNTHETIC phantom, seed {seed}"
    return write_volume(path, values, phantom.affine, description=description)


def write_dicom(
    phantom: Phantom, folder: str | os.PathLike[str], *, reference: str | None = None
) -> Path:
    """Write a folder of explicit little endian CT images, one a slice, whole or not at all.

    Args:
        phantom: what to write.
        folder: created.
        reference: at most 16 characters, the Scheduled Procedure Step ID in the Request
            Attributes Sequence of every image; None leaves the sequence out.

    Raises:
        ValueError: a reference that is empty or too long.
        MissingExtra: pydicom is not installed.
        OutputError: the folder exists, or cannot be written.
    """
    pydicom = require("pydicom", extra="dicom", purpose="writing a DICOM series")
    uid = require("pydicom.uid", extra="dicom", purpose="writing a DICOM series")
    request = _request(pydicom, reference)
    target = Path(folder)
    x_size, y_size, slices = phantom.voxels.shape
    dx, dy, dz = phantom.spacing_mm
    series, study, frame = (_uid(phantom, kind) for kind in (1, 2, 3))
    with atomic_folder(target) as temporary:
        for index in range(slices):
            # Rows run to Posterior and columns to Left; RAS millimetres become LPS.
            corner = phantom.affine @ np.array([0, y_size - 1, index, 1.0])
            position = [-corner[0], -corner[1], corner[2]]
            stored = phantom.voxels[:, ::-1, index].T.astype(np.int32) - _INTERCEPT
            image = pydicom.Dataset()
            image.file_meta = pydicom.dataset.FileMetaDataset()
            image.file_meta.MediaStorageSOPClassUID = _CT_IMAGE_STORAGE
            image.file_meta.MediaStorageSOPInstanceUID = _uid(phantom, 10 + index)
            image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
            image.SOPClassUID = _CT_IMAGE_STORAGE
            image.SOPInstanceUID = _uid(phantom, 10 + index)
            image.SpecificCharacterSet = "ISO_IR 100"
            image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
            image.StudyDate = image.StudyTime = image.AccessionNumber = ""
            image.Modality = "CT"
            image.Manufacturer = "ctedge synthetic phantom"
            image.ReferringPhysicianName = image.PatientBirthDate = image.PatientSex = ""
            image.SeriesDescription = "SYNTHETIC chest CT phantom"
            image.PatientName = "SYNTHETIC^PHANTOM"
            image.PatientID = f"SYNTHETIC-{phantom.patient.seed}"
            image.PatientPosition = "HFS"
            image.ImageComments = "synthetic"
            image.StudyID = "1"
            image.StudyInstanceUID, image.SeriesInstanceUID = study, series
            image.FrameOfReferenceUID, image.PositionReferenceIndicator = frame, ""
            image.SeriesNumber, image.AcquisitionNumber = 1, 1
            image.InstanceNumber = index + 1
            image.KVP = 120
            image.ImagePositionPatient = [_decimal(value) for value in position]
            image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            image.PixelSpacing = [_decimal(dy), _decimal(dx)]
            image.SliceThickness = _decimal(phantom.patient.scanner.thickness_mm)
            image.SpacingBetweenSlices = _decimal(dz)
            image.update(request)
            image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
            image.Rows, image.Columns = y_size, x_size
            image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
            image.PixelRepresentation = 0
            image.RescaleIntercept, image.RescaleSlope, image.RescaleType = _INTERCEPT, 1, "HU"
            image.WindowCenter, image.WindowWidth = -600, 1500
            image.PixelData = stored.astype("<u2").tobytes()
            image.save_as(temporary / f"synthetic_{index + 1:04d}.dcm", enforce_file_format=True)
    return target


def _request(pydicom: Any, reference: str | None) -> Any:
    """What every image says of the request it answers; nothing where there is no reference."""
    image = pydicom.Dataset()
    if reference is None:
        return image
    if not 1 <= len(reference) <= _SHORT_STRING:
        raise ValueError(f"a reference has 1 to {_SHORT_STRING} characters, not {reference!r}")
    item = pydicom.Dataset()
    item.ScheduledProcedureStepID = reference
    image.RequestAttributesSequence = [item]
    return image


def _uid(phantom: Phantom, kind: int) -> str:
    """A UID that depends on the seed, the lesion share and the shape, and on nothing else."""
    sizes = [int(n) for n in phantom.voxels.shape]
    share = round(phantom.patient.lesions.share * 1e6)
    words = np.random.SeedSequence([phantom.patient.seed, share, *sizes, kind]).generate_state(4)
    number = 0
    for word in words.tolist():
        number = number << 32 | word
    return f"{_UID_ROOT}{number}"


def _decimal(value: float) -> str:
    """A DICOM decimal string of at most 16 characters."""
    return f"{value:.8g}" if abs(value) < 1e6 else f"{value:.6e}"
