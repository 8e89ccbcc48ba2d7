"""A compressed file that was cut off says how much came of it, and not what is missing."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest

from ctedge import UnreadableScan, read_scan


def test_a_cut_gzip_file_says_after_how_much_it_ends(tmp_path, rng):
    voxels = rng.integers(-1000, 1000, (20, 20, 18)).astype(np.int16)
    whole = nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 2.0, 1.0])).to_bytes()
    path = tmp_path / "scan.nii.gz"
    packed = gzip.compress(whole, 0)  # stored as it is, so that what comes of it can be told
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UnreadableScan, match="ends too early") as caught:
        _ = read_scan(path).voxels
    found, _, unit = str(caught.value.found).removeprefix("it ends after ").partition(" ")
    assert unit == "unpacked bytes"
    # All that the half holds but the headers of gzip and of its blocks.
    assert 0 <= len(packed) // 2 - int(found) < 64
