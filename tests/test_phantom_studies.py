"""Synthetic studies: the layout, the truth of the table, and going on after an interruption."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ctedge import read_scan
from ctedge.errors import MissingExtra, OutputError
from ctedge.phantom import draw_patient, render, write_dicom, write_lung_mask, write_studies
from ctedge.prediction import SEVERITY_CLASSES, severity_category

pydicom = pytest.importorskip("pydicom")

SHAPE = (32, 32, 24)
ARGUMENTS = {"count": 9, "seed": 1, "shape": SHAPE}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_studies(folder, **ARGUMENTS)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, with the times of its files."""
    return shutil.copytree(made, tmp_path / "data")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "data.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def times(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


def test_the_table_lists_every_study_with_all_severity_classes(made):
    rows = rows_of(made)
    assert list(rows[0]) == ["path", "covid", "score", "reference"]
    covid = [row for row in rows if row["covid"] == "1"]
    assert [row["path"] for row in covid] == [f"covid/patient-{n:02d}" for n in range(1, 6)]
    normal = [row for row in rows if row["covid"] == "0"]
    assert [row["path"] for row in normal] == [f"normal/npatient-{n:02d}" for n in range(1, 5)]
    assert {severity_category(float(row["score"])) for row in covid} == {
        name for name, _ in SEVERITY_CLASSES
    }
    assert {row["score"] for row in normal} == {"0"}
    assert len({row["reference"][:9] for row in rows}) == len(rows)


def test_scan_mask_and_score_are_those_of_one_phantom(made):
    for row in rows_of(made)[::4]:
        name = Path(row["path"]).name
        truth = json.loads((made / "truth" / f"{name}.json").read_text())
        patient = draw_patient(truth["seed"], lesion_share=truth["lesion_share"])
        phantom = render(patient, shape=SHAPE)
        np.testing.assert_array_equal(read_scan(made / row["path"]).voxels, phantom.voxels)
        mask = nib.load(made / "masks" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(mask.dataobj), phantom.lung_mask)
        np.testing.assert_allclose(mask.affine, phantom.affine, atol=1e-4)
        assert int(row["score"]) == round(phantom.score)


def test_every_file_says_synthetic_and_carries_the_reference(made):
    for row in rows_of(made):
        files = list((made / row["path"]).iterdir())
        assert len(files) == SHAPE[2]
        for path in files:
            image = pydicom.dcmread(path)
            assert str(image.PatientName) == "SYNTHETIC^PHANTOM"
            assert image[0x0040, 0x0275][0][0x0040, 0x0009].value == row["reference"]
            assert len(row["reference"]) >= 9


def test_the_same_arguments_make_the_same_bytes_and_a_prefix_of_more(made, tmp_path):
    twin, more = tmp_path / "twin", tmp_path / "more"
    write_studies(twin, **ARGUMENTS, workers=2)
    for name in times(made):
        assert (twin / name).read_bytes() == (made / name).read_bytes(), name
    write_studies(more, **{**ARGUMENTS, "count": 10})
    known = {row["path"]: row for row in rows_of(made)}
    assert len(rows_of(more)) == 10
    shared = [row for row in rows_of(more) if row["path"] in known]
    assert shared == list(known.values())


def test_a_broken_off_run_goes_on(folder):
    before, seen = times(folder), []
    shutil.rmtree(folder / "covid" / "patient-02")
    (folder / "masks" / "npatient-01.nii.gz").unlink()
    (folder / "data.csv").unlink()
    write_studies(folder, **ARGUMENTS, progress=lambda *done: seen.append(done))
    assert seen == [(n, 9) for n in range(1, 10)]
    after = times(folder)
    assert set(after) == set(before)
    redone = {Path(name).parts for name in after if after[name] != before[name]}
    assert {part for parts in redone for part in parts if "patient-" in part} == {
        "patient-02",
        "patient-02.nii.gz",
        "patient-02.json",
        "npatient-01",
        "npatient-01.nii.gz",
        "npatient-01.json",
    }


def test_an_interruption_while_replacing_leaves_nothing_that_passes_for_whole(folder, monkeypatch):
    def interrupted(series):
        next(series.iterdir()).unlink()
        raise KeyboardInterrupt

    coarse = {**ARGUMENTS, "shape": (24, 24, 20)}
    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_studies(folder, **coarse)
    write_studies(folder, **ARGUMENTS)
    assert read_scan(folder / "covid" / "patient-01").shape == SHAPE
    write_studies(folder, **coarse)
    assert read_scan(folder / "covid" / "patient-01").shape == (24, 24, 20)
    assert not [path for path in folder.rglob(".*") if path.is_dir()]


def test_what_was_not_made_here_is_left_alone(folder, tmp_path):
    before = times(folder)
    with pytest.raises(OutputError, match=r"other studies(?s:.*)patient-05"):
        write_studies(folder, **{**ARGUMENTS, "count": 6})
    (folder / "truth" / "patient-01.json").unlink()
    with pytest.raises(OutputError, match="patient-01"):
        write_studies(folder, **ARGUMENTS)
    before.pop("truth/patient-01.json")
    assert times(folder) == before
    real = tmp_path / "real"
    real.mkdir()
    (real / "data.csv").write_text("path,covid,score\n")
    with pytest.raises(OutputError, match=r"data\.csv"):
        write_studies(real, **ARGUMENTS)
    assert [path.name for path in real.iterdir()] == ["data.csv"]


@pytest.mark.parametrize("change", [{"count": 1}, {"workers": 0}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="count must be at least 2"):
        write_studies(tmp_path, **{**ARGUMENTS, **change})


def test_without_pydicom_the_extra_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtra, match="dicom"):
        write_studies(tmp_path / "new", **ARGUMENTS)
    assert not (tmp_path / "new").exists()


def test_a_mask_is_written_as_nifti_and_a_reference_only_where_it_is_given(tmp_path):
    phantom = render(draw_patient(4), shape=(24, 24, 20))
    mask = nib.load(write_lung_mask(phantom, tmp_path / "lungs.nii"))
    assert mask.get_data_dtype() == np.uint8
    assert mask.get_fdata().sum() == phantom.lung_mask.sum() > 0
    with pytest.raises(OutputError, match=r"\.nii"):
        write_lung_mask(phantom, tmp_path / "lungs.png")
    for path in write_dicom(phantom, tmp_path / "plain").iterdir():
        assert (0x0040, 0x0275) not in pydicom.dcmread(path)
    for reference in ("", "x" * 17):
        with pytest.raises(ValueError, match="1 to 16 characters"):
            write_dicom(phantom, tmp_path / "wrong", reference=reference)
    assert not (tmp_path / "wrong").exists()
