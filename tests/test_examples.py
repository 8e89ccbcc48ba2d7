from __future__ import annotations

import subprocess
import sys

import nibabel as nib

from conftest import REPOSITORY


def test_embed(tmp_path, chest, las_affine):
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), scan)
    command = [sys.executable, REPOSITORY / "examples" / "embed.py", scan, tmp_path / "missing.nii"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(f"{scan}: ")
    assert "not judged" in answer.stderr
    assert "no such file" in answer.stderr
