"""Lungs of real chests: no truth is known, only what is plausible."""

from __future__ import annotations

import pytest

import ctedge
from ctedge.lungs import affected_share, segment_lungs

pytest.importorskip("scipy", exc_type=ImportError)

#: Both lungs of a lying adult who holds the breath, mL.
PLAUSIBLE_ML = (1500, 8000)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("dicom/covid_chest", "imagecodecs"),
        ("dicom/phantom_chest_jpeg2000", "imagecodecs"),
        ("nifti/covid_chest_raw_hu.nii.gz", "nibabel"),
    ],
)
def test_lungs_of_a_real_chest_have_a_plausible_volume(real_data, name, needs):
    pytest.importorskip(needs)
    scan = ctedge.read_scan(real_data / name)
    lungs = segment_lungs(scan)
    least, most = PLAUSIBLE_ML
    assert lungs.complete
    assert least < lungs.volume_ml.both < most
    assert 0.5 < lungs.volume_ml.right / lungs.volume_ml.left < 2
    assert not lungs.cut_at_top
    shares = affected_share(scan, lungs)
    assert shares.ground_glass.both + shares.dense.both < 0.6
