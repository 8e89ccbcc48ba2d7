"""What is measured, what is refused and with which reason; what is named is strict."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from bench_factory import QUICK, write_patient
from bundle_factory import write_tiny
from ctedge.bench import Report, bench
from ctedge.bench.candidates import candidates
from ctedge.bench.table import report_lines
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import BundleNotFound, RuntimeUnavailable, ScanNotFound
from ctedge.runtimes.candidate import ORDER
from ctedge.runtimes.choice import choose
from ctedge.runtimes.cuda_driver import find_device
from engine_factory import put_engine, record_for, write_engine_bundle

PLAIN = "onnxruntime-cpu-fp32"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.ctedge").path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patient(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def report(bundle: Path, scan: Path) -> Report:
    return bench(bundle, scan, every=True, settings=QUICK)


def test_all_measures_what_opens_and_says_why_the_rest_does_not(report):
    ran = [one.candidate for one in report.runs]
    assert PLAIN in ran
    assert len(ran) + len(report.refused) == len(ORDER)
    reasons = {refusal.candidate: refusal for refusal in report.refused}
    assert "int8" in reasons["onnxruntime-cpu-int8"].reason
    text = "\n".join(report_lines(report))
    for refusal in report.refused:
        assert f"  {refusal.candidate}: {refusal.reason}" in text
    for name in ran:
        assert re.search(rf"^{name} +p50 +p95 +p99 +mean +CV +n", text, re.MULTILINE)


@pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")
def test_without_a_gpu_all_that_need_one_are_refused_alike(report):
    refused = [one for one in report.refused if "-cuda" in one.candidate]
    assert len(refused) == sum(one.device == "cuda" for one in ORDER)
    ((reason, fix),) = {(one.reason, one.fix) for one in refused}
    assert "NVIDIA driver" in reason
    assert fix == "install the driver, or go on with the device cpu"


def test_each_engine_that_lies_there_is_a_candidate(tmp_path):
    bundle = write_engine_bundle(tmp_path / "engine.ctedge", variants=("fp16",))
    for precision in ("fp32", "fp16"):
        name = f"{precision}-tensorrt-rtx-1.7.1-portable.engine"
        put_engine(bundle, name, b"plan", record_for(bundle, b"plan"))
    ours = ["tensorrt-cuda", "tensorrt-rtx-cuda-fp16", "tensorrt-rtx-cuda-fp32"]
    assert [one.name for one in candidates(bundle)][:3] == ours
    assert [one.name for one in candidates(bundle, runtime="tensorrt-rtx")] == ours[1:]
    assert candidates(bundle, precision="fp32")[1].name == "tensorrt-rtx-cuda-fp32"


def test_all_of_one_runtime_are_the_candidates_of_that_one(bundle, scan):
    found = bench(bundle, scan, every=True, runtime="onnxruntime", device="cpu", settings=QUICK)
    assert [one.candidate for one in found.runs] == [PLAIN]
    assert [one.candidate for one in found.refused] == ["onnxruntime-cpu-int8"]


def test_where_no_runtime_is_installed_the_plainest_is_what_to_install(bundle, scan, monkeypatch):
    for module in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailable) as refused:
        bench(bundle, scan, every=True, settings=QUICK)
    assert refused.value.fix == 'pip install "ctedge[cpu]"'
    with pytest.raises(RuntimeUnavailable) as alike:
        choose(ModelBundle.load(bundle))
    assert (refused.value.what, refused.value.fix) == (alike.value.what, alike.value.fix)


def test_all_of_what_cannot_be_had_is_an_error_with_every_reason(bundle, scan):
    with pytest.raises(RuntimeUnavailable) as refused:
        bench(bundle, scan, every=True, precision="int8", settings=QUICK)
    assert "openvino-cpu-int8: " in str(refused.value)
    assert "onnxruntime-cpu-int8: " in str(refused.value)
    with pytest.raises(RuntimeUnavailable, match="unknown device"):
        bench(bundle, scan, every=True, device="tpu", settings=QUICK)
    with pytest.raises(RuntimeUnavailable, match="no runtime fits"):
        bench(bundle, scan, every=True, device="gpu", precision="bf16", settings=QUICK)


def test_what_is_named_is_strict(bundle, scan):
    with pytest.raises(RuntimeUnavailable):
        bench(bundle, scan, runtime="onnxruntime", precision="int8", settings=QUICK)


def test_errors_of_the_input_are_no_refusals(bundle, tmp_path):
    with pytest.raises(ScanNotFound):
        bench(bundle, tmp_path / "none.nii", every=True, settings=QUICK)
    with pytest.raises(BundleNotFound):
        bench(tmp_path / "none.ctedge", every=True, settings=QUICK)
