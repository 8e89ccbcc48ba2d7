"""One slice as its writer put it into every transfer syntax, and oddities of real archives."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian

from ctedge import read_scan

#: The lossy files of the corpus stay within so many HU on average.
LOSSY_HU = 40

#: The 8-bit file keeps 32 HU for each of its levels.
EIGHT_BIT_HU = 200

# Each file is written as a series of 16: only position and identity differ.


def series_of(path: Path, folder: Path, *, count: int = 16) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what old files get wrong
        one = pydicom.dcmread(path)
        x, y, z = one.ImagePositionPatient
        for number in range(count):
            one.ImagePositionPatient = [x, y, float(z) + 2 * number]
            one.InstanceNumber = number + 1
            one.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number + 1}"
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            stream = io.BytesIO()
            big = one.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
            if big:  # pydicom writes what it read in the order of bytes that it read
                pydicom.dcmwrite(stream, one, implicit_vr=False, little_endian=False)
            else:
                pydicom.dcmwrite(stream, one)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:03d}.dcm").write_bytes(stream.getvalue())
    return folder


LOSSLESS = [
    "LittleEndianImplicit",
    "LittleEndianExplicit",
    "BigEndianExplicit",
    "DeflatedExplicit",
    "RLELossless",
    "JPEGProcess14SV1",
    "JPEGProcess14Tr",
    "JPEGLSLossless",
    "JPEG2000Lossless",
]
LOSSY = {
    "JPEG2000Tr": LOSSY_HU,
    "JPEGLSLossy": LOSSY_HU,
    "JPEGProcess1Tr": EIGHT_BIT_HU,
    "JPEGProcess2_4": LOSSY_HU,
    "JPEGProcess6_8": LOSSY_HU,
    "JPEGProcess10_12": LOSSY_HU,
}


def plane_of(folder: Path) -> np.ndarray:
    return next(read_scan(folder).planes.each([5]))


@pytest.mark.realdata
class TestCorpus:
    @pytest.fixture
    def corpus(self, real_data) -> Path:
        return real_data / "dicom" / "transfer_syntaxes"

    def named(self, corpus: Path, name: str) -> Path:
        (path,) = corpus.glob(f"CTImage.dcm_{name}*")
        return path

    @pytest.fixture
    def original(self, corpus, tmp_path) -> np.ndarray:
        return plane_of(series_of(corpus / "CTImage.dcm", tmp_path / "original"))

    @pytest.mark.parametrize("name", LOSSLESS)
    def test_lossless(self, corpus, tmp_path, original, name):
        found = plane_of(series_of(self.named(corpus, name), tmp_path / name))
        np.testing.assert_array_equal(found, original)

    @pytest.mark.parametrize("name", LOSSY)
    def test_lossy(self, corpus, tmp_path, original, name):
        found = plane_of(series_of(self.named(corpus, name), tmp_path / name))
        assert np.abs(found.astype(float) - original).mean() < LOSSY[name]

    @pytest.mark.parametrize(
        "name",
        [
            "693_J2KR.dcm",
            "693_UNCI.dcm",
            "SignedShortLosslessBug.dcm",
            "bad_sequence.dcm",
            "explicit_VR-UN.dcm",
            "lungct_diagnosis_R004_1-01.dcm",
            "philips_liver_j2k_lossy.dcm",
        ],
    )
    def test_oddities(self, real_data, tmp_path, name):
        plane = plane_of(series_of(real_data / "dicom" / "oddities" / name, tmp_path))
        assert plane.shape == (512, 512)
        assert -1024 <= plane.min() < -500  # air in the corners, or around a patient
        assert plane.max() > 500
