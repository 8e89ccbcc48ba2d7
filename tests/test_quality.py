from __future__ import annotations

import numpy as np
import pytest

from ctedge import KERAS_EXAMPLE, CTScan, NotHounsfield, UnsupportedGeometry
from ctedge.planes import PlanesInMemory
from ctedge.preprocessing import resample
from ctedge.quality import judge


def judged(voxels, **scan):
    made = CTScan(
        **{"planes": PlanesInMemory(voxels), "affine": np.diag([-0.7, 0.7, 5.0, 1.0]), **scan}
    )
    return judge(made, resample(made, KERAS_EXAMPLE))


def test_a_plain_scan_has_no_flags(chest):
    quality = judged(chest)
    assert quality.flags == ()
    assert quality.slices == 20
    assert quality.spacing_mm == pytest.approx((0.7, 0.7, 5.0))
    assert (quality.lowest_hu, quality.highest_hu) == (chest.min(), chest.max())


def test_what_a_reader_should_know_is_flagged(chest):
    quality = judged(
        chest,
        affine=np.diag([-0.7, 0.7, 12.0, 1.0]),
        orientation_assumed=True,
        excluded=("notes.txt: not DICOM",),
    )
    assert len(quality.flags) == 3


def test_an_array_in_another_order_is_flagged(rng):
    quality = judged(rng.integers(-1000, 900, (40, 128, 128)).astype(np.int16))
    assert any("(X, Y, Z) order" in flag for flag in quality.flags)


def test_too_small_slices(chest):
    with pytest.raises(UnsupportedGeometry, match="15 x 36 pixels"):
        judged(chest[:15])


@pytest.mark.parametrize("slices", [1, 15])
def test_too_few_slices(chest, slices):
    with pytest.raises(UnsupportedGeometry, match=f"{slices} slices"):
        judged(chest[:, :, :slices])


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [
        (0, 1, "already normalised"),
        (0, 255, "8-bit picture"),
        (0, 4095, "without their intercept"),
        (-100, 400, "without air"),
        (-1000, -900, "without tissue"),
        (-30000, 60000, "beyond any CT scanner"),
    ],
)
def test_values_that_are_no_hounsfield_units(rng, low, high, reason):
    voxels = rng.uniform(low, high, (24, 24, 20)).astype(np.float32)
    with pytest.raises(NotHounsfield, match=reason):
        judged(voxels)


@pytest.mark.realdata
def test_a_volume_the_example_normalised_is_refused(real_data):
    from ctedge import read_scan

    scan = read_scan(real_data / "nifti" / "mosmed_preprocessed_128x128x64.nii.gz")
    with pytest.raises(NotHounsfield, match="already normalised"):
        judge(scan, resample(scan, KERAS_EXAMPLE))
