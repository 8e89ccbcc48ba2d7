"""`benchmarks/latency.py` works: one quick run on a tiny scan, with the peers that are here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tf2onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)
pytest.importorskip("pydicom", exc_type=ImportError)

from conftest import REPOSITORY
from made_once import made_once
from patience import LONG_PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"

#: The same float32 network through other kernels, on a volume made by other code: 1e-6 is usual.
SAME_ANSWER = 1e-4


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory.getbasetemp(), "latency.json", run_quick)


def run_quick(target: Path) -> None:
    hidden = {"CTEDGE_PEERS_PYTHON", "CTEDGE_TEST_DATA"}
    answer = subprocess.run(
        [sys.executable, BENCHMARKS / "latency.py", "--quick", "-o", target],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name not in hidden},
        timeout=LONG_PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr


@pytest.fixture(scope="module")
def document(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written.read_text())
    return found


def test_every_peer_has_a_row_and_those_here_agree(document):
    rows = {row["peer"]: row for row in document["warm"]}
    assert list(rows) == [fact["peer"] for fact in document["peers"]]
    here = [name for name in rows if re.search("published|ONNX Runtime only|onnxruntime", name)]
    assert len(here) == 3
    for name in here:
        assert rows[name]["missing"] is None, name
        assert rows[name]["difference"] <= SAME_ANSWER, name
        stages = {"read", "preprocess", "inference", "total", "input", "in memory"}
        assert stages <= set(rows[name]["stages"])
    for name in ("MONAI and torch", "TorchIO and torch"):
        assert "no interpreter" in rows[name]["missing"]


def test_cold_rows_network_and_sweeps_are_there(document):
    cold = {row["peer"]: row for row in document["cold"]}
    assert set(cold) == {fact["peer"] for fact in document["peers"]}
    assert cold[document["reference"]]["stages"]["cold"]["n"] == 1
    assert cold[document["reference"]]["peak_mib"] > 0
    parts = document["cold_start"]["parts"]
    assert {"interpreter", "import numpy", "open the session", "inference"} <= set(parts)
    assert all(part["p50_ms"] >= 0 for part in parts.values())
    for rows in ("budget", "batches", "threads"):
        assert document[rows]
        assert all(row["missing"] is None for row in document[rows])
    assert [row["scan"] for row in document["budget"]] == ["48 x 48 x 20", "48 x 48 x 20, DICOM"]


def test_it_names_the_machine_and_no_path(document, written):
    assert document["machine"]["cpu"]
    assert document["machine"]["versions"]["numpy"] == np.__version__
    text = written.read_text()
    assert str(REPOSITORY) not in text
    assert str(Path.home()) not in text
    assert not re.search(r'"/|/tmp|/home', text)


def test_the_tables_can_be_made_of_it(document, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import latency_tables

    page = latency_tables.page((REPOSITORY / "docs" / "speed.md").read_text(), document)
    assert "these figures say nothing" in page
    assert "| published: nibabel, scipy, Keras |" in page


def test_the_normalisations_that_are_put_back_cancel(monkeypatch):
    """One block in NumPy: the folded layer against normalisation and the unfolded layer."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    import latency_inputs

    rng = np.random.default_rng(1)
    shapes = {1: (3, 1), 2: (4, 3), 3: (5, 4), 4: (6, 5)}
    folded = {
        f"conv{n}.weight": rng.normal(size=(*shape, 1, 1, 1)) for n, shape in shapes.items()
    } | {f"conv{n}.bias": rng.normal(size=shape[0]) for n, shape in shapes.items()}
    folded |= {"dense1.weight": rng.normal(size=(6, 7)), "dense1.bias": rng.normal(size=7)}
    folded |= {"dense2.weight": rng.normal(size=(7, 1)), "dense2.bias": rng.normal(size=1)}
    weights = latency_inputs.unfolded(folded)
    volume = rng.normal(size=3)
    norm = {name: weights[f"norm_1/{name}"] for name in ("gamma", "beta")}
    mean, variance = weights["norm_1/moving_mean"], weights["norm_1/moving_variance"]
    normal = (volume - mean) / np.sqrt(variance + latency_inputs.EPSILON)
    shown = normal * norm["gamma"] + norm["beta"]
    expected = folded["conv2.weight"][..., 0, 0, 0] @ volume + folded["conv2.bias"]
    found = shown @ weights["conv_2/kernel"][0, 0, 0] + weights["conv_2/bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
