"""Lung masks in files: labels become lung, and a mask of another scan is refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctedge import preprocess, read_scan
from ctedge.errors import DatasetError
from ctedge.phantom import Phantom, draw_patient, render, write_dicom, write_lung_mask
from ctedge.scan import CTScan
from ctedge_training.hrct.masks import MaskFiles
from ctedge_training.tasks import SEVERITY_STUDY_LUNGS

pytest.importorskip("pydicom")

NAME = "patient-01"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return render(draw_patient(11, lesion_share=0.3), shape=(32, 28, 20))


@pytest.fixture(scope="module")
def scan(phantom, tmp_path_factory) -> CTScan:
    return read_scan(write_dicom(phantom, tmp_path_factory.mktemp("scan") / NAME))


def save(folder: Path, values: np.ndarray, affine: np.ndarray, **codes: int) -> MaskFiles:
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, code=codes.get("code", 1))
    image.set_qform(affine, code=codes.get("code", 1))
    nib.save(image, folder / f"{NAME}.nii.gz")
    return MaskFiles(folder=folder)


def test_a_true_mask_is_read_back(tmp_path, phantom, scan):
    write_lung_mask(phantom, tmp_path / f"{NAME}.nii.gz")
    mask = MaskFiles(folder=tmp_path)(NAME, scan)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, phantom.lung_mask)
    volume = preprocess(scan, SEVERITY_STUDY_LUNGS, lung_mask=mask)
    assert volume.shape == (64, 128, 128)
    assert (volume == 0).mean() > 0.8 > (preprocess(scan) == 0).mean()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_two_labels_for_two_lungs_are_one_lung(tmp_path, phantom, scan, dtype):
    labels = phantom.lung_mask.astype(dtype)
    labels[: labels.shape[0] // 2] *= 2
    assert labels.max() == 2
    mask = save(tmp_path, labels, phantom.affine)(NAME, scan)
    np.testing.assert_array_equal(mask, phantom.lung_mask)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "PIL"])
def test_a_mask_in_another_orientation_is_brought_to_the_scan(tmp_path, phantom, scan, axes):
    image = nib.Nifti1Image(phantom.lung_mask.astype(np.uint8), phantom.affine)
    turned = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    image = image.as_reoriented(turned)
    mask = save(tmp_path, np.asarray(image.dataobj), image.affine)(NAME, scan)
    np.testing.assert_array_equal(mask, phantom.lung_mask)


def test_a_missing_mask_is_refused(tmp_path, scan):
    for read in (lambda masks: masks(NAME, scan), lambda masks: masks.digest(NAME)):
        with pytest.raises(DatasetError, match=r"no lung mask for patient-01(?s:.*)nii\.gz"):
            read(MaskFiles(folder=tmp_path))


def test_another_mask_has_another_digest(tmp_path, phantom):
    lungs = phantom.lung_mask.astype(np.uint8)
    before = save(tmp_path, lungs, phantom.affine).digest(NAME)
    assert save(tmp_path, lungs, phantom.affine).digest(NAME) == before
    lungs[phantom.lesion_mask] = 0
    assert save(tmp_path, lungs, phantom.affine).digest(NAME) != before


def test_a_damaged_mask_is_refused(tmp_path, scan):
    (tmp_path / f"{NAME}.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(DatasetError, match=rf"{NAME}\.nii\.gz: the lung mask cannot be read"):
        MaskFiles(folder=tmp_path)(NAME, scan)


def test_a_mask_of_another_size_is_refused(tmp_path, phantom, scan):
    masks = save(tmp_path, phantom.lung_mask[..., :-1].astype(np.uint8), phantom.affine)
    with pytest.raises(DatasetError, match=r"another size(?s:.*)\(32, 28, 19\)"):
        masks(NAME, scan)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, phantom, scan, axis):
    lungs, moved = phantom.lung_mask.astype(np.uint8), phantom.affine.copy()
    moved[axis, 3] += 0.6 * phantom.spacing_mm[axis]
    with pytest.raises(DatasetError, match=r"lies elsewhere(?s:.*)0\.6 voxels away"):
        save(tmp_path, lungs, moved)(NAME, scan)
    moved[axis, 3] -= 0.2 * phantom.spacing_mm[axis]
    np.testing.assert_array_equal(save(tmp_path, lungs, moved)(NAME, scan), phantom.lung_mask)


def test_a_mask_of_other_spacing_is_refused(tmp_path, phantom, scan):
    wider = phantom.affine @ np.diag([1, 1, 1.05, 1])
    with pytest.raises(DatasetError, match="lies elsewhere"):
        save(tmp_path, phantom.lung_mask.astype(np.uint8), wider)(NAME, scan)


def test_a_mask_without_orientation_is_refused(tmp_path, phantom, scan):
    masks = save(tmp_path, phantom.lung_mask.astype(np.uint8), phantom.affine, code=0)
    with pytest.raises(DatasetError, match="does not say how it lies"):
        masks(NAME, scan)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda p: np.zeros(p.voxels.shape, np.uint8), "no lung at all"),
        (lambda p: np.ones(p.voxels.shape, np.uint8), "everything is lung"),
        (lambda p: p.voxels, "the values are no mask"),
        (lambda p: p.lung_mask.astype(np.float32) * np.float32(0.5), "the values are no mask"),
        (lambda p: p.lung_mask.astype(np.int8) * np.int8(-1), "the values are no mask"),
    ],
    ids=["empty", "full", "HU", "probabilities", "negative"],
)
def test_what_is_no_mask_is_refused(tmp_path, phantom, scan, values, message):
    with pytest.raises(DatasetError, match=message):
        save(tmp_path, values(phantom), phantom.affine)(NAME, scan)
