"""Slices and pictures on the command line."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle_factory import write_tiny
from command_here import call
from command_line import run
from dicom_factory import save, slices


@pytest.fixture
def bundle(tmp_path):
    return write_tiny(tmp_path / "slices.ctedge", task="slices", threshold=0.375).path


@pytest.fixture
def picture(tmp_path, rng):
    path = tmp_path / "slice.png"
    Image.fromarray(rng.integers(0, 256, (48, 40), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def scan(tmp_path, chest, las_affine):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), path)
    return path


def test_a_picture_has_one_answer(bundle, picture):
    answer = run("predict", picture, "--model", bundle)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"class +abnormal", answer.stdout)
    assert re.search(r"threshold +0\.375, chosen on validation data", answer.stdout)
    assert "radiological view" in answer.stdout
    document = json.loads(run("predict", picture, "--model", bundle, "--json").stdout)
    assert document["source"] == str(picture)
    assert len(document["slices"]) == 1
    assert document["threshold"] == 0.375


def test_of_a_scan_the_highest_slices_are_shown_and_json_gives_all(bundle, scan):
    document = json.loads(run("predict", scan, "-m", bundle, "--json").stdout)
    assert [answer["index"] for answer in document["slices"]] == list(range(20))
    highest = sorted(document["slices"], key=lambda slice_: -slice_["probability"])[:5]
    answer = run("predict", scan, "-m", bundle)
    assert answer.returncode == 0, answer.stderr
    shown = re.findall(r"slice (\d+) .*at z (-?[\d.]+) mm", answer.stdout)
    assert [(int(index), float(z)) for index, z in shown] == [
        (slice_["index"], slice_["z_mm"]) for slice_ in highest
    ]
    assert "20 judged" in answer.stdout


def test_one_slice_of_dicom_is_judged_by_models_for_slices_alone(bundle, tmp_path, chest):
    path = save(tmp_path / "slice.dcm", slices(chest[:, :, 10].T[np.newaxis])[0])
    said = call("predict", path, "-m", bundle, "--json")
    assert said.returncode == 0, said.stdout
    assert len(json.loads(said.stdout)["slices"]) == 1
    other = write_tiny(tmp_path / "volumes.ctedge").path
    said = call("predict", path, "-m", bundle, "-m", other)
    assert said.returncode == 1
    assert "a model for slices judges one alone" in said.stderr


def test_a_picture_goes_to_the_models_for_slices_only(bundle, picture, scan, tmp_path):
    volumes = write_tiny(tmp_path / "volumes.ctedge").path
    answer = run("predict", picture, scan, "-m", volumes, "-m", bundle, "--json")
    assert answer.returncode == 0, answer.stdout
    documents = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [(d["source"], d["model"]) for d in documents] == [
        (str(picture), "slices"),
        (str(scan), "volumes"),
        (str(scan), "slices"),
    ]


def test_a_picture_without_a_model_for_slices_says_what_to_do(picture, tmp_path):
    volumes = write_tiny(tmp_path / "volumes.ctedge").path
    answer = run("predict", picture, "-m", volumes)
    assert answer.returncode == 1
    assert "model for slices" in answer.stderr


def test_inspect_shows_spec_and_threshold(bundle):
    answer = run("inspect", bundle)
    assert answer.returncode == 0, answer.stderr
    assert "abnormal from a probability of 0.375 on" in answer.stdout
    assert "24 x 20" in answer.stdout
    assert "image (N, 3, 24, 20)" in answer.stdout


def test_a_threshold_of_one_half_is_not_mentioned(tmp_path, scan):
    bundle = write_tiny(tmp_path / "half.ctedge").path
    assert "chosen on" not in run("predict", scan, "-m", bundle).stdout
    other = write_tiny(tmp_path / "other.ctedge", threshold=0.25).path
    assert "threshold  0.25, chosen on" in run("predict", scan, "-m", other).stdout
    severity = write_tiny(tmp_path / "severity.ctedge", task="severity").path
    assert "probability" not in run("inspect", severity).stdout
