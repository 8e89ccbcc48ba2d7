"""Which slices make one volume, and what is refused by name or done because it was asked for."""

from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest

from ctedge import IrregularSeries, UnsupportedGeometry, read_scan
from dicom_factory import STEP_MM, edit, hu_of, las, save, slices, write_series

SLICES = 18


hu = hu_of(SLICES, 12, 14)


def move(path, *, by) -> None:
    place = np.asarray(pydicom.dcmread(path).ImagePositionPatient, float) + by
    edit(path, ImagePositionPatient=place.tolist())


IRREGULAR = {
    "a missing slice": (lambda paths: paths[7].unlink(), r"evenly.*006.dcm -> 008.dcm: 10.000 mm"),
    "a doubled slice": (
        lambda paths: shutil.copy(paths[7], paths[7].with_suffix(".x")),
        "same position.*007.dcm and 007.x",
    ),
    "another pixel grid": (lambda paths: edit(paths[3], PixelSpacing=[0.9, 0.7]), "PixelSpacing"),
    "another matrix": (
        lambda paths: edit(paths[3], Rows=6, PixelData=bytes(2 * 6 * 14)),
        r"Rows.*6.*003\.dcm",
    ),
    "another orientation": (
        lambda paths: edit(paths[3], ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
        "ImageOrientationPatient.*003.dcm",
    ),
    "inverted grey": (
        lambda paths: edit(paths[0], PhotometricInterpretation="MONOCHROME1"),
        "MONOCHROME1",
    ),
    "colour": (lambda paths: edit(paths[0], SamplesPerPixel=3), "SamplesPerPixel 3"),
    "no position": (lambda paths: edit(paths[0], ImagePositionPatient=None), "ImagePosition"),
    "no rescale": (lambda paths: edit(paths[0], RescaleIntercept=None), "RescaleIntercept"),
    "several frames": (lambda paths: edit(paths[0], NumberOfFrames=2), "NumberOfFrames"),
    "a single slice": (lambda paths: [path.unlink() for path in paths[1:]], "single slice"),
    "a slice 2 % off": (lambda paths: move(paths[4], by=[0, 0, 0.02 * STEP_MM]), "evenly"),
    "a tilted gantry": (
        lambda paths: [move(path, by=[0, 0.3 * n, 0]) for n, path in enumerate(paths)],
        "tilted",
    ),
    "a slice out of line": (lambda paths: move(paths[7], by=[9, 0, 0]), "007.dcm lies .* sideways"),
}


@pytest.mark.parametrize("case", IRREGULAR)
def test_what_is_irregular_is_refused_by_name(tmp_path, hu, case):
    damage, message = IRREGULAR[case]
    damage(write_series(tmp_path, hu))
    with pytest.raises(IrregularSeries, match=f"(?s){message}") as caught:
        read_scan(tmp_path)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("orientation", "view"),
    [([1, 0, 0, 0, 0, -1], "coronal"), ([0, 1, 0, 0, 0, -1], "sagittal")],
)
def test_other_views_are_refused(tmp_path, hu, orientation, view):
    write_series(tmp_path, hu, orientation=orientation)
    with pytest.raises(IrregularSeries, match=f"(?s)not axial.*{view}"):
        read_scan(tmp_path)


@pytest.mark.parametrize("orientation", [[1, 0, 0, 0.5, 0.8, 0], [2, 0, 0, 0, 1, 0]])
def test_an_orientation_that_is_none_is_refused(tmp_path, hu, orientation):
    write_series(tmp_path, hu, orientation=orientation)
    with pytest.raises(IrregularSeries, match="how they lie"):
        read_scan(tmp_path)


def test_a_slice_within_one_percent_is_in_place(tmp_path, hu):
    move(write_series(tmp_path, hu)[4], by=[0, 0, 0.004 * STEP_MM])
    assert read_scan(tmp_path).shape[2] == SLICES


def test_absurd_spacing_is_refused(tmp_path, hu):
    write_series(tmp_path, hu, step=50.0)
    with pytest.raises(UnsupportedGeometry, match="absurd voxel size"):
        read_scan(tmp_path)


# Acquisitions


def test_step_and_shoot_numbers_split_nothing(tmp_path, hu):
    write_series(tmp_path, hu, acquisition=list(range(1, SLICES + 1)))
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.voxels, las(hu))
    assert scan.excluded == ()


def test_a_scan_in_two_runs_that_join_is_one_volume(tmp_path, hu):
    write_series(tmp_path, hu, acquisition=[1] * 9 + [2] * 9)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


def uids_of(one) -> dict[str, str]:
    return {"study": one.StudyInstanceUID, "series": one.SeriesInstanceUID}


def write_two(folder, hu) -> None:
    """A chest, and three of its slices once more."""
    chest = slices(hu, acquisition=2)
    again = slices(hu[:3] + 1, acquisition=3, **uids_of(chest[0]))
    for number, one in enumerate([*chest, *again]):
        save(folder / f"{number:03d}.dcm", one)


def test_repeated_acquisitions_are_listed_and_one_is_taken(tmp_path, hu):
    write_two(tmp_path, hu)
    with pytest.raises(IrregularSeries, match="several acquisitions") as caught:
        read_scan(tmp_path)
    assert "acquisition 2: 18 slices, acquisition 3: 3 slices" in caught.value.found
    assert "same position" in caught.value.found
    scan = read_scan(tmp_path, acquisition=2)
    np.testing.assert_array_equal(scan.voxels, las(hu))
    assert scan.excluded == tuple(f"{n:03d}.dcm: of another acquisition" for n in (18, 19, 20))
    with pytest.raises(IrregularSeries, match="no such acquisition"):
        read_scan(tmp_path, acquisition=4)


def test_acquisitions_are_not_merged_by_filling_gaps(tmp_path, hu):
    write_two(tmp_path, hu)
    with pytest.raises(IrregularSeries, match="several acquisitions"):
        read_scan(tmp_path, on_gap="resample")


def test_acquisitions_that_break_the_spacing(tmp_path, hu):
    first = slices(hu, acquisition=1)
    second = slices(hu, acquisition=2, origin=(-100, -120, -297), **uids_of(first[0]))
    for number, one in enumerate([*first, *second]):
        save(tmp_path / f"{number:03d}.dcm", one)
    with pytest.raises(IrregularSeries, match=r"(?s)several acquisitions.*evenly"):
        read_scan(tmp_path)
    assert read_scan(tmp_path, acquisition=1).shape[2] == SLICES


# Gaps


def test_a_gap_is_filled_only_when_asked(tmp_path, hu):
    write_series(tmp_path, hu)[7].unlink()
    scan = read_scan(tmp_path, on_gap="resample")
    assert (scan.shape[2], scan.interpolated) == (SLICES, 1)
    expected = las(hu).astype(np.float32)
    expected[:, :, 7] = (expected[:, :, 6] + expected[:, :, 8]) / 2
    # Half of the sum of two whole numbers is exact; positions differ by rounding at most.
    np.testing.assert_allclose(scan.voxels, expected, atol=0.01)
    np.testing.assert_allclose(scan.spacing_mm[2], STEP_MM)


def test_uneven_slices_lie_evenly_once_resampled(tmp_path, hu):
    ramp = np.broadcast_to(np.arange(SLICES)[:, None, None] * 10, hu.shape).astype(np.int16)
    shifts = np.random.default_rng(3).uniform(-1, 1, SLICES)
    shifts[[0, -1]] = 0.0
    for path, shift in zip(write_series(tmp_path, ramp), shifts, strict=True):
        move(path, by=[0, 0, float(shift)])
    scan = read_scan(tmp_path, on_gap="resample")
    steps = np.diff(np.arange(scan.shape[2]) * scan.spacing_mm[2])
    np.testing.assert_allclose(steps, steps[0])
    assert scan.interpolated > 0
    assert (np.diff(scan.voxels[0, 0].astype(float)) > 0).all()


def test_a_gap_too_wide_is_not_filled(tmp_path, hu):
    for path in write_series(tmp_path, hu)[7:12]:
        path.unlink()
    with pytest.raises(IrregularSeries, match="evenly"):
        read_scan(tmp_path, on_gap="resample")


def test_a_hair_between_slices_does_not_become_a_million_planes(tmp_path, hu):
    for number, path in enumerate(write_series(tmp_path, hu)):
        z = -300 + number * 1e-6 + (20.0 if number >= 9 else 0.0)
        edit(path, ImagePositionPatient=[-100, -120, z])
    with pytest.raises(IrregularSeries, match="evenly"):
        read_scan(tmp_path, on_gap="resample")
