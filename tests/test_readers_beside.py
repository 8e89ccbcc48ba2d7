"""While a plane is used, threads read what comes next: of a .nii.gz, and of a DICOM series."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import nibabel
import numpy as np
import pytest

from ctedge import read_scan
from ctedge.readers import inflate, nifti_planes
from ctedge.readers.dicom import planes as dicom_planes
from dicom_factory import write_series
from patience import wait_for

HEADER_BYTES = 352


@pytest.fixture
def voxels(rng) -> np.ndarray:
    """(X, Y, Z) int16, first axis fastest, as files have it."""
    return np.asfortranarray(rng.integers(-1000, 1000, (24, 20, 60)).astype(np.int16))


def test_the_next_piece_is_inflated_while_a_plane_is_used(
    voxels, tmp_path, las_affine, monkeypatch
):
    monkeypatch.setattr(inflate, "_CHUNK_BYTES", 1024)
    monkeypatch.setattr(inflate, "_STEP_BYTES", 3000)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, las_affine), path)
    pieces, begun, came = nifti_planes.pieces, [], []

    def watched(*args, **named) -> Iterator[bytes]:
        begun.append(threading.current_thread())
        for piece in pieces(*args, **named):
            came.append(len(piece))
            yield piece
            begun.append(threading.current_thread())

    monkeypatch.setattr(nifti_planes, "pieces", watched)
    with closing(read_scan(path).planes.each(range(60))) as planes:
        np.testing.assert_array_equal(next(planes), voxels[:, :, 0])
        assert threading.current_thread() not in begun
        needs = HEADER_BYTES + voxels[:, :, 0].nbytes
        used = next(count for count in range(1, 60) if sum(came[:count]) >= needs)
        wait_for(lambda: len(begun) > used)
    assert threading.current_thread() not in begun


def test_the_next_slices_are_decoded_while_a_plane_is_used(voxels, tmp_path, monkeypatch):
    path = write_series(tmp_path / "series", voxels.transpose(2, 1, 0)[:, ::-1])[0].parent
    decode, begun = dicom_planes.decode, []

    def watched(one):
        begun.append(threading.current_thread())
        return decode(one)

    monkeypatch.setattr(dicom_planes, "decode", watched)
    with closing(read_scan(path).planes.each(range(60))) as planes:
        np.testing.assert_array_equal(next(planes), voxels[:, :, 0])
        assert threading.current_thread() not in begun
        wait_for(lambda: len(begun) > 1)
    assert threading.current_thread() not in begun
