"""What a batch keeps, refuses and writes, without a cluster."""

# ruff: noqa: E402 - imports follow the check for the optional package
from __future__ import annotations

import json
import os
import resource
import sys
import threading

import pytest

parquet = pytest.importorskip("pyarrow.parquet")

from bundle_factory import write_tiny
from command_here import call
from ctedge import Classifier, SeverityRegressor
from ctedge.batch import Plan, run_batch
from ctedge.batch.cores import claim_cores
from ctedge.batch.journal import folder_of, open_journal
from ctedge.batch.results import columns_of, write_results
from ctedge.batch.table import read_table
from ctedge.batch.workers import Judge, described, lost
from ctedge.errors import MissingExtra, OutputError, RuntimeUnavailable, WrongTask
from scan_factory import write_scan

ASKED = {"table": "abc", "model": "tiny"}
FAILED = {"error": {"type": "ScanNotFound", "message": "a.nii.gz: no such file"}}
FP32 = {"device": "cpu", "runtime": "onnxruntime", "precision": "fp32"}


@pytest.fixture(autouse=True)
def same_environment():
    """Ray is told of its settings in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


@pytest.fixture
def table(tmp_path):
    write_scan(tmp_path / "a.nii.gz", 1)
    path = tmp_path / "scans.csv"
    path.write_text("scan,site\na.nii.gz,north\ngone.nii.gz,\n")
    return path


def journal_of(output, *, resume=False, asked=ASKED, count=3):
    return open_journal(output, asked, count=count, task="classifier", resume=resume)


def test_what_is_finished_is_there_when_the_batch_goes_on(output):
    with journal_of(output) as journal:
        journal.add(2, FAILED)
        on_disk = (folder_of(output) / "journal.jsonl").read_text()
    assert json.loads(on_disk.strip()) == {"index": 2, **FAILED}
    with journal_of(output, resume=True) as journal:
        assert journal.done == {2: FAILED}


def test_a_stopped_batch_is_neither_overwritten_nor_mixed_with_another(output):
    with journal_of(output) as journal:
        journal.add(0, FAILED)
    with pytest.raises(OutputError, match="a batch that was stopped") as caught:
        journal_of(output).__enter__()
    assert "--resume" in caught.value.fix
    with pytest.raises(OutputError, match="begun with something else") as caught:
        journal_of(output, resume=True, asked=ASKED | {"model": "other"}).__enter__()
    assert caught.value.found == "model 'tiny'"


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_do_not_work_on_one_batch(output, resume):
    """Nor is the one that runs called stopped, whose journal the user would then remove."""
    with journal_of(output) as journal:
        with (
            pytest.raises(OutputError, match="another process works on") as caught,
            journal_of(output, resume=resume),
        ):
            pass
        assert "remove" not in str(caught.value)
        journal.add(0, FAILED)
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: FAILED}


def test_a_batch_that_never_began_leaves_nothing(output):
    with pytest.raises(KeyboardInterrupt), journal_of(output):
        raise KeyboardInterrupt
    assert not folder_of(output).exists()


def test_a_link_in_the_place_of_the_journal_is_refused(output, tmp_path):
    folder_of(output).symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is a link"), journal_of(output, resume=True):
        pass


def judge_of(bundle, changes):
    known = {"bundle": str(bundle.path), "model": bundle.name, "model_digest": bundle.digest}
    return Judge(known | FP32 | changes, 1, None)


def judged(judge, path):
    """In a thread of its own, which is what `claim_cores` binds."""
    found = []
    thread = threading.Thread(target=lambda: found.append(judge.judge(str(path), {})))
    thread.start()
    thread.join()
    return found[0]


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


def test_what_cannot_be_begun_is_told_before_any_work(tmp_path, table, output):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    with pytest.raises(OutputError, match="no name of a Parquet file") as caught:
        run_batch(table, tmp_path / "results.csv", model=str(bundle))
    assert caught.value.exit_code == 2
    slices = write_tiny(tmp_path / "slices.ctedge", task="slices").path
    with pytest.raises(WrongTask, match="no one answer a scan"):
        run_batch(table, output, model=str(slices))
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="already exists") as caught:
        run_batch(table, output, model=str(bundle))
    assert "--retry-failed" in caught.value.fix
    assert output.read_bytes() == b"mine"


def test_results_do_not_go_into_the_bundle_that_answers(tmp_path, table):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    before = sorted(bundle.iterdir())
    answer = call("batch", table, "-o", bundle / "results.parquet", "-m", bundle)
    assert answer.returncode == 2
    assert "inside of the bundle" in answer.stderr
    assert sorted(bundle.iterdir()) == before


def test_finished_results_are_told_again_and_not_made_again(tmp_path, table, output):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    read = read_table(table)
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest)
    asked = {"table": read.digest, "folder": str(tmp_path), **plan.record()}
    write_results(output, read, [FAILED, FAILED], task="classifier", asked=asked)
    before = output.stat().st_mtime_ns
    summary = run_batch(table, output, model=str(bundle.path), resume=True)
    assert (summary.answered, summary.errors) == (0, {"ScanNotFound": 2})
    assert output.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="begun with something else"):
        run_batch(table, output, model=str(bundle.path), resume=True, strict=True)


@pytest.mark.parametrize(
    ("rows", "said"),
    [("id,scan\np001,a.nii.gz\n", "p001 (a.nii.gz)"), ("scan\na.nii.gz\n", "a.nii.gz")],
)
def test_a_failure_is_told_with_its_row(tmp_path, output, rows, said):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    path = tmp_path / "scans.csv"
    path.write_text(rows)
    read = read_table(path)
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest)
    asked = {"table": read.digest, "folder": str(tmp_path), **plan.record()}
    write_results(output, read, [FAILED], task="classifier", asked=asked)
    answer = call("batch", path, "-o", output, "-m", bundle.path, "--resume")
    assert answer.returncode == 1
    assert answer.stderr == f"failed: {said}: ScanNotFound: a.nii.gz: no such file\n"


def test_failures_judged_again_are_laid_over_what_was_written(tmp_path, table, output):
    """Killed between the last scan and the file: the journal has the new ones, the file the old."""
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    read = read_table(table)
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest, **FP32)
    asked = {"table": read.digest, "folder": str(tmp_path), **plan.record()}
    answer = judged(judge_of(bundle, {}), read.rows[0].path)
    write_results(output, read, [answer, FAILED], task="classifier", asked=asked)
    before = parquet.read_table(output).to_pylist()
    with journal_of(output, asked=asked, count=2) as journal:
        journal.add(1, answer)
    summary = run_batch(table, output, model=str(bundle.path), resume=True, **FP32)
    assert (summary.answered, summary.errors) == (2, {})
    first, second = parquet.read_table(output).to_pylist()
    assert first == before[0]
    assert {**second, "id": None, "scan": None, "site": None} == first | dict.fromkeys(
        ("id", "scan", "site")
    )
    assert not folder_of(output).exists()
    assert run_batch(table, output, model=str(bundle.path), retry_failed=True, **FP32) == summary


def test_results_that_appear_meanwhile_are_not_replaced(tmp_path, table, output, monkeypatch):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    read = read_table(table)
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest, **FP32)
    asked = {"table": read.digest, "folder": str(tmp_path), **plan.record()}
    with journal_of(output, asked=asked, count=2) as journal:
        for index in range(2):
            journal.add(index, FAILED)

    def somebody_writes(*given, **named):
        output.write_bytes(b"mine")
        return open_journal(*given, **named)

    monkeypatch.setattr("ctedge.batch.run.open_journal", somebody_writes)
    with pytest.raises(OutputError, match="another program"):
        run_batch(table, output, model=str(bundle.path), resume=True, **FP32)
    assert output.read_bytes() == b"mine"
    monkeypatch.undo()
    output.unlink()
    summary = run_batch(table, output, model=str(bundle.path), resume=True, **FP32)
    assert summary.errors == {"ScanNotFound": 2}


def test_stopped_before_anything_was_finished_nothing_is_promised(
    tmp_path, table, output, monkeypatch
):
    def stop(*_given, **_named):
        raise KeyboardInterrupt

    bundle = write_tiny(tmp_path / "tiny.ctedge")
    monkeypatch.setattr("ctedge.batch.run.crew_of", stop)
    answer = call("batch", table, "-o", output, "-m", bundle.path)
    assert (answer.returncode, answer.stderr) == (130, "stopped; no scan was finished\n")


def test_a_full_disk_is_told_and_what_was_finished_stays(output):
    """The kernel refuses a longer file, as it refuses any byte more on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        with journal_of(output) as journal:
            journal.add(0, FAILED)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
            journal.add(1, {"error": {"type": "A", "message": "b" * 1000}})

    try:
        with pytest.raises(OutputError, match="cannot write") as caught:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--resume" in caught.value.fix
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: FAILED}


def test_without_ray_the_extra_is_named(tmp_path, table, output, monkeypatch):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtra, match="judging a batch of scans needs the package ray"
    ) as caught:
        run_batch(table, output, model=str(bundle))
    assert "ctedge[ray]" in str(caught.value)
    assert not folder_of(output).exists()


def test_nobody_at_the_address_is_told_soon(tmp_path, table, output):
    pytest.importorskip("ray")
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    for address in ("nonsense", "127.0.0.1:1", "localhost:x", "127.0.0.1:99999"):
        with pytest.raises(RuntimeUnavailable, match="no Ray cluster answers") as caught:
            run_batch(table, output, model=str(bundle), address=address)
        assert "ray start" in caught.value.fix
    assert not folder_of(output).exists()
