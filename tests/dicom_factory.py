"""Small synthetic CT series of DICOM: plain slices and enhanced multi-frame objects."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

import dicom_frames

AXIAL = (1, 0, 0, 0, 1, 0)
ORIGIN = (-100.0, -120.0, -300.0)
STEP_MM = 5.0
SPACING_MM = (0.8, 0.7)
#: Of 20 slices of 16 x 16 pixels: a chest by its extent and its field, of one examination.
CHEST = {"step": 10.0, "spacing": (16.0, 16.0), "study": "1.2.826.0.1.3680043.10.1"}
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)


def hu_of(*shape: int) -> Any:
    """A fixture: random HU (slices, rows, columns)."""

    @pytest.fixture
    def hu(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(-1000, 1200, shape).astype(np.int16)

    return hu


def las(hu: np.ndarray) -> np.ndarray:
    """What `read_scan` makes of (slices, rows, columns) written as they are: (X, Y, Z) in LAS."""
    return hu.transpose(2, 1, 0)[:, ::-1]


def per_slice(value: Any, number: int) -> Any:
    return value[number] if isinstance(value, (list, np.ndarray)) else value


def stored_pixels(hu: np.ndarray, slope: float, intercept: float, kind: str) -> np.ndarray:
    return np.round((hu.astype(np.float64) - intercept) / slope).astype(kind)


def blank(class_uid: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = class_uid
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    made = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    made.SOPClassUID = class_uid
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    made.Modality, made.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.PatientName, made.PatientID = "Whitfield^Eleanor", "HOSP-0042317"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    return made


def slices(
    hu: np.ndarray,
    *,
    spacing: tuple[float, float] = SPACING_MM,
    step: float = STEP_MM,
    origin: Sequence[float] = ORIGIN,
    orientation: Sequence[float] = AXIAL,
    slope: Any = 1,
    intercept: Any = -1024,
    signed: bool = False,
    bits: tuple[int, int, int] = (16, 16, 15),
    stored: np.ndarray | None = None,
    acquisition: Any = None,
    series: str | None = None,
    study: str | None = None,
    syntax: str = ExplicitVRLittleEndian,
    **elements: Any,
) -> list[FileDataset]:
    """(slices, rows, columns) of HU as data sets, along the slice normal.

    Slope, intercept, acquisition and further elements may be lists, one value a slice; an element
    with several values is a tuple.
    """
    series, study = series or generate_uid(), study or generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    end = ">" if syntax == ExplicitVRBigEndian else "<"
    kind = f"{end}{'i' if signed else 'u'}{bits[0] // 8}"
    made = []
    for number, pixels in enumerate(hu):
        one = blank(CTImageStorage, syntax if syntax in NATIVE else ExplicitVRLittleEndian)
        one.StudyInstanceUID, one.SeriesInstanceUID = study, series
        one.InstanceNumber = number + 1
        one.Rows, one.Columns = pixels.shape
        one.PixelSpacing = list(spacing)
        one.ImageOrientationPatient = list(orientation)
        place = np.asarray(origin) + normal * step * number
        one.ImagePositionPatient = [round(float(v), 6) for v in place]
        one.BitsAllocated, one.BitsStored, one.HighBit = bits
        one.PixelRepresentation = int(signed)
        one.RescaleSlope = per_slice(slope, number)
        one.RescaleIntercept = per_slice(intercept, number)
        if acquisition is not None:
            one.AcquisitionNumber = per_slice(acquisition, number)
        values = (
            stored_pixels(pixels, per_slice(slope, number), per_slice(intercept, number), kind)
            if stored is None
            else stored[number].astype(kind)
        )
        one.PixelData = values.tobytes()
        one["PixelData"].VR = "OB" if bits[0] == 8 else "OW"
        change(one, {keyword: per_slice(value, number) for keyword, value in elements.items()})
        if syntax not in NATIVE and "Deflated" not in pydicom.uid.UID(syntax).name:
            dicom_frames.compress(one, syntax)
        one.file_meta.TransferSyntaxUID = syntax
        made.append(one)
    return made


def change(one: Dataset, elements: dict[str, Any]) -> None:
    """Set elements; None takes one out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that are meant to be wrong
        for keyword, value in elements.items():
            if value is None:
                delattr(one, keyword)
            elif keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
                one.add_new(keyword, "SS" if value < 0 else "US", value)
            else:
                setattr(one, keyword, list(value) if isinstance(value, tuple) else value)


def save(path: Path, one: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


def write_series(folder: Path, hu: np.ndarray, *, reverse: bool = False, **how: Any) -> list[Path]:
    """`slices` in files; their names are in the order of the slices, or in the reverse."""
    made = slices(hu, **how)
    names = [f"{len(made) - n if reverse else n:03d}.dcm" for n in range(len(made))]
    return [save(folder / name, one) for name, one in zip(names, made, strict=True)]


def edit(path: Path, **elements: Any) -> None:
    one = pydicom.dcmread(path)
    change(one, elements)
    save(path, one)


def uid_of(folder: Path) -> str:
    """Of the series in a folder."""
    return str(pydicom.dcmread(next(folder.iterdir())).SeriesInstanceUID)


def unknown(paths: list[Path]) -> None:
    """Pixels in a way that nothing decodes."""
    for path in paths:
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = MPEG2MPML
        one.PixelData = encapsulate([bytes(100)])
        save(path, one)


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def enhanced(
    hu: np.ndarray,
    *,
    order: Sequence[int] | None = None,
    slope: Any = 1,
    intercept: Any = -1024,
    shared_rescale: bool = False,
    acquisition: Any = None,
    syntax: str = ExplicitVRLittleEndian,
) -> FileDataset:
    """(slices, rows, columns) of HU as one enhanced CT object; `order` of its frames."""
    frames = range(len(hu)) if order is None else order
    one = blank(EnhancedCTImageStorage, ExplicitVRLittleEndian)
    one.StudyInstanceUID, one.SeriesInstanceUID = generate_uid(), generate_uid()
    one.NumberOfFrames = len(hu)
    one.Rows, one.Columns = hu.shape[1:]
    one.BitsAllocated, one.BitsStored, one.HighBit = 16, 16, 15
    one.PixelRepresentation = 0
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=list(SPACING_MM), SliceThickness=STEP_MM)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(AXIAL))],
    )
    per_frame, pixels = [], []
    for number in frames:
        x, y, z = ORIGIN
        group = item(
            PlanePositionSequence=[item(ImagePositionPatient=[x, y, z + STEP_MM * number])],
            FrameContentSequence=[item(FrameAcquisitionNumber=per_slice(acquisition or 1, number))],
        )
        scale = item(
            RescaleSlope=per_slice(slope, number),
            RescaleIntercept=per_slice(intercept, number),
            RescaleType="HU",
        )
        (shared if shared_rescale else group).PixelValueTransformationSequence = [scale]
        per_frame.append(group)
        pixels.append(stored_pixels(hu[number], scale.RescaleSlope, scale.RescaleIntercept, "<u2"))
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = per_frame
    one.PixelData = np.stack(pixels).tobytes()
    one["PixelData"].VR = "OW"
    if syntax in NATIVE:
        one.file_meta.TransferSyntaxUID = syntax
    else:
        dicom_frames.compress(one, syntax)
    return one


def splice(path: Path, blob: bytes, *, before: tuple[int, int] = (0x0020, 0x000D)) -> None:
    """Put raw bytes in front of an element (explicit little endian)."""
    data = path.read_bytes()
    place = data.index(struct.pack("<HH", *before), 300)
    path.write_bytes(data[:place] + blob + data[place:])


#: Directions of rows and columns, in LPS: every axial way that a slice can lie.
WAYS = {
    "head first, supine": ((1, 0, 0), (0, 1, 0)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "feet first: slices grow towards the feet": ((-1, 0, 0), (0, 1, 0)),
    "feet first, prone": ((1, 0, 0), (0, -1, 0)),
    "axes swapped": ((0, 1, 0), (1, 0, 0)),
    "lying on the left": ((0, 1, 0), (-1, 0, 0)),
    "lying on the right": ((0, -1, 0), (1, 0, 0)),
    "swapped and turned": ((0, -1, 0), (-1, 0, 0)),
}


def oriented(
    volume: np.ndarray,
    row: Sequence[int],
    column: Sequence[int],
    *,
    spacing_mm: tuple[float, float, float] = (0.7, 0.8, 5.0),
) -> tuple[np.ndarray, dict[str, Any]]:
    """An (X, Y, Z) LAS volume as the slices that a scanner writes along these directions in LPS.

    Returns:
        (slices, rows, columns), and the geometry for `slices`.
    """
    directions = (np.cross(row, column), np.asarray(column), np.asarray(row))
    axes = [int(np.abs(direction).argmax()) for direction in directions]
    lps = volume[:, ::-1]
    pixels = lps.transpose(axes)
    origin = np.array(ORIGIN)
    for place, (axis, direction) in enumerate(zip(axes, directions, strict=True)):
        if direction[axis] < 0:
            pixels = np.flip(pixels, place)
            origin[axis] += spacing_mm[axis] * (lps.shape[axis] - 1)
    geometry = {
        "spacing": (spacing_mm[axes[1]], spacing_mm[axes[2]]),
        "step": spacing_mm[axes[0]],
        "origin": origin.tolist(),
        "orientation": (*row, *column),
    }
    return pixels, geometry
