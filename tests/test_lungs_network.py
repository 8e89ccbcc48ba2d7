"""The network that finds lungs, from a bundle: random weights of the true architecture."""

from __future__ import annotations

import dataclasses
import pickle

import nibabel as nib
import numpy as np
import pytest

from bundle_factory import read_document, seal, write_tiny
from ctedge import (
    SEVERITY_STUDY,
    Classifier,
    CTScan,
    InferenceFailed,
    InvalidBundle,
    LungMaskSpec,
    LungSegmenter,
    ModelBundle,
    NoLungs,
    WrongTask,
    affected_share,
    preprocess,
)
from ctedge.doors.by_task import load_door
from lungmask_factory import SMALL, numpy_answer, random_weights, two_sided
from overlap import dice

ndimage = pytest.importorskip("scipy.ndimage", exc_type=ImportError)

from ctedge.lungs.patches import two_lungs  # noqa: E402
from ctedge.lungs.slices import (  # noqa: E402
    body_box,
    network_slice,
    oriented,
    scan_labels,
    shares,
)
from ctedge.runtimes.verification import check_golden  # noqa: E402
from ctedge_export.lungmask.export import export_weights  # noqa: E402

#: Random layers disturb the bands of HU, and 48 x 48 pixels the borders.
LEAST_DICE = 0.9

#: The share of one pixel of a golden slice.
PIXEL = 1 / 48**2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> ModelBundle:
    weights = random_weights()
    return export_weights(
        weights,
        tmp_path_factory.mktemp("lungs") / "lungs.ctedge",
        reference=lambda batch: numpy_answer(batch, weights),
        provenance={"weights_sha256": "random"},
        spec=SMALL,
    )


@pytest.fixture(scope="module")
def segmenter(bundle):
    with LungSegmenter.load(bundle.path) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def lungs(segmenter):
    return segmenter.segment(two_sided()[0])


def test_it_is_not_sent_to_another_process(segmenter):
    with pytest.raises(InferenceFailed, match=r"call LungSegmenter\.load\(path\)"):
        pickle.dumps(segmenter)


def test_the_onnx_file_answers_as_numpy_does_layer_by_layer(bundle):
    gate = bundle.gates["onnx"]
    assert gate["passed"]
    assert gate["max_abs_difference"] <= gate["tolerance"] == 1e-4
    assert len(gate["inputs"]) == 7


def test_the_bundle_says_how_slices_are_made_and_what_classes_mean(bundle):
    assert (bundle.task, bundle.lung_spec) == ("lungs", SMALL)
    assert bundle.labels == ("background", "right lung", "left lung")
    assert bundle.input_shape == (1, 48, 48)
    assert bundle.output_names == ("logits",)
    assert SMALL.hu_window == (-1024, 600)
    assert "not a medical device" in bundle.card.casefold()


def test_golden_cases_hold_both_lungs(bundle, segmenter):
    for case in bundle.golden():
        logits = segmenter._runtime.run(case.input[np.newaxis, np.newaxis])["logits"]
        assert shares(logits) == pytest.approx(dict(case.outputs), abs=2 * PIXEL)
        assert min(case.outputs.values()) > 0
    assert check_golden(bundle, segmenter._runtime)[0] == 2


def test_each_lung_of_the_patient_gets_its_label(lungs):
    scan, truth = two_sided()
    assert lungs.labels.shape == scan.shape
    assert (lungs.complete, lungs.spacing_stated, lungs.source) == (True, True, "two-sided")
    for side in (1, 2):
        assert dice(lungs.labels == side, truth == side) >= LEAST_DICE


def test_a_file_in_any_orientation_has_the_same_lungs(segmenter, lungs):
    scan, _ = two_sided()
    image = nib.Nifti1Image(np.asarray(scan.voxels), scan.affine)
    for axes in ("RPI", "PIR"):
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(
                nib.io_orientation(scan.affine), nib.orientations.axcodes2ornt(axes)
            )
        )
        other = CTScan.from_oriented(np.asarray(turned.dataobj), turned.affine, source="turned")
        np.testing.assert_array_equal(segmenter.segment(other).labels, lungs.labels)


@pytest.mark.parametrize("kind", ["float32", ">i2", "int64"])
def test_any_number_type_has_the_same_lungs(segmenter, lungs, kind):
    scan, _ = two_sided()
    typed = CTScan.from_oriented(scan.voxels.astype(kind), scan.affine, source="typed")
    np.testing.assert_array_equal(segmenter.segment(typed).labels, lungs.labels)


def test_the_mask_serves_as_one_from_segment_lungs(lungs):
    scan, truth = two_sided()
    assert lungs.volume_ml.right > 200
    share = affected_share(scan, lungs)
    assert share.ground_glass.left > 0.8 > 0.2 > share.ground_glass.right
    spec = dataclasses.replace(SEVERITY_STUDY, lungs_only=True)
    seen = preprocess(scan, spec, lung_mask=lungs.on(scan))
    np.testing.assert_array_equal(lungs.on(scan), lungs.mask)
    assert (seen == 0).mean() == pytest.approx(1 - (truth > 0).mean(), abs=0.05)


def test_a_slice_alone_is_segmented(segmenter, lungs):
    scan, truth = two_sided()
    alone = CTScan.from_oriented(scan.voxels[:, :, 3:4], scan.affine, source="one")
    found = segmenter.segment(alone)
    assert found.cut_at_top
    assert found.cut_at_bottom
    assert dice(found.mask, truth[:, :, 3:4] > 0) >= LEAST_DICE


def test_no_lungs_is_an_error_that_says_what_to_do(segmenter):
    solid = CTScan.from_oriented(
        np.full((64, 64, 3), 40, np.int16), np.diag([-4, 4, 4, 1]), source="solid"
    )
    with pytest.raises(NoLungs, match="solid") as caught:
        segmenter.segment(solid)
    assert "segment_lungs" in caught.value.fix


@dataclasses.dataclass
class Answering:
    """A runtime whose answer is given."""

    logits: np.ndarray
    name: str = "answering"

    def run(self, batch):
        return {"logits": self.logits}

    def close(self):
        pass


@pytest.mark.parametrize(
    "logits",
    [np.full((1, 3, 48, 48), np.nan, np.float32), np.zeros((1, 3, 8, 8), np.float32)],
    ids=["NaN", "another size"],
)
def test_an_answer_that_is_none_is_refused(bundle, logits):
    scan = CTScan.from_array(np.zeros((32, 32, 1), np.int16))
    with pytest.raises(InferenceFailed, match="none"):
        LungSegmenter(bundle, Answering(logits)).segment(scan)


def test_a_closed_segmenter_says_so(bundle):
    segmenter = LungSegmenter.load(bundle.path, device="cpu", runtime="onnxruntime")
    assert segmenter.runtime == "onnxruntime-cpu-fp32"
    segmenter.close()
    with pytest.raises(InferenceFailed, match="closed"):
        segmenter.segment(two_sided()[0])


def test_bundles_go_through_their_own_door_only(bundle, tmp_path):
    for load in (Classifier.load, load_door):
        with pytest.raises(WrongTask):
            load(bundle.path)
    for name in ("spec", "volume_spec", "slice_spec", "threshold"):
        with pytest.raises(WrongTask):
            getattr(bundle, name)
    other = write_tiny(tmp_path / "tiny.ctedge")
    with pytest.raises(WrongTask, match="another task"):
        LungSegmenter.load(other.path)
    with pytest.raises(WrongTask):
        other.lung_spec  # noqa: B018


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", ["background", "left lung", "right lung"]),
        ("threshold", 0.5),
        ("spec", SMALL.to_json() | {"body_above_hu": -2000.0}),
        ("spec", SMALL.to_json() | {"hu_window": [-1024.5, 600.0]}),
        ("spec", SMALL.to_json() | {"shape": [48]}),
        ("golden", [{"name": "a", "input": "golden/healthy-slice.npy.gz", "outputs": {}}]),
    ],
    ids=["labels swapped", "threshold", "body", "window", "shape", "golden"],
)
def test_a_manifest_that_means_something_else_is_refused(bundle, tmp_path, key, value):
    document = read_document(bundle.path)
    (tmp_path / "b.ctedge").mkdir()
    seal(tmp_path / "b.ctedge", document | {key: value})
    with pytest.raises(InvalidBundle):
        ModelBundle.load(tmp_path / "b.ctedge")


def test_a_slice_is_cropped_to_the_body_and_comes_back():
    scan, truth = two_sided()
    hu = np.pad(oriented(scan.voxels[:, :, 3]), 30, constant_values=-1000)
    rows, columns = box = body_box(hu, -500, ndimage)
    assert 25 <= rows.start < rows.stop <= hu.shape[0] - 25
    assert 25 <= columns.start < columns.stop <= hu.shape[1] - 25
    values, same = network_slice(hu, SMALL, ndimage)
    assert same == box
    assert (values.shape, values.dtype) == (SMALL.shape, np.float32)
    assert 0 <= values.min() < values.max() <= 1
    tissue = (40 + 1024) / 1624
    assert np.median(values[values > 0.5]) == pytest.approx(tissue, abs=0.05)
    lung = np.pad(oriented(truth[:, :, 3]) > 0, 30)
    there = np.asarray(values < 0.3, np.uint8)
    back = scan_labels(there, box, hu.shape, ndimage)
    assert (back[lung] > 0).mean() > 0.9
    assert not back[: rows.start].any()


def test_a_slice_without_a_body_is_taken_whole():
    air = np.full((40, 50), -1000, np.int16)
    assert body_box(air, -500, ndimage) == (slice(0, 40), slice(0, 50))


def blob(shape=(9, 20, 20)) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[1:-1, 2:18, 1:9] = 1
    labels[1:-1, 2:18, 11:19] = 2
    return labels


def test_a_patch_goes_to_the_lung_it_borders_on_and_others_go():
    labels = blob()
    labels[3:5, 5:8, 3:6] = 2  # inside the right lung
    labels[0, 0, 0] = 1  # alone
    labels[4, 10, 15] = 0  # a hole in the left lung
    np.testing.assert_array_equal(two_lungs(labels, ndimage), blob())


def test_an_open_hollow_stays_open():
    labels = blob()
    labels[1:4, 10, 4] = 0
    np.testing.assert_array_equal(two_lungs(labels, ndimage), labels)


def test_of_one_slice_only_small_holes_are_filled():
    labels = blob((3, 40, 40))[1:2]
    labels[0, 3:16, 3:8] = 0  # 65 pixels
    expected = labels.copy()
    labels[0, 5:8, 12:15] = 0
    np.testing.assert_array_equal(two_lungs(labels, ndimage), expected)


def test_no_label_gives_none_and_the_spec_names_what_it_holds():
    assert not two_lungs(np.zeros((2, 8, 8), np.uint8), ndimage).any()
    assert LungMaskSpec.from_json(SMALL.to_json()) == SMALL
    with pytest.raises(InvalidBundle, match="fields"):
        LungMaskSpec.from_json({"name": "x"})
