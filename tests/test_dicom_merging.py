"""What lies under one series UID and is not one scan: acquisitions, studies, patients, shots."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    MPEG2MPML,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from ctedge import CodecUnavailable, IrregularSeries, read_scan
from dicom_factory import STEP_MM, edit, hu_of, las, save, slices, write_series

SLICES = 24
UIDS = {"series": "1.2.3.4", "study": "1.2.3"}


hu = hu_of(SLICES, 8, 10)


def acquired(folder, hu, number, *, from_mm, **how):
    """One acquisition, into a folder with others."""
    made = slices(hu, acquisition=number, origin=(-100, -120, from_mm), **(UIDS | how))
    for place, one in enumerate(made):
        save(folder / f"{number}-{place:03d}.dcm", one)


# Acquisitions


@pytest.mark.parametrize("offset_mm", [STEP_MM / 2, STEP_MM / 2 + SLICES * STEP_MM / 2])
def test_interleaved_acquisitions_are_not_merged(tmp_path, hu, offset_mm):
    """Their slices may lie evenly together, and they are two scans all the same."""
    acquired(tmp_path, hu, 1, from_mm=0.0)
    acquired(tmp_path, hu[:20] + 1, 2, from_mm=offset_mm)
    for on_gap in ("error", "resample"):
        with pytest.raises(IrregularSeries, match="several acquisitions") as caught:
            read_scan(tmp_path, on_gap=on_gap)
        assert "acquisition 1: 24 slices, acquisition 2: 20 slices" in caught.value.found
        # Not every command that reads scans has the option.
        fix = "read_scan(..., acquisition=1), `--acquisition 1` of `ctedge predict`"
        assert fix in caught.value.fix
    np.testing.assert_array_equal(read_scan(tmp_path, acquisition=2).voxels, las(hu[:20] + 1))


def test_runs_that_lie_one_after_the_other_are_one_scan(tmp_path, hu):
    acquired(tmp_path, hu[:14], 2, from_mm=0.0)
    acquired(tmp_path, hu[14:], 1, from_mm=14 * STEP_MM)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


@pytest.mark.parametrize("missing", [7, 9])  # the last of a shot, and one amid a shot
def test_a_slice_missing_from_step_and_shoot_is_a_gap(tmp_path, hu, missing):
    shots = [place // 4 + 1 for place in range(SLICES)]
    write_series(tmp_path, hu, acquisition=shots)[missing].unlink()
    with pytest.raises(IrregularSeries, match="do not lie evenly") as caught:
        read_scan(tmp_path)
    assert f"{missing - 1:03d}.dcm -> {missing + 1:03d}.dcm: 10.000 mm" in caught.value.found
    assert "on_gap='resample'), `--on-gap resample` of `ctedge predict`" in caught.value.fix
    scan = read_scan(tmp_path, on_gap="resample")
    assert (scan.shape[2], scan.interpolated) == (SLICES, 1)


def test_shots_with_a_tilted_gantry_are_no_acquisitions_to_choose_from(tmp_path, hu):
    made = slices(hu, acquisition=[place // 2 + 1 for place in range(SLICES)])
    for place, one in enumerate(made):
        one.ImagePositionPatient = [-100.0, -120.0 + 0.3 * place, STEP_MM * place]
    with pytest.raises(IrregularSeries, match="tilted"):
        read_scan(made)


def test_scans_far_apart_are_acquisitions_to_choose_from(tmp_path, hu):
    acquired(tmp_path, hu, 1, from_mm=0.0)
    acquired(tmp_path, hu, 2, from_mm=400.0)
    with pytest.raises(IrregularSeries, match="several acquisitions"):
        read_scan(tmp_path, on_gap="resample")


def test_acquisitions_of_two_grids_are_told_apart(tmp_path, hu):
    acquired(tmp_path, hu, 1, from_mm=0.0)
    acquired(tmp_path, hu, 2, from_mm=SLICES * STEP_MM, spacing=(0.5, 0.5))
    with pytest.raises(IrregularSeries, match=r"(?s)several acquisitions.*PixelSpacing"):
        read_scan(tmp_path)
    assert read_scan(tmp_path, acquisition=2).spacing_mm[:2] == pytest.approx((0.5, 0.5))


# Reconstructions


def test_two_reconstructions_are_not_read_in_turn(tmp_path, hu):
    """Their slices lie evenly together, and nothing but the kernel tells them apart."""
    kernels = ["B30f", "B70f"] * (SLICES // 2)
    write_series(tmp_path, hu, ConvolutionKernel=kernels)
    with pytest.raises(IrregularSeries, match="several reconstructions") as caught:
        read_scan(tmp_path)
    assert caught.value.found == "ConvolutionKernel B30f: 12 slices, B70f: 12 slices"


def test_one_kernel_after_the_other_is_one_scan(tmp_path, hu):
    write_series(tmp_path, hu, ConvolutionKernel=["B30f"] * 10 + ["B70f"] * 14)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


def test_pixels_in_several_syntaxes_are_one_scan(tmp_path, hu):
    syntaxes = [ImplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, JPEGLSLossless]
    for number, syntax in enumerate(syntaxes):
        part = hu[number * 6 : number * 6 + 6]
        acquired(tmp_path, part, number, from_mm=number * 6 * STEP_MM, syntax=syntax)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


def test_an_acquisition_beside_one_that_cannot_be_decoded(tmp_path, hu):
    acquired(tmp_path, hu, 1, from_mm=0.0)
    acquired(tmp_path, hu, 2, from_mm=0.0)
    for path in tmp_path.glob("2-*"):
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = MPEG2MPML
        one.PixelData = pydicom.encaps.encapsulate([bytes(100)])
        save(path, one)
    np.testing.assert_array_equal(read_scan(tmp_path, acquisition=1).voxels, las(hu))
    with pytest.raises(CodecUnavailable, match="MPEG2"):
        read_scan(tmp_path, acquisition=2)


# Gaps


def test_a_gap_too_wide_is_not_advised_to_be_filled(tmp_path, hu):
    for path in write_series(tmp_path, hu)[7:12]:
        path.unlink()
    with pytest.raises(IrregularSeries, match="evenly") as caught:
        read_scan(tmp_path, on_gap="resample")
    assert "on_gap=" not in caught.value.fix
    assert "gaps of more than 25 mm are not filled in" in caught.value.fix


def test_a_slice_that_lies_between_the_planes_is_named(tmp_path, hu):
    """Half of the slices twice as near to each other: the planes keep the usual distance."""
    places_mm = [0, 5, 10, 15, *range(20, 110, 10)]
    for path, place_mm in zip(write_series(tmp_path, hu[: len(places_mm)]), places_mm, strict=True):
        edit(path, ImagePositionPatient=[-100.0, -120.0, float(place_mm)])
    scan = read_scan(tmp_path, on_gap="resample")
    assert scan.spacing_mm[2] == pytest.approx(10.0)
    assert (scan.shape[2], scan.interpolated) == (11, 0)
    between = "between two planes of the resampled volume"
    assert scan.excluded == (f"001.dcm: {between}", f"003.dcm: {between}")


def test_a_gap_names_what_was_left_out(tmp_path, hu):
    write_series(tmp_path, hu)[7].write_bytes(b"overwritten" * 100)
    with pytest.raises(IrregularSeries, match="evenly") as caught:
        read_scan(tmp_path)
    assert caught.value.found.endswith("left out: 007.dcm: not DICOM")


# Studies and patients

OTHER = {"PatientID": "HOSP-7", "FrameOfReferenceUID": "1.9"}


def test_two_studies_of_one_series_uid_are_two_series(tmp_path, hu):
    acquired(tmp_path, hu, 1, from_mm=0.0, study="1.2.3")
    acquired(tmp_path, hu + 1, 2, from_mm=SLICES * STEP_MM, study="1.2.5", **OTHER)
    with pytest.raises(IrregularSeries, match="several series") as caught:
        read_scan(tmp_path)
    assert caught.value.found == "1.2.3/1.2.3.4 (24 files), 1.2.5/1.2.3.4 (24 files)"
    with pytest.raises(IrregularSeries, match="several studies have this series") as caught:
        read_scan(tmp_path, series="1.2.3.4")
    assert "1.2.5/1.2.3.4" in caught.value.found
    scan = read_scan(tmp_path, series="1.2.5/1.2.3.4")
    np.testing.assert_array_equal(scan.voxels, las(hu + 1))


def test_a_series_may_be_named_with_its_study_anyway(tmp_path, hu):
    acquired(tmp_path, hu, 1, from_mm=0.0)
    assert read_scan(tmp_path, series="1.2.3/1.2.3.4").shape[2] == SLICES


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"PatientID": "HOSP-7"}, "several patients"),
        ({"PatientID": None}, "several patients"),
        ({"FrameOfReferenceUID": "1.9"}, "several frames of reference"),
    ],
)
@pytest.mark.parametrize("uids", ["the same", "none"])
def test_one_series_of_two_is_refused(tmp_path, hu, elements, message, uids):
    paths = write_series(tmp_path, hu, FrameOfReferenceUID="1.8")
    for path in paths if uids == "none" else ():
        edit(path, SeriesInstanceUID=None, StudyInstanceUID=None)
    for path in paths[14:]:
        edit(path, **elements)
    with pytest.raises(IrregularSeries, match=message) as caught:
        read_scan(tmp_path)
    assert "000.dcm, and otherwise 014.dcm and 9 more" in caught.value.found
    assert "HOSP" not in str(caught.value)


def test_a_frame_of_reference_for_every_image_tells_nothing_apart(tmp_path, hu):
    write_series(tmp_path, hu, FrameOfReferenceUID=[f"1.8.{n}" for n in range(1, SLICES + 1)])
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))
