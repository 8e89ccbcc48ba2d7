"""The examples that need no Keras are run as an integrator runs them."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import pytest

from conftest import REPOSITORY
from patience import PATIENCE_S


def run(name, *arguments, **options):
    command = [sys.executable, REPOSITORY / "examples" / name, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, **options
    )


def test_without_a_scan_it_says_how_to_run_it():
    with pytest.raises(subprocess.CalledProcessError) as error:
        run("embed.py")
    assert "python examples/embed.py scan.nii.gz" in error.value.stderr


def test_embed(tmp_path, chest, las_affine):
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), scan)
    answer = run("embed.py", scan, tmp_path / "missing.nii")
    assert answer.stdout.startswith(f"{scan}: ")
    assert "not judged" in answer.stderr
    assert "no such file" in answer.stderr


def test_a_pipeline_answers_every_scan_in_order(tmp_path, chest, las_affine):
    scans = [tmp_path / name for name in ("a.nii.gz", "missing.nii", "b.nii.gz")]
    for scan in (scans[0], scans[2]):
        nib.save(nib.Nifti1Image(chest, las_affine), scan)
    answer = run("pipeline.py", input="".join(f"{scan}\n" for scan in scans))
    first, missing, second = map(json.loads, answer.stdout.splitlines())
    assert [first["source"], missing["source"], second["source"]] == [str(scan) for scan in scans]
    assert missing["error"]["type"] == "ScanNotFound"
    assert first["logit"] == second["logit"]


def test_every_example_is_in_the_table():
    table = (REPOSITORY / "examples" / "README.md").read_text()
    for path in (REPOSITORY / "examples").glob("*.py"):
        assert f"[`{path.name}`]({path.name})" in table
