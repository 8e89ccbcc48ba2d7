"""`benchmarks/openvino_options.py`: a trial run takes both options up, and fills the tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("openvino", exc_type=ImportError)
pytest.importorskip("onnx", exc_type=ImportError)

from conftest import REPOSITORY
from patience import PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"


def test_a_trial_run_fills_the_tables(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import openvino_table

    output = tmp_path / "openvino-options.json"
    answer = subprocess.run(
        [sys.executable, BENCHMARKS / "openvino_options.py", "--quick", "-o", output],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    document = json.loads(output.read_text())
    assert document["quick"]
    alone, together, divided = document["hints"]
    assert [row["hint"] for row in document["hints"]] == ["LATENCY", "LATENCY", "THROUGHPUT"]
    assert alone["callers"] < together["callers"] == divided["callers"]
    assert alone["streams"] == together["streams"] == 1
    assert all(len(row["answers_per_second"]) == 1 for row in document["hints"])
    assert all(row["answer"]["cv"] > 0 for row in document["hints"])
    (cached,) = document["caches"]
    assert cached["from_cache"]
    assert cached["cache_bytes"] > 1e6  # the weights are in it
    lines = [*openvino_table.hint_rows(document), *openvino_table.cache_rows(document)]
    assert [line.count("|") for line in lines if line.startswith("| int8 ")] == [9, 9, 9, 7]
