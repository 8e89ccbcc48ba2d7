"""`ctedge bench`: what it says of a machine and a model, and what it refuses to say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from rich.status import Status

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from bundle_factory import write_tiny
from command_here import call
from command_line import run
from conftest import LAS_AFFINE, REPOSITORY
from ctedge.bench import Report, Settings, bench
from ctedge.bench.candidates import candidates
from ctedge.bench.machine import BUSY_SHARE, BenchMachine
from ctedge.bench.measure import LAUNCHES, UNSTABLE_CV, Run, measure
from ctedge.bench.plot import plot_png
from ctedge.bench.settings import LEAST_REPEATS
from ctedge.bench.shown import Shown
from ctedge.bench.table import report_lines
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.classifier import Classifier
from ctedge.errors import BundleNotFound, RuntimeUnavailable, ScanNotFound
from ctedge.runtimes.candidate import ORDER
from ctedge.runtimes.choice import choose
from ctedge.runtimes.cuda_driver import find_device
from ctedge.scan import CTScan
from engine_factory import put_engine, record_for, write_engine_bundle
from patience import PATIENCE_S

PLAIN = "onnxruntime-cpu-fp32"
QUICK = Settings(repeats=3, warm_up=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.ctedge").path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("Patient, Name") / "scan.nii.gz"
    voxels = np.random.default_rng(4).integers(-1024, 1500, (40, 36, 20)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, LAS_AFFINE), path)
    return path


@pytest.fixture(scope="module")
def report(bundle: Path, scan: Path) -> Report:
    return bench(bundle, scan, every=True, settings=QUICK)


def run_of(**samples_ms: list[float]) -> Run:
    return Run(
        candidate="tensorrt-cuda-fp16",
        loaded="1 golden case answered within 0",
        load_ms=1.0,
        first_ms={"total": 1.0},
        warm_up=1,
        samples_ns={name: (np.array(ms) * 1e6).astype(np.int64) for name, ms in samples_ms.items()},
        peak_memory_bytes=None,
    )


def test_table_json_and_plot_of_one_run(bundle, scan, tmp_path):
    pillow = pytest.importorskip("PIL.Image", exc_type=ImportError)
    asked = ("--repeats", 3, "--warm-up", 1, "--runtime", "onnxruntime", "--precision", "fp32")
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    answer = run("bench", bundle, scan, *asked, "--json", written, "--plot", drawn)
    assert answer.returncode == 0, answer.stderr
    for stage in ("read", "preprocess", "inference, with copies", "total"):
        assert re.search(rf"^  {stage} +(\d+\.\d+ +){{4}}\d+\.\d% +3$", answer.stdout, re.M), stage
    assert re.search(r"^    on the device, alone +-$", answer.stdout, re.MULTILINE)
    assert "first answer" in answer.stdout
    assert "peak memory" in answer.stdout
    document = json.loads(written.read_text())
    assert document["schema_version"] == 1
    assert document["command"][:4] == ["ctedge", "bench", str(bundle), "SCAN"]
    assert "Patient" not in written.read_text()
    with pillow.open(drawn) as picture:
        colours = picture.convert("RGB").getcolors(1 << 16)
    assert len(colours) > 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
def test_what_was_measured_is_written_before_anything_is_said(bundle, tmp_path):
    asked = [str(bundle), "--repeats", "2", "--warm-up", "0", "--runtime", "onnxruntime"]
    files = ["--json", str(tmp_path / "bench.json"), "--plot", str(tmp_path / "bench.png")]
    with Path("/dev/full").open("wb") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "ctedge", "bench", *asked, *files],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE_S,
        )
    assert answer.returncode != 0
    assert json.loads((tmp_path / "bench.json").read_text())["runs"]
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_json_on_standard_output_is_nothing_but_json(bundle):
    answer = run("bench", bundle, "--repeats", 2, "--warm-up", 0, "--json", "-")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["input"] == {"kind": "phantom in memory", "shape": [512, 512, 41]}
    (only,) = document["runs"]
    assert list(only["stages"]) == ["preprocess", "inference", "total"]  # there was none to read
    assert only["warm_up"] == 0


def test_the_samples_are_those_that_the_summary_is_of(report):
    document = json.loads(json.dumps(report.to_json(command=["ctedge", "bench"])))
    for one in document["runs"]:
        assert one["first_ms"]["total"] >= one["first_ms"]["inference"]
        for stage in one["stages"].values():
            samples = np.array(stage["samples_ns"]) / 1e6
            assert stage["n"] == len(samples) == QUICK.repeats
            assert stage["p50_ms"] == pytest.approx(np.median(samples), abs=1e-6)  # as rounded
            assert stage["p50_ms"] <= stage["p95_ms"] <= stage["p99_ms"] <= samples.max() + 1e-6
            spread = samples.std(ddof=1) / samples.mean()
            assert stage["cv"] == pytest.approx(spread, abs=1e-6)
    assert {"ctedge", "numpy"} <= document["machine"]["versions"].keys()
    assert document["machine"]["cores_usable"] >= 1
    assert document["bundle"]["digest"] == report.digest


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


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere.ctedge"], 1),
        (["BUNDLE", "nowhere.nii.gz"], 1),
        (["BUNDLE", "--repeats", "1"], 2),
        (["BUNDLE", "--seconds", "0"], 2),
        (["BUNDLE", "--seconds", "nan"], 2),
        (["BUNDLE", "--seconds", "inf"], 2),
        (["BUNDLE", "--json", ""], 2),
        (["BUNDLE", "--plot", ""], 2),
        (["BUNDLE", "--runtime", "nonsense"], 2),
    ],
)
def test_exit_codes(bundle, arguments, code):
    answer = run("bench", *[bundle if word == "BUNDLE" else word for word in arguments])
    assert answer.returncode == code
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr


def test_errors_of_the_input_are_no_refusals(bundle, tmp_path):
    with pytest.raises(ScanNotFound):
        bench(bundle, tmp_path / "none.nii", every=True, settings=QUICK)
    with pytest.raises(BundleNotFound):
        bench(tmp_path / "none.ctedge", every=True, settings=QUICK)


def test_a_scan_that_vanishes_half_way_leaves_what_was_measured(
    bundle, scan, tmp_path, monkeypatch
):
    pytest.importorskip("openvino", exc_type=ImportError)  # the second runtime
    own = Path(shutil.copy(scan, tmp_path / "Patient.nii.gz"))
    begun: list[str] = []

    def update(_: Status, said: str) -> None:
        begun.extend([said] if said.startswith("measuring ") else [])
        if len(begun) == 2:
            own.unlink(missing_ok=True)

    monkeypatch.setattr(Status, "update", update)
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    asked = ("--repeats", 2, "--warm-up", 0, "--device", "cpu", "--runtime", "all")
    answer = call("bench", bundle, own, *asked, "--json", written, "--plot", drawn)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {own}: no such file"), answer.stderr
    document = json.loads(written.read_text())
    (kept,) = document["runs"]
    assert begun[0] == f"measuring {kept['candidate']}"
    lost = {one["candidate"]: one["reason"] for one in document["refused"]}
    assert "ScanNotFound" in lost[begun[1].removeprefix("measuring ")]
    assert len(lost) == sum(one.device == "cpu" for one in ORDER) - 1
    assert "Patient" not in written.read_text()
    assert f"\n{kept['candidate']} " in answer.stdout
    assert drawn.stat().st_size > 1000


def test_the_time_budget_ends_the_repeats_but_not_before_there_is_a_spread(bundle, scan):
    settings = Settings(repeats=1000, warm_up=1000, seconds=1e-9)
    (only,) = bench(bundle, scan, runtime="onnxruntime", settings=settings).runs
    assert only.warm_up == 1
    assert only.summaries["total"].n == LEAST_REPEATS


def test_scattered_answers_are_called_unstable_and_even_ones_are_not():
    even = run_of(inference=[10.0, 10.1, 9.9], total=[20.0, 20.1, 19.9])
    assert even.summaries["inference"].cv < UNSTABLE_CV
    assert even.warnings == ()
    scattered = run_of(inference=[10.0, 10.1, 9.9], total=[20.0, 22.0, 18.0])
    (warning,) = scattered.warnings
    assert warning.startswith("unstable: answers vary in total by 10.0% (more than 2.5%);")
    assert "taskset" in warning


@pytest.mark.parametrize(("factor", "said"), [(LAUNCHES - 0.1, True), (LAUNCHES + 0.1, False)])
def test_launches_dominate_where_asking_takes_a_third_of_the_run(factor, said):
    found = run_of(inference=[2.0], device=[0.1 * factor], launch=[0.1], total=[3.0])
    assert bool(found.warnings) == said
    assert all(warning.startswith("launches dominate: ") for warning in found.warnings)
    text = "\n".join(report_lines(replace(EMPTY, runs=(found,))))
    assert re.search(r"on the device, alone +0\.\d+", text)


def test_an_engine_tells_what_runs_on_the_device(monkeypatch, tmp_path):
    from tensorrt_fake import SURFACES
    from tensorrt_stage import set_stage

    stage = set_stage(monkeypatch, tmp_path, next(iter(SURFACES)))
    engine = stage.open()
    door = Classifier(stage.bundle, engine)
    scan = np.random.default_rng(4).integers(-1024, 1500, (20, 20, 20)).astype(np.int16)
    shown = Shown(source=CTScan.from_array(scan), shape=scan.shape)
    found = measure(door, engine, shown, QUICK, loaded="played", load_ms=0.0)
    stages = found.summaries
    assert stages["device"].n == stages["launch"].n == stages["inference"].n == QUICK.repeats
    assert (found.samples_ns["device"] >= found.samples_ns["launch"]).all()
    stage.clear()


def test_a_busy_machine_slow_clocks_and_a_quota_are_said():
    quiet = replace(BenchMachine.here(), load=0.0, governors=("performance",), cpu_quota=None)
    assert quiet.warnings() == ()
    assert replace(quiet, load=None, governors=None).warnings() == ()
    busy = replace(quiet, cores=4, load=4 * BUSY_SHARE + 0.1)
    slow = replace(quiet, governors=("powersave",))
    held = replace(quiet, cores_usable=4, cpu_quota=1.5)
    for machine, word in ((busy, "busy: "), (slow, "clocks: "), (held, "quota: ")):
        (warning,) = machine.warnings()
        assert warning.startswith(word)


@pytest.mark.parametrize("ms", [[1.0] * 5, [1.0, 2.0], [*np.linspace(10, 11, 99), 500.0]])
def test_any_distribution_can_be_drawn(ms, tmp_path):
    pillow = pytest.importorskip("PIL.Image", exc_type=ImportError)
    drawn = plot_png(replace(EMPTY, runs=(run_of(inference=ms, total=ms),)), tmp_path / "plot.png")
    with pillow.open(drawn) as picture:
        pixels = np.asarray(picture)
    assert (pixels != 255).any(axis=2).mean() > 0.02


def test_every_option_that_the_page_names_exists():
    text = (REPOSITORY / "docs" / "benchmarking.md").read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))
    spoken = named - {"--rounds"}  # of benchmarks/compare.py
    known = run("bench", "--help").stdout
    assert {"--runtime", "--json", "--plot"} <= spoken
    for option in spoken:
        assert f"  {option} " in known, option


EMPTY = Report(
    bundle="tiny",
    digest="0" * 64,
    shape=None,
    in_memory=True,
    settings=QUICK,
    machine=BenchMachine.here(),
    runs=(),
    refused=(),
    started="2020-01-01T00:00:00+00:00",
)
