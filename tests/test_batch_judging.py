"""What a worker answers, when it is not like the others, and which cores it takes."""

# ruff: noqa: E402 - imports follow the check for the optional package
from __future__ import annotations

import json
import os
import threading

import pytest

parquet = pytest.importorskip("pyarrow.parquet")

from batch_here import ASKED, FP32, judge_of, judged, write_table
from bundle_factory import write_tiny
from ctedge import Classifier, SeverityRegressor
from ctedge.batch.cores import claim_cores
from ctedge.batch.results import columns_of, write_results
from ctedge.batch.table import read_table
from ctedge.batch.workers import described, lost
from ctedge.doors import by_task


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path)


@pytest.mark.parametrize("door", [Classifier, SeverityRegressor])
def test_the_results_hold_what_predict_answers(door, tmp_path, table, output):
    bundle = write_tiny(tmp_path / "tiny.ctedge", task=door.task)
    judge = judge_of(bundle, {"assess": door is SeverityRegressor})
    rows = read_table(table, reserved=columns_of(door.task)).rows
    outcomes = [judged(judge, row.path) for row in rows]
    outcomes = json.loads(json.dumps(outcomes))  # as they come through a journal
    write_results(output, read_table(table), outcomes, task=door.task, asked=ASKED)
    answered, missing = parquet.read_table(output).to_pylist()
    with door.load(bundle.path, **FP32) as model:
        expected = model.predict(rows[0].path, assess=door is SeverityRegressor).to_json()
    for name in {*columns_of(door.task)} & set(expected) - {"quality"}:
        assert answered[name] == expected[name], name
    quality = json.loads(answered["quality"])
    assert quality["flags"] == json.loads(json.dumps(expected["quality"]["flags"]))
    assert [flag["code"] for flag in answered["flags"]] == [f["code"] for f in quality["flags"]]
    assert answered["read_ms"] > 0 < answered["total_ms"]
    assert (answered["assess_ms"] is not None) == (door is SeverityRegressor)
    assert (answered["site"], answered["id"], answered["error"]) == ("north", "a.nii.gz", None)
    assert (missing["site"], missing["id"], missing["error"]) == ("", "gone.nii.gz", "ScanNotFound")
    assert "no such file" in missing["error_message"]
    assert {missing[name] for name in ("model", "runtime", "flags", "total_ms")} == {None}


def test_a_worker_that_is_not_like_the_others_ends_the_batch(tmp_path):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    for changes, kind in (
        ({"version": "0.0.0"}, "RuntimeUnavailable"),
        ({"model_digest": "0" * 64}, "DigestMismatch"),
        ({"bundle": str(tmp_path / "no.ctedge")}, "BundleNotFound"),
        ({"device": "cuda"}, "RuntimeUnavailable"),
    ):
        assert judged(judge_of(bundle, changes), tmp_path)["fatal"]["type"] == kind


def test_a_worker_loads_its_model_once_and_not_for_every_scan(tmp_path, monkeypatch):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    load, loaded = by_task.load_door, []

    def counted(*asked, **options):
        loaded.append(asked)
        return load(*asked, **options)

    monkeypatch.setattr(by_task, "load_door", counted)
    judge, scan = judge_of(bundle, {}), write_table(tmp_path).with_name("a.nii.gz")
    first, second = judged(judge, scan), judged(judge, scan)
    assert first["answer"]["probability"] == second["answer"]["probability"]
    assert loaded == [(str(bundle.path),)]


def test_any_error_of_one_scan_is_told():
    assert described(lost())["type"] == "WorkerLost"
    assert described(MemoryError()) == {"type": "MemoryError", "message": "MemoryError"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process")
def test_a_worker_takes_cores_of_its_own_and_no_more_than_there_are():
    found = []

    def claim():
        allowed = os.sched_getaffinity(0)
        found.append((claim_cores(1), len(os.sched_getaffinity(0)), os.sched_getaffinity(0)))
        os.sched_setaffinity(0, allowed)
        found.append((claim_cores(10_000), len(os.sched_getaffinity(0)), allowed))

    thread = threading.Thread(target=claim)
    thread.start()
    thread.join()
    (one, bound, cores), (every, all_bound, allowed) = found
    assert one == bound == 1
    assert cores <= allowed
    assert every == all_bound == len(allowed)
