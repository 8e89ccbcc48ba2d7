"""Quality on the command line."""

from __future__ import annotations

import json

import pytest

import ctedge.lungs
import quality_factory as factory
from command_here import call
from command_line import run
from ctedge.phantom import write_nifti

pytest.importorskip("scipy", exc_type=ImportError)


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    path = tmp_path_factory.mktemp("scans") / "chest.nii.gz"
    write_nifti(factory.chest(0), path)
    return path


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    import nibabel

    scan = factory.head()
    path = tmp_path_factory.mktemp("scans") / "head.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan.voxels, scan.affine), path)
    return path


def test_assess_shows_measures_and_flags(chest, head):
    answer = run("assess", chest, head)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.split("head.nii.gz")
    assert "mL (right + left)" in first
    assert "nothing stands out" in first
    assert "red flag" in second
    assert "no lungs can be found" in second


def test_assess_strict_and_json(chest, head):
    answer = run("assess", chest, head, "--strict", "--json", "-m", "pneumonia")
    assert answer.returncode == 1
    fit, unfit = (json.loads(line) for line in answer.stdout.splitlines())
    assert fit["quality"]["lungs"]["complete"]
    assert fit["quality"]["flags"] == []
    assert unfit["error"]["type"] == "UnfitScan"


def test_predict_with_assess_prints_volumes_and_shares(chest):
    answer = run("predict", chest, "-m", "severity", "--assess")
    assert answer.returncode == 0, answer.stderr
    assert "mL (right + left)" in answer.stdout
    assert "ground glass" in answer.stdout


def test_predict_strict_refuses_a_head(head):
    said = run("predict", head, "-m", "pneumonia")
    assert said.returncode == 0
    assert "red flag" in said.stdout
    answer = run("predict", head, "-m", "pneumonia", "--strict", "--json")
    assert answer.returncode == 1
    assert json.loads(answer.stdout)["error"]["type"] == "UnfitScan"


def test_several_models_look_at_a_scan_once(chest, monkeypatch):
    looked_at = []
    segment = ctedge.lungs.segment_lungs
    monkeypatch.setattr(
        ctedge.lungs, "segment_lungs", lambda scan: looked_at.append(scan) or segment(scan)
    )
    said = call("predict", chest, "-m", "pneumonia", "-m", "severity", "--assess", "--json")
    assert said.returncode == 0, said.stderr
    assert len(looked_at) == 1
    first, second = (json.loads(line) for line in said.stdout.splitlines())
    assert first["quality"] == second["quality"]
    assert second["lungs"]["volume_ml"] == second["quality"]["lungs"]["volume_ml"]
    for stage in ("read", "assess"):
        assert first["timings_ms"][stage] == second["timings_ms"][stage] > 0
    for timings in (first["timings_ms"], second["timings_ms"]):
        stages = sum(ms for stage, ms in timings.items() if stage != "total")
        assert timings["total"] == pytest.approx(stages, abs=0.01)  # each is rounded to 1 us

    call("predict", chest, chest, "-m", "severity", "--assess")
    assert len(looked_at) == 3  # a file is read anew, and may have changed
