"""The public classes, on small bundles whose answers can be computed by hand."""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper

from bundle_factory import SPEC, tiny_model, write_tiny
from ctedge import (
    BundleNotFound,
    Classifier,
    CTScan,
    DigestMismatch,
    InferenceFailed,
    NotHounsfield,
    RuntimeUnavailable,
    SeverityRegressor,
    SliceClassifier,
    UnsupportedGeometry,
    WrongTask,
    preprocess,
    segment_lungs,
)
from ctedge.doors.by_task import load_door
from ctedge.phantom import draw_patient, render
from ctedge.runtimes import choice, onnx_runtime

#: float32 sums over 512 voxels, in another order.
ROUNDING = 1e-5


@pytest.fixture
def classifier_bundle(tmp_path):
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture
def severity_bundle(tmp_path):
    return write_tiny(tmp_path / "score.ctedge", task="severity", labels=list("abcde")).path


def expected_logit(voxels) -> float:
    return 2.0 * float(preprocess(voxels, SPEC).mean()) - 1.0


def test_the_classifier_answers_with_everything_it_knows(classifier_bundle, chest):
    with Classifier.load(classifier_bundle, device="cpu", runtime="onnxruntime") as classifier:
        prediction = classifier.predict(chest)
    logit = expected_logit(chest)
    probability = 1 / (1 + math.exp(-logit))
    assert prediction.logit == pytest.approx(logit, abs=ROUNDING)
    assert prediction.probability == pytest.approx(probability, abs=ROUNDING)
    assert prediction.threshold == 0.5
    assert prediction.label == ("abnormal" if probability >= 0.5 else "normal")
    assert prediction.confidences == pytest.approx(
        {"normal": 1 - probability, "abnormal": probability}, abs=ROUNDING
    )
    assert set(prediction.timings_ms) == {"read", "preprocess", "inference", "total"}
    stages = [ms for stage, ms in prediction.timings_ms.items() if stage != "total"]
    assert 0 < sum(stages) <= prediction.timings_ms["total"] + 0.01
    assert prediction.runtime == "onnxruntime-cpu-fp32"
    assert prediction.model == "tiny"
    assert prediction.model_digest == classifier.bundle.digest
    assert prediction.source == "array"
    assert prediction.quality.slices == 20
    assert json.loads(json.dumps(prediction.to_json()))["probability"] == prediction.probability


@pytest.mark.parametrize("level", [-1000, 400, 200])
def test_the_label_follows_the_probability(classifier_bundle, level):
    voxels = np.full((20, 20, 20), level, np.int16)
    voxels[0, 0, 0], voxels[0, 0, 1] = -1000, 400  # a corner of air and bone: HU beyond doubt
    with Classifier.load(classifier_bundle) as classifier:
        prediction = classifier.predict(voxels)
    assert (prediction.label == "abnormal") == (prediction.probability >= 0.5)
    assert prediction.confidences[prediction.label] >= 0.5


@pytest.mark.parametrize("threshold", [0.3, 0.9])
def test_the_label_follows_the_bundles_threshold(tmp_path, chest, threshold):
    bundle = write_tiny(tmp_path / "tiny.ctedge", threshold=threshold)
    with Classifier.load(bundle.path) as classifier:
        prediction = classifier.predict(chest)
    assert 0.3 < prediction.probability < 0.9
    assert prediction.threshold == threshold
    assert prediction.label == ("abnormal" if threshold == 0.3 else "normal")


def test_the_threshold_itself_is_abnormal(tmp_path, chest):
    with Classifier.load(write_tiny(tmp_path / "one.ctedge").path) as classifier:
        probability = classifier.predict(chest).probability
    bundle = write_tiny(tmp_path / "two.ctedge", threshold=probability)
    with Classifier.load(bundle.path) as classifier:
        assert classifier.predict(chest).label == "abnormal"


def test_severity_outside_the_scale_is_clipped_and_said(severity_bundle, chest):
    low = np.full((20, 20, 20), -900, np.int16)
    low[0, 0, 0] = 100
    with SeverityRegressor.load(severity_bundle) as regressor:
        prediction = regressor.predict(low)
    assert prediction.raw_score < 0
    assert (prediction.score, prediction.clipped) == (0.0, True)
    assert (prediction.category, prediction.ctsi) == ("Low", 0)


def test_severity_inside_the_scale_is_left_alone(severity_bundle):
    high = np.full((20, 20, 20), 300, np.int16)
    high[0, 0, 0] = -1000
    with SeverityRegressor.load(severity_bundle) as regressor:
        prediction = regressor.predict(high)
    assert prediction.raw_score == pytest.approx(expected_logit(high), abs=ROUNDING)
    assert (prediction.score, prediction.clipped) == (prediction.raw_score, False)


def test_paths_scans_and_arrays_give_the_same_answer(
    classifier_bundle, chest, las_affine, tmp_path
):
    import nibabel as nib

    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), path)
    scan = CTScan.from_oriented(chest, las_affine, source="memory")
    with Classifier.load(classifier_bundle) as classifier:
        answers = classifier.predict_batch([path, str(path), scan, chest])
    assert len({answer.logit for answer in answers}) == 1
    assert [answer.source for answer in answers] == [str(path), str(path), "memory", "array"]
    assumed = ["orientation-assumed" in {f.code for f in a.quality.flags} for a in answers]
    assert assumed == [False, False, False, True]


def test_threads_may_share_a_classifier(classifier_bundle, rng):
    scans = [rng.integers(-1000, 800, (24, 24, 18)).astype(np.int16) for _ in range(8)]
    with Classifier.load(classifier_bundle) as classifier:
        alone = [classifier.predict(scan).logit for scan in scans]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda scan: classifier.predict(scan).logit, scans * 10))
    assert together == alone * 10


@pytest.mark.parametrize("kind", [Classifier, SeverityRegressor, SliceClassifier])
def test_load_door_goes_by_the_task(tmp_path, kind):
    with load_door(write_tiny(tmp_path / "tiny.ctedge", task=kind.task).path) as door:
        assert type(door) is kind


def test_a_bundle_of_another_task_is_refused(classifier_bundle, severity_bundle):
    with pytest.raises(WrongTask, match="use SeverityRegressor, or load a bundle made for class"):
        Classifier.load(severity_bundle)
    for door in (SeverityRegressor, SliceClassifier):
        with pytest.raises(WrongTask, match="use Classifier, or load a bundle made for s"):
            door.load(classifier_bundle)


def test_an_unknown_bundle_is_refused(tmp_path):
    with pytest.raises(BundleNotFound):
        Classifier.load(tmp_path / "none.ctedge")
    with pytest.raises(BundleNotFound):
        Classifier.load("no-such-model")


def test_a_changed_byte_is_refused_before_the_runtime_sees_it(classifier_bundle, monkeypatch):
    model = classifier_bundle / "model.onnx"
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    monkeypatch.setattr(onnx_runtime, "import_onnxruntime", lambda device: pytest.fail("reached"))
    with pytest.raises(DigestMismatch):
        Classifier.load(classifier_bundle)


class TestStrictness:
    def test_a_gpu_that_is_not_there(self, classifier_bundle):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this machine's ONNX Runtime has a CUDA provider")
        with pytest.raises(RuntimeUnavailable, match="NVIDIA driver"):
            Classifier.load(classifier_bundle, device="cuda")

    def test_a_gpu_that_this_onnx_runtime_cannot_use(self, classifier_bundle, monkeypatch):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this machine's ONNX Runtime has a CUDA provider")
        monkeypatch.setattr(choice, "find_device", object)  # the driver sees one
        with pytest.raises(RuntimeUnavailable, match=r"ctedge\[gpu\]"):
            Classifier.load(classifier_bundle, device="cuda")

    def test_a_provider_that_falls_back_silently(self, classifier_bundle, monkeypatch):
        """ONNX Runtime lists CUDA without a GPU, then runs on the CPU: that must not pass."""
        import onnxruntime

        class Fallback(onnxruntime.InferenceSession):
            def __init__(self, model, options, providers, **others):
                super().__init__(model, options, providers=["CPUExecutionProvider"], **others)

        monkeypatch.setattr(choice, "find_device", object)  # the driver sees a GPU
        monkeypatch.setattr(
            onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"]
        )
        monkeypatch.setattr(onnxruntime, "InferenceSession", Fallback)
        with pytest.raises(RuntimeUnavailable, match="fell back"):
            Classifier.load(classifier_bundle, device="cuda")

    @pytest.mark.parametrize("option", [{"device": "tpu"}, {"runtime": "torch"}])
    def test_what_this_version_does_not_know(self, classifier_bundle, option):
        with pytest.raises(RuntimeUnavailable, match="expected"):
            Classifier.load(classifier_bundle, **option)

    def test_both_onnx_runtime_distributions(self, classifier_bundle, monkeypatch):
        real = importlib.metadata.version
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name: "1.31.1" if name.startswith("onnxruntime") else real(name),
        )
        with pytest.raises(RuntimeUnavailable, match="pip uninstall -y onnxruntime onnxruntime"):
            Classifier.load(classifier_bundle, runtime="onnxruntime")

    def test_no_runtime_installed(self, classifier_bundle, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(RuntimeUnavailable, match=r'pip install "ctedge\[cpu\]"'):
            Classifier.load(classifier_bundle, runtime="onnxruntime")

    def test_a_runtime_installed_in_part(self, classifier_bundle, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
        with pytest.raises(RuntimeUnavailable, match="in part"):
            Classifier.load(classifier_bundle, runtime="onnxruntime")

    def test_after_close(self, classifier_bundle, chest):
        classifier = Classifier.load(classifier_bundle)
        classifier.warm_up()
        classifier.close()
        classifier.close()
        with pytest.raises(InferenceFailed, match="closed"):
            classifier.predict(chest)


def test_an_answer_that_is_no_number_is_an_error(tmp_path, chest):
    model = tiny_model()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.CopyFrom(helper.make_tensor("bias", onnx.TensorProto.FLOAT, [1], [float("nan")]))
    bundle = write_tiny(tmp_path / "nan.ctedge", model=model.SerializeToString())
    with (
        Classifier.load(bundle.path, runtime="onnxruntime") as classifier,
        pytest.raises(InferenceFailed, match="not finite"),
    ):
        classifier.predict(chest)


def test_a_probability_that_is_none_is_an_error(tmp_path, chest):
    model = tiny_model()
    model.graph.node[-1].op_type = "Relu"
    bundle = write_tiny(tmp_path / "relu.ctedge", model=model.SerializeToString())
    with (
        Classifier.load(bundle.path, runtime="onnxruntime") as classifier,
        pytest.raises(InferenceFailed),
    ):
        classifier.predict(chest)


def test_a_network_for_lungs_only_sees_what_segmentation_finds(tmp_path):
    spec = {**SPEC.to_json(), "lungs_only": True}
    masked = write_tiny(tmp_path / "lungs.ctedge", spec=spec)
    plain = write_tiny(tmp_path / "plain.ctedge")
    phantom = render(draw_patient(3, lesion_share=0.1), shape=(64, 64, 32))
    scan = CTScan.from_oriented(phantom.voxels, phantom.affine, source="phantom")
    outside_air = np.where(segment_lungs(scan).on(scan), scan.voxels, -1000)
    with Classifier.load(masked.path) as first, Classifier.load(plain.path) as second:
        sees_lungs, sees_all = first.predict(scan), second.predict(scan)
        same = second.predict(CTScan.from_oriented(outside_air, scan.affine, source="lungs"))
    assert sees_lungs.logit == pytest.approx(same.logit, abs=1e-6)
    assert sees_lungs.logit != pytest.approx(sees_all.logit, abs=1e-3)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda scan: scan[:, :, :15], UnsupportedGeometry),
        (lambda scan: (scan + 1024) / 3000, NotHounsfield),
        (lambda scan: ((scan + 1024) / 12).astype(np.uint8), NotHounsfield),
    ],
    ids=["few slices", "normalised", "8-bit"],
)
def test_a_scan_that_is_not_fit_to_be_judged(classifier_bundle, chest, spoil, error):
    with Classifier.load(classifier_bundle) as classifier, pytest.raises(error):
        classifier.predict(spoil(chest))
