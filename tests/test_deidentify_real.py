"""De-identification of real scans: pixels bit for bit, no UID, name or date of the source left."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID_dictionary

from ctedge import read_scan
from ctedge.deidentify import check_folder, deidentify_folder

pytestmark = pytest.mark.realdata

#: Long enough not to turn up by chance among compressed pixels.
_MIN_BYTES = 8
_IDENTIFYING_VRS = ("PN", "UI", "DA")
_IDENTIFYING = ("PatientID", "AccessionNumber", "InstitutionName", "StationName", "StudyID")


def some(real_data: Path, tmp_path: Path, name: str, step: int = 1, most: int = 99) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((real_data / "dicom" / name).iterdir())[::step][:most]:
        shutil.copyfile(path, folder / path.name)
    return folder


def identities_of(dataset: pydicom.Dataset) -> set[bytes]:
    """Names, dates, numbers and UIDs of a dataset, at every depth, that should be gone."""
    found = set()
    for element in dataset.iterall():
        if element.VR in _IDENTIFYING_VRS or element.keyword in _IDENTIFYING:
            values = element.value if element.VM > 1 else [element.value or ""]
            found |= {str(value) for value in values}
    return {text.encode() for text in found - {*UID_dictionary} if len(text) >= _MIN_BYTES}


def another_reader_reads(path: Path) -> bool:
    """GDCM, inside SimpleITK, shares no code with pydicom, which wrote the file."""
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return "YES" in reader.GetMetaData("0012|0062")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("covid_chest", 30),
        ("phantom_chest_jpeg2000", 25),
        ("noncovid_chest_two_acquisitions", 20),
        ("transfer_syntaxes", 1),
        ("oddities", 1),
    ],
)
def test_real_slices(real_data, tmp_path, name, step):
    source = some(real_data, tmp_path, name, step)
    summary = deidentify_folder(source, tmp_path / "out")
    assert summary.of("written")
    for one in summary.of("written"):
        written = tmp_path / "out" / str(one.output)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values of real scanners that break the standard
            before, after = pydicom.dcmread(source / one.source), pydicom.dcmread(written)
            assert before.PixelData == after.PixelData
            assert before.file_meta.TransferSyntaxUID == after.file_meta.TransferSyntaxUID
            assert another_reader_reads(written)
            if not after.file_meta.TransferSyntaxUID.is_deflated:
                data = written.read_bytes()
                assert [text for text in identities_of(before) if text in data] == []
    unlike = [finding for finding in check_folder(tmp_path / "out") if finding.kind != "slices"]
    assert unlike == []


def test_a_real_chest_is_the_same_scan_afterwards(real_data, tmp_path):
    source = some(real_data, tmp_path, "covid_chest", most=6)
    deidentify_folder(source, tmp_path / "out")
    (folder,) = (tmp_path / "out").iterdir()
    before, after = read_scan(source), read_scan(folder)
    assert (before.voxels == after.voxels).all()
    assert (before.affine == after.affine).all()


def test_a_secondary_capture_is_refused_and_a_dicomdir_passed_over(real_data, tmp_path):
    source = some(real_data, tmp_path, "scout_and_secondary_capture")
    summary = deidentify_folder(source, tmp_path / "out")
    assert [one.source for one in summary.of("refused")] == ["secondary_capture_S4010_I10.dcm"]
    assert [one.source for one in summary.of("passed over")] == ["DICOMDIR"]
