from __future__ import annotations

import shutil
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ctedge import (
    CodecUnavailable,
    CTEdgeError,
    IrregularSeries,
    MissingExtra,
    ScanNotFound,
    UnreadableScan,
    preprocess,
    read_scan,
)

AXIAL = [1, 0, 0, 0, 1, 0]


def write_series(
    folder: Path,
    hu: np.ndarray,
    *,
    spacing=(0.8, 0.7),
    step: float = 5.0,
    orientation=AXIAL,
    reverse: bool = False,
) -> list[Path]:
    """(slices, rows, columns) of HU as a CT series; the slice normal points to the head."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for number, pixels in enumerate(hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        name = len(hu) - number if reverse else number
        path = folder / f"{name:03d}.dcm"
        slice_ = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
        slice_.SOPClassUID = CTImageStorage
        slice_.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        slice_.Modality = "CT"
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = study, series
        slice_.FrameOfReferenceUID = frame
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelSpacing = list(spacing)
        slice_.ImageOrientationPatient = list(orientation)
        origin = np.array([-100.0, -120.0, -300.0]) + normal * step * number
        slice_.ImagePositionPatient = [float(v) for v in origin]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
        slice_.PixelRepresentation = 0
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.PixelData = (pixels + 1024).astype("<u2").tobytes()
        slice_.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def edit(path: Path, **changes) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.fixture
def hu(rng) -> np.ndarray:
    """(slices, rows, columns)"""
    return rng.integers(-1000, 1200, (18, 20, 24)).astype(np.int16)


def test_reads_hu_and_geometry(tmp_path, hu):
    write_series(tmp_path, hu)
    scan = read_scan(tmp_path)
    # DICOM columns grow to Left, rows to Posterior, slices here to Superior; LAS flips the rows.
    np.testing.assert_array_equal(scan.voxels, hu.transpose(2, 1, 0)[:, ::-1])
    assert scan.voxels.dtype == np.int16
    assert scan.spacing_mm == pytest.approx((0.7, 0.8, 5.0))
    # The first voxel is the rightmost, most posterior, lowest one, in RAS mm.
    last_row = 120.0 - 0.8 * (hu.shape[1] - 1)
    np.testing.assert_allclose(scan.affine[:3, 3], [100.0, last_row, -300.0])


def test_the_order_of_files_does_not_matter(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu, reverse=True)
    np.testing.assert_array_equal(
        read_scan(tmp_path / "a").voxels, read_scan(tmp_path / "b").voxels
    )


def test_a_prone_patient_gives_the_same_anatomy(tmp_path, hu):
    write_series(tmp_path / "supine", hu)
    write_series(tmp_path / "turned", hu[:, ::-1, ::-1], orientation=[-1, 0, 0, 0, -1, 0])
    np.testing.assert_array_equal(
        read_scan(tmp_path / "turned").voxels, read_scan(tmp_path / "supine").voxels
    )


def test_padding_becomes_air(tmp_path, hu):
    for path in write_series(tmp_path, hu):
        dataset = pydicom.dcmread(path)
        dataset.PixelRepresentation = 1
        pixels = dataset.pixel_array.astype(np.int16).copy()
        pixels[0, 0] = -2000
        dataset.PixelData = pixels.tobytes()
        dataset.add_new(0x00280120, "SS", -2000)
        dataset.save_as(path)
    scan = read_scan(tmp_path)
    assert set(scan.voxels[0, -1].tolist()) == {-1000}
    np.testing.assert_array_equal(scan.voxels[1:], hu.transpose(2, 1, 0)[1:, ::-1])


def test_other_files_are_left_out_and_named(tmp_path, hu):
    write_series(tmp_path, hu)
    (tmp_path / "README.txt").write_text("notes")
    (tmp_path / "sub").mkdir()
    assert read_scan(tmp_path).excluded == ("README.txt: not DICOM",)


def test_one_of_several_series_is_read_when_named(tmp_path, hu):
    first = write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu // 2)
    for path in (tmp_path / "b").iterdir():
        shutil.move(path, tmp_path / "a" / f"second-{path.name}")
    uid = str(pydicom.dcmread(first[0]).SeriesInstanceUID)
    with pytest.raises(IrregularSeries, match="several series"):
        read_scan(tmp_path / "a")
    assert read_scan(tmp_path / "a", series=uid).shape == (24, 20, 18)
    with pytest.raises(IrregularSeries, match="no such series"):
        read_scan(tmp_path / "a", series="1.2.3")


IRREGULAR = {
    "a missing slice": (lambda paths: paths[7].unlink(), "evenly"),
    "a doubled slice": (lambda paths: shutil.copy(paths[7], paths[7].with_suffix(".x")), "evenly"),
    "another pixel grid": (lambda paths: edit(paths[3], PixelSpacing=[0.9, 0.7]), "PixelSpacing"),
    "a scout": (lambda paths: edit(paths[0], ImageType=["DERIVED", "LOCALIZER"]), "scout"),
    "another modality": (lambda paths: edit(paths[0], Modality="MR"), "Modality MR"),
    "inverted grey": (
        lambda paths: edit(paths[0], PhotometricInterpretation="MONOCHROME1"),
        "MONOCHROME1",
    ),
    "no position": (lambda paths: edit(paths[0], ImagePositionPatient=None), "ImagePosition"),
    "no rescale": (lambda paths: edit(paths[0], RescaleIntercept=None), "RescaleIntercept"),
    "several frames": (lambda paths: edit(paths[0], NumberOfFrames=2), "NumberOfFrames"),
    "a single slice": (lambda paths: [path.unlink() for path in paths[1:]], "single slice"),
}


@pytest.mark.parametrize("case", IRREGULAR)
def test_what_is_irregular_is_refused_by_name(tmp_path, hu, case):
    damage, message = IRREGULAR[case]
    damage(write_series(tmp_path, hu))
    with pytest.raises(IrregularSeries, match=message):
        read_scan(tmp_path)


def test_a_tilted_gantry_is_refused(tmp_path, hu):
    for number, path in enumerate(write_series(tmp_path, hu)):
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[x, y + 0.3 * number, z])
    with pytest.raises(IrregularSeries, match="tilted"):
        read_scan(tmp_path)


def test_a_coronal_series_is_refused(tmp_path, hu):
    write_series(tmp_path, hu, orientation=[1, 0, 0, 0, 0, -1])
    with pytest.raises(IrregularSeries, match="not axial"):
        read_scan(tmp_path)


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0.5, 0.8, 0], [2, 0, 0, 0, 1, 0]])
def test_an_orientation_that_is_none_is_refused(tmp_path, hu, orientation):
    write_series(tmp_path, hu, orientation=orientation)
    with pytest.raises(IrregularSeries, match="how they lie"):
        read_scan(tmp_path)


def test_one_slice_out_of_line_is_refused(tmp_path, hu):
    path = write_series(tmp_path, hu)[7]
    x, y, z = pydicom.dcmread(path).ImagePositionPatient
    edit(path, ImagePositionPatient=[x + 9, y, z])
    with pytest.raises(IrregularSeries, match="sideways"):
        read_scan(tmp_path)


def test_unsigned_pixels_with_padding_and_no_rescale(tmp_path, hu):
    for path in write_series(tmp_path, hu):
        dataset = pydicom.dcmread(path)
        dataset.RescaleIntercept = 0
        dataset.add_new(0x00280120, "US", 0)
        dataset.save_as(path)
    scan = read_scan(tmp_path)
    expected = (hu + 1024).transpose(2, 1, 0)[:, ::-1]
    assert expected.min() > 0
    np.testing.assert_array_equal(scan.voxels, expected)


def test_an_offset_beyond_16_bits_is_still_exact(tmp_path, hu):
    for path in write_series(tmp_path, hu):
        stored = (hu[int(path.stem)].astype(np.int32) + 33792).astype("<u2")
        edit(path, RescaleIntercept=-33792, PixelData=stored.tobytes())
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, hu.transpose(2, 1, 0)[:, ::-1])


def test_a_dicomdir_is_left_out_and_named(tmp_path, hu):
    paths = write_series(tmp_path, hu)
    directory = pydicom.dcmread(paths[0])
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    del directory.SeriesInstanceUID
    directory.save_as(tmp_path / "DICOMDIR")
    assert read_scan(tmp_path).excluded == ("DICOMDIR: a DICOMDIR",)


def test_two_frames_of_pixels_in_one_slice(tmp_path, hu):
    path = write_series(tmp_path, hu)[3]
    edit(path, PixelData=pydicom.dcmread(path).PixelData * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom remarks on the surplus
        try:
            read_scan(tmp_path)
        except UnreadableScan:
            return
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, hu.transpose(2, 1, 0)[:, ::-1])


@pytest.mark.parametrize("tag", [(0x0028, 0x0010), (0x0020, 0x0032), (0x0028, 0x0030)])
def test_a_value_of_the_wrong_kind(tmp_path, hu, tag):
    path = write_series(tmp_path, hu)[3]
    data = bytearray(path.read_bytes())
    place = data.find(struct.pack("<HH", *tag), 400)
    data[place + 4 : place + 6] = b"FD"
    path.write_bytes(data)
    with pytest.raises((UnreadableScan, IrregularSeries)):
        read_scan(tmp_path)


def test_a_negative_slope_is_refused(tmp_path, hu):
    for path in write_series(tmp_path, hu):
        edit(path, RescaleSlope=-1)
    with pytest.raises(IrregularSeries, match="RescaleSlope"):
        read_scan(tmp_path)


def test_spacing_that_differs_by_rounding_is_the_same(tmp_path, hu):
    edit(write_series(tmp_path, hu)[3], PixelSpacing=["0.8000001", "0.70"])
    assert read_scan(tmp_path).shape == (24, 20, 18)


def test_a_folder_without_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ScanNotFound, match="no DICOM file"):
        read_scan(tmp_path)


@pytest.mark.parametrize("keep", [200, 900, -5])
def test_a_truncated_slice(tmp_path, hu, keep):
    path = write_series(tmp_path, hu)[4]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((UnreadableScan, IrregularSeries)):
        read_scan(tmp_path)


def test_a_syntax_that_nothing_decodes_is_named(tmp_path, hu):
    for path in write_series(tmp_path, hu):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.103"  # MPEG-4
        dataset.PixelData = pydicom.encaps.encapsulate([b"\x00" * 64])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    with pytest.raises(CodecUnavailable, match=r"1\.2\.840\.10008\.1\.2\.4\.103"):
        read_scan(tmp_path)


def test_without_pydicom_the_extra_is_named(tmp_path, hu, monkeypatch):
    write_series(tmp_path, hu)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtra, match=r'pip install "ctedge\[dicom\]"'):
        read_scan(tmp_path)


@pytest.mark.realdata
class TestRealSeries:
    def test_jpeg_lossless_with_padding(self, real_data):
        scan = read_scan(real_data / "dicom" / "covid_chest")
        assert scan.shape == (512, 512, 124)
        assert scan.spacing_mm == pytest.approx((0.703125, 0.703125, 2.5))
        assert scan.voxels.min() >= -1024

    def test_dicom_and_its_nifti_twin_show_the_same_chest(self, real_data):
        dicom = preprocess(read_scan(real_data / "dicom" / "covid_chest"))
        nifti = preprocess(read_scan(real_data / "nifti" / "covid_chest_raw_hu.nii.gz"))
        # The twin averages three slices, so values differ at edges; a flip would give over 0.2.
        assert np.abs(dicom - nifti).mean() < 0.04
        assert np.abs(dicom[:, ::-1] - nifti).mean() > 0.08

    def test_jpeg_2000(self, real_data):
        assert read_scan(real_data / "dicom" / "phantom_chest_jpeg2000").shape == (512, 512, 75)

    @pytest.mark.parametrize(
        "folder",
        [
            "noncovid_chest_two_acquisitions",
            "scout_and_secondary_capture",
            "oddities",
            "transfer_syntaxes",
        ],
    )
    @pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
    def test_irregular_folders_are_refused(self, real_data, folder):
        with pytest.raises(CTEdgeError) as caught:
            read_scan(real_data / "dicom" / folder)
        assert caught.value.fix
