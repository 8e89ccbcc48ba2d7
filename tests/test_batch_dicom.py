"""Rows of a batch that choose among the series and acquisitions of a DICOM folder."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("pydicom")

from bundle_factory import write_tiny
from ctedge import Classifier, read_scan
from ctedge.batch import Plan, run_batch
from ctedge.batch.journal import open_journal
from ctedge.batch.table import read_table
from ctedge.batch.workers import Judge
from ctedge.errors import OutputError
from dicom_factory import STEP_MM, save, slices

FP32 = {"device": "cpu", "runtime": "onnxruntime", "precision": "fp32"}
UIDS = {"series": "1.2.3.4", "study": "1.2.3"}
SLICES = 20


@pytest.fixture
def bundle(tmp_path):
    return write_tiny(tmp_path / "tiny.ctedge")


@pytest.fixture
def table(tmp_path, rng):
    """A folder of two acquisitions through each other: chosen, not chosen, and one it lacks."""
    (tmp_path / "two").mkdir()
    for number in (1, 2):
        hu = rng.integers(-1000, -600 - 100 * number, (SLICES, 32, 32)).astype(np.int16)
        hu[:, :4] = 60
        origin = (-100, -120, number * STEP_MM / 2)
        for place, one in enumerate(slices(hu, acquisition=number, origin=origin, **UIDS)):
            save(tmp_path / "two" / f"{number}-{place:03d}.dcm", one)
    path = tmp_path / "scans.csv"
    path.write_text("id,scan,acquisition\na,two,1\nb,two,2\nc,two,\nd,two,3\n")
    return path


def judged(bundle, rows):
    """What a worker gives of each row; in a thread of its own, which is bound to a core."""
    plan = {"bundle": str(bundle.path), "model": bundle.name, "model_digest": bundle.digest}
    judge = Judge(plan | FP32, 1, None)
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(judge.judge(row.path, row.reading) for row in rows)
    )
    thread.start()
    thread.join()
    return found


def test_a_row_takes_its_acquisition(bundle, table, tmp_path):
    first, second, unsaid, missing = judged(bundle, read_table(table).rows)
    with Classifier.load(bundle.path, **FP32) as classifier:
        for number, outcome in enumerate((first, second), start=1):
            assert "answer" in outcome, outcome
            scan = read_scan(tmp_path / "two", acquisition=number)
            answer = outcome["answer"]
            assert answer["logit"] == classifier.predict(scan).logit
            timings = answer["timings_ms"]
            stages = sum(ms for stage, ms in timings.items() if stage != "total")
            assert timings["total"] == pytest.approx(stages, abs=0.01)  # each is rounded to 0.001
            assert timings["read"] > 0.5  # reading forty headers is counted; a door takes a scan
    assert first["answer"]["logit"] != second["answer"]["logit"]
    assert "several acquisitions" in unsaid["error"]["message"]
    assert "a column `acquisition`" in unsaid["error"]["message"]
    assert "no such acquisition" in missing["error"]["message"]


def test_another_acquisition_is_another_batch(bundle, table, tmp_path):
    """What a row was judged by is part of what is compared before a batch goes on."""
    output = tmp_path / "results.parquet"
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest)
    asked = {"table": read_table(table).digest, "folder": str(tmp_path), **plan.record()}
    outcome = {"error": {"type": "IrregularSeries", "message": "no such acquisition"}}
    with open_journal(output, asked, count=4, task=bundle.task, resume=False) as journal:
        journal.add(0, json.loads(json.dumps(outcome)))
    table.write_text(table.read_text().replace("a,two,1", "a,two,2"))
    with pytest.raises(OutputError, match="begun with something else"):
        run_batch(table, output, model=str(bundle.path), resume=True)
