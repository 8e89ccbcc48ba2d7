"""A DICOM series and the NIfTI file that an independent tool makes of it are the same scan."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ctedge import CTScan, IrregularSeries, UnsupportedGeometry, preprocess, read_scan
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY
from dicom_factory import WAYS, oriented, write_series

#: NIfTI keeps its affine in float32, DICOM in decimal text: a thousandth of a mm over 300 mm.
AFFINE_MM = 1e-3

#: The arrays lie differently in memory, and sums of float32 come in another order.
ROUNDING = 1e-6

REAL = ("covid_chest", "phantom_chest_jpeg2000")


@pytest.fixture
def volume(rng) -> np.ndarray:
    """(X, Y, Z) HU in LAS"""
    return rng.integers(-1000, 1200, (20, 16, 18)).astype(np.int16)


def by_simpleitk(series: Path, made: Path) -> Path:
    """GDCM and ITK; it sorts by position itself."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK makes the twins")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
    sitk.WriteImage(sitk.ReadImage(names), str(made / "twin.nii.gz"))
    return made / "twin.nii.gz"


def by_dcm2niix(series: Path, made: Path) -> Path:
    """The converter that most collections of NIfTI files come from."""
    dcm2niix = pytest.importorskip("dcm2niix", reason="dcm2niix makes the twins")
    command = [dcm2niix.bin, "-z", "n", "-b", "n", "-f", "twin", "-o", str(made), str(series)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return made / "twin.nii"


Tool = Callable[[Path, Path], Path]
TOOLS = (by_simpleitk, by_dcm2niix)


def same_input(scan: CTScan, other: CTScan) -> None:
    np.testing.assert_allclose(scan.affine, other.affine, atol=AFFINE_MM)
    for spec in (KERAS_EXAMPLE, SEVERITY_STUDY):
        np.testing.assert_allclose(preprocess(scan, spec), preprocess(other, spec), atol=ROUNDING)


@pytest.mark.parametrize(
    ("tool", "reverse"), [(by_simpleitk, False), (by_simpleitk, True), (by_dcm2niix, True)]
)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_lie(tmp_path, volume, way, tool: Tool, reverse):
    pixels, geometry = oriented(volume, *WAYS[way])
    write_series(tmp_path / "dicom", pixels, reverse=reverse, signed=True, **geometry)
    scan, other = read_scan(tmp_path / "dicom"), read_scan(tool(tmp_path / "dicom", tmp_path))
    np.testing.assert_array_equal(scan.voxels, volume)
    np.testing.assert_array_equal(other.voxels, volume)
    same_input(scan, other)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("degrees", [5.0, 15.0])
def test_slices_a_little_off_axial(tmp_path, volume, degrees, tool: Tool):
    cosine, sine = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    row, column = (round(cosine, 9), round(sine, 9), 0.0), (round(-sine, 9), round(cosine, 9), 0.0)
    write_series(tmp_path / "dicom", volume.transpose(2, 1, 0), orientation=(*row, *column))
    scan, other = read_scan(tmp_path / "dicom"), read_scan(tool(tmp_path / "dicom", tmp_path))
    np.testing.assert_array_equal(scan.voxels, other.voxels)
    same_input(scan, other)


def test_a_tilted_gantry_is_refused_in_both(tmp_path, volume):
    cosine, sine = (float(round(f(np.radians(12.0)), 9)) for f in (np.cos, np.sin))
    write_series(
        tmp_path / "dicom",
        volume.transpose(2, 1, 0),
        orientation=(1, 0, 0, 0, cosine, sine),
        ImagePositionPatient=[(-100.0, -120.0, 5.0 * number) for number in range(18)],
        GantryDetectorTilt=12.0,
    )
    with pytest.raises(IrregularSeries, match="tilted"):
        read_scan(tmp_path / "dicom")
    with pytest.raises(UnsupportedGeometry, match="perpendicular"):
        read_scan(by_dcm2niix(tmp_path / "dicom", tmp_path))


@pytest.mark.realdata
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", REAL)
def test_real_chests(real_data, tmp_path, name, tool: Tool):
    folder = tmp_path / name
    folder.mkdir()
    for path in sorted((real_data / "dicom" / name).glob("*.dcm"))[:20]:
        (folder / path.name).write_bytes(path.read_bytes())
    scan, other = read_scan(folder), read_scan(tool(folder, tmp_path))
    # ctedge makes padding, and what lies below the scale, air; other tools keep the numbers.
    expected = np.where(other.voxels < -1024, -1000, other.voxels)
    np.testing.assert_array_equal(scan.voxels, expected)
    same_input(scan, other)
