"""The slice classifier, on a small bundle whose answers can be computed by hand."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle_factory import SLICE_SPEC, write_tiny
from ctedge import (
    Classifier,
    CTScan,
    InferenceFailed,
    NotHounsfield,
    PictureQuality,
    ScanNotFound,
    SliceClassifier,
    UnreadableScan,
    UnsupportedGeometry,
    WrongTask,
)
from ctedge.slice_input import slice_of_picture, slice_of_scan
from ctedge.slices import SLICES_A_RUN

#: float32 sums over 480 pixels, in another order.
ROUNDING = 1e-5


@pytest.fixture
def bundle(tmp_path):
    return write_tiny(tmp_path / "tiny.ctedge", task="slices").path


@pytest.fixture
def classifier(bundle):
    with SliceClassifier.load(bundle) as loaded:
        yield loaded


@pytest.fixture
def levels(rng):
    return rng.integers(20, 256, (48, 40), dtype=np.uint8)


def logit_of(volume: np.ndarray) -> float:
    return 2.0 * float(volume.mean()) - 1.0


def test_every_slice_of_a_scan_is_answered(classifier, chest, las_affine):
    scan = CTScan.from_oriented(chest, las_affine, source="memory")
    prediction = classifier.predict(scan)
    assert [answer.index for answer in prediction.slices] == list(range(20))
    for answer in prediction.slices:
        logit = logit_of(slice_of_scan(scan, answer.index, SLICE_SPEC).volume)
        probability = 1 / (1 + math.exp(-logit))
        assert answer.logit == pytest.approx(logit, abs=ROUNDING)
        assert answer.probability == pytest.approx(probability, abs=ROUNDING)
        assert answer.label == ("abnormal" if answer.probability >= 0.5 else "normal")
        assert answer.z_mm == pytest.approx(-90.0 + 5.0 * answer.index)
    highest = max(prediction.slices, key=lambda answer: answer.probability)
    assert prediction.highest is highest
    assert prediction.threshold == 0.5
    assert prediction.source == "memory"
    assert prediction.quality.slices == 20
    assert prediction.quality.flags == ()
    assert set(prediction.timings_ms) == {"read", "preprocess", "inference", "total"}
    assert prediction.runtime.endswith("-cpu-fp32")
    assert (prediction.model, prediction.model_digest) == ("tiny", classifier.bundle.digest)
    document = json.loads(json.dumps(prediction.to_json()))
    assert document["slices"][3]["logit"] == prediction.slices[3].logit


def test_the_slices_that_are_named_in_their_order(classifier, chest):
    every = classifier.predict(chest)
    some = classifier.predict(chest, slices=np.array([17, 0, 3]))
    assert [answer.index for answer in some.slices] == [17, 0, 3]
    for answer in some.slices:
        assert answer.logit == pytest.approx(every.slices[answer.index].logit, abs=ROUNDING)
    assert classifier.predict(chest, slices=iter([4])).slices[0].index == 4


def test_the_threshold_of_the_bundle_decides(tmp_path, chest):
    bundle = write_tiny(tmp_path / "tiny.ctedge", task="slices", threshold=0.9)
    with SliceClassifier.load(bundle.path) as classifier:
        prediction = classifier.predict(chest)
    assert prediction.threshold == 0.9
    assert {answer.label for answer in prediction.slices} == {"normal"}


def test_few_slices_are_enough(classifier, chest):
    (answer,) = classifier.predict(chest[:, :, :1]).slices
    assert answer.index == 0


def test_a_position_is_given_only_where_it_is_known(classifier, chest, las_affine):
    assert classifier.predict(chest).highest.z_mm is None
    tilted = las_affine.copy()
    tilted[2, 1] = 0.1  # a gantry tilt: z grows along the rows, too
    scan = CTScan.from_oriented(chest, tilted, source="tilted")
    (answer,) = classifier.predict(scan, slices=[2]).slices
    assert answer.z_mm == pytest.approx(-90.0 + 2 * 5.0 + 0.1 * (chest.shape[1] - 1) / 2)
    upside_down = CTScan.from_oriented(
        chest[:, :, ::-1], las_affine @ np.diag([1, 1, -1, 1]), source="from above"
    )
    first, *_, last = classifier.predict(upside_down).slices
    assert first.z_mm < last.z_mm


def test_no_run_is_larger_than_the_bound(classifier, chest, monkeypatch):
    sizes = []
    run = classifier._runtime.run
    monkeypatch.setattr(
        classifier._runtime, "run", lambda batch: (sizes.append(len(batch)), run(batch))[1]
    )
    classifier.predict(chest)
    assert sizes == [SLICES_A_RUN, SLICES_A_RUN, 4]


def test_a_picture_as_file_and_as_array(classifier, levels, tmp_path):
    path = tmp_path / "slice.png"
    Image.fromarray(levels).save(path)
    of_file, of_text, of_array = classifier.predict_batch([path, str(path), levels])
    logit = logit_of(slice_of_picture(levels, SLICE_SPEC).volume)
    assert of_array.highest.logit == pytest.approx(logit, abs=ROUNDING)
    for prediction in (of_file, of_text, of_array):
        assert prediction.slices == of_array.slices
        (answer,) = prediction.slices
        assert (answer.index, answer.z_mm) == (0, None)
        assert isinstance(prediction.quality, PictureQuality)
        assert (prediction.quality.rows, prediction.quality.columns) == levels.shape
    assert [p.source for p in (of_file, of_array)] == [str(path), "array"]
    assert json.loads(json.dumps(of_file.to_json()))["quality"]["flags"]


def test_what_a_picture_does_not_say_is_flagged(classifier, rng):
    def flags(*shape):
        picture = rng.integers(0, 256, shape, dtype=np.uint8)
        return [flag.message for flag in classifier.predict(picture).quality.flags]

    assert len(flags(48, 40)) == 1
    assert "radiological view" in flags(48, 40)[0]
    assert flags(48, 41)[1] == "stretched: 41 x 48 to 20 x 24 pixels"
    assert flags(18, 30)[1].startswith("stretched and enlarged")


def test_a_scan_from_a_file(classifier, chest, las_affine, tmp_path):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), path)
    prediction = classifier.predict(path)
    assert prediction.source == str(path)
    assert len(prediction.slices) == 20


def test_one_dicom_slice_alone_is_answered_as_in_its_series(classifier, chest, tmp_path):
    pytest.importorskip("pydicom")
    from dicom_factory import slices as dicom_slices

    for number, one in enumerate(dicom_slices(chest.transpose(2, 1, 0)[:3])):
        one.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    whole = classifier.predict(tmp_path)
    (alone,) = classifier.predict(tmp_path / "1.dcm").slices
    assert (alone.logit, alone.z_mm) == (whole.slices[1].logit, whole.slices[1].z_mm)


@pytest.mark.parametrize("slices", [[20], [-1], [0, 500]])
def test_a_slice_that_is_not_there(classifier, chest, slices):
    with pytest.raises(UnsupportedGeometry, match="no slice"):
        classifier.predict(chest, slices=slices)


@pytest.mark.parametrize("slices", [[], [3, 3]])
def test_no_slice_or_one_twice(classifier, chest, slices):
    with pytest.raises(UnsupportedGeometry, match="twice"):
        classifier.predict(chest, slices=slices)


def test_slices_of_a_picture_are_refused(classifier, levels):
    with pytest.raises(UnsupportedGeometry, match="a picture is one slice"):
        classifier.predict(levels, slices=[0])


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("nowhere.png", ScanNotFound),
        ("nowhere.nii", ScanNotFound),
        (np.zeros((20, 20)), NotHounsfield),
        (np.full((20, 20), 7, np.uint8), UnreadableScan),
        (np.eye(15, dtype=np.uint8), UnsupportedGeometry),
        (np.eye(40, dtype=np.uint8)[..., None], NotHounsfield),
        (np.zeros(9), UnsupportedGeometry),
    ],
    ids=["no picture", "no scan", "no levels", "one level", "tiny", "levels as HU", "one axis"],
)
def test_what_cannot_be_judged(classifier, source, error):
    with pytest.raises(error):
        classifier.predict(source)


def test_hu_of_the_named_slices_are_checked(classifier, chest):
    chest[:, :, 4] = np.arange(36) - 20
    with pytest.raises(NotHounsfield, match="without air"):
        classifier.predict(chest, slices=[4])
    classifier.predict(chest)


def test_threads_may_share_it_and_get_the_same_bits(classifier, rng):
    scans = [rng.integers(-1000, 800, (24, 24, 11)).astype(np.int16) for _ in range(6)]
    alone = [classifier.predict(scan).slices for scan in scans]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda scan: classifier.predict(scan).slices, scans * 8))
    assert together == alone * 8


def test_the_other_doors_and_this_one_refuse_each_others_bundles(bundle, tmp_path):
    with pytest.raises(WrongTask):
        Classifier.load(bundle)
    with pytest.raises(WrongTask):
        SliceClassifier.load(write_tiny(tmp_path / "volume.ctedge").path)


def test_warm_up_and_close(bundle, chest):
    classifier = SliceClassifier.load(bundle, device="cpu", runtime="onnxruntime")
    classifier.warm_up()
    classifier.close()
    with pytest.raises(InferenceFailed, match="closed"):
        classifier.predict(chest)
