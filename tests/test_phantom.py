from __future__ import annotations

import dataclasses

import nibabel as nib
import numpy as np
import pytest

from ctedge.phantom import (
    Phantom,
    draw_patient,
    render,
)

GRID = (128, 128, 64)
SMALL = (48, 48, 16)

#: The lesion threshold is found from one random place per 4 mm cell, and voxels are coarser.
SHARE_TOLERANCE = 0.12  # of the share itself

#: Mean absolute difference of a coarse render to the resampled full one, HU, without noise: what is
#: left is the curvature of edges between two native pixels.
COARSE_TOLERANCE_HU = 5.0

#: The requirement for the noise of a coarse render is 20 %.
NOISE_TOLERANCE = 0.1


@pytest.fixture(scope="module")
def abnormal() -> Phantom:
    return render(draw_patient(3, lesion_share=0.1), shape=GRID)


@pytest.fixture(scope="module")
def small() -> Phantom:
    return render(draw_patient(4, lesion_share=0.3), shape=SMALL)


def quiet(patient):
    return dataclasses.replace(
        patient, scanner=dataclasses.replace(patient.scanner, noise_hu=0.0, circular=False)
    )


def resampled(volume, shape):
    """Linear, with the ends aligned."""
    volume = volume.astype(np.float32)
    for axis, count in enumerate(shape):
        position = np.linspace(0, volume.shape[axis] - 1, count)
        below = np.minimum(position.astype(int), volume.shape[axis] - 2)
        weight = (position - below).reshape([-1 if a == axis else 1 for a in range(3)])
        low, high = volume.take(below, axis), volume.take(below + 1, axis)
        volume = (low + (high - low) * weight).astype(np.float32)
    return volume


def test_the_same_seed_is_the_same_patient_and_the_same_voxels(small):
    again = render(draw_patient(4, lesion_share=0.3), shape=SMALL)
    assert again.patient == small.patient
    np.testing.assert_array_equal(again.voxels, small.voxels)
    np.testing.assert_array_equal(again.lesion_mask, small.lesion_mask)
    other = render(draw_patient(5, lesion_share=0.3), shape=SMALL)
    assert (other.voxels != small.voxels).mean() > 0.2


def test_another_lesion_share_is_the_same_patient_on_the_same_scanner():
    healthy, ill = draw_patient(6, lesion_share=0.0), draw_patient(6, lesion_share=0.4)
    assert (healthy.body, healthy.findings, healthy.scanner) == (
        ill.body,
        ill.findings,
        ill.scanner,
    )
    before, after = render(healthy, shape=SMALL), render(ill, shape=SMALL)
    np.testing.assert_array_equal(before.lung_mask, after.lung_mask)
    far = ~before.lung_mask & (np.abs(before.voxels.astype(int) - after.voxels) > 60)
    # Edges of lung and lesion share voxels; the rest of the body is untouched.
    assert far.mean() < 0.01


def test_half_of_the_patients_are_normal_by_default():
    shares = np.array([draw_patient(seed).lesions.share for seed in range(300)])
    assert 0.4 < (shares == 0).mean() < 0.6
    ill = shares[shares > 0]
    assert ill.min() >= 0.01
    assert ill.max() <= 0.60


def test_truth_comes_from_the_masks(abnormal):
    assert abnormal.voxels.dtype == np.int16
    assert abnormal.voxels.shape == abnormal.lung_mask.shape == abnormal.lesion_mask.shape == GRID
    assert not (abnormal.lesion_mask & ~abnormal.lung_mask).any()
    expected = 100 * abnormal.lesion_mask.sum() / abnormal.lung_mask.sum()
    assert abnormal.score == expected
    assert abnormal.label == "abnormal"


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", [11, 12])
def test_the_lesions_have_the_wanted_share(seed, share):
    phantom = render(draw_patient(seed, lesion_share=share), shape=GRID)
    assert phantom.score == pytest.approx(100 * share, rel=SHARE_TOLERANCE)


def test_none_and_all_of_the_lung():
    healthy = render(draw_patient(13, lesion_share=0.0), shape=SMALL)
    assert (healthy.score, healthy.label) == (0.0, "normal")
    assert not healthy.lesion_mask.any()
    drowned = render(draw_patient(13, lesion_share=1.0), shape=SMALL)
    assert drowned.score == 100.0
    np.testing.assert_array_equal(drowned.lesion_mask, drowned.lung_mask)


@pytest.mark.parametrize("seed", range(20, 26))
def test_small_lesions_stand_out(seed):
    patient = quiet(draw_patient(seed, lesion_share=0.01))
    ill = render(patient, shape=GRID)
    healthy = render(quiet(draw_patient(seed, lesion_share=0.0)), shape=GRID)
    rise = ill.voxels[ill.lesion_mask].astype(int) - healthy.voxels[ill.lesion_mask]
    assert rise.mean() > 130
    assert np.percentile(rise, 75) > 180


def test_geometry(abnormal):
    assert nib.aff2axcodes(abnormal.affine) == ("L", "A", "S")
    scanner = abnormal.patient.scanner
    x, y, z = abnormal.spacing_mm
    assert x == pytest.approx(scanner.fov_mm / 512 * 511 / 127)
    assert y == pytest.approx(x)
    assert z == pytest.approx(scanner.spacing_mm * (scanner.slices - 1) / 63)
    full = abnormal.patient.native_shape
    assert full == (512, 512, scanner.slices)


@pytest.mark.parametrize("seed", range(30, 38))
def test_it_is_made_of_the_tissues_of_a_chest(seed):
    patient = quiet(draw_patient(seed, lesion_share=0.0))
    phantom = render(patient, shape=GRID)
    hu = phantom.voxels
    lungs = hu[phantom.lung_mask]
    assert -930 < np.median(lungs) < -600
    litres = phantom.lung_mask.sum() * np.prod(phantom.spacing_mm) / 1e6
    assert 0.6 < litres < 8
    assert 0.15 < (hu < -950).mean() < 0.8
    for low, high, least in [(-130, -70, 0.01), (20, 80, 0.05), (300, 1200, 0.002)]:
        assert ((hu > low) & (hu < high)).mean() > least, (low, high)
    assert hu.min() >= -1024


def test_left_right_and_front_are_where_they_belong():
    """The heart points to the left, the liver lies right, the spine behind."""
    phantom = render(quiet(draw_patient(40, lesion_share=0.0)), shape=GRID)
    x = np.arange(GRID[0])[:, None, None]
    y = np.arange(GRID[1])[None, :, None]
    right_lung = phantom.lung_mask & (x < 64)
    left_lung = phantom.lung_mask & (x >= 64)
    assert right_lung.sum() > left_lung.sum()
    bone = phantom.voxels > 250
    assert (bone * (y < 64)).sum() > (bone * (y >= 64)).sum()
    lowest = phantom.voxels[:, :, 2]
    assert (lowest[:64] > 40).sum() > (lowest[64:] > 40).sum()


def test_a_coarse_render_is_what_resampling_makes_of_the_full_one():
    patient = next(
        p for p in (draw_patient(s, lesion_share=0.1) for s in range(99)) if p.scanner.slices < 36
    )
    patient = dataclasses.replace(
        patient, scanner=dataclasses.replace(patient.scanner, circular=False)
    )
    silent = quiet(patient)
    full, coarse = render(silent), render(silent, shape=GRID)
    assert full.voxels.shape == patient.native_shape
    difference = np.abs(resampled(full.voxels, GRID) - coarse.voxels)
    assert difference.mean() < COARSE_TOLERANCE_HU
    assert full.score == pytest.approx(coarse.score, rel=0.1)
    lungs = coarse.lung_mask
    noise = resampled(render(patient).voxels.astype(int) - full.voxels, GRID)[lungs].std()
    direct = (render(patient, shape=GRID).voxels.astype(int) - coarse.voxels)[lungs].std()
    assert direct == pytest.approx(noise, rel=NOISE_TOLERANCE)


def test_mean_lung_density_does_not_give_the_class_away():
    means, classes = [], []
    for seed in range(40):
        patient = draw_patient(seed + 700)
        phantom = render(patient, shape=(32, 32, 12))
        means.append(phantom.voxels[phantom.lung_mask].mean())
        classes.append(patient.lesions.share > 0)
    rank = np.argsort(np.argsort(means))
    ill = np.array(classes)
    n = ill.sum()
    area = (rank[ill].sum() - n * (n - 1) / 2) / (n * (len(ill) - n))
    assert area < 0.90


def test_bad_arguments():
    with pytest.raises(ValueError, match="seed must not be negative"):
        draw_patient(-1)
    with pytest.raises(ValueError, match=r"lesion_share must lie in 0\.\.1"):
        draw_patient(0, lesion_share=20)
    with pytest.raises(ValueError, match="three sizes"):
        render(draw_patient(0), shape=(128, 128, 1))
