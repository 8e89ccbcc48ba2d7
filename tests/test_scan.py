from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from ctedge import CTScan, InputError, UnsupportedGeometry, preprocess
from ctedge.planes import PlanesInMemory

ALL_ORIENTATIONS = [
    "".join(code)
    for axes in itertools.permutations(("LR", "AP", "SI"))
    for code in itertools.product(*axes)
]


def test_there_are_48_orientations():
    assert len(set(ALL_ORIENTATIONS)) == 48


@pytest.mark.parametrize("code", ALL_ORIENTATIONS)
def test_every_orientation_gives_the_same_scan(chest, las_affine, code):
    original = CTScan.from_oriented(chest, las_affine, source="original")
    image = nib.Nifti1Image(chest, las_affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(las_affine), nib.orientations.axcodes2ornt(tuple(code))
    )
    turned = image.as_reoriented(turn)
    scan = CTScan.from_oriented(np.asanyarray(turned.dataobj), turned.affine, source=code)
    np.testing.assert_array_equal(scan.voxels, chest)
    np.testing.assert_allclose(scan.affine, las_affine, atol=1e-9)
    assert scan.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    np.testing.assert_array_equal(preprocess(scan), preprocess(original))


def test_reorienting_makes_views_not_copies(chest, las_affine):
    affine = las_affine.copy()
    affine[0] *= -1
    scan = CTScan.from_oriented(chest, affine, source="x")
    assert np.shares_memory(scan.voxels, chest)


def rotated(affine, degrees):
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


def test_a_slight_tilt_is_taken_as_axial_and_a_large_one_refused(chest, las_affine):
    CTScan.from_oriented(chest, rotated(las_affine, 19.0), source="x")
    with pytest.raises(UnsupportedGeometry, match=r"21\.0 degrees"):
        CTScan.from_oriented(chest, rotated(las_affine, 21.0), source="x")


@pytest.mark.parametrize("size", [0.0, 0.01, 25.0, np.nan, np.inf])
def test_absurd_spacing_is_refused(chest, las_affine, size):
    las_affine[2, 2] = size
    with pytest.raises(UnsupportedGeometry):
        CTScan.from_oriented(chest, las_affine, source="x")


def test_an_array_says_that_its_orientation_was_assumed(chest):
    assert CTScan.from_array(chest).orientation_assumed


@pytest.mark.parametrize(
    "affine", [np.diag([1.0, 1, 1, 1]), np.eye(4)[[1, 0, 2, 3]], np.diag([-1.0, 1, 1])]
)
def test_an_affine_that_contradicts_las_is_refused(chest, affine):
    with pytest.raises(UnsupportedGeometry):
        CTScan(planes=PlanesInMemory(chest), affine=affine)


def test_what_is_no_array_is_an_input_error(chest):
    with pytest.raises(InputError):
        CTScan(planes=PlanesInMemory(chest.tolist()), affine=np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(InputError):
        CTScan.from_array([[[1, 2], [3]]])
    with pytest.raises(InputError, match="masked"):
        CTScan.from_array(np.ma.masked_less(chest, 0))
