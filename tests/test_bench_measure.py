"""The figures of a bench: samples, time budget, device and launch, and what warns of them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from bench_factory import EMPTY, QUICK, run_of, write_patient
from bundle_factory import write_tiny
from ctedge.bench import Settings, bench
from ctedge.bench.machine import BUSY_SHARE, BenchMachine
from ctedge.bench.measure import LAUNCHES, UNSTABLE_CV, measure
from ctedge.bench.settings import LEAST_REPEATS
from ctedge.bench.shown import Shown
from ctedge.bench.table import report_lines
from ctedge.classifier import Classifier
from ctedge.scan import CTScan
from patience import PATIENCE_S


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.ctedge").path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patient(tmp_path_factory.mktemp("scans"))


def played_scan() -> Shown:
    scan = np.random.default_rng(4).integers(-1024, 1500, (20, 20, 20)).astype(np.int16)
    return Shown(source=CTScan.from_array(scan), shape=scan.shape)


def test_the_samples_are_those_that_the_summary_is_of(bundle, scan):
    report = bench(bundle, scan, every=True, settings=QUICK)
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


def test_the_time_budget_ends_the_repeats_but_not_before_there_is_a_spread(bundle, scan):
    settings = Settings(repeats=1000, warm_up=1000, seconds=1e-9)
    (only,) = bench(bundle, scan, runtime="onnxruntime", settings=settings).runs
    assert only.warm_up == 1
    assert only.summaries["total"].n == LEAST_REPEATS


def test_the_warm_up_is_of_real_answers_and_none_of_them_is_timed(bundle, scan, monkeypatch):
    settings = Settings(repeats=3, warm_up=4, seconds=4 * PATIENCE_S)
    answered, predict = [], Classifier.predict

    def counted(door, *asked, **options):
        answered.append(predict(door, *asked, **options))
        return answered[-1]

    monkeypatch.setattr(Classifier, "predict", counted)
    (only,) = bench(bundle, scan, runtime="onnxruntime", settings=settings).runs
    assert len(answered) == 1 + settings.warm_up + settings.repeats
    assert only.warm_up == settings.warm_up
    timed = [one.timings_ms["total"] for one in answered[-settings.repeats :]]
    assert only.samples_ns["total"] / 1e6 == pytest.approx(timed, abs=1e-3)


def test_scattered_answers_are_called_unstable_and_even_ones_are_not():
    even = {"inference": [10.0, 10.1, 9.9], "total": [20.0, 20.1, 19.9]}
    assert run_of(**even).summaries["inference"].cv < UNSTABLE_CV
    assert run_of(**even).warnings == ()
    for stage, samples in {"inference": [10.0, 11.0, 9.0], "total": [20.0, 22.0, 18.0]}.items():
        (warning,) = run_of(**even | {stage: samples}).warnings
        assert warning.startswith(f"unstable: answers vary in {stage} by 10.0% (more than 2.5%);")
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
    from tensorrt_stage import expected, set_stage

    stage = set_stage(monkeypatch, tmp_path, next(iter(SURFACES)))
    engine = stage.open()
    door = Classifier(stage.bundle, engine)

    def slow(batch):
        time.sleep(0.021)  # on the played device: when it is waited for
        return expected(batch)

    stage.network.answer = slow
    found = measure(door, engine, played_scan(), QUICK, loaded="played", load_ms=0.0)
    stages = found.summaries
    assert stages["device"].n == stages["launch"].n == stages["inference"].n == QUICK.repeats
    assert (found.samples_ns["device"] - found.samples_ns["launch"] >= 20_000_000).all()
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
