"""CT slices in DICOM for the tests of de-identification, and how they are run through it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from ctedge.deidentify import Options
from ctedge.deidentify.clean import Rules
from ctedge.deidentify.instance import CleanFile, deidentify
from ctedge.deidentify.uids import Keyed
from dicom_factory import change, item, save

KEY = b"a key of thirty-two bytes or more"
RULES = Rules(options=Options(), keyed=Keyed(KEY))
STUDY, SERIES, INSTANCE, FRAME = (f"1.2.826.0.1.3680043.8.498.7770{n}" for n in range(1, 5))


def ct(number: int = 1, **changes: object) -> FileDataset:
    """One slice of 8 x 8 pixels; `changes` set attributes, None takes one out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{INSTANCE}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    slice_.SOPClassUID = CTImageStorage
    slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID = STUDY, SERIES
    slice_.FrameOfReferenceUID = FRAME
    slice_.Modality, slice_.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    slice_.PatientName, slice_.PatientID = "Whitfield^Eleanor", "HOSP-0042317"
    slice_.StudyDate, slice_.StudyTime = "20200229", "101112"
    slice_.InstanceNumber = number
    slice_.Rows = slice_.Columns = 8
    slice_.PixelSpacing = [0.7, 0.7]
    slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    slice_.ImagePositionPatient = [0.0, 0.0, 5.0 * number]
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
    slice_.PixelRepresentation = 0
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.PixelData = np.arange(64, dtype="<u2").tobytes()
    change(slice_, changes)
    return slice_


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def clean(tmp_path: Path, dataset: FileDataset, rules: Rules = RULES) -> CleanFile:
    return deidentify(save(tmp_path / "one.dcm", dataset), rules)


def cleaned(tmp_path: Path, dataset: FileDataset, rules: Rules = RULES) -> FileDataset:
    """The dataset after de-identification, read again from its bytes."""
    return pydicom.dcmread(io.BytesIO(clean(tmp_path, dataset, rules).data))


def rules(**options: bool) -> Rules:
    return Rules(options=Options(**options), keyed=Keyed(KEY))
