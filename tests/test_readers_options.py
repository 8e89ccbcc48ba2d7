"""Options of `read_scan` that are misspelt, or that the scan at hand does not know."""

from __future__ import annotations

import io

import nibabel as nib
import numpy as np
import pytest

from ctedge import InputError, ScanNotFound, read_scan
from dicom_factory import hu_of, slices

VALUES = {
    "on_gap": "resmaple",
    "select": "lung",
    "series": 5,
    "acquisition": "1",
}
GIVEN = {"series": "1.2.3", "acquisition": 4, "select": "chest", "on_gap": "resample"}


hu = hu_of(18, 8, 10)


@pytest.fixture
def nifti(tmp_path, hu):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(hu, np.diag([-1.0, 1.0, 2.0, 1.0])), path)
    return path


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_is_none_is_refused_of_any_scan(hu, nifti, name):
    for source in (slices(hu), nifti):
        with pytest.raises(InputError, match=f"{name} has no such value") as caught:
            read_scan(source, **{name: VALUES[name]})
        assert caught.value.found == repr(VALUES[name])
        assert f"--{name.replace('_', '-')}" in caught.value.fix


@pytest.mark.parametrize("value", [True, 1.0, [1]])
def test_an_acquisition_is_a_whole_number(hu, value):
    with pytest.raises(InputError, match="acquisition has no such value"):
        read_scan(slices(hu, acquisition=1), acquisition=value)
    assert read_scan(slices(hu, acquisition=1), acquisition=np.int64(1)).shape[2] == 18


@pytest.mark.parametrize("name", GIVEN)
def test_options_of_dicom_are_refused_for_nifti(nifti, name):
    with pytest.raises(InputError, match="not DICOM") as caught:
        read_scan(nifti, **{name: GIVEN[name]})
    assert f"{name}={GIVEN[name]!r}" in caught.value.found
    assert read_scan(nifti, on_gap="error").shape == (18, 8, 10)


def test_a_scan_that_is_not_there_is_missing_first(tmp_path):
    with pytest.raises(ScanNotFound, match="no such file"):
        read_scan(tmp_path / "none.nii", select="chest")


def test_options_of_dicom_are_taken_for_streams(hu):
    files = []
    for one in slices(hu):
        stream = io.BytesIO()
        one.save_as(stream, enforce_file_format=True)
        files.append(io.BytesIO(stream.getvalue()))
    del files[7]
    assert read_scan(files, on_gap="resample").interpolated == 1
