"""A DICOM series and the NIfTI file that an independent tool makes of it are the same scan."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge import preprocess, read_scan
from dicom_factory import oriented, write_series

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK makes the twins")

#: NIfTI keeps its affine in float32, DICOM in decimal text: a thousandth of a mm over 300 mm.
AFFINE_MM = 1e-3

WAYS = {
    "head first, supine": ((1, 0, 0), (0, 1, 0)),
    "prone": ((-1, 0, 0), (0, -1, 0)),
    "feet first: slices grow towards the feet": ((-1, 0, 0), (0, 1, 0)),
    "feet first, prone": ((1, 0, 0), (0, -1, 0)),
    "axes swapped": ((0, 1, 0), (1, 0, 0)),
    "lying on the left": ((0, 1, 0), (-1, 0, 0)),
    "lying on the right": ((0, -1, 0), (1, 0, 0)),
    "swapped and turned": ((0, -1, 0), (-1, 0, 0)),
}


@pytest.fixture
def volume(rng) -> np.ndarray:
    """(X, Y, Z) HU in LAS"""
    return rng.integers(-1000, 1200, (20, 16, 18)).astype(np.int16)


def twin(paths, path):
    """The series as SimpleITK (GDCM and ITK) reads and writes it; it sorts by position itself."""
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(paths[0].parent))
    sitk.WriteImage(sitk.ReadImage(names), str(path))
    return read_scan(path)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_lie(tmp_path, volume, way, reverse):
    pixels, geometry = oriented(volume, *WAYS[way])
    paths = write_series(tmp_path / "dicom", pixels, reverse=reverse, signed=True, **geometry)
    scan = read_scan(tmp_path / "dicom")
    other = twin(paths, tmp_path / "twin.nii.gz")
    np.testing.assert_array_equal(scan.voxels, volume)
    np.testing.assert_array_equal(other.voxels, volume)
    np.testing.assert_allclose(scan.affine, other.affine, atol=AFFINE_MM)
    # The arrays lie differently in memory, and sums of float32 come in another order.
    np.testing.assert_allclose(preprocess(scan), preprocess(other), atol=1e-6)


@pytest.mark.parametrize("degrees", [5.0, 15.0])
def test_slices_a_little_off_axial(tmp_path, volume, degrees):
    cosine, sine = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    row, column = (round(cosine, 9), round(sine, 9), 0.0), (round(-sine, 9), round(cosine, 9), 0.0)
    paths = write_series(tmp_path / "dicom", volume.transpose(2, 1, 0), orientation=(*row, *column))
    scan, other = read_scan(tmp_path / "dicom"), twin(paths, tmp_path / "twin.nii.gz")
    np.testing.assert_array_equal(scan.voxels, other.voxels)
    np.testing.assert_allclose(scan.affine, other.affine, atol=AFFINE_MM)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["covid_chest", "phantom_chest_jpeg2000"])
def test_real_chests(real_data, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for path in sorted((real_data / "dicom" / name).glob("*.dcm"))[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    scan = read_scan(folder)
    other = twin(sorted(folder.iterdir()), tmp_path / "twin.nii.gz")
    # ctedge makes padding, and what lies below the scale, air; the other tool keeps the numbers.
    expected = np.where(other.voxels < -1024, -1000, other.voxels)
    np.testing.assert_array_equal(scan.voxels, expected)
    np.testing.assert_allclose(scan.affine, other.affine, atol=AFFINE_MM)
    np.testing.assert_allclose(preprocess(scan), preprocess(other), atol=1e-6)
