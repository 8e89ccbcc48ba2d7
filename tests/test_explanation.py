"""A network's map, brought back to the scan's own grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from bundle_factory import write_tiny
from command_line import run
from ctedge import Classifier, CTScan, preprocess, read_scan
from ctedge.bundle.maps import MapRecord
from ctedge.errors import OutputError, RuntimeUnavailable
from ctedge.explanation import OVERLAY_SLICES, Explanation
from ctedge.phantom import draw_patient, render, write_nifti
from ctedge.slice_input import scan_of_picture
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY
from side_marks import marks

#: float32 arithmetic on values of 0..1, through two linear interpolations.
TOLERANCE = 1e-5

#: What the issue of a map is: its share inside the lesions, in multiples of what chance gives.
TIMES_CHANCE = 3.0

RECORD = MapRecord(
    name="layer_cam", method="layer-cam", shape=(63, 63, 31), origin=(1.5,) * 3, step=(2.0,) * 3
)
AFFINE = np.array(
    [[-0.8, 0.0, 0.0, 150.0], [0.0, 0.8, 0.0, -120.0], [0.0, 0.0, 2.5, 30.0], [0, 0, 0, 1.0]]
)


def record_for(spec, step=4.0):
    cells = tuple(int((n - 1 - step) // step) for n in spec.shape)
    return replace(RECORD, shape=cells, origin=(step / 2,) * 3, step=(step,) * 3)


def explained(cells=None, *, shape=(90, 70, 40), spec=KERAS_EXAMPLE, record=RECORD, affine=AFFINE):
    scan = CTScan.from_array(np.zeros(shape, np.int16))
    if affine is not None:
        scan = replace(scan, affine=affine, orientation_assumed=False)
    if cells is None:
        cells = np.zeros(record.shape, np.float32)
        cells[40, 20, 10] = 2.0
    return Explanation(cells=cells, scan=scan, spec=spec, record=record)


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(90, 70, 40), (33, 128, 301)])
def test_a_map_of_the_input_itself_lies_where_the_scan_has_it(spec, axis, shape):
    """What the network is shown of a ramp, taken as a map, is the ramp again on the scan's grid."""
    steps = [1, 1, 1]
    steps[axis] = shape[axis]
    ramp = np.broadcast_to(np.linspace(-1000, 400, shape[axis]).reshape(steps), shape)
    scan = CTScan.from_array(np.ascontiguousarray(ramp, np.float32))
    record = record_for(spec)
    centres = [
        np.round(o + s * np.arange(n)).astype(int)
        for o, s, n in zip(record.origin, record.step, record.shape, strict=True)
    ]
    cells = preprocess(scan, spec)[np.ix_(*centres)]
    explanation = Explanation(cells=cells, scan=scan, spec=spec, record=record)
    heat = explanation.heatmap() * cells.max()
    expected = (ramp + 1000) / 1400
    # Beyond the outermost centres the outermost cells go on.
    clipped = np.clip(expected, cells.min(), cells.max())
    assert heat.shape == shape
    np.testing.assert_allclose(heat, clipped, atol=TOLERANCE)


def test_the_hottest_cell_is_one_and_lies_at_the_peak():
    explanation = explained()
    heat = explanation.heatmap()
    assert heat.dtype == np.float32
    # Cells are more than a voxel apart here: the voxel nearest to a centre is close to it.
    assert 0.5 < heat.max() <= 1.0
    assert np.unravel_index(heat.argmax(), heat.shape) == explanation.peak
    where = AFFINE @ [*explanation.peak, 1]
    assert explanation.peak_mm == pytest.approx(tuple(where[:3]), abs=1e-3)


def test_planes_are_those_of_the_whole():
    explanation = explained()
    whole = explanation.heatmap()
    np.testing.assert_array_equal(explanation.heatmap([3, 17, 5]), whole[:, :, [3, 17, 5]])


def test_no_heat_at_all_stays_none():
    explanation = explained(np.zeros(RECORD.shape, np.float32))
    assert explanation.heatmap().max() == 0.0


def test_a_scan_whose_place_is_not_known_has_no_millimetres(tmp_path):
    explanation = explained(affine=None)
    assert explanation.peak_mm is None
    document = explanation.to_json()
    assert document["peak_mm"] is None
    assert json.loads(json.dumps(document)) == document
    written = nibabel.load(explanation.write_nifti(tmp_path / "heat.nii"))
    assert int(written.header["sform_code"]) == int(written.header["qform_code"]) == 0


@pytest.mark.parametrize("name", ["heat.nii", "heat.nii.gz"])
def test_the_heat_map_is_written_with_the_scans_geometry(tmp_path, name):
    explanation = explained()
    image = nibabel.load(explanation.write_nifti(tmp_path / name))
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_allclose(image.get_fdata(), explanation.heatmap(), atol=0.5 / 255 + TOLERANCE)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"heat\.png"):
        explained().write_nifti(tmp_path / "heat.png")
    assert not list(tmp_path.iterdir())


def test_the_overlay_is_a_picture_with_colour_where_the_heat_is(tmp_path):
    path = explained().write_overlay(tmp_path / "heat.png", caption="layer-cam: über_normal")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert (pixels[..., 0] - pixels[..., 2]).max() > 50
    cold = explained(np.zeros(RECORD.shape, np.float32)).write_overlay(tmp_path / "cold.png")
    pixels = np.asarray(Image.open(cold).convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() == 0


@pytest.mark.parametrize("axes", ["LAS", "RAS", "LPS", "RPI", "SAL"])
def test_the_overlay_says_which_side_is_which(tmp_path, axes):
    """However the file has its voxels, the L stands on the half where the patient's left is."""
    voxels = np.full((90, 70, 60), -1000, np.int16)
    voxels[45:] = -500
    image = nibabel.Nifti1Image(voxels, AFFINE)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    nibabel.save(image.as_reoriented(turn), tmp_path / "scan.nii")
    cold = explained(np.zeros(RECORD.shape, np.float32))
    explanation = replace(cold, scan=read_scan(tmp_path / "scan.nii"))
    pixels = np.asarray(Image.open(explanation.write_overlay(tmp_path / "cold.png")))
    found = marks(pixels)
    assert len(found["R"]) == len(found["L"]) == OVERLAY_SLICES
    for row, column in found["L"]:
        assert pixels[round(row) - 20, round(column)].max() > 0
    for row, column in found["R"]:
        assert pixels[round(row) - 20, round(column)].max() == 0


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (-1.0, -1.0, 1.0), (0.7, 0.7, 5.0), None])
def test_no_side_is_named_where_none_is_known(tmp_path, sizes):
    """What programs write that know no orientation: the voxel sizes at most, or nothing."""
    affine = None if sizes is None else np.diag([*sizes, 1.0])
    nibabel.save(nibabel.Nifti1Image(explained().scan.voxels, affine), tmp_path / "scan.nii")
    scan = read_scan(tmp_path / "scan.nii")
    assert scan.orientation_assumed == (sizes is None)
    path = replace(explained(), scan=scan).write_overlay(tmp_path / "heat.png")
    assert marks(np.asarray(Image.open(path))) == {"R": [], "L": []}


def test_arrays_and_pictures_have_no_sides(tmp_path):
    picture = scan_of_picture(np.zeros((70, 90), np.uint8))
    for scan in (explained(affine=None).scan, picture):
        path = replace(explained(), scan=scan).write_overlay(tmp_path / "heat.png")
        assert marks(np.asarray(Image.open(path))) == {"R": [], "L": []}


@pytest.fixture(scope="module")
def classifier():
    with Classifier.load("pneumonia", runtime="onnxruntime") as loaded:
        yield loaded


def test_an_answer_with_its_explanation_is_the_same_answer(classifier):
    phantom = render(draw_patient(70_001, lesion_share=0.3), shape=(128, 128, 64))
    scan = CTScan.from_array(phantom.voxels)
    plain = classifier.predict(scan)
    prediction = classifier.predict(scan, explain=True)
    assert plain.explanation is None
    assert plain.to_json()["explanation"] is None
    assert prediction.logit == pytest.approx(plain.logit, abs=1e-4)
    assert prediction.explanation.method == "layer-cam"
    assert prediction.explanation.heatmap().shape == scan.shape
    assert json.loads(json.dumps(prediction.to_json()))["explanation"]["cells"] == [63, 63, 31]


def test_the_heat_lies_in_the_lesions(classifier):
    """Of a few phantoms; `benchmarks/explanation.py` has the figures of many."""
    ratios = []
    for seed in range(70_001, 70_006):
        phantom = render(draw_patient(seed, lesion_share=0.2), shape=(128, 128, 64))
        heat = classifier.predict(phantom.voxels, explain=True).explanation.heatmap()
        inside = heat[phantom.lesion_mask].sum() / heat.sum()
        ratios.append(inside / phantom.lesion_mask.mean())
    assert np.median(ratios) >= TIMES_CHANCE


def test_a_bundle_without_a_map_says_so(tmp_path):
    write_tiny(tmp_path / "tiny.ctedge")
    voxels = render(draw_patient(70_003), shape=(32, 32, 20)).voxels
    with Classifier.load(tmp_path / "tiny.ctedge", runtime="onnxruntime") as loaded:
        assert loaded.predict(voxels).explanation is None
        with pytest.raises(RuntimeUnavailable, match="does not explain") as caught:
            loaded.predict(voxels, explain=True)
    assert "ctedge export onnx" in caught.value.fix


@pytest.fixture(scope="module")
def scan_file(tmp_path_factory) -> Path:
    phantom = render(draw_patient(70_002, lesion_share=0.3), shape=(128, 128, 40))
    return write_nifti(phantom, tmp_path_factory.mktemp("scan") / "scan.nii.gz")


def test_the_command_writes_map_and_picture(scan_file, tmp_path):
    heat, picture = tmp_path / "heat.nii.gz", tmp_path / "heat.png"
    result = run("predict", scan_file, "--heatmap", heat, "--overlay", picture)
    assert result.returncode == 0, result.stderr
    assert "hottest at voxel" in result.stdout
    image = nibabel.load(heat)
    assert image.shape == read_scan(scan_file).shape
    np.testing.assert_allclose(image.affine, nibabel.load(scan_file).affine, atol=1e-4)
    with Image.open(picture) as shown:
        assert shown.format == "PNG"


def test_maps_are_of_one_scan(scan_file, tmp_path):
    result = run("predict", scan_file, scan_file, "--overlay", tmp_path / "heat.png")
    assert result.returncode == 2
    assert "one scan" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "name", "kind"),
    [("--overlay", "heat.jpg", "PNG"), ("--heatmap", "heat.txt", "NIfTI file")],
)
def test_a_map_of_another_name_is_refused_before_a_scan_is_read(tmp_path, option, name, kind):
    result = run("predict", tmp_path / "not-there.nii", option, tmp_path / name)
    assert result.returncode == 2
    assert f"{name} is no name of a {kind}" in result.stderr
    assert not list(tmp_path.iterdir())
