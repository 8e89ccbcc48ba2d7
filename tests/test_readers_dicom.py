"""Reading a DICOM series: HU, geometry, and the real ones."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge import (
    IrregularSeries,
    MissingExtra,
    ScanNotFound,
    UnreadableScan,
    preprocess,
    read_scan,
)
from dicom_factory import edit, hu_of, write_series

hu = hu_of(18, 20, 24)


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
    assert (scan.excluded, scan.interpolated, scan.orientation_assumed) == ((), 0, False)


def test_the_order_of_files_does_not_matter(tmp_path, hu):
    write_series(tmp_path / "a", hu)
    write_series(tmp_path / "b", hu, reverse=True)
    first, second = read_scan(tmp_path / "a"), read_scan(tmp_path / "b")
    np.testing.assert_array_equal(first.voxels, second.voxels)
    np.testing.assert_array_equal(first.affine, second.affine)


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


def test_spacing_that_differs_by_rounding_is_the_same(tmp_path, hu):
    edit(write_series(tmp_path, hu)[3], PixelSpacing=["0.8000001", "0.70"])
    assert read_scan(tmp_path).shape == (24, 20, 18)


def test_an_oblique_series_is_refused(tmp_path, hu):
    angle = np.radians(25.0)
    write_series(tmp_path, hu, orientation=[1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))])
    with pytest.raises(Exception, match="oblique") as caught:
        read_scan(tmp_path)
    assert type(caught.value).__name__ == "UnsupportedGeometry"


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
        assert min(plane.min() for plane in scan.planes.each(range(0, 124, 20))) >= -1024

    def test_dicom_and_its_nifti_twin_show_the_same_chest(self, real_data):
        dicom = preprocess(read_scan(real_data / "dicom" / "covid_chest"))
        nifti = preprocess(read_scan(real_data / "nifti" / "covid_chest_raw_hu.nii.gz"))
        # The twin averages three slices, so values differ at edges; a flip would give over 0.2.
        assert np.abs(dicom - nifti).mean() < 0.04
        assert np.abs(dicom[:, ::-1] - nifti).mean() > 0.08

    def test_jpeg_2000(self, real_data):
        scan = read_scan(real_data / "dicom" / "phantom_chest_jpeg2000")
        assert scan.shape == (512, 512, 75)
        assert next(scan.planes.each([37])).min() >= -1024

    def test_two_acquisitions_are_named_and_one_is_read(self, real_data):
        folder = real_data / "dicom" / "noncovid_chest_two_acquisitions"
        with pytest.raises(IrregularSeries, match="acquisition 2: 59 slices") as caught:
            read_scan(folder)
        assert "acquisition=2" in caught.value.fix
        scan = read_scan(folder, acquisition=2)
        assert scan.shape == (512, 512, 59)
        assert sum("another acquisition" in reason for reason in scan.excluded) == 3

    def test_a_folder_of_scouts_holds_no_slice(self, real_data):
        with pytest.raises(IrregularSeries, match="no CT slice") as caught:
            read_scan(real_data / "dicom" / "scout_and_secondary_capture")
        assert "a DICOMDIR" in caught.value.found
        assert "a scout" in caught.value.found
        assert "Secondary Capture" in caught.value.found

    @pytest.mark.parametrize("folder", ["oddities", "transfer_syntaxes"])
    def test_folders_of_single_slices_list_their_series(self, real_data, folder):
        with pytest.raises(IrregularSeries) as caught:
            read_scan(real_data / "dicom" / folder)
        assert caught.value.fix
