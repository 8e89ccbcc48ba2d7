"""Results that are there, finished or not: told again, added to, and not replaced."""

# ruff: noqa: E402 - imports follow the check for the optional package
from __future__ import annotations

import os

import pytest

parquet = pytest.importorskip("pyarrow.parquet")

from batch_here import FAILED, FP32, asked_of, journal_of, judge_of, judged, write_table
from bundle_factory import write_tiny
from command_here import call
from ctedge.batch import run_batch
from ctedge.batch.journal import folder_of, open_journal
from ctedge.batch.results import write_results
from ctedge.batch.table import read_table
from ctedge.errors import OutputError


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
    return write_table(tmp_path)


def test_finished_results_are_told_again_and_not_made_again(tmp_path, table, output):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    read = read_table(table)
    asked = asked_of(bundle, read)
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
    asked = asked_of(bundle, read)
    write_results(output, read, [FAILED], task="classifier", asked=asked)
    answer = call("batch", path, "-o", output, "-m", bundle.path, "--resume")
    assert answer.returncode == 1
    assert answer.stderr == f"failed: {said}: ScanNotFound: a.nii.gz: no such file\n"


def test_failures_judged_again_are_laid_over_what_was_written(tmp_path, table, output):
    """Killed between the last scan and the file: the journal has the new ones, the file the old."""
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    read = read_table(table)
    asked = asked_of(bundle, read, **FP32)
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
    asked = asked_of(bundle, read, **FP32)
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
