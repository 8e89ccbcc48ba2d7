"""Lungs found in phantoms, whose lungs are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ctedge import (
    CTEdgeError,
    CTScan,
    InputError,
    LungMask,
    NoLungs,
    UnsupportedGeometry,
    affected_share,
    segment_lungs,
)
from ctedge.phantom import Phantom, draw_patient, render
from overlap import dice

pytest.importorskip("scipy", exc_type=ImportError)

GRID = (128, 128, 48)

#: The requirement. Half-filled voxels at the rims of 3 mm voxels cost most of the rest.
LEAST_DICE = 0.97

#: Small lungs in slices of 8 mm are rim for the most part.
LEAST_DICE_THICK = 0.94

#: Consolidation that borders on heart, aorta or liver alone is not found.
LEAST_DICE_SEVERE = 0.85


def scan_of(phantom: Phantom) -> CTScan:
    return CTScan.from_oriented(phantom.voxels, phantom.affine, source="phantom")


@pytest.fixture(scope="module")
def healthy() -> Phantom:
    return render(draw_patient(2, lesion_share=0.0), shape=GRID)


@pytest.fixture(scope="module")
def lungs(healthy: Phantom) -> LungMask:
    return segment_lungs(scan_of(healthy))


@pytest.mark.parametrize(("seed", "share"), [(0, 0.0), (20, 0.0), (5, 0.1), (12, 0.3)])
def test_lungs_are_found(seed, share):
    phantom = render(draw_patient(seed, lesion_share=share), shape=GRID)
    found = segment_lungs(scan_of(phantom)).on(scan_of(phantom))
    assert dice(found, phantom.lung_mask) >= LEAST_DICE


def test_small_lungs_in_thick_slices_are_found():
    phantom = render(draw_patient(21, lesion_share=0.1), shape=GRID)
    found = segment_lungs(scan_of(phantom)).on(scan_of(phantom))
    assert dice(found, phantom.lung_mask) >= LEAST_DICE_THICK


@pytest.mark.parametrize("seed", [4, 14])
def test_most_of_consolidated_lungs_is_found(seed):
    phantom = render(draw_patient(seed, lesion_share=0.6), shape=GRID)
    found = segment_lungs(scan_of(phantom)).on(scan_of(phantom))
    assert dice(found, phantom.lung_mask) >= LEAST_DICE_SEVERE


def test_the_right_lung_lies_at_small_x(healthy, lungs):
    x = np.arange(GRID[0])[:, None, None]
    right, left = (x * np.ones(GRID))[lungs.labels == 1], (x * np.ones(GRID))[lungs.labels == 2]
    assert right.mean() < GRID[0] / 2 < left.mean()
    assert lungs.complete
    assert set(np.unique(lungs.labels)) == {0, 1, 2}


def test_volume_is_that_of_the_truth(healthy, lungs):
    truth = healthy.lung_mask.sum() * np.prod(healthy.spacing_mm) / 1000
    assert lungs.volume_ml.both == pytest.approx(truth, rel=0.05)
    assert lungs.volume_ml.right + lungs.volume_ml.left == pytest.approx(lungs.volume_ml.both)


def test_trachea_is_no_lung(healthy, lungs):
    inside = lungs.on(scan_of(healthy)) & ~healthy.lung_mask & (healthy.voxels < -900)
    spilt = inside.sum() * np.prod(healthy.spacing_mm) / 1000
    assert spilt < 15  # mL; the trachea alone holds 20 to 60


def test_full_resolution_answers_in_the_scans_own_voxels():
    phantom = render(draw_patient(2, lesion_share=0.0), shape=(256, 256, 60))
    scan = scan_of(phantom)
    fine, coarse = segment_lungs(scan, full_resolution=True), segment_lungs(scan)
    assert fine.labels.shape == scan.shape
    np.testing.assert_array_equal(fine.on(scan), fine.mask)
    assert dice(fine.mask, phantom.lung_mask) >= dice(coarse.on(scan), phantom.lung_mask)


def test_a_cut_scan_says_where_lung_is_missing(healthy, lungs):
    assert (lungs.cut_at_top, lungs.cut_at_bottom) == (False, False)
    middle = CTScan.from_oriented(healthy.voxels[:, :, 15:31], healthy.affine, source="cut")
    cut = segment_lungs(middle)
    assert (cut.cut_at_top, cut.cut_at_bottom) == (True, True)
    assert dice(cut.on(middle), healthy.lung_mask[:, :, 15:31]) >= LEAST_DICE


@pytest.mark.parametrize("padding", [-3024, -2000, 0], ids=str)
def test_whatever_lies_outside_the_field_is_no_lung(healthy, lungs, padding):
    x, y = np.ogrid[-1 : 1 : GRID[0] * 1j, -1 : 1 : GRID[1] * 1j]
    voxels = healthy.voxels.copy()
    voxels[x * x + y * y > 1.3] = padding
    scan = CTScan.from_oriented(voxels, healthy.affine, source="padded")
    assert dice(segment_lungs(scan).mask, lungs.mask) > 0.999


@pytest.mark.parametrize("kind", ["float32", ">i2", "float64"])
def test_any_number_type_gives_the_same_lungs(healthy, lungs, kind):
    scan = CTScan.from_oriented(healthy.voxels.astype(kind), healthy.affine, source="typed")
    np.testing.assert_array_equal(segment_lungs(scan).labels, lungs.labels)


def test_a_prone_patient_has_the_same_lungs(healthy):
    # The table lies in front: its rows move there, and leave air behind.
    voxels = healthy.voxels.copy()
    rows = 10
    voxels[:, -rows:] = voxels[:, rows - 1 :: -1]
    voxels[:, :rows] = -1000
    scan = CTScan.from_oriented(voxels, healthy.affine, source="prone")
    assert dice(segment_lungs(scan).on(scan), healthy.lung_mask) >= LEAST_DICE


def test_one_lung_alone_is_given_and_said(healthy):
    voxels = healthy.voxels.copy()
    left = healthy.lung_mask.copy()
    left[: GRID[0] // 2] = False
    from scipy import ndimage

    voxels[ndimage.binary_dilation(left, iterations=2)] = 40  # with its half-filled rim
    one = segment_lungs(CTScan.from_oriented(voxels, healthy.affine, source="one lung"))
    assert not one.complete
    assert set(np.unique(one.labels)) == {0, 1}
    assert one.volume_ml.left == 0


def test_a_bare_array_has_no_volume(healthy, lungs):
    bare = segment_lungs(CTScan.from_array(healthy.voxels))
    assert bare.volume_ml is None
    assert not bare.spacing_stated
    assert dice(bare.on(CTScan.from_array(healthy.voxels)), healthy.lung_mask) > 0.95


def ball(radius: float, hu: float) -> np.ndarray:
    voxels = np.full((64, 64, 40), -1000, np.int16)
    x, y, z = np.ogrid[-32:32, -32:32, -20:20]
    voxels[(x * x + y * y < 28**2) & (z == z)] = 40
    voxels[x * x + y * y + z * z < radius**2] = hu
    return voxels


@pytest.mark.parametrize(
    "voxels",
    [np.full((64, 64, 40), -1000, np.int16), ball(0, 0), ball(7, -1000), ball(12, -1000)],
    ids=["an empty field", "a solid body", "sinuses", "a stomach full of gas"],
)
def test_no_lungs_is_an_error_that_says_what_to_do(voxels):
    scan = CTScan.from_oriented(voxels, np.diag([-4.0, 4.0, 4.0, 1.0]), source="no chest")
    with pytest.raises(NoLungs, match="no lungs") as caught:
        segment_lungs(scan)
    assert isinstance(caught.value, CTEdgeError)
    assert "field of view" in caught.value.fix


def test_a_lesion_shows_in_the_shares_of_its_side(healthy, lungs):
    before = affected_share(scan_of(healthy), lungs)
    voxels = healthy.voxels.copy()
    right = lungs.on(scan_of(healthy)) & (np.arange(GRID[0]) < GRID[0] // 2)[:, None, None]
    right[:, :, 24:] = False
    glass = right & (voxels < -700)
    voxels[glass] = -500
    scan = CTScan.from_oriented(voxels, healthy.affine, source="glass")
    after = affected_share(scan, lungs)
    assert after.ground_glass.right > before.ground_glass.right + 0.2
    assert after.ground_glass.left == pytest.approx(before.ground_glass.left, abs=0.01)
    assert after.dense == before.dense
    assert after.volume_ml == lungs.volume_ml


def test_shares_add_up_over_the_sides(healthy, lungs):
    shares, volume = affected_share(scan_of(healthy), lungs), lungs.volume_ml
    for share in (shares.ground_glass, shares.dense):
        weighted = share.right * volume.right + share.left * volume.left
        assert share.both == pytest.approx(weighted / volume.both)
        assert 0 <= share.both < 0.2


def test_shares_of_another_scan_are_refused(healthy, lungs):
    other = render(draw_patient(3), shape=(64, 64, 20))
    with pytest.raises(UnsupportedGeometry, match="another scan") as caught:
        affected_share(scan_of(other), lungs)
    assert caught.value.fix


def test_a_bare_array_is_taken_and_a_path_is_refused(healthy):
    bare = segment_lungs(healthy.voxels)
    shares = affected_share(healthy.voxels, bare)
    assert shares == affected_share(CTScan.from_array(healthy.voxels), bare)
    assert bare.volume_ml is None
    for wrong in ("scan.nii.gz", Path("scan.nii.gz")):
        with pytest.raises(InputError, match=r"scan\.nii\.gz: a path is no scan"):
            segment_lungs(wrong)
        with pytest.raises(InputError, match="read_scan"):
            affected_share(wrong, bare)
    with pytest.raises(InputError, match="no mask of lungs"):
        affected_share(healthy.voxels, bare.labels)


def test_a_mask_cannot_be_changed(lungs):
    with pytest.raises(dataclasses.FrozenInstanceError):
        lungs.complete = False
