from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from ctedge.errors import MissingExtra, OutputError
from ctedge.phantom import (
    Phantom,
    draw_patient,
    render,
    write_dataset,
    write_dicom,
    write_nifti,
)

SMALL = (48, 48, 16)


@pytest.fixture(scope="module")
def small() -> Phantom:
    return render(draw_patient(4, lesion_share=0.3), shape=SMALL)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_round_trip_and_equal_bytes(tmp_path, small, suffix):
    path = write_nifti(small, tmp_path / f"synthetic{suffix}")
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), small.voxels)
    np.testing.assert_allclose(image.affine, small.affine, atol=1e-4)
    assert image.get_data_dtype() == np.int16
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert b"SYNTHETIC" in image.header["descrip"].tobytes()
    twin = write_nifti(small, tmp_path / f"twin{suffix}")
    assert twin.read_bytes() == path.read_bytes()


def test_nifti_refuses_another_suffix(tmp_path, small):
    with pytest.raises(OutputError, match=r"\.nii"):
        write_nifti(small, tmp_path / "scan.mha")


def test_dicom_round_trip(tmp_path, small):
    pydicom = pytest.importorskip("pydicom")
    folder = write_dicom(small, tmp_path / "series")
    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(slices) == SMALL[2]
    slices.sort(key=lambda image: image.ImagePositionPatient[2])
    for index, image in enumerate(slices):
        hu = image.pixel_array * image.RescaleSlope + image.RescaleIntercept
        np.testing.assert_array_equal(hu.T[:, ::-1], small.voxels[:, :, index])
        assert str(image.PatientName) == "SYNTHETIC^PHANTOM"
        assert image.ImageComments == "synthetic"
        assert list(image.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
        # The first pixel's place, LPS, is that of voxel (0, last, index), RAS.
        corner = small.affine @ [0, SMALL[1] - 1, index, 1]
        expected = [-corner[0], -corner[1], corner[2]]
        np.testing.assert_allclose(image.ImagePositionPatient, expected, atol=1e-3)
        np.testing.assert_allclose(image.PixelSpacing, small.spacing_mm[1::-1], rtol=1e-6)
    steps = np.diff([float(image.ImagePositionPatient[2]) for image in slices])
    np.testing.assert_allclose(steps, small.spacing_mm[2], atol=1e-3)
    uids = {image.SOPInstanceUID for image in slices}
    assert len(uids) == SMALL[2]
    assert all(uid.is_valid for uid in uids)
    assert len({image.SeriesInstanceUID for image in slices}) == 1
    with pytest.raises(OutputError, match="already exists"):
        write_dicom(small, folder)


def test_dicom_without_pydicom_names_the_extra(tmp_path, small, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtra, match="dicom"):
        write_dicom(small, tmp_path / "series")


def read_table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_dataset_tells_the_truth_and_continues(tmp_path):
    seen = []
    arguments = {"count": 6, "seed": 1, "shape": SMALL}
    table = write_dataset(tmp_path, **arguments, progress=lambda *done: seen.append(done))
    assert seen == [(n, 6) for n in range(1, 7)]
    rows = read_table(table)
    assert list(rows[0]) == ["path", "label", "score", "split", "kernel"]
    assert [row["label"] for row in rows] == ["normal", "abnormal"] * 3
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    for row in rows:
        path = tmp_path / row["path"]
        assert path.name.startswith("synthetic_")
        truth = json.loads((path.parent / f"{path.name.removesuffix('.nii.gz')}.json").read_text())
        phantom = render(
            draw_patient(truth["seed"], lesion_share=truth["lesion_share"]), shape=SMALL
        )
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), phantom.voxels)
        assert float(row["score"]) == pytest.approx(phantom.score, abs=1e-6)
        assert row["label"] == phantom.label
        # A neighbour's weight below zero sharpens.
        sharp = draw_patient(truth["seed"]).scanner.kernel[1] < 0
        assert row["kernel"] == ("sharp" if sharp else "soft")
    assert {row["kernel"] for row in rows} == {"sharp", "soft"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("scans/*")}
    text = table.read_text()
    lost = tmp_path / rows[2]["path"]
    lost.unlink()
    table.unlink()
    assert write_dataset(tmp_path, **arguments).read_text() == text
    for path, time in before.items():
        kept = path.stat().st_mtime_ns == time
        assert kept == (path.name.split(".")[0] != lost.name.split(".")[0])


def test_dataset_of_another_recipe_is_made_anew(tmp_path):
    write_dataset(tmp_path, count=1, seed=1, shape=SMALL)
    write_dataset(tmp_path, count=1, seed=1, shape=(40, 40, 12))
    assert nib.load(tmp_path / "scans" / "synthetic_00000.nii.gz").shape == (40, 40, 12)


def test_dataset_of_uniform_scores_in_two_processes(tmp_path):
    table = write_dataset(
        tmp_path, count=8, seed=2, shape=(32, 32, 12), scores="uniform", workers=2
    )
    scores = np.array([float(row["score"]) for row in read_table(table)])
    assert scores.max() - scores.min() > 40
    assert (scores > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count and workers must be positive"),
        ({"scores": "all"}, "half"),
        ({"split": (0.5, 0.5, 0.5)}, "add up to 1"),
    ],
)
def test_dataset_refuses_bad_arguments(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path, **{"count": 1, "seed": 0, "shape": SMALL, **change})
